"""Many clients at once against a quota of ten: exactly ten get it, and nobody is refused while there is room."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

from cellcloud.db import quotas
from tests.api.test_resources import KEY
from tests.api.world import DEMO, IMAGE, World

MOST, CLIENTS = 10, 25
SERVER = {"name": "vm", "flavorRef": "1", "imageRef": IMAGE}
Ask = tuple[str, str, Any]  # method, path, body


def servers(number: int, place: str) -> Ask:
    return "POST", "/servers", {"server": SERVER}


def members(number: int, place: str) -> Ask:
    return "POST", "/servers", {"server": SERVER, "os:scheduler_hints": {"group": place}}


def keypairs(number: int, place: str) -> Ask:
    return "POST", "/os-keypairs", {"keypair": {"name": f"k{number}", "public_key": KEY}}


def groups(number: int, place: str) -> Ask:
    body = {"server_group": {"name": f"g{number}", "policies": ["affinity"]}}
    return "POST", "/os-server-groups", body


def metadata(number: int, place: str) -> Ask:
    return "PUT", f"/servers/{place}/metadata/k{number}", {"meta": {f"k{number}": "v"}}


# resource -> how many ask, the limit that is room for ten, what each asks for
RACES: dict[str, tuple[int, int, Callable[[int, str], Ask]]] = {
    "instances": (200, MOST, servers),
    "cores": (75, MOST, servers),
    "ram": (75, 512 * MOST, servers),
    "server_group_members": (75, MOST, members),
    "key_pairs": (75, MOST, keypairs),
    "server_groups": (75, MOST, groups),
    "metadata_items": (75, MOST, metadata),
}


@pytest.mark.parametrize("resource", RACES)
def test_exactly_ten_get_what_there_is_room_for(world: World, resource: str) -> None:
    count, limit, ask = RACES[resource]
    place = ""
    if resource == "metadata_items":
        place = world.create()
    elif resource == "server_group_members":
        place = world.post("/os-server-groups", groups(0, "")[2]).get_json()["server_group"]["id"]
    limits = {"instances": -1, "cores": -1, "ram": -1, resource: limit}
    assert world.call("PUT", f"/os-quota-sets/{DEMO}", {"quota_set": limits}, token="admin").status_code == 200
    answers: Counter[int] = Counter()
    start = Barrier(CLIENTS)

    def client(first: int) -> list[int]:
        start.wait(60)
        return [one(number) for number in range(first, count, CLIENTS)]

    def one(number: int) -> int:
        method, path, body = ask(number, place)
        for _ in range(20):
            status = world.call(method, path, body).status_code
            if status != 503:  # busy, and to be asked again
                break
        return status

    with ThreadPoolExecutor(CLIENTS) as threads:
        for statuses in threads.map(client, range(CLIENTS)):
            answers.update(statuses)
    world.settle()
    assert sum(number for status, number in answers.items() if status < 300) == MOST, answers
    assert answers[403] == count - MOST, answers
    if resource in ("instances", "cores", "ram"):
        with world.database.read() as connection:
            assert quotas.recount(connection) == []
            assert quotas.list_usages(connection, DEMO)["instances"] == MOST
