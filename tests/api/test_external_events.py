"""os-server-external-events: each event to its server's cell, with a status of its own."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.api.world import World
from top_api.operations.external_events import AT_ONCE

PATH = "/os-server-external-events"


def tell(world: World, *events: dict[str, Any], version: str = "2.93", **more: Any) -> tuple[int, list[int]]:
    answer = world.post(PATH, {"events": list(events)}, token="service", version=version, **more)
    shown = answer.get_json()["events"]
    for event, one in zip(events, shown, strict=True):
        assert one == {**event, "code": one["code"], "status": "completed" if one["code"] == 200 else "failed"}
    return answer.status_code, [one["code"] for one in shown]


def about(server_id: str, name: str = "network-changed", **more: Any) -> dict[str, Any]:
    return {"name": name, "server_uuid": server_id, **more}


def test_each_event_goes_to_the_cell_of_its_server(world: World) -> None:
    ids = [world.create(token=token) for token in ("member", "other") for _ in range(4)]
    events = [about(server_id, "network-vif-plugged", tag="port", status="completed") for server_id in ids * 2]
    assert tell(world, *events) == (200, [200] * 16)
    for cell in (world.east, world.west):
        assert {event.server_id for event in cell.events} == cell.servers.keys()
        assert len(cell.events) == 2 * len(cell.servers)
        assert {(event.name, event.tag) for event in cell.events} <= {("network-vif-plugged", "port")}


def test_each_event_has_a_status_of_its_own(world: World) -> None:
    there, deleted = world.create(), world.create()
    world.call("DELETE", f"/servers/{deleted}")
    world.settle()
    world.holding = True
    waiting = world.create(wait=False)
    told = [
        (about(there), 200),
        (about(there, status="failed"), 200),
        (about(str(uuid.uuid4())), 404),
        (about(deleted), 404),
        (about(waiting), 422),
        (about(there, "power-update", tag="POWER_ON"), 200),
        (about(there, "power-update"), 400),
        (about(there, "power-update", tag="up"), 400),
        (about(there, "volume-extended"), 400),
        (about(there, "volume-extended", tag="v"), 200),
        (about(there, "volume-reimaged"), 422),
        (about(there, "accelerator-request-bound", tag="a"), 422),
    ]
    assert tell(world, *(event for event, _ in told)) == (207, [code for _, code in told])
    assert len(world.east.events) + len(world.west.events) == 4


def test_events_of_a_cell_that_is_away_are_to_be_told_again(world: World) -> None:
    ids = [world.create() for _ in range(8)]
    cells = [world.cell_of(server_id).name for server_id in ids]
    world.east.away = True
    wanted = [422 if name == "east" else 200 for name in cells]
    assert tell(world, *map(about, ids)) == (207 if 422 in wanted else 200, wanted)


def test_many_events_share_messages(world: World) -> None:
    server_id = world.create()
    cell = world.cell_of(server_id)
    before = cell.calls
    assert tell(world, *[about(server_id)] * (2 * AT_ONCE + 1)) == (200, [200] * (2 * AT_ONCE + 1))
    assert cell.calls - before == 3


@pytest.mark.parametrize(
    ("body", "version"),
    [
        ({}, "2.1"),
        ({"events": []}, "2.1"),
        ({"events": [{"name": "network-changed"}]}, "2.1"),
        ({"events": [about("x")]}, "2.1"),
        ({"events": [about(str(uuid.UUID(int=1)), status="perhaps")]}, "2.1"),
        ({"events": [about(str(uuid.UUID(int=1)), tag="a" * 256)]}, "2.1"),
        ({"events": [about(str(uuid.UUID(int=1)), more=1)]}, "2.1"),
        *(
            ({"events": [about(str(uuid.UUID(int=1)), name, tag="a")]}, version)
            for name, version in (("volume-extended", "2.50"), ("power-update", "2.75"),
                                  ("accelerator-request-bound", "2.81"), ("volume-reimaged", "2.92"))
        ),
    ],
)  # fmt: skip
def test_bodies_that_tell_of_nothing(world: World, body: dict[str, Any], version: str) -> None:
    assert world.post(PATH, body, token="service", version=version).status_code == 400


def test_administrators_have_ports_read_anew(world: World) -> None:
    server_id = world.create()
    path, body = f"/servers/{server_id}/action", {"injectNetworkInfo": None}
    assert world.post(path, body).status_code == 403
    assert world.post(path, body, token="admin").status_code == 202
    assert [(event.server_id, event.name) for event in world.cell_of(server_id).events] == [
        (server_id, "network-changed")
    ]
    world.cell_of(server_id).away = True
    assert world.post(path, body, token="admin").status_code == 503


def test_a_console_that_no_hypervisor_has(world: World) -> None:
    path, body = f"/servers/{world.create()}/action", {"os-getSPICEConsole": {"type": "spice-html5"}}
    answer = world.post(path, body, version="2.5")
    assert answer.status_code == 400
    assert answer.get_json()["badRequest"]["message"] == "Unavailable console type spice-html5."
    assert world.post(path, body, version="2.6").status_code == 404


def test_only_services_tell(world: World) -> None:
    body = {"events": [about(world.create())]}
    assert {
        token: world.post(PATH, body, token=token).status_code for token in ("member", "manager", "admin", "service")
    } == {
        "member": 403,
        "manager": 403,
        "admin": 200,
        "service": 200,
    }
