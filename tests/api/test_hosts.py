"""os-hosts, and what of Nova's is answered with a refusal alone: usage audits, Ironic's nodes, assisted snapshots."""

from __future__ import annotations

from typing import Any

import pytest

from cellcloud import clock
from cellcloud.clock import ManualClock
from tests.api.world import DEMO, OTHER, VOLUME, World


def test_hosts_are_listed_with_their_services(world: World) -> None:
    listed = world.get("/os-hosts", token="admin").get_json()["hosts"]
    assert {(one["host_name"], one["service"], one["zone"]) for one in listed} == {
        (f"{cell}-1", service, f"zone-{cell}" if service == "compute" else "internal")
        for cell in ("east", "west")
        for service in ("compute", "conductor", "scheduler")
    }
    world.east.enabled = False
    assert len(world.get("/os-hosts?zone=zone-east", token="admin").get_json()["hosts"]) == 0


def test_a_host_shows_what_it_has_and_who_uses_it(world: World) -> None:
    ids = [world.create(token=token) for token in ("member", "other", "other") for _ in range(3)]
    for cell in (world.east, world.west):
        name = f"{cell.name}-1"
        there = [record for server_id, record in cell.servers.items() if server_id in ids]
        shown = world.get(f"/os-hosts/{name}", token="admin").get_json()["host"]
        rows = {one["resource"].pop("project"): one["resource"] for one in shown}
        counts = {p: sum(r.spec.project_id == p for r in there) for p in (DEMO, OTHER)}
        assert rows.pop("(total)") == {"host": name, "cpu": 4, "memory_mb": 8192, "disk_gb": 100}
        assert rows.pop("(used_now)")["cpu"] == len(there)
        assert rows.pop("(used_max)") == _amounts(name, len(there))
        assert rows == {project: _amounts(name, count) for project, count in counts.items() if count}


def _amounts(host: str, count: int) -> dict[str, Any]:
    return {"host": host, "cpu": count, "memory_mb": 512 * count, "disk_gb": count}


def test_a_host_is_enabled_and_disabled(world: World) -> None:
    for status, enabled in (("Disable", False), ("enable", True), ("DISABLE", False)):
        answer = world.call("PUT", "/os-hosts/east-1", {"status": status}, token="admin")
        assert answer.get_json() == {"host": "east-1", "status": "enabled" if enabled else "disabled"}
        assert world.east.enabled is enabled


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/os-hosts/nowhere", None, 404),
        ("PUT", "/os-hosts/nowhere", {"status": "enable"}, 404),
        ("PUT", "/os-hosts/nowhere", {"maintenance_mode": "enable"}, 404),
        ("PUT", "/os-hosts/east-1", {"maintenance_mode": "enable"}, 501),
        ("PUT", "/os-hosts/east-1", {"status": "disable", "maintenance_mode": "disable"}, 501),
        ("PUT", "/os-hosts/east-1", {}, 400),
        ("PUT", "/os-hosts/east-1", {"status": "perhaps"}, 400),
        ("PUT", "/os-hosts/east-1", {"status": "enable", "more": "enable"}, 400),
        *(("GET", f"/os-hosts/{host}/{verb}", None, status)
          for verb in ("startup", "shutdown", "reboot") for host, status in (("east-1", 501), ("nowhere", 404))),
        ("GET", "/os-baremetal-nodes", None, 501),
        ("GET", "/os-baremetal-nodes/x", None, 501),
        ("POST", "/os-baremetal-nodes", {"node": {}}, 400),
        ("DELETE", "/os-baremetal-nodes/x", None, 400),
        ("POST", "/os-baremetal-nodes/x/action", {"add_interface": {}}, 400),
    ],
)  # fmt: skip
def test_what_no_host_does(world: World, method: str, path: str, body: Any, status: int) -> None:
    answer = world.call(method, path, body, token="admin")
    assert answer.status_code == status, answer.text
    names = {400: "badRequest", 404: "itemNotFound", 501: "notImplemented"}
    assert answer.get_json()[names[status]]["code"] == status
    assert world.east.enabled
    last = "2.35" if "baremetal" in path else "2.42"
    assert world.call(method, path, body, token="admin", version=last).status_code == status
    assert world.call(method, path, body, token="admin", version=f"2.{int(last[2:]) + 1}").status_code == 404


