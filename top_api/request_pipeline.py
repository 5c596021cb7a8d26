"""From a declared route to an answer: authentication, microversion, policy, validation, then the handler.

A resource's file declares its routes with ``Resource.route`` and its server actions with ``action``; handlers get a
``Call`` and return an ``Answer``, plain values for the declared status, or None for an answer without a body. What the
services' APIs do differently is in their ``WebApi``. Every route of the Compute API exists twice, bare and behind the
caller's project id.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any
from urllib.parse import quote

from flask import Flask, Response, g, request
from werkzeug.datastructures import Headers
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge
from werkzeug.routing import Map

from cellcloud import errors
from cellcloud.context import RequestContext
from cellcloud.embedded import EmbeddedServices
from cellcloud.model.server import ServerRecord
from cellcloud.safe_regex import Pattern
from cellcloud.third_party_patches import matching_rule
from top_api import auth, faults, microversion
from top_api.authorization import Target
from top_api.microversion import FIRST, LAST, Microversion
from top_api.public_address import plain
from top_api.response_schema import AnswerShape
from top_api.service_api_definition import COMPUTE, WebApi
from top_api.services import ApiServices
from top_api.validation import MALFORMED, NO_QUERY, Queries, UnsupportedType, Versioned, check_body, read_json

_TWIN = Pattern(r"(?s)/v2\.1/([0-9a-fA-F-]+)(/.+)")  # no resource is called by such a word
_VOLUME_TWIN = Pattern(r"(?s)/volume/v3/([0-9a-fA-F-]+)(/.*)")  # here likewise
_OLD = Pattern(r"(?s)/v2/(.+)")
_SEGMENT, _OLD_ROOT = "cellcloud.project_segment", "cellcloud.old_root"  # of the WSGI environment
_PIECE = 1 << 20  # bytes of a streamed body read at a time
OLD_ROOT = "v2"
Pair = tuple[int, int]


@dataclass(slots=True, kw_only=True)
class Call:
    """One authenticated and validated request; of nobody, where a route is open to everybody.

    ``url_asked``: the request's without its query. ``target``: whose the thing is that policy is asked about; None: the
    caller's own. ``found``: what the route's lookup found.
    """

    services: ApiServices
    context: RequestContext
    version: Microversion
    base_url: str
    project_segment: str = ""
    root: str = "v2.1"
    path: str = ""
    url_asked: str = ""
    headers: Headers = field(default_factory=Headers)
    query: dict[str, list[str]] = field(default_factory=dict)
    body: Any = None
    idempotency_key: str | None = None
    target: Target | None = None
    found: Any = None

    @property
    def server(self) -> ServerRecord:
        """The server of the path, where the route looks one up."""
        if not isinstance(self.found, ServerRecord):
            raise errors.CallHuman("This route looks up no server.")
        return self.found

    @server.setter
    def server(self, record: ServerRecord) -> None:
        self.found = record
        self.target = {"project_id": record.spec.project_id, "user_id": record.spec.user_id}

    def param(self, name: str, default: str | None = None) -> str | None:
        """Return the last value of a query key."""
        values = self.query.get(name)
        return values[-1] if values else default

    def allows(self, rule: str) -> bool:
        """Return whether policy lets the caller do that."""
        return self.services.enforcer.allows(self.context, rule, self.target)

    def check(self, rule: str) -> None:
        """Check that the rule lets the caller do it. Raises Forbidden."""
        self.services.enforcer.check(self.context, rule, self.target)

    @property
    def embedded(self) -> EmbeddedServices:
        """The embedded services, for their own APIs."""
        if self.services.embedded is None:
            raise errors.CallHuman("This cloud has no embedded services.")
        return self.services.embedded

    @property
    def project_filter(self) -> str | None:
        """The project whose things the caller may look up by id; None for administrators: any."""
        return None if self.context.is_admin else self.context.project_id

    def url(self, *parts: str) -> str:
        """Return a link into the API as this client addresses it, whatever letters the parts have."""
        return _joined(self.base_url, self.root, self.project_segment, *map(_quoted, parts))

    def bookmark(self, *parts: str) -> str:
        """Return a link that carries no API version."""
        return _joined(self.base_url, self.project_segment, *map(_quoted, parts))

    def links(self, *parts: str) -> list[dict[str, str]]:
        """Return the two links every resource shows."""
        return [{"rel": "self", "href": self.url(*parts)}, {"rel": "bookmark", "href": self.bookmark(*parts)}]


def _joined(*parts: str) -> str:
    return "/".join(part for part in parts if part)


@lru_cache(maxsize=4096)
def _quoted(part: str) -> str:
    return quote(part, safe="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """``body`` None: an answer without one. ``stream``: a body of bytes in pieces instead."""

    status: int = 200
    body: Any = None
    stream: Iterable[bytes] | None = None
    headers: dict[str, str] = field(default_factory=dict)


Handler = Callable[..., Any]
Lookup = Callable[[Call, Mapping[str, str]], None]
TargetOf = Callable[[Mapping[str, str]], Target]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One method of one path. ``since`` and ``until``: the microversions it exists in, both included.

    ``rule``: what policy is asked, or the actions that have one each; None: the route is open to everybody, without a
    token. ``target`` says by the words of the path alone whose the thing is that the rule is asked about. ``lookup``
    finds what they name and sets the call's target; the rule is then asked about that, and otherwise before anything
    else is looked at. ``later_status``: of a success from a microversion on. ``also``: statuses that its handler
    answers with besides. ``answer``: what a success answers with. ``body_types``: as in WebApi, but demanded of empty
    bodies too. ``streams``: the handler reads the body itself, by ``receive``.
    """

    method: str
    path: str
    handler: Handler
    rule: str | Actions | None
    status: int = 200
    later_status: tuple[Pair, int] | None = None
    also: tuple[int, ...] = ()
    since: Pair = FIRST
    until: Pair = LAST
    query: Queries = NO_QUERY
    body: Versioned | None = None
    answer: AnswerShape | None = None
    body_types: tuple[str, ...] = ()
    streams: bool = False
    target: TargetOf | None = None
    lookup: Lookup | None = None

    def status_at(self, version: Microversion) -> int:
        """Return the status of a success."""
        if self.later_status is not None and version >= self.later_status[0]:
            return self.later_status[1]
        return self.status


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One key of the body of ``POST .../action``. ``also``, ``answer``: see Route."""

    name: str
    handler: Handler
    rule: str
    status: int = 202
    also: tuple[int, ...] = ()
    since: Pair = FIRST
    until: Pair = LAST
    body: Versioned | None = None
    answer: AnswerShape | None = None

    def status_at(self, version: Microversion) -> int:
        """Return the status of a success."""
        return self.status


class Resource:
    """The routes of one resource, below the prefix of its service's API."""

    def __init__(self, name: str, api: WebApi = COMPUTE) -> None:
        self.name = name
        self.api = api
        self.routes: list[Route] = []

    def route(self, method: str, path: str, rule: str | Actions | None, **options: Any) -> Callable[[Handler], Handler]:
        """Declare the decorated function as a route; ``options`` are Route's."""
        options.setdefault("query", self.api.query)
        options.setdefault("since", self.api.versions.first)
        options.setdefault("until", self.api.versions.last)

        def declare(handler: Handler) -> Handler:
            self.routes.append(Route(method=method, path=path, handler=handler, rule=rule, **options))
            return handler

        return declare


