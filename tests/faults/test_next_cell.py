"""Hosts that refuse to build: another host takes the server, then another cell; nothing stays behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cellcloud import errors
from tests.cloud import CELLS
from tests.faults.books import wait_until_right
from tests.faults.one_process import HOSTS, OneProcess, one_process

NO_ROOM = errors.HostRefused("The host cannot make disks.")


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneProcess]:
    with one_process(tmp_path_factory.mktemp("cloud")) as made:
        yield made


def refuse(cloud: OneProcess, cell: str, times: int) -> None:
    hypervisor = cloud._hypervisors[cell]
    hypervisor._faults["spawn"].clear()
    hypervisor.fail_next("spawn", NO_ROOM, count=times)


def test_another_host_of_the_cell_takes_what_one_refuses(cloud: OneProcess) -> None:
    for cell in CELLS:
        refuse(cloud, cell, 1)
    for number in range(3):
        server_id = cloud.create(f"host-{number}", f"host-{number}")
        cloud.wait_for(server_id, "ACTIVE")
        assert len(cloud.hosts_with(server_id)) == 1
    wait_until_right(cloud.books)


def test_another_cell_takes_what_all_hosts_of_one_refuse(cloud: OneProcess) -> None:
    refuse(cloud, "east", 1000)
    refuse(cloud, "west", 0)
    ids = [cloud.create(f"cell-{number}", f"cell-{number}") for number in range(8)]
    for server_id in ids:
        cloud.wait_for(server_id, "ACTIVE")
        assert [host.split("-")[0] for host in cloud.hosts_with(server_id)] == ["west"]
    wait_until_right(cloud.books)
    refuse(cloud, "east", 0)


def test_where_no_cell_is_left_the_server_ends_in_error_with_every_hosts_reason(cloud: OneProcess) -> None:
    for cell in CELLS:
        refuse(cloud, cell, 1000)
    server_id = cloud.create("nowhere", "nowhere")
    cloud.wait_for(server_id, "ERROR")
    headers = {"X-Auth-Token": "admin", "OpenStack-API-Version": "compute 2.90"}
    fault = cloud._client.get(f"/v2.1/servers/{server_id}", headers=headers).json["server"]["fault"]
    assert fault["message"].startswith("No valid host was found.")
    assert NO_ROOM.message in fault["message"]
    for cell in CELLS:
        for number in range(1, HOSTS + 1):
            assert f"{cell}-{number}: {NO_ROOM.message}" in fault["details"]
        refuse(cloud, cell, 0)
    assert cloud.hosts_with(server_id) == []
    wait_until_right(cloud.books)
    cloud.delete(server_id)
    cloud.wait_for(server_id, "gone")
    wait_until_right(cloud.books)