def test_a_host_of_a_cell_that_is_away_is_not_said_to_be_absent(world: World) -> None:
    world.east.away = True
    assert world.get("/os-hosts/east-1", token="admin").status_code == 503
    assert world.get("/os-hosts/west-1", token="admin").status_code == 200


@pytest.mark.parametrize(
    ("path", "begin", "end"),
    [
        ("", "2025-12-01 00:00:00", "2026-01-01 00:00:00"),
        ("/2026-03-31%2012:00:00", "2026-02-01 00:00:00", "2026-03-01 00:00:00"),
        ("/2026-03-01+00:00:00.5", "2026-02-01 00:00:00", "2026-03-01 00:00:00"),
    ],
)
def test_audits_of_usage_are_told_as_not_run(world: World, path: str, begin: str, end: str) -> None:
    with clock.using(ManualClock()):
        shown = world.get(f"/os-instance_usage_audit_log{path}", token="admin").get_json()
    assert [*shown] == ["instance_usage_audit_log" if path else "instance_usage_audit_logs"]
    log = next(iter(shown.values()))
    assert (log["period_beginning"], log["period_ending"]) == (begin, end)
    assert (log["num_hosts"], log["num_hosts_not_run"], log["num_hosts_done"]) == (2, 2, 0)
    assert (log["hosts_not_run"], log["log"]) == (["east-1", "west-1"], {})
    assert log["overall_status"] == "0 of 2 hosts done. 0 errors."


@pytest.mark.parametrize("before", ["yesterday", "2026-13-01 00:00:00", "2026-03-31", "0001-01-05 00:00:00"])
def test_an_audit_before_no_time(world: World, before: str) -> None:
    assert world.get(f"/os-instance_usage_audit_log/{before}", token="admin").status_code == 400


INFO = {"snapshot_id": "s", "type": "qcow2", "new_file": "f"}


@pytest.mark.parametrize(
    ("method", "path", "body", "says"),
    [
        ("POST", "", {"snapshot": {"volume_id": "v", "create_info": INFO}}, "v"),
        ("POST", "", {"snapshot": {"volume_id": "v", "create_info": {**INFO, "type": "raw"}}}, "type"),
        ("POST", "", {"snapshot": {"volume_id": "v"}}, "create_info"),
        ("DELETE", '/x?delete_info={"volume_id":"v"}', None, "v"),
        ("DELETE", "/x?delete_info={", None, "volume_id"),
        ("DELETE", "/x?delete_info=[]", None, "volume_id"),
        ("DELETE", "/x", None, "volume_id"),
    ],
)
def test_snapshots_of_volumes_on_hosts_are_refused(world: World, method: str, path: str, body: Any, says: str) -> None:
    path = f"/os-assisted-volume-snapshots{path}"
    assert world.call(method, path, body).status_code == 403
    answer = world.call(method, path, body, token="service")
    assert answer.status_code == 400
    assert says in answer.get_json()["badRequest"]["message"]


@pytest.mark.parametrize("path", ["/os-services", "/os-hosts", "/os-availability-zone/detail"])
def test_services_of_volumes_are_not_compute_s(world: World, path: str) -> None:
    answer = world.get(path, token="admin", version="2.42")
    assert (answer.status_code, "nova-scheduler" in answer.text or "scheduler" in answer.text) == (200, True)
    assert "volume" not in answer.text
    volume = world.east._service(VOLUME).id
    assert world.call("DELETE", f"/os-services/{volume}", None, token="admin", version="2.53").status_code == 404