class Actions:
    """The actions of a resource, by the body's one key. ``lookup``: see Route. ``gone``: actions that once were."""

    def __init__(self, lookup: Lookup | None = None, *, gone: Collection[str] = (), api: WebApi = COMPUTE) -> None:
        self.by_name: dict[str, Action] = {}
        self.gone = gone
        self._api = api
        self._lookup = lookup

    def action(self, name: str, rule: str, **options: Any) -> Callable[[Handler], Handler]:
        """Declare the decorated function as an action; ``options`` are Action's."""

        options.setdefault("since", self._api.versions.first)
        options.setdefault("until", self._api.versions.last)

        def declare(handler: Handler) -> Handler:
            self.by_name[name] = Action(name=name, handler=handler, rule=rule, **options)
            return handler

        return declare

    def perform(self, call: Call, **arguments: str) -> Answer:
        """Do what the body names. Raises Invalid for no such action, NotFound for one of other microversions."""
        if not isinstance(call.body, dict) or len(call.body) != 1:
            raise errors.Invalid(MALFORMED)
        name = next(iter(call.body))
        if name in self.gone:
            raise faults.Gone(faults.GONE)
        action = self.by_name.get(name)
        if action is None:
            raise errors.Invalid(f"There is no such action: {name[:64]}")
        if not action.since <= call.version <= action.until:
            raise errors.NotFound("The resource could not be found.")
        if action.body is not None:
            check_body(action.body, call.version, call.body, relaxed=call.root == OLD_ROOT, words=self._api.words)
        if self._lookup is not None:
            self._lookup(call, arguments)
        call.check(action.rule)
        return _answer(action.handler(call, **arguments), action.status)


