"""How a server looks at each microversion: a field of a later one is strictly absent before."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.world import World

BASE = {
    "id", "name", "status", "tenant_id", "user_id", "metadata", "hostId", "image", "flavor", "created", "updated",
    "addresses", "accessIPv4", "accessIPv6", "links", "progress", "OS-DCF:diskConfig", "OS-EXT-AZ:availability_zone",
    "config_drive", "key_name", "OS-SRV-USG:launched_at", "OS-SRV-USG:terminated_at", "security_groups",
    "OS-EXT-STS:task_state", "OS-EXT-STS:vm_state", "OS-EXT-STS:power_state", "os-extended-volumes:volumes_attached",
}  # fmt: skip
ADDED = [
    ("2.9", {"locked"}),
    ("2.19", {"description"}),
    ("2.26", {"tags"}),
    ("2.63", {"trusted_image_certificates"}),
    ("2.73", {"locked_reason"}),
    ("2.90", {"OS-EXT-SRV-ATTR:hostname"}),
    ("2.96", {"pinned_availability_zone"}),
    ("2.100", {"scheduler_hints"}),
]
ADMIN = {"OS-EXT-SRV-ATTR:host", "OS-EXT-SRV-ATTR:hypervisor_hostname", "OS-EXT-SRV-ATTR:instance_name"}
ADMIN_3 = {
    f"OS-EXT-SRV-ATTR:{name}"
    for name in (
        "hostname", "kernel_id", "launch_index", "ramdisk_id", "reservation_id", "root_device_name", "user_data",
    )
}  # fmt: skip


def expected(version: str, *, admin: bool = False, detail: bool = True) -> set[str]:
    minor = int(version.split(".")[1])
    fields = set(BASE)
    for since, added in ADDED:
        if minor >= int(since.split(".")[1]):
            fields |= added
    if minor >= 71 and not detail:
        fields.add("server_groups")
    if admin:
        fields |= ADMIN
        if minor >= 3:
            fields |= ADMIN_3
        if minor >= 16:
            fields.add("host_status")
    return fields


@pytest.mark.parametrize(
    "version",
    ["2.1", "2.3", "2.8", "2.9", "2.16", "2.19", "2.26", "2.47", "2.63", "2.71", "2.73", "2.90", "2.96", "2.100"],
)
def test_fields_by_microversion(world: World, version: str) -> None:
    server_id = world.create()
    for admin in (False, True):
        token = "admin" if admin else "member"
        shown = world.get(f"/servers/{server_id}", version=version, token=token).get_json()["server"]
        assert set(shown) == expected(version, admin=admin, detail=False)
        listed = world.get(
            "/servers/detail?all_tenants=1" if admin else "/servers/detail", version=version, token=token
        )
        assert set(listed.get_json()["servers"][0]) == expected(version, admin=admin)


def test_the_flavor_is_embedded_from_2_47(world: World) -> None:
    server_id = world.create()
    old = world.get(f"/servers/{server_id}", version="2.46").get_json()["server"]["flavor"]
    new = world.get(f"/servers/{server_id}", version="2.47").get_json()["server"]["flavor"]
    assert set(old) == {"id", "links"}
    assert new == {
        "vcpus": 1, "ram": 512, "disk": 1, "ephemeral": 0, "swap": 0, "original_name": "m1.tiny", "extra_specs": {},
    }  # fmt: skip


def test_the_image_shows_its_properties_from_2_98(world: World) -> None:
    server_id = world.create()
    old = world.get(f"/servers/{server_id}", version="2.97").get_json()["server"]["image"]
    new = world.get(f"/servers/{server_id}", version="2.98").get_json()["server"]["image"]
    assert set(old) == {"id", "links"}
    assert new["properties"] == {"os_distro": "debian"}


def test_times_have_novas_two_forms(world: World) -> None:
    shown: dict[str, Any] = world.get(f"/servers/{world.create()}").get_json()["server"]
    assert shown["created"].endswith("Z")
    assert len(shown["created"]) == 20
    assert shown["OS-SRV-USG:launched_at"] == "2026-01-02T03:04:05.000678"


def test_a_put_below_2_75_answers_without_the_extensions(world: World) -> None:
    server_id = world.create()
    old = world.call("PUT", f"/servers/{server_id}", {"server": {"name": "new"}}, version="2.74").get_json()["server"]
    assert old["name"] == "new"
    assert not {key for key in old if key.startswith(("OS-EXT", "OS-SRV", "os-ext"))}
    assert set(old["addresses"]["private"][0]) == {"version", "addr"}
    new = world.call("PUT", f"/servers/{server_id}", {"server": {"name": "old"}}, version="2.75").get_json()["server"]
    assert set(new) == expected("2.75", detail=False)


def test_a_failed_server_shows_its_fault(world: World) -> None:
    world.east.full = world.west.full = True
    server_id = world.create()
    shown = world.get(f"/servers/{server_id}").get_json()["server"]
    assert shown["status"] == "ERROR"
    assert shown["fault"]["code"] == 500
    assert shown["fault"]["message"] == "No valid host was found."
    assert "details" not in shown["fault"]
    assert "progress" not in shown
    details = world.get(f"/servers/{server_id}", token="admin").get_json()["server"]["fault"]["details"]
    assert "east: No valid host was found." in details
    assert world.call("DELETE", f"/servers/{server_id}").status_code == 204
    assert world.get(f"/servers/{server_id}").status_code == 404
