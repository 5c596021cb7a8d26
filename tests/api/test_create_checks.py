"""What is asked before the 202: places, networks, security groups, disks and names of a create."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cellcloud.db import flavors
from cellcloud.db.engine import transact
from cellcloud.model.flavor import Flavor
from tests.api.world import IMAGE, NETWORK, World
from top_api.operations.create import hostname_of

PORT = "00000000-0000-0000-0000-000000000077"


def create(world: World, token: str = "admin", version: str = "2.74", **server: Any) -> tuple[int, str]:
    body = {"name": "vm", "flavorRef": "1", "imageRef": IMAGE, "networks": "auto", **server}
    answer = world.post("/servers", {"server": body}, token=token, version=version)
    host = ""
    if answer.status_code == 202:
        world.settle()
        server_id = answer.get_json()["server"]["id"]
        host = world.cell_of(server_id).servers[server_id].spec.host or ""
    return answer.status_code, host


@pytest.mark.parametrize(
    ("asked", "status", "host"),
    [
        ({"host": "east-1"}, 202, "east-1"),
        ({"host": "nowhere"}, 400, ""),
        ({"host": "east-1:x"}, 400, ""),
        ({"min_count": "0"}, 400, ""),
        ({"networks": [{"uuid": NETWORK, "tag": "a,b"}]}, 400, ""),
        ({"hypervisor_hostname": "west-1"}, 202, "west-1"),
        ({"hypervisor_hostname": "nowhere"}, 400, ""),
        ({"host": "east-1", "hypervisor_hostname": "east-1"}, 202, "east-1"),
        ({"host": "east-1", "hypervisor_hostname": "west-1"}, 400, ""),
        ({"availability_zone": "zone-east:east-1"}, 202, "east-1"),
        ({"availability_zone": ":east-1"}, 202, "east-1"),
        ({"availability_zone": "zone-east:nowhere"}, 400, ""),
        ({"availability_zone": "zone-east::east-1"}, 202, "east-1"),
        ({"availability_zone": "zone-east::nowhere"}, 400, ""),
        ({"availability_zone": "zone-east:east-1:east-1"}, 202, "east-1"),
        ({"availability_zone": "zone-east:east-1:west-1"}, 400, ""),
        ({"availability_zone": "zone-east:east-1:east-1:x"}, 400, ""),
        ({"availability_zone": "zone-east:"}, 202, ""),
        ({"availability_zone": "nowhere"}, 400, ""),
        ({"availability_zone": "zone-east:east-1", "host": "east-1"}, 400, ""),
    ],
)
def test_the_place_that_an_administrator_asks_for(world: World, asked: dict[str, str], status: int, host: str) -> None:
    assert create(world, **asked) == (status, host)


@pytest.mark.parametrize(
    "asked",
    [
        {"host": "east-1"},
        {"hypervisor_hostname": "east-1"},
        {"availability_zone": "zone-east:east-1"},
        {"availability_zone": "zone-east::east-1"},
    ],
)
def test_members_ask_for_no_host(world: World, asked: dict[str, str]) -> None:
    assert create(world, "member", **asked)[0] == 403


def test_a_host_is_not_refused_while_a_cell_that_may_have_it_is_mute(world: World) -> None:
    world.west.away = True
    assert create(world, host="west-1")[0] == 503
    assert create(world, host="east-1")[0] == 202


@pytest.mark.parametrize(
    ("networks", "status"),
    [
        ([{"port": PORT}, {"port": PORT}], 400),
        ([{"port": PORT}, {"uuid": NETWORK}, {"port": PORT}], 400),
        ([{"uuid": NETWORK, "fixed_ip": "10.0.0.9"}, {"uuid": NETWORK, "fixed_ip": "10.0.0.9"}], 400),
        ([{"uuid": NETWORK, "fixed_ip": "10.0.0.9"}, {"uuid": NETWORK, "fixed_ip": "10.0.0.8"}], 202),
        ([{"uuid": NETWORK}, {"uuid": NETWORK}], 202),
    ],
)
def test_nothing_is_taken_twice(world: World, networks: list[dict[str, str]], status: int) -> None:
    assert create(world, networks=networks)[0] == status


@pytest.mark.parametrize(("name", "status"), [("default", 202), ("web", 400)])
def test_a_security_group_must_be_there(world: World, name: str, status: int) -> None:
    assert create(world, "member", security_groups=[{"name": name}])[0] == status


@pytest.mark.parametrize(("token", "status"), [("member", 403), ("admin", 202)])
def test_only_administrators_leave_the_size_of_a_disk_to_the_image(world: World, token: str, status: int) -> None:
    zero = Flavor(id="zero", name="zero", vcpus=1, memory_mb=512, root_gb=0)
    transact(world.database, lambda connection: flavors.create_flavor(connection, zero))
    assert create(world, token, flavorRef="zero")[0] == status


@pytest.mark.parametrize(
    ("name", "hostname"),
    [
        ("web__01.example.com", "web--01-example-com"),
        ("My Server", "my-server"),
        ("-._x_.-", "x"),
        ("\u7684.test.example.com", "test-example-com"),
        ("<}h!{>", "h"),
        ("a" * 70, "a" * 63),
        ("a" * 62 + "..b", "a" * 62),
        ("...", ""),
    ],
)
def test_names_become_host_names(name: str, hostname: str) -> None:
    assert hostname_of(name) == hostname


@pytest.mark.parametrize(
    ("version", "hostname", "status"),
    [
        ("2.90", "a", 400),
        ("2.90", "ab", 202),
        ("2.90", "a.b", 400),
        ("2.94", "a", 202),
        ("2.94", "a.b", 202),
        ("2.94", "a_b", 202),
        ("2.94", "a b", 400),
    ],
)
def test_host_names_of_a_request(world: World, version: str, hostname: str, status: int) -> None:
    assert create(world, version=version, hostname=hostname)[0] == status


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"disk_format": "vdi"}, "Disk format vdi is not one of raw, qcow2, vmdk, vhd."),
        ({"disk_format": "iso"}, "Disk format iso is not one of raw, qcow2, vmdk, vhd."),
        ({"size": 1 << 60}, "bytes, and at most"),
        ({"os_hash_value": "0" * 64, "os_hash_algo": "sha256"}, "that is not verified here: sha256."),
    ],
)
@pytest.mark.parametrize("what", ["create", "rebuild", "rescue"])
def test_an_image_that_every_host_would_refuse_is_refused_before(
    world: World, what: str, changes: dict[str, Any], reason: str
) -> None:
    server_id, odd = world.create("vm"), "00000000-0000-0000-0000-00000000000d"
    world.images.images[odd] = replace(world.images.images[IMAGE], id=odd, **changes)
    body: dict[str, Any] = {"name": "vm", "flavorRef": "1", "imageRef": odd, "networks": "auto"}
    path, asked = {
        "create": ("/servers", {"server": body}),
        "rebuild": (f"/servers/{server_id}/action", {"rebuild": {"imageRef": odd}}),
        "rescue": (f"/servers/{server_id}/action", {"rescue": {"rescue_image_ref": odd}}),
    }[what]
    answer = world.post(path, asked, version="2.87")
    expected = f"'{odd}' is not supported" if what == "rescue" else f"Image {odd} is unacceptable: "
    assert (answer.status_code, expected in answer.text) == (400, True), answer.text
    assert what == "rescue" or reason in answer.text
