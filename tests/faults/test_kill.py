"""kill -9 of every kind of process while servers are built, deleted, and taken through every operation that there is:
all comes to rest, and nothing is left over.

The order of the kills, and what is deleted when, comes from a seed that is printed; CELLCLOUD_SEED sets it.
"""

from __future__ import annotations

import configparser
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from cellcloud.db import cell_schema, top_schema
from cellcloud.model.operations import ACTIONS, TABLE, ImmediateAction, Operation
from tests.cloud import CELLS, Api, Cloud, running_cloud, until
from tests.faults.books import Books, open_books, wait_until_right
from tests.faults.walks import DELETE, ON_DEVICES, WALKS, Walker, keys_at_once, persist, specs_of

SERVERS = 30
CLIENTS = 6
GUEST_SECONDS = 0.3  # that a host needs for each thing it does to a guest
ROUNDS = 5  # of kills and walks, in full length
CONVERGED = 60.0  # seconds after the last kill
KEPT = 3600  # seconds a deleted server can be restored
OF_A_CELL = ("conductor", "scheduler", "compute", "consoleauth", "consoleproxy", "metadata", "volume")


def services(chance: random.Random) -> list[str]:
    """One of each kind of ours, and then two that do most of the work once more."""
    worker = "an API worker"
    plan = [worker, "top.api", "top.router", *(f"{chance.choice(CELLS)}.{kind}" for kind in OF_A_CELL)]
    chance.shuffle(plan)
    return plan + chance.sample([worker, *(f"{cell}.{kind}" for cell in CELLS for kind in OF_A_CELL[:3])], 2)


def daemons(chance: random.Random) -> list[str]:
    """A broker, and each database."""
    plan = [f"{chance.choice(CELLS)}.broker", "mariadb", "postgresql"]
    chance.shuffle(plan)
    return plan


def prepare(cloud: Cloud) -> None:
    """Let guests take their time, so that there is something to interrupt; let deleted servers be restored, and shelved
    ones stay until they are offloaded."""
    _set(cloud.top_file, DEFAULT={"reclaim_instance_interval": KEPT})
    for cell in CELLS:
        _set(cloud.state / "cells" / cell / "hosts" / f"{cell}.conf", compute={"fake_delay": GUEST_SECONDS})
        _set(cloud.cell_file(cell), DEFAULT={"reclaim_instance_interval": KEPT}, cell={"shelved_offload_time": -1})
    changed = ["top.api", "top.router", *(f"{cell}.{kind}" for cell in CELLS for kind in ("conductor", "compute"))]
    cloud.stop(*changed)
    cloud.start(*changed)


def _set(path: Path, **sections: Mapping[str, object]) -> None:
    parser = configparser.RawConfigParser()
    parser.read(path)
    for section, values in sections.items():
        for name, value in values.items():
            parser.set(section, name, str(value))
    with path.open("w") as file:
        parser.write(file)


class Killer:
    """Ends processes without warning."""

    def __init__(self, cloud: Cloud, chance: random.Random, plan: list[str]) -> None:
        self._cloud = cloud
        self._chance = chance
        self._plan = plan
        self.killed: list[tuple[str, int]] = []

    def wait_for(self, part: float) -> None:
        """Wait until that part of the plan has been carried out."""
        until(lambda: len(self.killed) >= int(part * len(self._plan)), 120.0, every=0.02, what="kills")

    def run(self) -> None:
        for name in self._plan:
            pid = until(lambda name=name: self._find(name), 30.0, what=f"{name} to kill")
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self.killed.append((name, pid))
            time.sleep(self._chance.uniform(0.2, 0.8))

    def _find(self, name: str) -> int:
        workers = self._cloud.api_workers()
        return (self._chance.choice(workers) if workers else 0) if "." not in name else self._cloud.pid(name)


