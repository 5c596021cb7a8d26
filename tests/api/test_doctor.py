"""Where the index and the cells disagree: found, told, and mended as an operator says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cellcloud.db import quotas, server_index, user_quotas
from cellcloud.embedded.networks import EmbeddedNetworks
from cellcloud.embedded.viewer import Viewer
from cellcloud.model.network import Network, NewPort, Subnet
from tests.api.world import DEMO, World
from top_api.operations import quota_recount


def findings(world: World) -> dict[str, tuple[str, str]]:
    """Server -> (check, text) of what is wrong with servers."""
    answer = world.get("/operator/v1/findings", token="admin")
    assert answer.status_code == 200, answer.get_data(as_text=True)
    checks = ("in several cells", "not in the index", "not in its cell")
    return {
        one["subject"]: (one["check"], one["text"])
        for one in answer.get_json()["findings"]
        if one["check"] in checks and one["severity"] != "ok"
    }


def repair(world: World, *servers: str, keep: str | None = None, code: int = 200) -> list[str]:
    """The servers that were mended."""
    body = {"servers": list(servers), "keep": keep}
    answer = world.post("/operator/v1/repairs", body, token="admin")
    assert answer.status_code == code, answer.get_data(as_text=True)
    return [one["subject"] for one in answer.get_json().get("findings", ())]


def used(world: World) -> int:
    with world.database.read() as connection:
        assert quotas.recount(connection) == []
        return quotas.list_usages(connection, DEMO).get("instances", 0)


def lose_row(world: World, server_id: str) -> None:
    """The index never heard of it; nor is it counted."""
    with world.database.write() as connection:
        server_index.mark_deleted(connection, [server_id])
        connection.exec_driver_sql("DELETE FROM server_index WHERE id = ?", (server_id,))


def think_deleted(world: World, server_id: str) -> None:
    with world.database.write() as connection:
        server_index.mark_deleted(connection, [server_id])


def think_nowhere(world: World, server_id: str) -> None:
    with world.database.write() as connection:
        connection.exec_driver_sql("UPDATE server_index SET cell = '' WHERE id = ?", (server_id,))


def test_a_well_cloud_has_nothing_to_repair(world: World) -> None:
    world.create()
    assert findings(world) == {}
    assert repair(world) == []


@pytest.mark.parametrize("spoil", [lose_row, think_deleted, think_nowhere])
def test_what_a_cell_has_and_the_index_has_not_is_taken_in(world: World, spoil: Callable[[World, str], None]) -> None:
    server_id = world.create()
    spoil(world, server_id)
    assert findings(world)[server_id][0] == "not in the index"
    if spoil is lose_row:  # whose it is, only an operator can know
        assert repair(world) == []
    assert repair(world, *([server_id] if spoil is lose_row else ())) == [server_id]
    assert world.get(f"/servers/{server_id}").get_json()["server"]["status"] == "ACTIVE"
    assert findings(world) == {}
    assert used(world) == 1


def test_what_its_cell_has_lost_goes_only_when_it_is_named(world: World) -> None:
    server_id = world.create()
    del world.cell_of(server_id).servers[server_id]
    assert findings(world)[server_id][0] == "not in its cell"
    assert repair(world) == []
    assert repair(world, server_id) == [server_id]
    assert world.get(f"/servers/{server_id}").status_code == 404
    assert used(world) == 0


@pytest.mark.parametrize("keep", ["east", "west"])
def test_of_a_server_in_two_cells_the_named_one_stays(world: World, keep: str) -> None:
    server_id = world.create()
    home = world.cell_of(server_id)
    other = world.west if home is world.east else world.east
    other.servers[server_id] = replace(home.servers[server_id], host=f"{other.name}-1", placement=1 << 50)
    check, text = findings(world)[server_id]
    assert check == "in several cells"
    assert "east, west" in text
    assert repair(world) == []
    repair(world, server_id, code=400)
    assert not world.east.servers[server_id].deleted
    assert not world.west.servers[server_id].deleted
    assert repair(world, server_id, keep=keep) == [server_id]
    kept, gone = (world.east, world.west) if keep == "east" else (world.west, world.east)
    assert not kept.servers[server_id].deleted
    assert gone.servers[server_id].deleted
    assert kept.servers[server_id].placement == world.networks.placements[server_id] == (1 << 50) + 1
    assert (world.networks.bound[server_id], gone.arguments) == (f"{keep}-1", {"keep_ports": True})
    shown: Any = world.get(f"/servers/{server_id}", token="admin").get_json()["server"]
    assert shown["OS-EXT-SRV-ATTR:host"] == f"{keep}-1"
    assert findings(world) == {}
    assert used(world) == 1


def test_of_a_cell_that_does_not_answer_nothing_is_said(world: World) -> None:
    ids = [world.create() for _ in range(4)]
    world.east.away = True
    assert findings(world) == {}
    assert repair(world, *ids) == []


SPOILED = {
    "quota_usages": ("quota", "UPDATE quota_usages SET used = used + 3 WHERE resource = 'cores'"),
    "user_quotas": ("quota", "UPDATE user_quotas SET used = used - 1 WHERE resource = 'instances'"),
    "networks": ("network use", "UPDATE network_usages SET used = used + 1 WHERE resource = 'network'"),
    "subnets": ("network use", "UPDATE network_usages SET used = used - 1 WHERE resource = 'subnet'"),
    "ports": ("network use", "UPDATE network_usages SET used = 0 WHERE resource = 'port'"),
    "addresses": ("network use", "UPDATE network_usages SET used = used + 7 WHERE resource LIKE 'addresses of %'"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_counter_that_is_wrong_is_told_and_counted_anew(world: World, name: str) -> None:
    world.create()
    networks = EmbeddedNetworks(world.database)
    viewer = Viewer(project_id=DEMO)
    made = networks.create_network(viewer, Network(id="", project_id=DEMO))
    networks.create_subnet(viewer, Subnet(id="", network_id=made.id, cidr="10.0.0.0/24", project_id=DEMO))
    networks.create_ports(viewer, [NewPort(network_id=made.id, project_id=DEMO)] * 2)
    with world.database.write() as connection:
        user_quotas.set_limits(connection, DEMO, "demo-user", {"instances": 5, "key_pairs": 5})

    def wrong() -> set[tuple[str, str]]:
        found = world.get("/operator/v1/findings", token="admin").get_json()["findings"]
        mine = [one for one in found if one["check"] in quota_recount.CHECKS]
        assert {one["check"] for one in mine} == set(quota_recount.CHECKS)
        assert all(one["remedy"] == quota_recount.REMEDY for one in mine if one["severity"] != "ok")
        return {(one["check"], one["subject"]) for one in mine if one["severity"] != "ok"}

    assert wrong() == set()
    check, statement = SPOILED[name]
    with world.database.write() as connection:
        assert connection.exec_driver_sql(statement).rowcount == 1
    whose = f"{DEMO} user demo-user" if name == "user_quotas" else DEMO
    assert wrong() == {(check, whose)}
    assert repair(world, world.create()) == []  # of servers that are named alone
    assert repair(world) == [whose]
    assert wrong() == set()
    assert used(world) == 2
    assert networks.list_quotas(DEMO)["port"][1] == 2
    with world.database.read() as connection:
        assert user_quotas.list_counted(connection, DEMO, "demo-user") == {"instances": (5, 2)}
