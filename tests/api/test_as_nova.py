"""What a comparison with Nova's own schemas once found to be otherwise: requests that it takes, and that it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.world import DEMO, IMAGE, NETWORK, World

SERVER = {"name": "n", "flavorRef": "1", "imageRef": IMAGE}
FLAVOR = {"name": "n", "ram": 512, "vcpus": 1, "disk": 1}


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"ram": "0"}, 400),
        ({"vcpus": "0"}, 400),
        ({"ram": "0512"}, 200),
        ({"rxtx_factor": "0"}, 400),
        ({"rxtx_factor": "0.0"}, 400),
        ({"rxtx_factor": 0}, 400),
        ({"rxtx_factor": "0.5"}, 200),
        ({"rxtx_factor": "1" * 30}, 200),
        ({"description": "d" * 1000}, 200),
    ],
)
def test_flavors(world: World, changes: dict[str, Any], status: int) -> None:
    answer = world.post("/flavors", {"flavor": FLAVOR | changes}, token="admin", version="2.55")
    assert answer.status_code == status, answer.text


@pytest.mark.parametrize(
    ("path", "token", "version", "status"),
    [
        ("/flavors?limit=1&limit=2", "member", "2.74", 200),
        ("/flavors?limit=1&limit=2", "member", "2.75", 200),
        ("/os-keypairs?limit=1&limit=2", "member", "2.75", 200),
        ("/servers?limit=1&limit=2&deleted=0&deleted=0&all_tenants=0&all_tenants=0", "member", "2.75", 200),
        ("/os-hypervisors?limit=1&limit=2", "admin", "2.52", 200),
        ("/os-hypervisors?limit=1&limit=2", "admin", "2.53", 400),
        ("/os-hypervisors?with_servers=perhaps", "admin", "2.53", 400),
        ("/os-hypervisors?with_servers=False", "admin", "2.53", 200),
        ("/os-hypervisors?hypervisor_hostname_pattern=a@b", "admin", "2.53", 400),
        ("/limits?reserved=0", "member", "2.74", 200),
        ("/limits?reserved=0", "member", "2.75", 400),
        ("/servers?updated_at=2026-01-01T00:00:00Z", "member", "2.75", 400),
        ("/servers?instance_type_id=1", "member", "2.75", 400),
        ("/servers?access_ip_v4=", "member", "2.1", 400),
        ("/servers?metadata=a", "admin", "2.1", 400),
        ("/servers?metadata=a", "member", "2.1", 200),
        ("/servers?ip6=", "member", "2.1", 400),
        ("/servers?ip6=2001:db8::1", "member", "2.1", 200),
        (f"/servers?power_state={'a' * 36}", "admin", "2.1", 200),
        ("/servers?power_state=\u00b2", "admin", "2.1", 200),
        (f"/servers?changes-since={'1' * 8}2{'3' * 4}", "member", "2.1", 400),
        ("/servers?changes-since=2026-01-01+00:00", "member", "2.1", 200),
        ("/servers?changes-since=20260101T000000Z", "member", "2.1", 200),
        (f"/flavors?limit={'1' * 40}", "member", "2.1", 200),
    ],
)
def test_queries(world: World, path: str, token: str, version: str, status: int) -> None:
    assert world.get(path, token=token, version=version).status_code == status


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"accessIPv4": ""}, 400),
        ({"accessIPv6": ""}, 400),
        ({"accessIPv4": "192.0.2.1", "accessIPv6": "2001:db8::1"}, 202),
        ({"availability_zone": " zone-east"}, 400),
        ({"availability_zone": "zone-east "}, 400),
        ({"availability_zone": "zone-east"}, 202),
        ({"security_groups": [{"name": " default"}]}, 400),
        ({"security_groups": [{"name": "default "}]}, 400),
        ({"security_groups": [{"name": "de\nfault"}]}, 400),
        ({"security_groups": [{"name": "default"}] * 101}, 202),
        ({"personality": [{"path": "/a", "contents": "not base64"}]}, 400),
        ({"personality": [{"path": "/a", "contents": "YQ=="}] * 40}, 403),
        ({"networks": [{"uuid": NETWORK}] * 33}, 400),
    ],
)
def test_servers(world: World, changes: dict[str, Any], status: int) -> None:
    answer = world.post("/servers", {"server": {**SERVER, **changes}})
    assert answer.status_code == status, answer.text


@pytest.mark.parametrize("certificates", [[], ["a", "a"], [""]])
def test_certificates_are_named_once_each(world: World, certificates: list[str]) -> None:
    server = {**SERVER, "networks": "auto", "trusted_image_certificates": certificates}
    answer = world.post("/servers", {"server": server}, version="2.63")
    assert answer.status_code == 400
    assert "trusted_image_certificates" in answer.text or "Invalid input" in answer.text


@pytest.mark.parametrize(
    "changes", [{"availability_zone": " zone-east "}, {"security_groups": [{"name": " default "}]}]
)
def test_names_may_have_spaces_around_them_before_2_1(world: World, changes: dict[str, Any]) -> None:
    assert world.post(f"/v2/{DEMO}/servers", {"server": {**SERVER, **changes}}).status_code == 202


@pytest.mark.parametrize(
    ("version", "network", "groups"), [("2.35", True, False), ("2.49", True, False), ("2.50", False, True)]
)
def test_what_a_class_of_quotas_shows(world: World, version: str, network: bool, groups: bool) -> None:
    shown = world.get("/os-quota-class-sets/default", token="admin", version=version).get_json()["quota_class_set"]
    assert ("fixed_ips" in shown, "server_groups" in shown) == (network, groups)


@pytest.mark.parametrize(("body", "status"), [(None, 201), ({}, 400), ({"tag": "a"}, 400)])
def test_a_tag_is_said_by_its_path_alone(world: World, body: Any, status: int) -> None:
    path = f"/servers/{world.create()}/tags/a"
    assert world.call("PUT", path, body, version="2.26").status_code == status


@pytest.mark.parametrize("named", [{"host": "a b"}, {"host": ""}, {"binary": ""}])
def test_a_service_is_named_by_a_host_and_a_program(world: World, named: dict[str, str]) -> None:
    body = {"host": "east-1", "binary": "nova-compute", **named}
    assert world.call("PUT", "/os-services/enable", body, token="admin").status_code == 400


@pytest.mark.parametrize(("key", "value"), [("accessIPv4", ""), ("accessIPv6", "")])
def test_an_address_is_not_taken_away_by_an_empty_one(world: World, key: str, value: str) -> None:
    server_id = world.create()
    assert world.call("PUT", f"/servers/{server_id}", {"server": {key: value}}).status_code == 400
