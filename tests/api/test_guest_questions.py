"""What is asked of a server's guest and told to it at once, as clients see it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cellcloud import errors
from cellcloud.model.guest_questions import InjectNmi, SetPassword
from cellcloud.model.numa import GuestCell, GuestNuma, Placed
from tests.api.world import World


def act(world: World, server_id: str, body: dict[str, Any], **more: Any) -> Any:
    return world.post(f"/servers/{server_id}/action", body, **more)


def test_diagnostics_by_driver_and_in_one_form(world: World) -> None:
    server_id = world.create()
    path = f"/servers/{server_id}/diagnostics"
    assert world.get(path).status_code == 403
    assert world.get(path, token="admin", version="2.47").get_json() == {
        "cpu0_time": 7,
        "cpu1_time": 9,
        "memory": 524288,
        "memory-rss": 200000,
        "vda_read": 1,
        "vda_read_req": 2,
        "vda_write": 3,
        "vda_write_req": 4,
        "vda_errors": 5,
        "tap1_rx": 1,
        "tap1_rx_packets": 2,
        "tap1_rx_errors": 3,
        "tap1_rx_drop": 4,
        "tap1_tx": 5,
        "tap1_tx_packets": 6,
        "tap1_tx_errors": 7,
        "tap1_tx_drop": 8,
    }
    shown = world.get(path, token="admin", version="2.48").get_json()
    assert isinstance(shown.pop("uptime"), int)
    assert shown == {
        "state": "running",
        "driver": "libvirt",
        "hypervisor": "qemu",
        "hypervisor_os": "linux",
        "config_drive": False,
        "num_cpus": 2,
        "num_nics": 1,
        "num_disks": 1,
        "cpu_details": [{"id": 0, "time": 7, "utilisation": None}, {"id": 1, "time": 9, "utilisation": None}],
        "disk_details": [
            {"read_bytes": 1, "read_requests": 2, "write_bytes": 3, "write_requests": 4, "errors_count": 5}
        ],
        "nic_details": [
            {
                "mac_address": "fa:16:3e:00:00:01",
                "rx_rate": None,
                "tx_rate": None,
                "rx_octets": 1,
                "rx_packets": 2,
                "rx_errors": 3,
                "rx_drop": 4,
                "tx_octets": 5,
                "tx_packets": 6,
                "tx_errors": 7,
                "tx_drop": 8,
            }
        ],
        "memory_details": {"maximum": 512, "used": 256},
    }


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (None, 202, None),
        (errors.Conflict("QEMU guest agent is not enabled"), 409, "QEMU guest agent is not enabled"),
        (errors.GuestFailed("no"), 409, "Failed to set admin password on {} because error setting admin password"),
        (errors.NotSupported("no"), 501, "Unable to set password on instance"),
    ],
)
def test_a_password_is_changed_or_not(
    world: World, error: errors.CellcloudError | None, status: int, message: str | None
) -> None:
    server_id = world.create()
    cell = world.cell_of(server_id)
    cell.guest_error = error
    answer = act(world, server_id, {"changePassword": {"adminPass": "p\u00e4ss"}})
    assert answer.status_code == status
    if message is None:
        assert cell.asked == [SetPassword(user="root", password="p\u00e4ss")]
    else:
        [said] = answer.get_json().values()
        assert said["message"] == message.format(server_id)


def test_a_sealed_password_is_shown_and_forgotten(world: World) -> None:
    server_id = world.create()
    path = f"/servers/{server_id}/os-server-password"
    assert world.get(path).get_json() == {"password": ""}
    cell = world.cell_of(server_id)
    cell.update_server(None, server_id, {"sealed_password": "c2VhbGVk"})  # type: ignore[arg-type]  # who asks is nobody's
    world.call("PUT", f"/servers/{server_id}", {"server": {"name": "new"}})  # so that the index hears of it
    assert world.get(path, token="reader").get_json() == {"password": "c2VhbGVk"}
    assert world.call("DELETE", path, token="reader").status_code == 403
    assert world.call("DELETE", path).status_code == 204
    assert world.get(path).get_json() == {"password": ""}


@pytest.mark.parametrize("error", [errors.NotSupported("no"), errors.GuestFailed("no"), errors.Conflict("off")])
def test_a_crash_dump(world: World, error: errors.CellcloudError) -> None:
    server_id = world.create()
    cell = world.cell_of(server_id)
    body = {"trigger_crash_dump": None}
    assert act(world, server_id, body, version="2.17").status_code == 202
    assert cell.asked == [InjectNmi()]
    cell.guest_error = error
    assert act(world, server_id, body, version="2.17").status_code == 409
    assert act(world, server_id, {"trigger_crash_dump": "x"}, version="2.17").status_code == 400
    assert act(world, server_id, {"lock": None}).status_code == 202
    cell.guest_error = None
    assert act(world, server_id, body, version="2.17").status_code == 409
    assert act(world, server_id, body, version="2.17", token="admin").status_code == 202


def test_a_server_in_no_cell_has_no_guest_to_ask(world: World) -> None:
    world.holding = True
    server_id = world.create(wait=False)
    assert world.get(f"/servers/{server_id}/diagnostics", token="admin").status_code == 409
    assert act(world, server_id, {"changePassword": {"adminPass": "x"}}).status_code == 409


def test_an_unlock_that_policy_lets_override_passes_the_cell(top_database: Any, tmp_path: Any) -> None:
    rule = "os_compute_api:os-lock-server:unlock:unlock_override"
    world = World(top_database, tmp_path, policy=f'"{rule}": "rule:project_member_or_admin"')
    server_id = world.create()
    assert act(world, server_id, {"lock": None}, token="admin").status_code == 202
    assert act(world, server_id, {"unlock": None}).status_code == 202
    assert world.get(f"/servers/{server_id}", version="2.9").get_json()["server"]["locked"] is False
    world.close()


def test_a_topology_is_shown_with_the_host_to_those_who_may_know(world: World) -> None:
    specs = {"hw:cpu_policy": "dedicated", "hw:mem_page_size": "2048"}
    given = world.post("/flavors/1/os-extra_specs", {"extra_specs": specs}, token="admin")
    assert given.status_code == 200
    server_id = world.create()
    cell = world.cell_of(server_id)
    record = cell.servers[server_id]
    inside = {"vcpu_set": [0, 1], "siblings": [], "memory_mb": 512}
    pinned = GuestCell(
        id=1, pcpuset=(1, 0), memory=512, pagesize=2048, cpu_policy="dedicated", cpu_pinning=((0, 6), (1, 7))
    )
    placed = Placed(guest=GuestNuma(cells=(pinned,)))
    cell.servers[server_id] = replace(record, spec=replace(record.spec, placed=placed))
    path = f"/servers/{server_id}/topology"
    assert world.get(path, version="2.77").status_code == 404
    assert world.get(path, version="2.78").get_json() == {"nodes": [inside], "pagesize_kb": 2048}
    whole = inside | {"host_node": 1, "cpu_pinning": {"0": 6, "1": 7}}
    assert world.get(path, token="admin", version="2.78").get_json() == {"nodes": [whole], "pagesize_kb": 2048}
    cell.away = True
    assert world.get(path, version="2.78").status_code == 503


@pytest.mark.parametrize(
    ("threads", "cpus", "siblings"),
    [
        (1, [{0, 1, 2, 3}], [[]]),
        (2, [{0, 1, 2, 3}], [[[0, 1], [2, 3]]]),
        (4, [{0, 1, 2, 3}], [[[0, 1, 2, 3]]]),
        (2, [{0, 1}, {2, 3}], [[[0, 1]], [[2, 3]]]),
        (2, [{0, 2}, {1, 3}], [[], []]),
        (2, [{0, 1, 2}, {3}], [[[0, 1]], []]),
    ],
)
def test_siblings_are_the_threads_of_one_core(
    world: World, threads: int, cpus: list[set[int]], siblings: list[list[list[int]]]
) -> None:
    wanted = {"flavor": {"id": "threads", "name": "threads", "vcpus": 4, "ram": 512, "disk": 1}}
    assert world.post("/flavors", wanted, token="admin").status_code == 200
    specs = {"hw:numa_nodes": "1", "hw:cpu_threads": str(threads), "hw:cpu_max_threads": str(threads)}
    assert world.post("/flavors/threads/os-extra_specs", {"extra_specs": specs}, token="admin").status_code == 200
    server_id = world.create(flavorRef="threads")
    cell = world.cell_of(server_id)
    record = cell.servers[server_id]
    guest = GuestNuma(cells=tuple(GuestCell(id=0, cpuset=tuple(each), memory=256) for each in cpus))
    cell.servers[server_id] = replace(record, spec=replace(record.spec, placed=Placed(guest=guest)))
    shown = world.get(f"/servers/{server_id}/topology", version="2.78").get_json()
    assert [node["siblings"] for node in shown["nodes"]] == siblings


def test_a_guest_without_cells_of_its_own_has_no_topology(world: World) -> None:
    shown = world.get(f"/servers/{world.create()}/topology", version="2.78")
    assert shown.get_json() == {"nodes": [], "pagesize_kb": None}
