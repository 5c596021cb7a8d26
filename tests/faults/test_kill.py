"""kill -9 of every kind of process while servers are built and deleted: all comes to rest, and nothing is left over.

The order of the kills, and what is deleted when, comes from a seed that is printed; CELLCLOUD_SEED sets it.
"""

from __future__ import annotations

import configparser
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests
import sqlalchemy as sa

from cellcloud.db import top_schema
from tests.cloud import CELLS, Api, Cloud, running_cloud, until
from tests.faults.books import Books, open_books, wait_until_right

SERVERS = 30
CLIENTS = 6
GUEST_SECONDS = 0.3  # that a host needs for each thing it does to a guest
CONVERGED = 60.0  # seconds after the last kill
PATIENCE = 60.0  # seconds a client repeats a request that nobody answered
OF_A_CELL = ("conductor", "scheduler", "compute", "consoleauth", "consoleproxy", "metadata")


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


def slow_down(cloud: Cloud) -> None:
    """Let guests take their time, so that there is something to interrupt."""
    for cell in CELLS:
        path = cloud.state / "cells" / cell / "hosts" / f"{cell}.conf"
        parser = configparser.RawConfigParser()
        parser.read(path)
        parser["compute"]["fake_delay"] = str(GUEST_SECONDS)
        with path.open("w") as file:
            parser.write(file)
    computes = [f"{cell}.compute" for cell in CELLS]
    cloud.stop(*computes)
    cloud.start(*computes)


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
        answer = self._persist(lambda: self._api.request("POST", "/servers", body, **{"Idempotency-Key": key}), 202)
        server_id = str(answer.json()["server"]["id"])
        with self._lock:
            self.accepted[key] = server_id
        if wanted:
            return
        time.sleep(pause)
        self._persist(lambda: self._api.request("DELETE", f"/servers/{server_id}"), 204, 404)
        with self._lock:
            self.deleted.add(server_id)

    def repeat(self, number: int) -> None:
        """The same request once more names the same server."""
        key = f"key-{number}"
        body = {"server": self._body["server"] | {"name": f"server-{number}"}}
        answer = self._persist(lambda: self._api.request("POST", "/servers", body, **{"Idempotency-Key": key}), 202)
        assert answer.json()["server"]["id"] == self.accepted[key]

    def list_servers(self) -> dict[str, dict[str, Any]]:
        """What is shown, by id."""
        answer = self._persist(lambda: self._api.request("GET", "/servers/detail"), 200)
        return {server["id"]: server for server in answer.json()["servers"]}

    @staticmethod
    def _persist(ask: Callable[[], Any], *wanted: int) -> Any:
        """Ask until there is an answer. Only silence and "try again" are reasons to repeat."""
        end = time.monotonic() + PATIENCE
        while True:
            with suppress(requests.ConnectionError, requests.Timeout):
                answer = ask()
                if answer.status_code in wanted:
                    return answer
                assert answer.status_code == 503, (answer.status_code, answer.text)
            assert time.monotonic() < end, "nobody answers any more"
            time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")  # of the client, to a server that died
@pytest.mark.parametrize("kinds", [services, daemons])
def test_killed_processes_lose_and_leave_nothing(tmp_path: Path, kinds: Callable[[random.Random], list[str]]) -> None:
    seed = int(os.environ.get("CELLCLOUD_SEED", str(random.SystemRandom().randrange(10**6))))
    print(f"CELLCLOUD_SEED={seed}")
    chance = random.Random(seed)
    with running_cloud(tmp_path, hosts=4) as cloud, open_books(cloud) as books:
        slow_down(cloud)
        clients, killer = Clients(cloud.api()), Killer(cloud, chance, kinds(chance))
        with ThreadPoolExecutor(CLIENTS + 1) as pool:
            killing = pool.submit(killer.run)
            asked = []
            for number in range(SERVERS - CLIENTS):
                killer.wait_for(number / (SERVERS - CLIENTS))
                pause = chance.uniform(0.0, 1.0)
                asked.append(pool.submit(clients.build, number, wanted=number % 3 > 0, pause=pause))
            killing.result(timeout=200)
            last_kill = time.monotonic()
            # the last ones are asked for when everybody has just been killed
            asked += [
                pool.submit(clients.build, number, wanted=number % 2 > 0, pause=0.0)
                for number in range(SERVERS - CLIENTS, SERVERS)
            ]
            for each in asked:
                each.result(timeout=120)
        print("killed:", killer.killed)
        wait_until_right(books, CONVERGED - (time.monotonic() - last_kill))
        _check_accepted(books, clients)
        _check_shown(clients)
        clients.repeat(1)
        assert set(until(cloud.pids)) >= {f"{cell}.{kind}" for cell in CELLS for kind in OF_A_CELL}


def _check_accepted(books: Books, clients: Clients) -> None:
    """Every request that was ever answered made just one server, and no other was made."""
    assert len(clients.accepted) == SERVERS
    with books.top.read() as connection:
        made = set(connection.execute(sa.select(top_schema.server_index.c.id)).scalars())
    assert made == set(clients.accepted.values())


def _check_shown(clients: Clients) -> None:
    shown = clients.list_servers()
    assert set(shown) == set(clients.accepted.values()) - clients.deleted
    assert {server["status"] for server in shown.values()} <= {"ACTIVE", "ERROR"}
    failed = [server.get("fault") for server in shown.values() if server["status"] == "ERROR"]
    print("in ERROR:", failed)
    assert len(failed) < SERVERS // 10