class Clients:
    """Ask for servers and delete some of them, as patient users do: again, with the same key, when nobody answers."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._body = api.server_body("")  # all that it asks for is asked before anybody dies
        self.accepted: dict[str, str] = {}  # key -> id
        self.deleted: set[str] = set()
        self._lock = threading.Lock()

    def build(self, number: int, *, wanted: bool, pause: float) -> None:
        """One server; deleted again after ``pause`` seconds when it is not wanted."""
        key = f"key-{number}"
        body = {"server": self._body["server"] | {"name": f"server-{number}"}}
        answer = persist(lambda: self._api.request("POST", "/servers", body, **{"Idempotency-Key": key}), 202)
        server_id = str(answer.json()["server"]["id"])
        with self._lock:
            self.accepted[key] = server_id
        if wanted:
            return
        time.sleep(pause)
        self.force_delete(server_id)
        with self._lock:
            self.deleted.add(server_id)

    def force_delete(self, server_id: str) -> None:
        """Delete a server at once, though it could be restored."""
        body = {"forceDelete": None}
        persist(lambda: self._api.request("POST", f"/servers/{server_id}/action", body), 202, 404)

    def repeat(self, number: int) -> None:
        """The same request once more names the same server."""
        key = f"key-{number}"
        body = {"server": self._body["server"] | {"name": f"server-{number}"}}
        answer = persist(lambda: self._api.request("POST", "/servers", body, **{"Idempotency-Key": key}), 202)
        assert answer.json()["server"]["id"] == self.accepted[key]

    def list_servers(self) -> dict[str, dict[str, Any]]:
        """What is shown, by id."""
        answer = persist(lambda: self._api.request("GET", "/servers/detail"), 200)
        return {server["id"]: server for server in answer.json()["servers"]}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")  # of the client, to a server that died
@pytest.mark.parametrize("kinds", [services, daemons])
def test_killed_processes_lose_and_leave_nothing(
    tmp_path: Path, kinds: Callable[[random.Random], list[str]], long: bool
) -> None:
    seed = int(os.environ.get("CELLCLOUD_SEED", str(random.SystemRandom().randrange(10**6))))
    print(f"CELLCLOUD_SEED={seed}")
    chance = random.Random(seed)
    with running_cloud(tmp_path, hosts=4) as cloud, open_books(cloud) as books:
        prepare(cloud)
        api, plan = cloud.api(), [name for _ in range(ROUNDS if long else 1) for name in kinds(chance)]
        clients, walker, killer = (
            Clients(api),
            Walker.of(api, cloud.api("cellcloud-admin")),
            Killer(cloud, chance, plan),
        )
        with ThreadPoolExecutor(CLIENTS + len(WALKS) + 1) as pool:
            killing = pool.submit(killer.run)
            walks = [pool.submit(walker.walk, number, ROUNDS if long else 1) for number in range(len(WALKS))]
            asked = []
            for number in range(SERVERS - CLIENTS):
                killer.wait_for(number / (SERVERS - CLIENTS))
                pause = chance.uniform(0.0, 1.0)
                asked.append(pool.submit(clients.build, number, wanted=number % 3 > 0, pause=pause))
            killing.result(timeout=200 * ROUNDS)
            # the last ones are asked for when everybody has just been killed
            asked += [
                pool.submit(clients.build, number, wanted=number % 2 > 0, pause=0.0)
                for number in range(SERVERS - CLIENTS, SERVERS)
            ]
            for each in asked:
                each.result(timeout=120)
            walked = [walk.result(timeout=240 * ROUNDS) for walk in walks]
        print("killed:", killer.killed)
        wait_until_right(books, CONVERGED)
        _check_begun(books)
        for server_id in walked:
            clients.force_delete(server_id)
        until(lambda: not clients.list_servers().keys() & set(walked), 60.0, what="what was walked deleted")
        wait_until_right(books, CONVERGED)
        _check_accepted(books, clients, walked)
        _check_shown(clients)
        clients.repeat(1)
        assert set(until(cloud.pids)) >= {f"{cell}.{kind}" for cell in CELLS for kind in OF_A_CELL}


def _check_begun(books: Books) -> None:
    """Each operation was really begun."""
    begun: set[str] = set()
    for cell in books.cells:
        with cell.database.read() as connection:
            begun |= set(connection.execute(sa.select(cell_schema.runs.c.operation)).scalars())
    assert begun >= {*Operation, *ImmediateAction}, set(Operation) - begun


def test_every_operation_is_asked_for() -> None:
    """By a walk, or by those who build and delete. A new one fails here until it has a place in a walk."""
    walked = {(spec.operation, spec.variant) for walk in WALKS for spec in specs_of(walk)}
    walked |= {(Operation.CREATE, ""), (Operation.DELETE, "")}
    assert walked == {(spec.operation, spec.variant) for spec in TABLE}
    assert keys_at_once() == {key for walk in WALKS for key, _ in walk} - {*ACTIONS, *ON_DEVICES, DELETE}


def _check_accepted(books: Books, clients: Clients, walked: Sequence[str]) -> None:
    """Every request that was ever answered made just one server, and no other was made."""
    assert len(clients.accepted) == SERVERS
    with books.top.read() as connection:
        made = set(connection.execute(sa.select(top_schema.server_index.c.id)).scalars())
    assert made == {*clients.accepted.values(), *walked}


def _check_shown(clients: Clients) -> None:
    shown = clients.list_servers()
    assert set(shown) == set(clients.accepted.values()) - clients.deleted
    assert {server["status"] for server in shown.values()} <= {"ACTIVE", "ERROR"}
    failed = [server.get("fault") for server in shown.values() if server["status"] == "ERROR"]
    print("in ERROR:", failed)
    assert len(failed) < SERVERS // 10
