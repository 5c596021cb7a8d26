"""The units of a cloud: what runs, in which process, after what."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

from cellcloud import config as options
from cellcloud import log
from cellcloud.launcher.layout import CELLS, MARIADB, CellPlace, Layout
from cellcloud.launcher.process_units import Unit, UnitKind, load_service
from cellcloud.rpc.accounts import Role

Parts = Callable[[], dict[str, Any]]

# Imported once before the first fork, with all services; what they load is shared by every process.
PRELOAD = (
    "sqlalchemy.dialects.mysql.mysqldb",
    "sqlalchemy.dialects.postgresql.psycopg",
    "cellcloud.rpc.transport",  # before any other part of oslo.messaging
    "oslo_messaging._drivers.impl_rabbit",
    "cellcloud.launcher.start_tasks",
    "flask",
    "cellcloud.launcher.web_server",
    "cellcloud.service",
)


def make_plan(layout: Layout) -> list[Unit]:
    """Every unit of the cloud."""
    units = [*_machine_units(layout), *_preparing_units(layout)]
    for cell in CELLS:
        units += _cell_units(layout, cell)
    api = _api_unit(layout)
    conductors = tuple(f"{cell.name}.conductor" for cell in CELLS)
    router = _service("top.router", layout, "router", layout.top_file, after=conductors)
    units += [api, router]
    if layout.real_guests:
        nodes = tuple(f"{node.name}.node" for cell in CELLS for node in layout.nodes(cell))
        units.append(_task("external-network", "open_external_network", layout, after=("top.contents", *nodes)))
    everything = tuple(unit.name for unit in units)
    return [*units, _task("first-look", "wait_until_it_serves", layout, after=everything)]


def _machine_units(layout: Layout) -> list[Unit]:
    """Brokers and databases: programs that are not ours."""
    if not layout.in_processes:
        return []
    brokers = [unit for cell in CELLS for unit in layout.broker(cell).units()]
    return [layout.mariadb.unit(), layout.postgresql.unit(), *brokers]


def _preparing_units(layout: Layout) -> list[Unit]:
    """Return what is done once at each start: guest image, kind of virtualisation, nodes, schemas, first contents."""
    database = (MARIADB,) if layout.in_processes else ()
    units = [
        _task("guest-image", "make_guest_image", layout),
        _task("virtualisation", "choose_virt_type", layout, after=("guest-image",)),
        _task("top.schema", "migrate_top", layout, after=database),
        _task("top.contents", "fill_top", layout, after=("top.schema", "guest-image")),
    ]
    for cell in CELLS:
        server = (cell.database,) if layout.in_processes else ()
        units.append(_task(f"{cell.name}.schema", "migrate_cell", layout, cell, after=server))
        units += [
            _task(f"{node.name}.node", "start_node", layout, cell, index, after=("virtualisation",))
            for index, node in enumerate(layout.nodes(cell), start=1)
        ]
    return units


def _cell_units(layout: Layout, cell: CellPlace) -> list[Unit]:
    queue = (f"{cell.name}.broker",) if layout.in_processes else ()
    nodes = tuple(f"{node.name}.node" for node in layout.nodes(cell))
    parts = _shared_parts(layout)
    conductor = f"{cell.name}.conductor"  # the others begin by asking it
    kinds = {
        conductor: ("conductor", Role.CONDUCTOR, (*queue, f"{cell.name}.schema", "top.contents")),
        f"{cell.name}.scheduler": ("scheduler", Role.SCHEDULER, (*queue, conductor)),
        f"{cell.name}.consoleauth": ("consoleauth", Role.CONSOLEAUTH, (*queue, conductor)),
        f"{cell.name}.consoleproxy": ("consoleproxy", Role.CONSOLEAUTH, (*queue, conductor)),
        f"{cell.name}.metadata": ("metadata", Role.METADATA, (*queue, *nodes, conductor)),
        f"{cell.name}.volume": ("volume", Role.VOLUME, (*queue, conductor)),
    }
    units = [
        _service(
            name,
            layout,
            service,
            layout.role_file(cell, role),
            parts if role in (Role.CONDUCTOR, Role.VOLUME) else dict,
            after=after,
        )
        for name, (service, role, after) in kinds.items()
    ]
    for host in layout.compute_hosts(cell):
        node = tuple(name for name in nodes if name == f"{host}.node")
        units.append(
            _service(
                f"{host}.compute",
                layout,
                "compute",
                layout.host_file(cell, host),
                parts,
                after=(*queue, *node, conductor, "virtualisation"),
            )
        )
    return units


def _shared_parts(layout: Layout) -> Parts:
    """Return what services of one process share with the top cell's embedded image, network and volume services."""

    def make() -> dict[str, Any]:
        if layout.in_processes:
            return {}
        from cellcloud.db.engine import Database
        from cellcloud.embedded.images import EmbeddedImages
        from cellcloud.embedded.networks import EmbeddedNetworks
        from cellcloud.embedded.volume.client import EmbeddedVolumes
        from cellcloud.embedded.volume.service import CellVolumes, VolumeService

        settings = options.load(layout.top_file)
        database = Database(settings.top.connection, timeout=settings.database_timeout)
        images = EmbeddedImages.of(database, layout.images, settings.adapters)
        service = VolumeService(database=database, images=images, reach=CellVolumes(database))
        networks = EmbeddedNetworks(database, settings.network)
        return {"networks": networks, "images": images, "volumes": EmbeddedVolumes(service)}

    return make


