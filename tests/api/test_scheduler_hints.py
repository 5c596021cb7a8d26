"""Scheduler hints at the API: a closed list with types and lengths, under both spellings."""

from __future__ import annotations

import json

import pytest

from tests.api.world import IMAGE, World

SERVER = {"name": "vm", "flavorRef": "1", "imageRef": IMAGE}
SPELLINGS = ("os:scheduler_hints", "OS-SCH-HNT:scheduler_hints")
A = "11111111-0000-4000-8000-000000000001"
UNKNOWN = (
    *("_nova_check_type", "_", "rebuild", "checks_forced", "force_hosts", "force_nodes", "ignore_hosts", "destination"),
    *("target_cell", "different_cell", "zone", "seed", "Group", "query ", "x" * 300),
)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_hint_that_nobody_obeys_is_refused(world: World, spelling: str) -> None:
    for name in UNKNOWN:
        answer = world.post("/servers", {"server": SERVER, spelling: {name: "rebuild"}})
        assert answer.status_code == 400, name
        assert len(answer.get_data()) < 1000
    assert world.get("/servers").get_json() == {"servers": []}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"different_host": A}, 202),
        ({"different_host": [A, A]}, 202),
        ({"same_host": [A]}, 202),
        ({"query": '[">=", "$free_ram_mb", 1024]'}, 202),
        ({"build_near_host_ip": "10.0.0.1", "cidr": "/16"}, 202),
        ({"build_near_host_ip": "fd00::1", "cidr": "/64"}, 202),
        ({"group": A}, 400),  # there is no such group
        ({"group": "name"}, 400),
        ({"different_host": "h1"}, 400),
        ({"different_host": [1]}, 400),
        ({"same_host": {A: A}}, 400),
        ({"same_host": [A] * 101}, 400),
        ({"query": ["=", "$host", "h"]}, 400),
        ({"query": "{"}, 400),
        ({"query": '["~", 1]'}, 400),
        ({"query": "[" * 10_000}, 400),
        ({"query": '["=",' + " " * 17_000 + '"$host", "h"]'}, 400),
        ({"query": json.dumps(["or", *[["=", "$host", "\u00e4" * 100]] * 200])}, 400),  # more bytes than characters
        ({"build_near_host_ip": "here"}, 400),
        ({"build_near_host_ip": "10.0.0.1", "cidr": "/99"}, 400),
        ({"cidr": "/24"}, 400),
        ({str(number): "x" for number in range(33)}, 400),
        ([], 400),
        ("group", 400),
    ],
    ids=lambda value: str(value)[:50],
)
def test_hints_are_obeyed_or_refused_before_the_202(world: World, spelling: str, given: object, status: int) -> None:
    assert world.post("/servers", {"server": SERVER, spelling: given}).status_code == status
