"""Aggregates: the whole resource, what it refuses, and the copies that cells are given."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from cellcloud import errors
from cellcloud.context import service_context
from cellcloud.db import aggregates as table
from cellcloud.model.host import Aggregate
from cellcloud.rpc.scheduling_store import SchedulingStore
from tests.api.world import BIG_IMAGE, IMAGE, QUEUED_IMAGE, MemoryCell, World
from top_api import aggregate_copies

MISSING = "/os-aggregates/99"


def ask(world: World, method: str, path: str, body: Any = None, *, status: int = 200, **more: Any) -> Any:
    answer = world.call(method, path, body, token=more.pop("token", "admin"), **more)
    assert answer.status_code == status, answer.get_data(as_text=True)
    return answer.get_json(silent=True)


def make(world: World, name: str = "a", zone: str | None = None, **more: Any) -> int:
    given = {"name": name, **({"availability_zone": zone} if zone else {})}
    return int(ask(world, "POST", "/os-aggregates", {"aggregate": given}, **more)["aggregate"]["id"])


def act(world: World, number: int, action: str, *, status: int = 200, **what: Any) -> Any:
    return ask(world, "POST", f"/os-aggregates/{number}/action", {action: what}, status=status)


def give(world: World, cell: MemoryCell) -> bool:
    store: SchedulingStore = cell.client(SchedulingStore)
    return aggregate_copies.give(world.database, cell.name, store, service_context())


def test_the_life_of_an_aggregate(world: World) -> None:
    made = ask(
        world, "POST", "/os-aggregates", {"aggregate": {"name": "fast", "availability_zone": "z"}}, version="2.41"
    )
    assert set(made["aggregate"]) == {
        "id", "uuid", "name", "availability_zone", "created_at", "updated_at", "deleted_at", "deleted",
    }  # fmt: skip
    number = made["aggregate"]["id"]
    path = f"/os-aggregates/{number}"
    assert "uuid" not in ask(world, "GET", path)["aggregate"]
    added = act(world, number, "add_host", host="east-1")["aggregate"]
    assert (added["hosts"], added["metadata"]) == (["east-1"], {"availability_zone": "z"})
    act(world, number, "set_metadata", metadata={"ssd": "true", "old": "x"})
    changed = act(world, number, "set_metadata", metadata={"old": None})["aggregate"]
    assert changed["metadata"] == {"availability_zone": "z", "ssd": "true"}
    renamed = ask(world, "PUT", path, {"aggregate": {"name": " faster ", "availability_zone": "y"}})["aggregate"]
    assert (renamed["name"], renamed["availability_zone"], renamed["deleted"]) == ("faster", "y", False)
    assert renamed["updated_at"] is not None
    assert ask(world, "GET", "/os-aggregates")["aggregates"] == [renamed]
    ask(world, "DELETE", path, status=400)
    assert act(world, number, "remove_host", host="east-1")["aggregate"]["hosts"] == []
    ask(world, "DELETE", path)
    ask(world, "GET", path, status=404)
    assert make(world, "faster") > number, "a deleted one's number was given again"


REFUSED: list[tuple[str, str, Any, int]] = [
    ("POST", "/os-aggregates", {"aggregate": {}}, 400),
    ("POST", "/os-aggregates", {"aggregate": {"name": ""}}, 400),
    ("POST", "/os-aggregates", {"aggregate": {"name": " x"}}, 400),
    ("POST", "/os-aggregates", {"aggregate": {"name": "x" * 256}}, 400),
    ("POST", "/os-aggregates", {"aggregate": {"name": "x", "availability_zone": "a:b"}}, 400),
    ("POST", "/os-aggregates", {"aggregate": {"name": "x", "hosts": []}}, 400),
    ("POST", "/os-aggregates", {"aggregate": {"name": "a"}}, 409),
    ("GET", MISSING, None, 404),
    ("GET", "/os-aggregates/-1", None, 404),
    ("DELETE", "/os-aggregates/-1", None, 404),
    ("GET", "/os-aggregates/x", None, 400),
    ("PUT", MISSING, {"aggregate": {"name": "x"}}, 404),
    ("PUT", "/os-aggregates/1", {"aggregate": {}}, 400),
    ("PUT", "/os-aggregates/1", {"aggregate": {"name": "  "}}, 400),
    ("PUT", "/os-aggregates/1", {"aggregate": {"name": "b"}}, 409),
    ("PUT", "/os-aggregates/1", {"aggregate": {"availability_zone": None}}, 400),
    ("DELETE", MISSING, None, 404),
    ("POST", f"{MISSING}/action", {"add_host": {"host": "east-1"}}, 404),
    ("POST", f"{MISSING}/action", {"set_metadata": {"metadata": {"a": "b"}}}, 404),
    ("POST", "/os-aggregates/1/action", {"add_host": {"host": "nobody"}}, 404),
    ("POST", "/os-aggregates/1/action", {"remove_host": {"host": "west-1"}}, 404),
    ("POST", "/os-aggregates/1/action", {"add_host": {"host": "east-1"}}, 409),
    ("POST", "/os-aggregates/1/action", {"add_host": {}}, 400),
    ("POST", "/os-aggregates/1/action", {"add_host": {"host": "a"}, "remove_host": {"host": "a"}}, 400),
    ("POST", "/os-aggregates/1/action", {"set_metadata": {"metadata": {"k": 1}}}, 400),
    ("POST", "/os-aggregates/1/action", {"set_metadata": {"metadata": {"availability_zone": ""}}}, 400),
    ("POST", "/os-aggregates/1/action", {"set_metadata": {"metadata": {"k": "x" * 256}}}, 400),
    ("POST", "/os-aggregates/1/action", {"images": {}}, 400),
]


def test_what_is_refused_changes_nothing(world: World) -> None:
    assert (make(world, "a"), make(world, "b")) == (1, 2)
    act(world, 1, "add_host", host="east-1")
    before = ask(world, "GET", "/os-aggregates")
    for method, path, body, status in REFUSED:
        ask(world, method, path, body, status=status)
        assert ask(world, "GET", "/os-aggregates") == before, (method, path, body)


@pytest.mark.parametrize("token", ["member", "reader"])
def test_only_administrators_have_them(world: World, token: str) -> None:
    number = make(world)
    for method, path, body in [
        ("GET", "", None),
        ("POST", "", {"aggregate": {"name": "x"}}),
        ("GET", f"/{number}", None),
        ("PUT", f"/{number}", {"aggregate": {"name": "x"}}),
        ("DELETE", f"/{number}", None),
        ("POST", f"/{number}/action", {"add_host": {"host": "east-1"}}),
        ("POST", f"/{number}/action", {"set_metadata": {"metadata": {}}}),
    ]:
        ask(world, method, f"/os-aggregates{path}", body, status=403, token=token)


def test_servers_do_not_change_their_zone(world: World) -> None:
    """A host is in one zone, and while it has servers it stays in it."""
    z, y, plain = make(world, "z", "z"), make(world, "y", "y"), make(world, "plain")
    act(world, z, "add_host", host="east-1")
    act(world, y, "add_host", host="east-1", status=409)
    act(world, plain, "add_host", host="east-1")
    act(world, plain, "set_metadata", metadata={"availability_zone": "y"}, status=400)
    act(world, plain, "remove_host", host="east-1")
    server = world.create(availability_zone="zone-east")
    assert server in world.east.servers
    act(world, z, "remove_host", host="east-1", status=409)
    ask(world, "PUT", f"/os-aggregates/{z}", {"aggregate": {"availability_zone": "other"}}, status=400)
    act(world, z, "set_metadata", metadata={"availability_zone": "z", "ssd": "true"})
    act(world, plain, "add_host", host="east-1")
    act(world, plain, "remove_host", host="east-1")
    act(world, y, "add_host", host="west-1")
    own = make(world, "own", "zone-west")
    act(world, own, "add_host", host="west-1", status=409)


def test_cells_are_given_their_copy_at_once(world: World) -> None:
    number = make(world, "fast", "z")
    act(world, number, "add_host", host="east-1")
    (there,) = world.east.aggregates.values()
    assert (there.id, there.name, there.hosts, there.zone) == (number, "fast", ("east-1",), "z")
    assert [one.hosts for one in world.west.aggregates.values()] == [()], "a cell was told of another's hosts"
    calls = world.east.calls
    assert give(world, world.east)
    assert world.east.calls == calls, "a cell that has its copy was asked"
    act(world, number, "remove_host", host="east-1")
    ask(world, "DELETE", f"/os-aggregates/{number}")
    assert (world.east.aggregates, world.west.aggregates) == ({}, {})


def test_a_cell_that_was_away_gets_its_copy_later(world: World) -> None:
    gone = make(world, "gone")
    world.east.away = True
    ask(world, "DELETE", f"/os-aggregates/{gone}")
    number = make(world, "fast")
    assert list(world.west.aggregates) == [number]
    assert list(world.east.aggregates) == [gone]
    with pytest.raises(errors.Unreachable):
        give(world, world.east)
    world.heal(world.east)
    assert give(world, world.east)
    assert list(world.east.aggregates) == [number]


def test_a_late_message_changes_nothing(world: World) -> None:
    make(world, "fast")
    with world.database.read() as connection:
        version = table.version_of(connection)
    make(world, "faster")
    store: SchedulingStore = world.east.client(SchedulingStore)
    store.set_aggregates(service_context(), [Aggregate(id=1, name="late")], [2], version)
    assert [one.name for one in world.east.aggregates.values()] == ["fast", "faster"]


def test_databases_that_fell_back(world: World) -> None:
    """A cell's lacks its copy, or the top's is behind what a cell has seen: each cell ends with what the top has."""
    make(world, "fast")
    world.east.aggregates, world.east.aggregates_version = {}, 0
    with world.database.write() as connection:
        connection.exec_driver_sql("UPDATE cells SET incarnation = 'another' WHERE name = 'east'")
    assert give(world, world.east)
    assert [one.name for one in world.east.aggregates.values()] == ["fast"]
    world.west.aggregates = {7: Aggregate(id=7, name="lost")}
    world.west.aggregates_version += 1 << 33
    with world.database.write() as connection:
        connection.exec_driver_sql("UPDATE cells SET aggregates = '' WHERE name = 'west'")
    looks = sum(1 for _ in iter(lambda: give(world, world.west), True))
    assert looks < 5
    assert [one.name for one in world.west.aggregates.values()] == ["fast"]


def test_a_host_that_is_gone_leaves_its_aggregates(world: World) -> None:
    number = make(world, "fast")
    act(world, number, "add_host", host="east-1")
    services = world.get("/os-services", token="admin", version="2.53").get_json()["services"]
    (mine,) = [one["id"] for one in services if (one["host"], one["binary"]) == ("east-1", "nova-compute")]
    ask(world, "DELETE", f"/os-services/{mine}", status=204, version="2.53")
    assert ask(world, "GET", f"/os-aggregates/{number}")["aggregate"]["hosts"] == []
    assert [one.hosts for one in world.east.aggregates.values()] == [()]


OTHER_IMAGE = str(uuid.UUID(int=99))
CACHE: list[tuple[str, list[dict[str, Any]], int, str]] = [
    ("x", [{"id": IMAGE}], 400, "no number"),
    ("{id}", [{"id": IMAGE}, {"id": IMAGE}], 400, "Duplicate images in request"),
    ("99", [{"id": IMAGE}], 404, "Aggregate 99 could not be found."),
    ("{id}", [], 400, "cache"),
    ("{id}", [{"id": "x"}], 400, "id"),
    ("{id}", [{"id": IMAGE, "more": 1}], 400, "more"),
    ("{id}", [{"id": IMAGE}, {"id": OTHER_IMAGE}], 400, OTHER_IMAGE),
    ("{id}", [{"id": QUEUED_IMAGE}], 400, QUEUED_IMAGE),
    ("{id}", [{"id": str(uuid.UUID(int=number))} for number in range(1, 102)], 400, "At most 100"),
]


def test_images_that_hosts_cannot_fetch_are_refused(world: World) -> None:
    number = make(world)
    act(world, number, "add_host", host="east-1")
    for path, images, status, text in CACHE:
        answer = world.post(
            f"/os-aggregates/{path.format(id=number)}/images", {"cache": images}, token="admin", version="2.81"
        )
        assert (answer.status_code, text in answer.text) == (status, True), answer.text
    body = {"cache": [{"id": IMAGE}]}
    assert world.post(f"/os-aggregates/{number}/images", body, version="2.81").status_code == 403
    assert world.post(f"/os-aggregates/{number}/images", body, token="admin", version="2.80").status_code == 404
    assert (world.east.cached, world.west.cached) == ([], [])


def test_each_cell_is_told_once_what_its_hosts_are_to_fetch(world: World) -> None:
    number = make(world)
    path, body = f"/os-aggregates/{number}/images", {"cache": [{"id": IMAGE}, {"id": BIG_IMAGE}]}
    assert world.post(path, body, token="admin", version="2.81").status_code == 202
    assert (world.east.cached, world.west.cached) == ([], []), "no host is in it"
    for host in ("east-1", "west-1"):
        act(world, number, "add_host", host=host)
    calls = world.east.calls
    answer = world.post(path, body, token="admin", version="2.81")
    assert (answer.status_code, answer.data) == (202, b"")
    assert world.east.calls == calls + 1
    assert world.east.cached == [("east-1", IMAGE, 1 << 20), ("east-1", BIG_IMAGE, 0)]
    assert [host for host, _, _ in world.west.cached] == ["west-1"] * 2
    world.west.away = True
    assert world.post(path, body, token="admin", version="2.81").status_code == 503, "a cell has not heard of it"
