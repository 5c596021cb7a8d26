"""One cell's broker, then its database, then all of it gone, then its conductor hanging: the top answers at once, the
other cell takes what is new, and everything comes together when the cell is back."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from cellcloud.db import cells as cells_table
from tests.cloud import Api, Cloud, running_cloud, until
from tests.faults.books import Books, open_books, wait_until_right
from top_api.cell_clients import REREAD

SICK, WELL = "west", "east"
DATABASE = "postgresql"  # of the sick cell, and nobody else's
AT_ONCE = 2.0  # seconds, on a busy machine
BOUND = 6.0  # seconds, for one answer of many: a cell that is asked is given up after eight
NOTICED = 60.0  # seconds in which the top knows that a cell is unreachable
BACK = 120.0


class Watch:
    """Requests and how long each took."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def timed(self, ask: Callable[[], Any]) -> Any:
        began = time.monotonic()
        answer = ask()
        self.times.append(time.monotonic() - began)
        return answer

    def check(self) -> None:
        """Answers at once: all within the bound, nearly all well within."""
        ordered = sorted(self.times)
        print("seconds:", [round(each, 3) for each in ordered])
        assert ordered[-1] < BOUND, ordered
        assert ordered[len(ordered) * 8 // 10] < AT_ONCE, ordered


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with running_cloud(tmp_path_factory.mktemp("cloud"), hosts=2) as made:
        yield made


@pytest.fixture(scope="module")
def books(cloud: Cloud) -> Iterator[Books]:
    with open_books(cloud) as made:
        yield made


def server_in(api: Api, admin: Api, cell: str) -> str:
    """A server that is ACTIVE in the cell; others that are made on the way are deleted."""
    for number in range(50):
        server_id = api.create(f"in-{cell}-{number}")
        api.wait_for(server_id, "ACTIVE")
        if host_of(admin, server_id).startswith(cell):
            return server_id
        api.request("DELETE", f"/servers/{server_id}")
    raise AssertionError(f"no server lands in {cell}")


def host_of(admin: Api, server_id: str) -> str:
    return str(admin.get(f"/servers/{server_id}")["server"]["OS-EXT-SRV-ATTR:host"] or "")


@contextmanager
def units_gone(cloud: Cloud, names: list[str]) -> Iterator[None]:
    """End units of the cell; with the block's end they come back."""
    cloud.stop(*names)
    try:
        yield
    finally:
        cloud.start(*names)


@contextmanager
def unit_hanging(cloud: Cloud, name: str) -> Iterator[None]:
    """Let a process keep all it has and do nothing."""
    pid = cloud.pid(name)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def trouble(cloud: Cloud, part: str) -> AbstractContextManager[None]:
    """What is wrong inside the block."""
    if part == "conductor hangs":
        return unit_hanging(cloud, f"{SICK}.conductor")
    own = [name for name in cloud.pids() if name.startswith(f"{SICK}.")]
    return units_gone(cloud, {"broker": [f"{SICK}.broker"], "database": [DATABASE], "all": [DATABASE, *own]}[part])


def check_reads(api: Api, watch: Watch, known: dict[str, str]) -> None:
    """Lists and shows give the last known state of every server, and quickly."""
    active = {server_id for server_id, status in known.items() if status == "ACTIVE"}
    for path, wanted in (("/servers", set(known)), ("/servers/detail?status=ACTIVE", active)):
        answer = watch.timed(lambda path=path: api.request("GET", path))
        assert answer.status_code == 200, answer.text
        assert {server["id"] for server in answer.json()["servers"]} >= wanted
    for server_id, status in known.items():
        answer = watch.timed(lambda server_id=server_id: api.request("GET", f"/servers/{server_id}"))
        assert answer.status_code == 200, answer.text
        assert answer.json()["server"]["status"] == status


@pytest.mark.parametrize("part", ["broker", "database", "all", "conductor hangs"])
def test_a_cell_that_is_gone_holds_up_nobody(cloud: Cloud, books: Books, part: str) -> None:
    api, admin = cloud.api(), cloud.api("cellcloud-admin")
    kept, doomed, healthy = (server_in(api, admin, cell) for cell in (SICK, SICK, WELL))
    wait_until_right(books)
    known = dict.fromkeys((kept, doomed, healthy), "ACTIVE")
    reads, actions = Watch(), Watch()
    with trouble(cloud, part):
        check_reads(api, reads, known)
        until(lambda: cell_health(books) == "down", NOTICED, what="the top notices")
        time.sleep(REREAD)  # until then a process of the API may go by what it has read before
        for _ in range(5):
            check_reads(api, reads, known)
            answer = actions.timed(lambda: api.request("POST", f"/servers/{kept}/action", {"os-stop": None}))
            assert answer.status_code == 503, answer.text
            assert "Retry-After" in answer.headers
        new = [actions.timed(lambda number=number: api.create(f"new-{number}")) for number in range(4)]
        for server_id in new:
            api.wait_for(server_id, "ACTIVE")
            assert host_of(admin, server_id).startswith(WELL)
        answer = actions.timed(lambda: api.request("DELETE", f"/servers/{doomed}"))
        assert answer.status_code == 204, answer.text
        stop(api, healthy)
        check_reads(api, reads, {kept: "ACTIVE", healthy: "SHUTOFF"})
    until(lambda: api.find(doomed) is None, BACK, what="the delete is carried out")
    wait_until_right(books, BACK)
    until(lambda: cell_health(books) == "up", NOTICED, what="the cell counts as up")
    stop(api, kept)
    for server_id in api.list_servers():
        api.request("DELETE", f"/servers/{server_id}")
    until(lambda: not api.list_servers(), what="every server gone")
    wait_until_right(books, BACK)
    reads.check()
    actions.check()


def stop(api: Api, server_id: str) -> None:
    """Stop a server of a cell that answers. One that was away is left alone for some seconds more, and a request it
    had got and not answered is carried out now: 409 says that the server stops, or has stopped, already."""

    def accepted() -> bool:
        answer = api.request("POST", f"/servers/{server_id}/action", {"os-stop": None})
        assert answer.status_code in (202, 409, 503), answer.text
        return bool(answer.status_code != 503)

    until(accepted, 30.0, every=0.5, what="the cell is asked again")
    api.wait_for(server_id, "SHUTOFF")


def cell_health(books: Books) -> str:
    """What the top believes of the sick cell."""
    with books.top.read() as connection:
        return cells_table.get_cell(connection, SICK).health
