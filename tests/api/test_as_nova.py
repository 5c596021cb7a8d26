"""What a comparison with Nova's own schemas once found to be otherwise: requests that it takes, and that it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.world import World

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
        ("/flavors?limit=1&limit=2", "member", "2.75", 400),
        ("/os-keypairs?marker=a&marker=b", "member", "2.75", 400),
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
        (f"/flavors?limit={'1' * 40}", "member", "2.1", 200),
    ],
)
def test_queries(world: World, path: str, token: str, version: str, status: int) -> None:
    assert world.get(path, token=token, version=version).status_code == status


@pytest.mark.parametrize(("key", "value"), [("accessIPv4", ""), ("accessIPv6", "")])
def test_an_address_is_not_taken_away_by_an_empty_one(world: World, key: str, value: str) -> None:
    server_id = world.create()
    assert world.call("PUT", f"/servers/{server_id}", {"server": {key: value}}).status_code == 400