def mount(app: Flask, services: ApiServices, resources: Sequence[Resource]) -> None:
    """Give the application every route of every resource, and no others."""
    rules = []
    for resource in resources:
        for route in resource.routes:
            endpoint = f"{resource.name}.{route.method}.{route.path}"
            assert endpoint not in app.view_functions, endpoint  # noqa: S101 -- a route declared twice
            strict = resource.api.strict_slashes and bool(route.path.strip("/")) and route.path[-1] != "/"
            rules.append((resource.api.prefix + route.path, endpoint, route.method, strict))
            app.view_functions[endpoint] = _view(services, resource.api, route)
    app.url_map = _url_map(tuple(rules))
    app.wsgi_app = _Path(app.wsgi_app)  # type: ignore[method-assign]


@cache
def _url_map(rules: tuple[tuple[str, str, str, bool], ...]) -> Map:
    """(path, endpoint, method, strict slashes) of each, compiled once for all applications of the process. No path is
    answered with another. Where slashes are strict, one at the end of a resource's path is an empty id, which nothing
    has."""
    rule = matching_rule()
    compiled = [
        rule(
            path,
            endpoint=endpoint,
            methods=[method],
            strict_slashes=strict,
        )
        for path, endpoint, method, strict in rules
    ]
    return Map(compiled, strict_slashes=False, merge_slashes=False)


def is_old(environ: Mapping[str, Any]) -> bool:
    """Whether a request came to the API of before 2.1: as 2.1, without microversions, and easy about unknown keys."""
    return _OLD_ROOT in environ


class _Path:
    """Takes doubled slashes, the project id and the old root out of the path, so that each route is declared and
    matched once."""

    def __init__(self, application: Callable[..., Any]) -> None:
        self._application = application

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        environ["PATH_INFO"] = plain(environ.get("PATH_INFO", ""))
        old = _OLD.groups(environ["PATH_INFO"])
        if old is not None:
            environ[_OLD_ROOT], environ["PATH_INFO"] = True, f"/v2.1/{old[0]}"
        for root, twin in (("/v2.1", _TWIN), ("/volume/v3", _VOLUME_TWIN)):
            match = twin.groups(environ["PATH_INFO"])
            if match is not None:
                environ[_SEGMENT], environ["PATH_INFO"] = match[0], f"{root}{match[1]}"
        return self._application(environ, start_response)


