"""From errors to HTTP: the one table, and the form in which the Compute API tells of them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from flask import Response
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from cellcloud import errors
from top_api.microversion import UnacceptableVersion
from top_api.rates import TooManyRequests
from top_api.validation import UnsupportedType

LOG = logging.getLogger(__name__)
RETRY_AFTER = 3  # seconds
GONE = "This resource is no longer available. No forwarding address is given."
UNEXPECTED = "Unexpected API Error. Please report this with the request id to the operators of this cloud."


class Gone(errors.FixRequest):
    """A resource that the API has given up; answered with 410."""


class NoSuchRange(errors.FixRequest):
    """A part of something that is not so long; answered with 416."""


# The first class that an error is an instance of decides.
STATUS: tuple[tuple[type[errors.CellcloudError], int], ...] = (
    (UnacceptableVersion, 406),
    (TooManyRequests, 429),
    (UnsupportedType, 415),
    (Gone, 410),
    (NoSuchRange, 416),
    (errors.Invalid, 400),
    (errors.Unauthenticated, 401),
    (errors.Forbidden, 403),
    (errors.NotFound, 404),
    (errors.Conflict, 409),
    (errors.TooLarge, 413),
    (errors.NotSupported, 501),
    (errors.FixRequest, 400),
    (errors.TryLater, 503),
    (errors.CellcloudError, 500),
)
NAMES = {
    400: "badRequest",
    401: "unauthorized",
    403: "forbidden",
    404: "itemNotFound",
    405: "badMethod",
    406: "computeFault",
    409: "conflictingRequest",
    410: "computeFault",
    413: "overLimit",
    415: "badMediaType",
    429: "overLimit",
    501: "notImplemented",
    503: "serviceUnavailable",
}
_MESSAGES = {
    404: "The resource could not be found.",
    405: "The method is not allowed for the requested URL.",
    413: "Request is too large.",
    415: "Unsupported Content-Type.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """An error on its way to the client. ``kind``: the name of the error's class; ``retry_after``: seconds, 0 for
    never; ``allowed``: the methods that the path has."""

    status: int
    kind: str
    message: str
    retry_after: int = 0
    allowed: tuple[str, ...] = ()


Form = Callable[[Fault], tuple[int, Any]]  # the status and the body in which a service tells of a fault


def status_of(error: errors.CellcloudError) -> int:
    """Return the HTTP status an error is answered with."""
    return next(status for kind, status in STATUS if isinstance(error, kind))


def of_error(error: errors.CellcloudError) -> Fault:
    """Return what the client is told of an error of the tree. What went wrong inside stays inside."""
    status = status_of(error)
    if status >= 500 and not isinstance(error, errors.FixRequest):
        LOG.warning("a request failed", extra={"why": error.message, "detail": error.detail, "status": status})
    message = UNEXPECTED if status == 500 else error.message
    again = error.retry_after if isinstance(error, TooManyRequests) else _retry_after(status)
    return Fault(status=status, kind=type(error).__name__, message=message, retry_after=again)


def of_http(error: HTTPException) -> Fault:
    """Return what the client is told of a request that reaches no handler."""
    status = error.code or 500
    told = (error.description or "") if status < 500 else UNEXPECTED
    kind, message = error.name.replace(" ", ""), _MESSAGES.get(status, told)
    allowed = tuple(sorted(error.valid_methods or ())) if isinstance(error, MethodNotAllowed) else ()
    return Fault(status=status, kind=kind, message=message, retry_after=_retry_after(status), allowed=allowed)


def unexpected() -> Fault:
    """Return what the client is told of a defect."""
    return Fault(status=500, kind="InternalError", message=UNEXPECTED)


def respond(fault: Fault, form: Form, *, identity_url: str) -> Response:
    """Return the answer in a service's form. ``identity_url``: where a client gets a token."""
    status, body = form(fault)
    response = json_response(status, body)
    if status == 401:
        response.headers["WWW-Authenticate"] = f'Keystone uri="{identity_url}"'
    if fault.allowed:
        response.headers["Allow"] = ", ".join(fault.allowed)
    if fault.retry_after:
        response.headers["Retry-After"] = str(fault.retry_after)
    return response


def compute_form(fault: Fault) -> tuple[int, Any]:
    """Tell of a fault as Nova does: the name by status, the code, the message, and when to try again."""
    if fault.status == 401:
        message = "The request you have made requires authentication."
        return 401, {"error": {"code": 401, "title": "Unauthorized", "message": message}}
    content: dict[str, Any] = {"code": fault.status, "message": fault.message}
    if _retry_after(fault.status):
        content["retryAfter"] = str(fault.retry_after)
    return fault.status, {NAMES.get(fault.status, "computeFault"): content}


def json_response(status: int, body: Any) -> Response:
    """Return any value that msgspec can write, as an answer."""
    return Response(msgspec.json.encode(body), status=status, content_type="application/json")


def _retry_after(status: int) -> int:
    return RETRY_AFTER if status in (413, 503) else 0
