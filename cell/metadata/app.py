"""The metadata service over HTTP: every request must prove which guest it comes from. It may post a password, once."""

from __future__ import annotations

import logging

from flask import Flask, Response, request

from cell.metadata.document_lookup import find_document, names_password
from cell.metadata.lookup import Gatekeeper, Servers
from cellcloud import errors

LOG = logging.getLogger(__name__)
MOST_READ = 1 << 10  # bytes, as many as nodes pass on
MOST_POSTED = 1020  # bytes of a password: Nova's
STATUS: tuple[tuple[type[errors.CellcloudError], int], ...] = (
    (errors.Invalid, 400),
    (errors.Forbidden, 403),
    (errors.NotFound, 404),
    (errors.Conflict, 409),
    (errors.TryLater, 503),
)


def create_app(gatekeeper: Gatekeeper, servers: Servers) -> Flask:
    """One route for everything: the tree in ``document`` says what is there."""
    app = Flask("cell.metadata", static_folder=None)

    @app.route("/", defaults={"path": ""}, methods=["GET", "POST"])
    @app.route("/<path:path>", methods=["GET", "POST"])
    def answer(path: str) -> Response:
        target = str(request.environ.get("REQUEST_URI") or request.environ.get("RAW_URI") or "")
        posted = request.stream.read(MOST_READ)
        caller = gatekeeper.verify(request.method, target, request.headers.get, posted)
        record = servers.get(caller.host, caller.server, caller.port)
        where = target.partition("?")[0]
        if request.method == "POST":
            if not names_password(where):
                raise errors.NotFound("Nothing can be posted there.")
            servers.keep_password(record, _text(posted))
            return Response()
        document = find_document(record, where)
        if document is None:
            raise errors.NotFound("There is no such metadata.")
        return Response(document.content, content_type=document.type)

    app.url_map.merge_slashes = False
    app.register_error_handler(errors.CellcloudError, _answer_error)
    return app


def _text(posted: bytes) -> str:
    """Return a password as it is kept. Raises Invalid."""
    if len(posted) > MOST_POSTED:
        raise errors.Invalid("Request is too large.")
    try:
        text = posted.decode()
    except UnicodeDecodeError:
        text = ""
    if not text or "\0" in text:
        raise errors.Invalid("A password is posted as text.")
    return text


def _answer_error(error: errors.CellcloudError) -> Response:
    status = next((status for kind, status in STATUS if isinstance(error, kind)), 500)
    if status in (400, 403):
        LOG.warning("metadata refused", extra={"why": error.message, "peer": request.remote_addr})
    response = Response(f"{error.message}\n", status=status, content_type="text/plain; charset=utf-8")
    if status == 503:
        response.headers["Retry-After"] = "2"
    return response