def _view(services: ApiServices, api: WebApi, route: Route) -> Callable[..., Response]:
    def view(**arguments: str) -> Response:
        context = _authenticate(services, api, route)
        data = _read_body(api, route, services.config.top.max_body)
        old = is_old(request.environ)
        version = api.versions.first
        if api.microversions and route.rule and not old:
            version = microversion.requested(request.headers, api.versions)
        g.version = version
        project_segment = request.environ.get(_SEGMENT, "")
        if project_segment and project_segment != context.project_id:
            raise errors.Invalid("Malformed request URL: URL's project_id doesn't match Context's project_id")
        if not route.since <= version <= route.until or any("\x00" in value for value in arguments.values()):
            raise errors.NotFound("The resource could not be found.")
        target = None if route.target is None else route.target(arguments)
        if isinstance(route.rule, str) and route.lookup is None:
            services.enforcer.check(context, route.rule, target)
        call = Call(
            services=services,
            context=context,
            version=version,
            base_url=request.root_url.rstrip("/"),
            project_segment=project_segment,
            root=OLD_ROOT if old else "v2.1",
            path=request.path,
            url_asked=request.base_url,
            headers=request.headers,
            query=route.query.read(request.args.to_dict(flat=False), version),
            body=read_json(data),
            idempotency_key=request.headers.get("Idempotency-Key"),
            target=target,
        )
        if route.body is not None:
            if not isinstance(call.body, route.body.kind):
                raise errors.Invalid(MALFORMED)
            if api.canonical is not None:
                call.body = api.canonical(call.body)
            check_body(route.body, version, call.body, relaxed=old, words=api.words)
        if isinstance(route.rule, str) and route.lookup is not None:
            route.lookup(call, arguments)
            call.check(route.rule)
        return _respond(_answer(route.handler(call, **arguments), route.status_at(version)))

    return view


def _authenticate(services: ApiServices, api: WebApi, route: Route) -> RequestContext:
    """Find out who asks; nobody, where everybody may. Raises as ``auth.authenticate`` does."""
    if route.rule is None:
        return RequestContext(request_id=g.request_id)
    return auth.authenticate(
        services.identity,
        services.enforcer,
        request.headers,
        g.request_id,
        in_project=api.in_project,
        asked=(api.service, request.method, request.path.removeprefix(api.root)),
    )


def _respond(answer: Answer) -> Response:
    if answer.stream is not None:
        response = Response(answer.stream, status=answer.status, content_type="application/octet-stream")
    elif answer.body is not None:
        response = faults.json_response(answer.status, answer.body)
    else:
        response = Response(status=answer.status, content_type="application/json")
    response.headers.update(answer.headers)
    return response


def _answer(value: Any, status: int) -> Answer:
    return value if isinstance(value, Answer) else Answer(status=status, body=value)


def _read_body(api: WebApi, route: Route, most: int) -> bytes:
    """Return the body, of the right type and not too large. Raises TooLarge, UnsupportedType, Invalid."""
    if route.body_types and request.mimetype not in route.body_types:
        raise UnsupportedType("Unsupported Content-Type.")
    if route.method == "GET" or route.streams:
        return b""
    request.max_content_length = most + 1  # a body of unknown length is cut off there, without a word
    try:
        data = request.get_data(cache=False)
    except RequestEntityTooLarge as error:
        raise errors.TooLarge("Request is too large.") from error
    except ClientDisconnected as error:
        raise errors.Invalid(MALFORMED) from error
    if len(data) > most:
        raise errors.TooLarge("Request is too large.")
    if data and api.body_types and not route.body_types and request.mimetype not in api.body_types:
        raise UnsupportedType("Unsupported Content-Type.")
    return data


def receive(most: int) -> Iterator[bytes]:
    """Yield the body of a route that streams, in pieces. Raises TooLarge beyond ``most`` bytes, Invalid where the
    client stopped early."""
    request.max_content_length = most
    size, expected = 0, request.content_length
    try:
        while piece := request.stream.read(_PIECE):
            size += len(piece)
            yield piece
    except RequestEntityTooLarge as error:
        raise errors.TooLarge("Request is too large.") from error
    if expected is not None and size != expected:
        raise errors.Invalid("The upload ended early.")
