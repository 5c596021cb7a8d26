"""Servers that move in a whole cloud: as users and operators see it, with messages lost on the way, and the books right
at every rest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from cellcloud import errors
from tests.cloud import CELLS
from tests.faults.books import wait_until_right
from tests.faults.one_process import Fate, OneProcess, one_process


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneProcess]:
    with one_process(tmp_path_factory.mktemp("cloud")) as made:
        yield made


def act(cloud: OneProcess, server_id: str, *wanted: int, token: str = "member", **action: Any) -> None:
    cloud._ask("POST", f"/v2.1/servers/{server_id}/action", action, *wanted, headers={"X-Auth-Token": token})


def flavor_of(cloud: OneProcess, server_id: str) -> int:
    """How many processors the server is shown with."""
    answer = cloud._ask("GET", f"/v2.1/servers/{server_id}", None, 200)
    return int(answer.json["server"]["flavor"]["vcpus"])


def statuses(cloud: OneProcess, server_id: str) -> list[str]:
    """Of the server's migrations, the newest first."""
    path = f"/v2.1/os-migrations?instance_uuid={server_id}"
    answer = cloud._ask("GET", path, None, 200, headers={"X-Auth-Token": "admin"})
    return [one["status"] for one in answer.json["migrations"]]


def larger_flavor(cloud: OneProcess) -> str:
    found = cloud._ask("GET", "/v2.1/flavors/detail", None, 200).json["flavors"]
    return str(next(one["id"] for one in found if one["vcpus"] > 1 and one["disk"] > 0))


def count_aside(cloud: OneProcess) -> int:
    return sum(guest.aside for name in CELLS for guest in cloud._hypervisors[name].list_guests())


def test_a_server_is_resized_migrated_reverted_and_deleted(cloud: OneProcess) -> None:
    server_id = cloud.create("moved", "moved")
    cloud.wait_for(server_id, "ACTIVE")
    (first,) = cloud.hosts_with(server_id)
    act(cloud, server_id, 202, resize={"flavorRef": larger_flavor(cloud)})
    cloud.wait_for(server_id, "VERIFY_RESIZE")
    (second,) = cloud.hosts_with(server_id)
    assert (second != first, flavor_of(cloud, server_id) > 1, count_aside(cloud)) == (True, True, 1)
    assert statuses(cloud, server_id) == ["finished"]
    wait_until_right(cloud.books)
    act(cloud, server_id, 204, confirmResize=None)
    cloud.wait_for(server_id, "ACTIVE")
    assert (statuses(cloud, server_id), count_aside(cloud)) == (["confirmed"], 0)
    act(cloud, server_id, 202, token="admin", migrate=None)
    cloud.wait_for(server_id, "VERIFY_RESIZE")
    assert cloud.hosts_with(server_id) == [first]
    act(cloud, server_id, 202, revertResize=None)
    cloud.wait_for(server_id, "ACTIVE")
    assert (cloud.hosts_with(server_id), statuses(cloud, server_id)) == ([second], ["reverted", "confirmed"])
    wait_until_right(cloud.books)
    act(cloud, server_id, 202, token="admin", migrate=None)
    cloud.wait_for(server_id, "VERIFY_RESIZE")
    cloud.delete(server_id)
    cloud.wait_for(server_id, "gone")
    wait_until_right(cloud.books)
    assert (cloud.hosts_with(server_id), count_aside(cloud)) == ([], 0)


def test_a_host_that_refuses_leaves_the_server_where_and_what_it_was(cloud: OneProcess) -> None:
    server_id = cloud.create("stays", "stays")
    cloud.wait_for(server_id, "ACTIVE")
    before = cloud.hosts_with(server_id)
    for name in CELLS:
        cloud._hypervisors[name].fail_next("arrive", errors.HostRefused("no"))
    act(cloud, server_id, 202, resize={"flavorRef": larger_flavor(cloud)})
    wait_until_right(cloud.books)
    cloud.wait_for(server_id, "ACTIVE")
    assert (cloud.hosts_with(server_id), flavor_of(cloud, server_id), count_aside(cloud)) == (before, 1, 0)
    assert statuses(cloud, server_id) == ["error"]
    for name in CELLS:
        cloud._hypervisors[name]._faults["arrive"].clear()
    cloud.delete(server_id)
    cloud.wait_for(server_id, "gone")


@pytest.mark.parametrize("fate", [Fate.REQUEST_LOST, Fate.REPEATED, Fate.LATE])
def test_a_move_ends_whatever_becomes_of_a_command(cloud: OneProcess, fate: Fate) -> None:
    for nth in (1, 3):
        server_id = cloud.create(f"{fate.name}-{nth}", f"{fate.name}-{nth}")
        cloud.wait_for(server_id, "ACTIVE")
        cloud.messages.arm("Compute.apply", nth, fate)
        act(cloud, server_id, 202, resize={"flavorRef": larger_flavor(cloud)})
        cloud.wait_for(server_id, "VERIFY_RESIZE")
        cloud.messages.settle()
        assert (len(cloud.hosts_with(server_id)), count_aside(cloud)) == (1, 1)
        cloud.delete(server_id)
        cloud.wait_for(server_id, "gone")
        wait_until_right(cloud.books)
        assert count_aside(cloud) == 0
