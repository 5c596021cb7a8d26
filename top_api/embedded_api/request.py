"""What the three embedded APIs have in common: who asks, what policy says, bodies, pages and answers to bad ones."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from flask import Blueprint, Response, current_app, g, request
from jsonschema import Draft202012Validator
from werkzeug.exceptions import HTTPException

from cellcloud import errors
from cellcloud.clients.identity import Caller, IdentityClient
from cellcloud.context import REQUEST_ID, new_request_id
from top_api import rates
from top_api.json_schema import Compiled
from top_api.policy import Policy, Subject, Target
from top_api.rates import TooManyRequests
from top_api.validation import read_json

LOG = logging.getLogger(__name__)
JSON = "application/json"
View = Callable[..., Response]
_STATUS: tuple[tuple[type[errors.CellcloudError], int], ...] = (
    (TooManyRequests, 429),
    (errors.Invalid, 400),
    (errors.Unauthenticated, 401),
    (errors.Forbidden, 403),
    (errors.NotFound, 404),
    (errors.Stale, 412),
    (errors.Conflict, 409),
    (errors.TooLarge, 413),
    (errors.DeadlineExceeded, 504),
    (errors.TryLater, 503),
)


@dataclass(frozen=True, slots=True)
class Failure:
    """An error on its way to the client. ``kind``: the name of the error's class."""

    status: int
    kind: str
    message: str


class Schema:
    """A compiled JSON schema that says no in one sentence."""

    def __init__(self, schema: dict[str, Any]) -> None:
        Draft202012Validator.check_schema(schema)
        self.schema = schema
        self._compiled = Compiled(schema)

    def check(self, value: Any) -> None:
        """Raises Invalid."""
        error = self._compiled.find_error(value)
        if error is not None:
            where = "/".join(str(part) for part in error.absolute_path) or "body"
            raise errors.Invalid(f"Invalid input for {where[:200]}. {error.message[:300]}")


def answer(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(msgspec.json.encode(body), status=status, mimetype=JSON, headers=headers)


def body_of(schema: Schema) -> Any:
    """The request's JSON body, checked. Raises Invalid."""
    value = read_json(request.get_data(cache=False))
    schema.check(value)
    return value


def caller() -> Caller:
    """Who asks, once ``guard`` has looked."""
    found: Caller = g.caller
    return found


@dataclass(frozen=True, slots=True)
class Asked:
    """What policy is asked before a view runs. ``target``: whose the thing is that the words of the path name."""

    rule: str
    target: Callable[[Mapping[str, str]], Target] | None = None


def asks(rule: str, target: Callable[[Mapping[str, str]], Target] | None = None) -> Callable[[View], View]:
    """Declare the rule of the decorated view; without a target it is about what is the caller's own."""

    def declare(view: View) -> View:
        view.__dict__["asked"] = Asked(rule, target)
        return view

    return declare


def asked_by(view: Callable[..., Any]) -> Asked:
    """The rule of a view. Raises KeyError for one without."""
    found: Asked = view.__dict__["asked"]
    return found


def enforce(policy: Policy, subject: Subject) -> None:
    """Ask the rule of the view that is to run. Raises Forbidden, and whatever finding its target raises."""
    g.policy, g.subject = policy, subject
    asked = asked_by(current_app.view_functions[request.endpoint or ""])
    check(asked.rule, None if asked.target is None else asked.target(request.view_args or {}))


def allows(rule: str) -> bool:
    """Whether policy lets the caller do that to what is the caller's own."""
    found: bool = g.policy.allows(g.subject, rule)
    return found


def check(rule: str, target: Target | None = None) -> None:
    """Raises Forbidden."""
    g.policy.check(g.subject, rule, target)


def is_admin() -> bool:
    """Whether the caller administrates the cloud."""
    return allows("context_is_admin")


def guard(identity: IdentityClient, policy: Policy) -> None:
    """Find out who asks, and whether they may.

    Raises Unauthenticated, Forbidden, also for a token without roles in a project.
    """
    g.caller = identity.validate_token(request.headers.get("X-Auth-Token", ""))
    if not g.caller.project_id or not g.caller.roles:
        raise errors.Forbidden("The token gives no role in a project.")
    rates.count(g.caller.project_id)
    enforce(policy, g.caller)


def set_up(blueprint: Blueprint, form: Callable[[Failure], Response], *, max_body: int) -> None:
    """Give a blueprint its error form, request ids, bounds, and a 404 of its own for every unknown path."""

    def bound() -> None:
        request.max_content_length = max_body
        if "\0" in request.path or any("\0" in value for value in request.args.values()):
            raise errors.NotFound("The resource could not be found.")

    def known(error: errors.CellcloudError) -> Response:
        status = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
        message = error.message if status < 500 or isinstance(error, errors.TryLater) else "Something went wrong."
        response = form(Failure(status, type(error).__name__, message))
        if isinstance(error, TooManyRequests):
            response.headers["Retry-After"] = str(error.retry_after)
        return response

    def http(error: HTTPException) -> Response:
        return form(Failure(error.code or 500, error.name.replace(" ", ""), error.description or error.name))

    def defect(error: Exception) -> Response:
        LOG.exception("an embedded API failed", exc_info=error)
        return form(Failure(500, "InternalError", "Something went wrong."))

    def unknown(path: str) -> Response:
        return form(Failure(404, "NotFound", "The resource could not be found."))

    def identify(response: Response) -> Response:
        given = request.headers.get("X-OpenStack-Request-ID", "")
        response.headers.setdefault("X-OpenStack-Request-ID", given if REQUEST_ID.matches(given) else new_request_id())
        response.headers.setdefault("Vary", "X-Auth-Token")
        return response

    blueprint.register_error_handler(errors.CellcloudError, known)
    blueprint.register_error_handler(HTTPException, http)
    blueprint.register_error_handler(Exception, defect)
    blueprint.before_request(bound)
    blueprint.after_request(identify)
    methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
    blueprint.add_url_rule("/<path:path>", "unknown", unknown, methods=methods, provide_automatic_options=False)
