"""The metadata service over HTTP: every request must prove which guest it comes from."""

from __future__ import annotations

import logging

from flask import Flask, Response, request

from cell.metadata.document_lookup import find_document
from cell.metadata.lookup import Gatekeeper, Servers
from cellcloud import errors

LOG = logging.getLogger(__name__)
STATUS: tuple[tuple[type[errors.CellcloudError], int], ...] = (
    (errors.Invalid, 400),
    (errors.Forbidden, 403),
    (errors.NotFound, 404),
    (errors.TryLater, 503),
)


def create_app(gatekeeper: Gatekeeper, servers: Servers) -> Flask:
    """One route for everything: the tree in ``document`` says what is there."""
    app = Flask("cell.metadata", static_folder=None)

    @app.route("/", defaults={"path": ""}, methods=["GET"])
    @app.route("/<path:path>", methods=["GET"])
    def show(path: str) -> Response:
        target = str(request.environ.get("REQUEST_URI") or request.environ.get("RAW_URI") or "")
        caller = gatekeeper.verify(request.method, target, request.headers.get)
        record = servers.get(caller.host, caller.server, caller.port)
        document = find_document(record, target.partition("?")[0])
        if document is None:
            raise errors.NotFound("There is no such metadata.")
        return Response(document.content, content_type=document.type)

    app.url_map.merge_slashes = False
    app.register_error_handler(errors.CellcloudError, _answer_error)
    return app


def _answer_error(error: errors.CellcloudError) -> Response:
    status = next((status for kind, status in STATUS if isinstance(error, kind)), 500)
    if status in (400, 403):
        LOG.warning("metadata refused", extra={"why": error.message, "peer": request.remote_addr})
    response = Response(f"{error.message}\n", status=status, content_type="text/plain; charset=utf-8")
    if status == 503:
        response.headers["Retry-After"] = "2"
    return response
