"""From errors to HTTP: the one table, and the envelope."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
from flask import Response

from cellcloud import errors
from top_api.microversion import UnacceptableVersion
from top_api.rates import TooManyRequests
from top_api.validation import UnsupportedType

LOG = logging.getLogger(__name__)
RETRY_AFTER = 3  # seconds
UNEXPECTED = "Unexpected API Error. Please report this with the request id to the operators of this cloud."


class Gone(errors.FixRequest):
    """A resource that the API has given up; answered with 410."""


# The first class that an error is an instance of decides.
STATUS: tuple[tuple[type[errors.CellcloudError], int], ...] = (
    (UnacceptableVersion, 406),
    (TooManyRequests, 429),
    (UnsupportedType, 415),
    (Gone, 410),
    (errors.Invalid, 400),
    (errors.Unauthenticated, 401),
    (errors.Forbidden, 403),
    (errors.NotFound, 404),
    (errors.Conflict, 409),
    (errors.TooLarge, 413),
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


def status_of(error: errors.CellcloudError) -> int:
    """The HTTP status an error is answered with."""
    return next(status for kind, status in STATUS if isinstance(error, kind))


def json_response(status: int, body: Any) -> Response:
    """Any value msgspec can write, as an answer."""
    return Response(msgspec.json.encode(body), status=status, content_type="application/json")


def envelope(status: int, message: str) -> Response:
    """The error form: the name by status, the code, the message, and when to try again."""
    content: dict[str, Any] = {"code": status, "message": message}
    if status in (413, 503):
        content["retryAfter"] = str(RETRY_AFTER)
    response = json_response(status, {NAMES.get(status, "computeFault"): content})
    if status in (413, 503):
        response.headers["Retry-After"] = str(RETRY_AFTER)
    return response


def plain(status: int) -> Response:
    """A fault whose message is the same for everybody."""
    return envelope(status, _MESSAGES.get(status, UNEXPECTED))


def answer_for(error: errors.CellcloudError, *, identity_url: str) -> Response:
    """The answer to an error of the tree. What went wrong inside stays inside."""
    status = status_of(error)
    if status == 401:
        title = "Unauthorized"
        content = {"code": 401, "title": title, "message": "The request you have made requires authentication."}
        response = json_response(401, {"error": content})
        response.headers["WWW-Authenticate"] = f'Keystone uri="{identity_url}"'
        return response
    if status >= 500:
        LOG.warning("a request failed", extra={"why": error.message, "detail": error.detail, "status": status})
    response = envelope(status, UNEXPECTED if status == 500 else error.message)
    if isinstance(error, TooManyRequests):
        response.headers["Retry-After"] = str(error.retry_after)
    return response
