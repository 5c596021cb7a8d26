"""Server groups over two cells, a message of placing lost, answered in vain or late: all are kept, and all built."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cellcloud.model.server_group import AFFINITY, ANTI_AFFINITY
from tests.faults.books import wait_until_right
from tests.faults.one_process import Fate, OneProcess, one_process

MEMBERS = 3  # four hosts there are, so that one may be held in vain for a while


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneProcess]:
    with one_process(tmp_path_factory.mktemp("cloud")) as made:
        yield made


@pytest.mark.parametrize(
    ("verb", "fate"),
    [
        ("Conductor.reserve", Fate.ANSWER_LOST),
        ("Conductor.reserve", Fate.LATE),
        ("Conductor.confirm", Fate.ANSWER_LOST),
    ],
)
def test_groups_are_kept_whatever_becomes_of_a_message(cloud: OneProcess, verb: str, fate: Fate) -> None:
    groups = {cloud.create_group(policy): policy for policy in (AFFINITY, ANTI_AFFINITY)}
    cloud.messages.arm(verb, 2, fate)
    made: dict[str, list[str]] = {group_id: [] for group_id in groups}
    for number in range(MEMBERS):
        for group_id, theirs in made.items():
            theirs.append(cloud.create("s", f"{group_id}-{number}", group_id))
    for theirs in made.values():
        for server_id in theirs:
            cloud.wait_for(server_id, "ACTIVE")
    cloud.messages.settle()
    hosts = {group_id: [host for one in theirs for host in cloud.hosts_with(one)] for group_id, theirs in made.items()}
    for group_id, policy in groups.items():
        assert len(hosts[group_id]) == MEMBERS
        assert len(set(hosts[group_id])) == (1 if policy == AFFINITY else MEMBERS), (policy, hosts[group_id])
    for theirs in made.values():
        for server_id in theirs:
            cloud.delete(server_id)
    for theirs in made.values():
        for server_id in theirs:
            cloud.wait_for(server_id, "gone")
    wait_until_right(cloud.books, 60.0)
