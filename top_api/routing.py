"""From a declared route to an answer: authentication, microversion, policy, validation, then the handler.

A resource's file declares its routes with ``Resource.route`` and its server actions with ``action``; handlers get a
``Call`` and return an ``Answer``, plain values for the declared status, or None for an answer without a body. Every
route exists twice, bare and behind the caller's project id.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flask import Flask, Response, g, request
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from cellcloud import errors
from cellcloud.context import RequestContext
from cellcloud.model.server import ServerRecord
from cellcloud.patterns import Pattern
from top_api import auth, faults, microversion, rates
from top_api.microversion import FIRST, LAST, Microversion
from top_api.policy import Target
from top_api.public_address import plain
from top_api.services import ApiServices
from top_api.validation import MALFORMED, NO_QUERY, Queries, UnsupportedType, Versioned, check_body, read_json

_TWIN = Pattern(r"(?s)/v2\.1/([0-9a-fA-F-]+)(/.+)")  # no resource is called by such a word
_OLD = Pattern(r"(?s)/v2/(.+)")
_SEGMENT, _OLD_ROOT = "cellcloud.project_segment", "cellcloud.old_root"  # of the WSGI environment
BODY_TYPES = ("application/json", "application/vnd.openstack.compute+json")
OLD_ROOT = "v2"
Pair = tuple[int, int]


@dataclass(slots=True, kw_only=True)
class Call:
    """One authenticated and validated request.

    ``target``: whose the thing is that policy is asked about; None: the caller's own.
    """

    services: ApiServices
    context: RequestContext
    version: Microversion
    base_url: str
    project_segment: str = ""
    root: str = "v2.1"
    path: str = ""
    query: dict[str, list[str]] = field(default_factory=dict)
    body: Any = None
    raw_body: bytes = b""
    idempotency_key: str | None = None
    target: Target | None = None
    _server: ServerRecord | None = None

    @property
    def server(self) -> ServerRecord:
        """The server of the path, where the route looks one up."""
        if self._server is None:
            raise errors.CallHuman("This route looks up no server.")
        return self._server

    @server.setter
    def server(self, record: ServerRecord) -> None:
        self._server = record
        self.target = {"project_id": record.spec.project_id, "user_id": record.spec.user_id}

    def param(self, name: str, default: str | None = None) -> str | None:
        """The last value of a query key."""
        values = self.query.get(name)
        return values[-1] if values else default

    def allows(self, rule: str) -> bool:
        """Whether policy lets the caller do that."""
        return self.services.policy.allows(self.context, rule, self.target)

    def check(self, rule: str) -> None:
        """Raises Forbidden."""
        self.services.policy.check(self.context, rule, self.target)

    @property
    def project_filter(self) -> str | None:
        """The project whose things the caller may look up by id; None for administrators: any."""
        return None if self.context.is_admin else self.context.project_id

    def url(self, *parts: str) -> str:
        """A link into the API as this client addresses it."""
        return "/".join(part for part in (self.base_url, self.root, self.project_segment, *parts) if part)

    def bookmark(self, *parts: str) -> str:
        """A link that carries no API version."""
        return "/".join(part for part in (self.base_url, self.project_segment, *parts) if part)

    def links(self, *parts: str) -> list[dict[str, str]]:
        """The two links every resource shows."""
        return [{"rel": "self", "href": self.url(*parts)}, {"rel": "bookmark", "href": self.bookmark(*parts)}]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """``body`` None: an answer without one."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