def _api_unit(layout: Layout) -> Unit:
    after = ("top.schema", "top.contents")
    if not layout.in_processes:

        def build() -> Any:
            from cellcloud.launcher.web_server import Web

            return Web(options.load(layout.top_file))

        return _unit_of("top.api", layout, build, layout.top_file, after=after)
    return Unit(
        name="top.api",
        kind=UnitKind.SERVICE,
        run=partial(_run_gunicorn, layout.top_file, layout.run),
        after=after,
        ready=partial(_answers_http, layout.public_url, layout.cafile),
    )


def _run_gunicorn(file: Path, run: Path) -> None:
    from cellcloud.launcher.web_server import Gunicorn

    Gunicorn(options.load(file), run).run()


def _service(
    name: str, layout: Layout, service: str, file: Path, parts: Parts = dict, *, after: tuple[str, ...]
) -> Unit:
    """``service``: its entry point; ``parts``: what its build function is given beside the options."""
    return _unit_of(name, layout, lambda: load_service(service)(options.load(file), **parts()), file, after=after)


def _unit_of(name: str, layout: Layout, build: Callable[[], Any], file: Path, *, after: tuple[str, ...]) -> Unit:
    health = layout.run / f"{name}.sock"

    def run() -> None:
        from cellcloud import service

        log.set_up(name, level=options.load(file).log_level)
        service.run(build(), health_socket=health)

    return Unit(name=name, kind=UnitKind.SERVICE, run=run, after=after, ready=partial(is_healthy, health), build=build)


def _task(name: str, function: str, *given: object, after: tuple[str, ...] = ()) -> Unit:
    """Return a unit that ends once its function has. ``function``: of ``start_tasks``, which loads much; so it is
    imported late."""

    def run() -> None:
        from cellcloud.launcher import start_tasks

        getattr(start_tasks, function)(*given)

    return Unit(name=name, kind=UnitKind.TASK, run=run, after=after)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("local", timeout=1)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def is_healthy(path: Path) -> bool:
    """Return whether the service behind this health socket says that all its parts are well."""
    return _status(_UnixConnection(path), "/health") == http.HTTPStatus.OK


def _answers_http(url: str, cafile: str) -> bool:
    address = url.partition("://")[2]
    connection = http.client.HTTPConnection(address, timeout=1)
    if cafile:
        connection = http.client.HTTPSConnection(address, timeout=1, context=ssl.create_default_context(cafile=cafile))
    status = _status(connection, "/")
    return status is not None and status < http.HTTPStatus.INTERNAL_SERVER_ERROR


def _status(connection: http.client.HTTPConnection, path: str) -> int | None:
    """Return the status of a GET; None when there is no answer."""
    with suppress(OSError, http.client.HTTPException), closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    return None
