"""The application: everything built once, every resource listed, every request wrapped alike."""

from __future__ import annotations

import atexit
import logging
import time
from collections.abc import Callable, Sequence

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from cellcloud import errors, log, metrics
from cellcloud.config import Config
from cellcloud.context import new_request_id
from cellcloud.db.engine import Database
from cellcloud.model.intent import Intent
from cellcloud.rpc.transport import unique_name
from top_api import auth, faults, microversion
from top_api.adapters import Adapters, make_adapters
from top_api.authorization import Enforcer
from top_api.cell_clients import Cells
from top_api.dispatch.outbox_dispatcher import OutboxDispatcher
from top_api.public_address import PublicAddress
from top_api.rates import RateLimits
from top_api.request_acceptance import Admission
from top_api.request_head_admission import HeadGate
from top_api.request_pipeline import is_old, mount
from top_api.routes import RESOURCES
from top_api.routes.openapi import describing
from top_api.routes.versions import choices
from top_api.service_api_definition import DISCOVERY, WebApi
from top_api.services import ApiServices

LOG = logging.getLogger(__name__)


def create_app(
    config: Config,
    *,
    database: Database | None = None,
    adapters: Adapters | None = None,
    cells: Cells | None = None,
    dispatch: Callable[[Sequence[Intent]], None] | None = None,
    enforcer: Enforcer | None = None,
) -> Flask:
    """Build the API. What is not given is made from the configuration."""
    enforcer = enforcer or Enforcer(config.path)
    database = database or Database(config.top.connection, timeout=config.database_timeout)
    adapters = adapters or make_adapters(config, database)
    cells = cells or Cells(database, config.top)
    owner = unique_name(config.host)
    if dispatch is None:
        dispatcher = OutboxDispatcher(database, cells, owner, config.top)
        atexit.register(dispatcher.stop)  # what is at work is finished; a sweep takes up the rest
        dispatch = dispatcher.dispatch
    services = ApiServices(
        config=config,
        enforcer=enforcer,
        database=database,
        identity=adapters.identity,
        images=adapters.images,
        networks=adapters.networks,
        volumes=adapters.volumes,
        cells=cells,
        dispatch=dispatch,
        admission=Admission(database, config, owner),
        owner=owner,
        embedded=adapters.embedded,
    )
    resources = (*RESOURCES, describing(RESOURCES), *adapters.resources)
    app = Flask("top_api", static_folder=None)
    mount(app, services, resources)
    app.extensions["rates"] = RateLimits(config.top.rate_limit)
    app.extensions["gate"] = HeadGate(adapters.identity, most=config.top.max_body)
    apis = tuple(dict.fromkeys(resource.api for resource in resources))
    _wrap_requests(app, apis)
    _answer_errors(app, config, apis)
    app.wsgi_app = PublicAddress(  # type: ignore[method-assign]
        app.wsgi_app, public_url=config.top.public_url, trusted_proxies=config.top.trusted_proxies
    )
    return app


def _wrap_requests(app: Flask, apis: Sequence[WebApi]) -> None:
    """Request ids, version headers and figures."""

    @app.before_request
    def begin() -> None:
        g.request_id = new_request_id()
        g.began = time.perf_counter()
        g.version = None
        log.request_id.set(g.request_id)
        if not request.host:  # none that links could be made of
            raise errors.Invalid("The Host header names no host.")
        global_id = auth.global_request_id(request.headers)
        if global_id is not None:
            LOG.info("request of a chain", extra={"global_request_id": global_id})

    @app.after_request
    def end(response: Response) -> Response:
        response.headers["x-openstack-request-id"] = g.request_id
        api = _api_of(request.path, apis)
        response.headers.update(api.headers)
        if api.microversions and api.versions is not microversion.OF_COMPUTE:
            response.headers.update(microversion.response_headers(g.version or api.versions.first, api.versions))
        if request.path.startswith("/v2.1"):
            response.headers["x-compute-request-id"] = g.request_id
            if not is_old(request.environ):
                response.headers.update(microversion.response_headers(g.version or microversion.FIRST))
        _note(response)
        return response


def _note(response: Response) -> None:
    """Figures of every request, and a line in the log for those that change something."""
    method, route = (request.method, request.url_rule.rule) if request.url_rule is not None else ("other", "none")
    elapsed = time.perf_counter() - g.began
    metrics.REQUESTS.labels(method, route, str(response.status_code)).observe(elapsed)
    if method not in ("GET", "HEAD", "other"):
        facts = {"method": method, "path": request.path[:200], "status": response.status_code}
        LOG.info("request", extra={**facts, "ms": round(elapsed * 1000)})


def _api_of(path: str, apis: Sequence[WebApi]) -> WebApi:
    """Return the API that a path belongs to; of the versions' documents where it belongs to none."""
    return next((api for api in apis if api.prefix and api.serves(path)), DISCOVERY)


def _answer_errors(app: Flask, config: Config, apis: Sequence[WebApi]) -> None:
    def answer(fault: faults.Fault) -> Response:
        identity_url = config.identity.auth_url or f"{request.root_url}identity"
        return faults.respond(fault, _api_of(request.path, apis).form, identity_url=identity_url)

    @app.errorhandler(errors.CellcloudError)
    def known(error: errors.CellcloudError) -> Response:
        return answer(faults.of_error(error))

    @app.errorhandler(HTTPException)
    def http(error: HTTPException) -> Response:
        no_version = _api_of(request.path, apis) is DISCOVERY and request.path.split("/")[1] not in ("v2", "operator")
        if error.code == 404 and no_version:
            return choices(request.root_url.rstrip("/"), request.path)
        return answer(faults.of_http(error))

    @app.errorhandler(Exception)
    def unknown(error: Exception) -> Response:
        LOG.exception("a request failed unexpectedly", extra={"path": request.path[:200]})
        return answer(faults.unexpected())
