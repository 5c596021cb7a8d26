"""A whole cloud in this process, with impatient timings, whose messages can be lost, repeated and late."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from cell.compute.__main__ import build as build_compute
from cell.compute.drivers.fake import FakeDriver
from cell.compute.drivers.fake_hypervisor import FakeHypervisor
from cell.conductor.__main__ import build as build_conductor
from cell.consoleauth.__main__ import build as build_consoleauth
from cell.scheduler.__main__ import build as build_scheduler
from cellcloud import config as options
from cellcloud import errors
from cellcloud.db import cell_schema, flavors, top_schema
from cellcloud.db import cells as cells_table
from cellcloud.db.engine import Database
from cellcloud.embedded.networks import EmbeddedNetworks
from cellcloud.embedded.viewer import Viewer
from cellcloud.model.network import Network
from cellcloud.model.subnet_arithmetic import Subnet
from cellcloud.rpc.transport import Transport
from cellcloud.service import Service
from tests.api.declared_answers import watch_answers
from tests.api.world import IMAGE, FixedIdentity, WorldImages
from tests.cloud import CELLS, until
from tests.faults.books import Books, CellBooks
from tests.volumes import FakeVolumes
from top_api.adapters import Adapters
from top_api.app import create_app
from top_api.cell_clients import Cells
from top_api.dispatch.outbox_dispatcher import OutboxDispatcher
from top_api.router.__main__ import build as build_router

LATE = 1.2  # seconds: what waits for the message has given up by then, and has asked again
HOLD = 3.0
HOSTS = 2


class Fate(StrEnum):
    """What becomes of one message."""

    REQUEST_LOST = "request lost"
    ANSWER_LOST = "answer lost"
    REPEATED = "repeated"
    LATE = "late"


class Messages:
    """The shim of every transport: does to one message, the ``nth`` of its verb, what it is told."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.away = False  # nothing comes through
        self._verb = ""
        self._left = 0
        self._fate = Fate.REPEATED
        self._late: list[threading.Thread] = []

    def arm(self, verb: str, nth: int, fate: Fate) -> None:
        """``verb``: as Interface.verb."""
        with self._lock:
            self._verb, self._left, self._fate = verb, nth, fate

    @property
    def is_armed(self) -> bool:
        """Whether that message is still to come."""
        return self._left > 0

    def settle(self) -> None:
        """Wait until no message is on its way that everybody has given up."""
        with self._lock:
            late, self._late = self._late, []
        for thread in late:
            thread.join()

    def __call__(self, interface: str, verb: str, deliver: Callable[[], Any]) -> Any:
        if self.away:
            raise errors.Unreachable("The queue is away.")
        with self._lock:
            self._left -= f"{interface}.{verb}" == self._verb and self._left > 0
            meant = f"{interface}.{verb}" == self._verb and self._left == 0
            if meant:
                self._verb = ""
        return self._suffer(deliver) if meant else deliver()

    def _suffer(self, deliver: Callable[[], Any]) -> Any:
        if self._fate is Fate.REQUEST_LOST:
            raise errors.Unreachable("The request was lost.")
        if self._fate is Fate.LATE:
            self._send_later(deliver, LATE)
            raise errors.Unreachable("Nobody answered in time.")
        if self._fate is Fate.REPEATED:
            self._send_later(deliver, 0.0)  # beside the first, and behind it
            deliver()
            return deliver()
        deliver()
        raise errors.Unreachable("The answer was lost.")

    def _send_later(self, deliver: Callable[[], Any], seconds: float) -> None:
        def send() -> None:
            time.sleep(seconds)
            deliver()

        thread = threading.Thread(target=send, daemon=True)
        thread.start()
        with self._lock:
            self._late.append(thread)


