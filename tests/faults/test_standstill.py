"""All queues are away for longer than it takes a host to count as down, and are back: nobody is judged for that."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from cellcloud.db import hosts
from tests.faults.books import wait_until_right
from tests.faults.one_process import OneProcess, one_process

DOWN = 2.0  # seconds


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneProcess]:
    with one_process(tmp_path_factory.mktemp("cloud"), down_time=DOWN) as made:
        time.sleep(1.5 * DOWN)  # until the cells judge
        yield made


def test_what_is_asked_for_during_an_outage_is_done_after_it(cloud: OneProcess) -> None:
    old = [cloud.create(f"old-{number}", f"old-{number}") for number in range(4)]
    for server_id in old:
        cloud.wait_for(server_id, "ACTIVE")
    cloud.messages.away = True
    new = [cloud.create(f"new-{number}", f"new-{number}") for number in range(8)]
    for server_id in old:
        cloud.delete(server_id)
    time.sleep(1.5 * DOWN)
    cloud.messages.away = False
    for server_id in new:
        cloud.wait_for(server_id, "ACTIVE")
    for server_id in old:
        cloud.wait_for(server_id, "gone")
        assert cloud.hosts_with(server_id) == []
    for cell in cloud.books.cells:
        with cell.database.read() as connection:
            assert {state.up for state in hosts.list_states(connection)} == {True}
    wait_until_right(cloud.books)
