"""Shelving: what may be asked, and what the cell and the image service are told."""

from __future__ import annotations

from typing import Any

import pytest

from cellcloud import errors
from cellcloud.context import service_context
from cellcloud.model import codec
from cellcloud.model.image import ImageQuery
from cellcloud.model.run import RunArguments
from cellcloud.server_states import VmState
from tests.api.world import DEMO, World
from top_api.operations.server_in_cell import save_answer


def act(world: World, server_id: str, action: str, given: Any = None, **how: Any) -> Any:
    return world.post(f"/servers/{server_id}/action", {action: given}, **how)


def offloaded(world: World) -> str:
    server_id = world.create("vm")
    cell = world.cell_of(server_id)
    record = cell.change(server_id, vm_state=VmState.SHELVED_OFFLOADED, host=None, node=None, availability_zone=None)
    save_answer(world.database, record, cell.name)
    return server_id


def test_a_server_is_shelved_as_an_image_of_its_name(world: World) -> None:
    server_id = world.create("vm")
    assert act(world, server_id, "shelve").status_code == 202
    told = codec.from_plain(world.cell_of(server_id).arguments, RunArguments)
    [image] = world.images.search_images(ImageQuery(name="vm-shelved"), project_id=DEMO, is_admin=False)
    assert told.image is not None
    assert (told.image.id, image.properties["instance_uuid"]) == (image.id, server_id)
    assert world.get(f"/servers/{server_id}").get_json()["server"]["status"] == "SHELVED"
    assert act(world, server_id, "shelve").status_code == 409
    assert act(world, server_id, "shelveOffload").status_code == 403
    assert act(world, server_id, "shelveOffload", token="admin").status_code == 202
    assert world.get(f"/servers/{server_id}").get_json()["server"]["status"] == "SHELVED_OFFLOADED"


def test_a_server_on_no_host_shows_none(world: World) -> None:
    shown = world.get(f"/servers/{offloaded(world)}", token="admin").get_json()["server"]
    names = ("OS-EXT-SRV-ATTR:host", "OS-EXT-SRV-ATTR:hypervisor_hostname", "hostId", "OS-EXT-AZ:availability_zone")
    assert [shown[name] for name in names] == [None, None, "", ""]


@pytest.mark.parametrize(
    ("version", "given", "token", "status", "told"),
    [
        ("2.1", {"anything": 1}, "member", 202, {}),
        ("2.77", None, "member", 202, {}),
        ("2.77", {"availability_zone": "zone-east"}, "member", 202, {"zone": "zone-east"}),
        ("2.77", {"availability_zone": None}, "member", 400, None),
        ("2.77", {"host": "east-1"}, "admin", 400, None),
        ("2.91", {}, "member", 202, {}),
        ("2.91", {"availability_zone": None}, "member", 202, {"zone": None}),
        ("2.91", {"host": "east-1"}, "member", 403, None),
        ("2.91", {"host": "east-1"}, "admin", 202, {"host": "east-1"}),
        ("2.91", {"host": "east-1", "availability_zone": None}, "admin", 202, {"host": "east-1", "zone": None}),
        ("2.91", {"host": "east-1", "other": 1}, "admin", 400, None),
    ],
)
def test_where_a_server_may_be_brought_back_to(
    world: World, version: str, given: Any, token: str, status: int, told: dict[str, Any] | None
) -> None:
    server_id = offloaded(world)
    answer = act(world, server_id, "unshelve", given, version=version, token=token)
    assert answer.status_code == status, answer.text
    if told is not None:
        assert world.cell_of(server_id).arguments == told


@pytest.mark.parametrize(
    ("action", "place", "refusal"),
    [
        ("unshelve", "host", "Compute host {} could not be found."),
        ("migrate", "host", "Compute host {} could not be found."),
        ("unshelve", "availability_zone", "The requested availability zone is not available"),
    ],
)
def test_a_place_in_another_cell_is_refused_by_name(world: World, action: str, place: str, refusal: str) -> None:
    """Before anything is accepted: the record of a server stays in its cell. Nova accepts it, and finds no valid
    host."""
    server_id = offloaded(world) if action == "unshelve" else world.create("vm")
    cell = world.cell_of(server_id)
    other = world.west if cell is world.east else world.east

    def refuse(_context: Any, _id: str, _operation: str, asked: dict[str, Any]) -> Any:
        raise errors.Invalid(refusal.format(asked.get("host")))

    cell.begin_operation = refuse  # type: ignore[method-assign]  # as a cell that has no such place
    there = other.list_hosts(service_context(1.0))[0]
    name = there.host if place == "host" else there.zone
    for given, stays in ((name, True), ("none-such", False)):
        answer = act(world, server_id, action, {place: given}, version="2.91", token="admin")
        assert answer.status_code == 400, answer.text
        message = answer.get_json()["badRequest"]["message"]
        assert (f"{given} is not in the cell of instance {server_id}" in message) == stays
        assert stays or message == refusal.format(given)