class OneProcess:
    """The API as a test client, and everything behind it. Casts that are lost are lost in silence."""

    def __init__(self, place: Path, down_time: float, reclaim: int) -> None:
        self.messages = Messages()
        self._undo = ExitStack()
        self._place = place
        base = options.load()
        self._config = replace(
            base,
            state_dir=place,
            reclaim_instance_interval=reclaim,
            top=replace(
                base.top,
                cell_timeout=2.0,
                breaker_seconds=0.2,
                health_interval=0.2,
                follow_interval=0.3,
                intent_lease=2.0,
            ),
            cell=replace(
                base.cell,
                hold_seconds=HOLD,
                run_lease=3.0,
                resend_after=0.6,
                report_interval=0.5,
                service_down_time=down_time,
            ),
        )
        self._top = self._database("top", top_schema)
        self._hypervisors = {name: FakeHypervisor() for name in CELLS}
        self._networks = EmbeddedNetworks(self._top)
        self.images = WorldImages(self._top, place)
        self._volumes = FakeVolumes()
        transports = {name: Transport(name, "kombu+memory://", shim=self.messages) for name in CELLS}
        cells = [CellBooks(name, self._start_cell(name, transports[name]), self._hosts(name)) for name in CELLS]
        self.books = Books(self._top, cells)
        self._fill_top()
        self._start(build_router(self._config, self._top, transports))
        self._client = self._make_api(transports)

    def close(self) -> None:
        self._undo.close()

    # ---- what users do -----------------------------------------------------------------------------------------
    def create(self, name: str, key: str, group_id: str = "") -> str:
        """Ask for a server until it is accepted; its id."""
        server = {"name": name, "imageRef": IMAGE, "flavorRef": "1", "networks": "auto"}
        body = {"server": server, "os:scheduler_hints": {"group": group_id} if group_id else {}}
        answer = self._ask("POST", "/v2.1/servers", body, 202, headers={"Idempotency-Key": key})
        return str(answer.json["server"]["id"])

    def create_group(self, policy: str) -> str:
        """Make a server group; its id."""
        body = {"server_group": {"name": policy, "policy": policy}}
        return str(self._ask("POST", "/v2.1/os-server-groups", body, 200).json["server_group"]["id"])

    def stop(self, server_id: str) -> None:
        """Ask until it is accepted; 409 says that it was, though the answer was lost."""
        self._ask("POST", f"/v2.1/servers/{server_id}/action", {"os-stop": None}, 202, 409)

    def create_image(self, server_id: str) -> str:
        """Ask for an image of a server until it is accepted; its id."""
        body = {"createImage": {"name": "image"}}
        answer = self._ask("POST", f"/v2.1/servers/{server_id}/action", body, 202)
        return str(answer.json["image_id"])

    def delete(self, server_id: str) -> None:
        self._ask("DELETE", f"/v2.1/servers/{server_id}", None, 204, 404)

    def status(self, server_id: str) -> str:
        """The status that is shown; "gone" when the server is not."""
        answer = self._ask("GET", f"/v2.1/servers/{server_id}", None, 200, 404)
        return str(answer.json["server"]["status"]) if answer.status_code == 200 else "gone"

    def wait_for(self, server_id: str, status: str) -> None:
        until(lambda: self.status(server_id) == status, 60.0, every=0.05, what=f"{server_id} {status}")

    def hosts_with(self, server_id: str) -> list[str]:
        """Every host, of whichever cell, that holds a guest of the server."""
        return [
            host
            for name in CELLS
            for host in self._host_names(name)
            if self._hypervisors[name].find(host, server_id) is not None
        ]

    def _ask(self, method: str, path: str, body: Any, *wanted: int, headers: dict[str, str] | None = None) -> Any:
        given = {"X-Auth-Token": "member", "OpenStack-API-Version": "compute 2.90"} | (headers or {})

        def ask() -> Any:
            answer = self._client.open(path, method=method, json=body, headers=given)
            assert answer.status_code in (*wanted, 503), (answer.status_code, answer.text)
            return answer if answer.status_code in wanted else None

        return until(ask, 60.0, every=0.2, what=f"{method} {path}")

    def ask(self, method: str, path: str, body: Any = None, *, token: str) -> Any:
        """The answer to one request, whatever it is, but for one to try again."""
        headers = {"X-Auth-Token": token, "OpenStack-API-Version": "compute 2.90"}

        def ask() -> Any:
            answer = self._client.open(path, method=method, json=body, headers=headers)
            return answer if answer.status_code != 503 else None

        return until(ask, 60.0, every=0.2, what=f"{method} {path}")

    # ---- wiring ------------------------------------------------------------------------------------------------
    def _database(self, name: str, schema: Any) -> Database:
        database = Database(f"sqlite:///{self._place}/{name}.sqlite")
        with database.write() as connection:
            schema.metadata.create_all(connection)
        self._undo.callback(database.close)
        return database

    def _hosts(self, name: str) -> Callable[[], FakeHypervisor]:
        return lambda: self._hypervisors[name]

    @staticmethod
    def _host_names(cell: str) -> list[str]:
        return [f"{cell}-{number}" for number in range(1, HOSTS + 1)]

    def _start_cell(self, name: str, transport: Transport) -> Database:
        database = self._database(name, cell_schema)
        config = replace(self._config, host=name, cell=replace(self._config.cell, name=name))
        drivers = {host: FakeDriver(self._hypervisors[name], host) for host in self._host_names(name)}
        parts = {"networks": self._networks, "images": self.images, "volumes": self._volumes}
        self._start(build_conductor(config, transport=transport, database=database, **parts))
        self._start(build_scheduler(config, transport=transport))
        self._start(build_consoleauth(config, transport=transport))
        self._start(build_compute(config, transport=transport, images=self.images, drivers=drivers))
        return database

    def _start(self, service: Service) -> None:
        service.start()
        self._undo.callback(service.stop)

    def _fill_top(self) -> None:
        admin = Viewer(project_id="", is_admin=True)
        network = self._networks.create_network(admin, Network(id="", name="private", shared=True))
        self._networks.create_subnet(admin, Subnet(id="", name="s", network_id=network.id, cidr="10.0.0.0/16"))
        with self._top.write() as connection:
            flavors.ensure_starters(connection)
            for name in CELLS:
                cells_table.register_cell(connection, name, "kombu+memory://")

    def _make_api(self, transports: dict[str, Transport]) -> Any:
        cells = Cells(self._top, self._config.top, transports)
        self._undo.callback(cells.close)
        dispatcher = OutboxDispatcher(self._top, cells, "api", self._config.top)
        self._undo.callback(dispatcher.stop)
        outside = Adapters(identity=FixedIdentity(), images=self.images, networks=self._networks, volumes=self._volumes)
        app = create_app(self._config, database=self._top, adapters=outside, cells=cells, dispatch=dispatcher.dispatch)
        self.app, self.undeclared = app, watch_answers(app)
        return app.test_client()

    def hosts_up(self) -> int:
        """Hosts that the top believes to be up."""
        with self._top.read() as connection:
            return sum(cell.digest.hosts_up for cell in cells_table.list_cells(connection) if cell.digest is not None)


@contextmanager
def one_process(place: Path, *, down_time: float = 15.0, reclaim: int = 0) -> Iterator[OneProcess]:
    """A cloud that serves. ``reclaim``: seconds in which deleted servers can be restored."""
    cloud = OneProcess(place, down_time, reclaim)
    try:
        until(lambda: cloud.hosts_up() == HOSTS * len(CELLS), 60.0, what="every host up")
        yield cloud
        assert cloud.undeclared == []
    finally:
        cloud.close()
