"""Two schedulers and two conductors of one cell, and forty requests racing for its last ten places."""

from __future__ import annotations

import http.client
import re
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from cellcloud import errors
from cellcloud.context import service_context
from cellcloud.db import cell_schema, claims
from cellcloud.db.engine import Database
from cellcloud.model.flavor import Flavor
from cellcloud.model.image import Image
from cellcloud.model.placement_messages import ReserveAnswer
from cellcloud.model.server import ServerSpec
from cellcloud.rpc.conductor import Conductor
from cellcloud.rpc.transport import Transport
from tests.cloud import Api, Cloud, running_cloud, until
from tests.faults.books import list_records, open_books, wait_until_right

CELL, OTHER = "east", "west"
HOSTS = 10
DISK = 1000  # GB: two such servers fill a host
TAKEN, PLACES, RACERS = 10, 10, 40
NO_HOST = "No valid host was found."


class CommitWatch:
    """Looks at the cell's committed states: a trigger at each change of a figure, a reader at the books between."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._stopping = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self.looks = 0
        self.mismatches: list[Any] = []
        with database.write() as connection:
            connection.exec_driver_sql(
                "CREATE TABLE above_the_limit (host VARCHAR(255), class VARCHAR(64), used BIGINT, capacity BIGINT)"
            )
            connection.exec_driver_sql(
                "CREATE TRIGGER watch_limits AFTER UPDATE ON inventories FOR EACH ROW "
                "INSERT INTO above_the_limit SELECT NEW.host, NEW.resource_class, NEW.used, NEW.capacity "
                "FROM DUAL WHERE NEW.used > NEW.capacity OR NEW.used < 0"
            )

    def __enter__(self) -> CommitWatch:
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._reader.join()

    def find_excess(self) -> list[Any]:
        """Every committed change that took a host above what it has."""
        with self._database.read() as connection:
            return list(connection.exec_driver_sql("SELECT * FROM above_the_limit").all())

    def _read(self) -> None:
        while not self._stopping.is_set():
            with self._database.read() as connection:
                self.mismatches += claims.list_mismatches(connection)
            self.looks += 1


@contextmanager
def second_process(cloud: Cloud, module: str) -> Iterator[Path]:
    """One more process of a service of the cell, from its own command; its health socket."""
    sock = cloud.cell_config(CELL).state_dir / "run" / f"{module}.sock"
    command = [sys.executable, "-m", f"cell.{module}", "--config", str(cloud.role_file(CELL, module))]
    with (cloud.state / "log" / f"second-{module}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        until(sock.exists, 30.0, what=f"a second {module}")
        yield sock
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """A cloud whose one cell takes servers, each service of which that decides there is twice."""
    with running_cloud(tmp_path_factory.mktemp("cloud"), hosts=HOSTS) as made:
        admin = made.api("cellcloud-admin")
        for service in admin.get("/os-services?binary=nova-compute")["services"]:
            if service["host"].startswith(OTHER):
                answer = admin.request("PUT", f"/os-services/{service['id']}", {"status": "disabled"})
                assert answer.status_code == 200, answer.text
        with second_process(made, "scheduler"), second_process(made, "conductor"):
            yield made


@pytest.fixture(scope="module")
def database(cloud: Cloud) -> Iterator[Database]:
    with closing(Database(cloud.database_url(CELL))) as opened:
        yield opened


@pytest.fixture(scope="module")
def watch(database: Database) -> Iterator[CommitWatch]:
    with CommitWatch(database) as made:
        yield made


def big_flavor(cloud: Cloud) -> str:
    flavor = {"name": "big", "vcpus": 1, "ram": 512, "disk": DISK}
    answer = cloud.api("cellcloud-admin").request("POST", "/flavors", {"flavor": flavor})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["flavor"]["id"])


def count_calls(sock: Path, verb: str) -> float:
    """How often a process has answered a verb."""
    connection = http.client.HTTPConnection("local")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(sock))
    with closing(connection):
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    return sum(float(found) for found in re.findall(rf'^cellcloud_rpc_calls_total{{.*"{verb}",.*}} (\S+)', text, re.M))


def make_spec(number: int) -> ServerSpec:
    return ServerSpec(
        id=f"00000000-0000-4000-8000-{number:012d}",
        name=f"racer-{number}",
        project_id="p",
        user_id="u",
        flavor=Flavor(id="big", name="big", vcpus=1, memory_mb=512, root_gb=DISK),
        image=Image(id="i"),
        networks=(),
    )


def reserve(conductor: Conductor, spec: ServerSpec) -> ReserveAnswer:
    """Ask as the top does: again when nobody could say."""

    def ask() -> ReserveAnswer | None:
        try:
            return conductor.reserve(service_context(15.0), [spec])[0]
        except errors.TryLater:
            return None

    answer: ReserveAnswer = until(ask, 30.0, what="an answer")
    return answer


def test_forty_messages_race_for_ten_places(cloud: Cloud, database: Database, watch: CommitWatch) -> None:
    transport = Transport(CELL, cloud.cell_config(CELL).cell.transport_url)
    conductor = transport.client(Conductor)
    held = [reserve(conductor, make_spec(number)).server_id for number in range(TAKEN)]
    sockets = [cloud.state / "run" / f"{CELL}.scheduler.sock", cloud.state / "run" / f"{CELL}.conductor.sock"]
    sockets += [cloud.cell_config(CELL).state_dir / "run" / f"{name}.sock" for name in ("scheduler", "conductor")]
    verbs = ["rank", "reserve", "rank", "reserve"]
    before = [count_calls(sock, verb) for sock, verb in zip(sockets, verbs, strict=True)]
    try:
        with ThreadPoolExecutor(RACERS) as pool:
            specs = [make_spec(number) for number in range(TAKEN, TAKEN + RACERS)]
            answers = list(pool.map(lambda spec: reserve(conductor, spec), specs))
        after = [count_calls(sock, verb) for sock, verb in zip(sockets, verbs, strict=True)]
        held += [answer.server_id for answer in answers if answer.outcome == "held"]
        assert Counter(answer.outcome for answer in answers) == {"held": PLACES, "refused": RACERS - PLACES}
        assert {answer.reason for answer in answers if answer.outcome == "refused"} == {NO_HOST}
        assert all(now > then for now, then in zip(after, before, strict=True)), "somebody had nothing to do"
        assert Counter(record.host for record in list_records(database)).most_common(1)[0][1] == 2
        with database.read() as connection:
            disks = connection.execute(
                sa.select(cell_schema.inventories).where(cell_schema.inventories.c.resource_class == "DISK_GB")
            ).all()
        assert [row.used for row in disks] == [row.capacity for row in disks]
    finally:
        conductor.release(service_context(15.0), held)
        transport.close()
    assert watch.find_excess() == []
    assert watch.mismatches == []
    assert watch.looks > 20


def test_forty_users_race_for_ten_places(cloud: Cloud, watch: CommitWatch) -> None:
    api, flavor = cloud.api(), big_flavor(cloud)
    first = [api.create(f"first-{number}", flavorRef=flavor) for number in range(TAKEN)]
    for server_id in first:
        api.wait_for(server_id, "ACTIVE")
    with ThreadPoolExecutor(RACERS) as pool:
        racers = list(pool.map(lambda number: api.create(f"racer-{number}", flavorRef=flavor), range(RACERS)))
    servers = [settled(api, server_id) for server_id in racers]
    assert Counter(server["status"] for server in servers) == {"ACTIVE": PLACES, "ERROR": RACERS - PLACES}
    faults = [server["fault"]["message"] for server in servers if server["status"] == "ERROR"]
    assert all(fault.startswith(f"{NO_HOST} No host fits: ") for fault in faults), faults
    with open_books(cloud) as books:
        wait_until_right(books)
        for server_id in racers + first:
            assert api.request("DELETE", f"/servers/{server_id}").status_code == 204
        until(lambda: not api.list_servers(), what="every server gone")
        wait_until_right(books)
    assert watch.find_excess() == []
    assert watch.mismatches == []


def settled(api: Api, server_id: str) -> dict[str, Any]:
    """The server once it is no longer built."""

    def found() -> dict[str, Any] | None:
        server = api.find(server_id)
        return server if server is not None and server["status"] != "BUILD" else None

    server: dict[str, Any] = until(found, what=f"{server_id} settled")
    return server