Handler = Callable[..., Any]
Lookup = Callable[[Call, Mapping[str, str]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One method of one path. ``since`` and ``until``: the microversions it exists in, both included.

    ``rule``: what policy is asked, or the actions that have one each. ``lookup`` finds what the words of the path name
    and sets the call's target; the rule is then asked about that, and otherwise before anything else is looked at.
    """

    method: str
    path: str
    handler: Handler
    rule: str | Actions
    status: int = 200
    since: Pair = FIRST
    until: Pair = LAST
    query: Queries = NO_QUERY
    body: Versioned | None = None
    lookup: Lookup | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One key of the body of ``POST .../action``."""

    name: str
    handler: Handler
    rule: str
    status: int = 202
    since: Pair = FIRST
    until: Pair = LAST
    body: Versioned | None = None


class Resource:
    """The routes of one resource."""

    def __init__(self, name: str, *, prefix: str = "/v2.1") -> None:
        self.name = name
        self.prefix = prefix
        self.routes: list[Route] = []

    def route(self, method: str, path: str, rule: str | Actions, **options: Any) -> Callable[[Handler], Handler]:
        """Declare the decorated function as a route; ``options`` are Route's."""

        def declare(handler: Handler) -> Handler:
            self.routes.append(Route(method=method, path=path, handler=handler, rule=rule, **options))
            return handler

        return declare


class Actions:
    """The actions of a resource, by the body's one key. ``lookup``: see Route."""

    def __init__(self, lookup: Lookup | None = None) -> None:
        self.by_name: dict[str, Action] = {}
        self._lookup = lookup

    def action(self, name: str, rule: str, **options: Any) -> Callable[[Handler], Handler]:
        """Declare the decorated function as an action; ``options`` are Action's."""

        def declare(handler: Handler) -> Handler:
            self.by_name[name] = Action(name=name, handler=handler, rule=rule, **options)
            return handler

        return declare

    def perform(self, call: Call, **arguments: str) -> Answer:
        """Do what the body names. Raises Invalid for no such action, NotFound for one of other microversions."""
        if not isinstance(call.body, dict) or len(call.body) != 1:
            raise errors.Invalid(MALFORMED)
        name = next(iter(call.body))
        action = self.by_name.get(name)
        if action is None:
            raise errors.Invalid(f"There is no such action: {name[:64]}")
        if not action.since <= call.version <= action.until:
            raise errors.NotFound("The resource could not be found.")
        if action.body is not None:
            check_body(action.body, call.version, call.body, relaxed=call.root == OLD_ROOT)
        if self._lookup is not None:
            self._lookup(call, arguments)
        call.check(action.rule)
        return _answer(action.handler(call, **arguments), action.status)


def mount(app: Flask, services: ApiServices, resources: Sequence[Resource]) -> None:
    """Give the application every route of every resource, with and without a project id in the path."""
    for resource in resources:
        for route in resource.routes:
            app.add_url_rule(
                resource.prefix + route.path,
                endpoint=f"{resource.name}.{route.method}.{route.path}",
                view_func=_view(services, route),
                methods=[route.method],
                provide_automatic_options=False,
            )
    app.wsgi_app = _Path(app.wsgi_app)  # type: ignore[method-assign]


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
        match = _TWIN.groups(environ["PATH_INFO"])
        if match is not None:
            environ[_SEGMENT], environ["PATH_INFO"] = match[0], f"/v2.1{match[1]}"
        return self._application(environ, start_response)


def _view(services: ApiServices, route: Route) -> Callable[..., Response]:
    def view(**arguments: str) -> Response:
        project_segment = request.environ.get(_SEGMENT, "")
        context = auth.authenticate(services.identity, services.policy, request.headers, g.request_id)
        rates.count(context.project_id)
        data = _read_body(services.config.top.max_body) if route.method != "GET" else b""
        old = is_old(request.environ)
        version = FIRST if old else microversion.requested(request.headers)
        g.version = version
        if project_segment and project_segment != context.project_id:
            raise errors.Invalid("Malformed request URL: URL's project_id doesn't match Context's project_id")
        if not route.since <= version <= route.until or any("\x00" in value for value in arguments.values()):
            raise errors.NotFound("The resource could not be found.")
        if isinstance(route.rule, str) and route.lookup is None:
            services.policy.check(context, route.rule)
        call = Call(
            services=services,
            context=context,
            version=version,
            base_url=request.root_url.rstrip("/"),
            project_segment=project_segment,
            root=OLD_ROOT if old else "v2.1",
            path=request.path,
            query=route.query.read(request.args.to_dict(flat=False), version),
            body=read_json(data),
            raw_body=data,
            idempotency_key=request.headers.get("Idempotency-Key"),
        )
        if route.body is not None:
            if not isinstance(call.body, dict):
                raise errors.Invalid(MALFORMED)
            check_body(route.body, version, call.body, relaxed=old)
        if isinstance(route.rule, str) and route.lookup is not None:
            route.lookup(call, arguments)
            call.check(route.rule)
        answer = _answer(route.handler(call, **arguments), route.status)
        response = (
            faults.json_response(answer.status, answer.body)
            if answer.body is not None
            else Response(status=answer.status, content_type="application/json")
        )
        response.headers.update(answer.headers)
        return response

    return view


def _answer(value: Any, status: int) -> Answer:
    return value if isinstance(value, Answer) else Answer(status=status, body=value)


def _read_body(most: int) -> bytes:
    """The body, if it is JSON and not too large. Raises TooLarge, UnsupportedType, Invalid."""
    request.max_content_length = most + 1  # a body of unknown length is cut off there, without a word
    try:
        data = request.get_data(cache=False)
    except RequestEntityTooLarge as error:
        raise errors.TooLarge("Request is too large.") from error
    except ClientDisconnected as error:
        raise errors.Invalid(MALFORMED) from error
    if len(data) > most:
        raise errors.TooLarge("Request is too large.")
    if data and request.mimetype not in BODY_TYPES:
        raise UnsupportedType("Unsupported Content-Type.")
    return data
