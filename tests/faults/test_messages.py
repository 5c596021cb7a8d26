"""One message of each verb lost, answered in vain, repeated, or late and overtaken: the outcome is the same."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.cloud import until
from tests.faults.books import wait_until_right
from tests.faults.one_process import Fate, OneProcess, one_process

# Each verb of placing, running and following, and which message of it in the life of a server that is built,
# stopped and deleted.
MESSAGES = [
    ("Conductor.reserve", 1),
    ("Scheduler.rank", 1),
    ("SchedulingStore.list_changes", 1),
    ("Conductor.confirm", 1),
    ("Compute.apply", 1),
    ("Compute.apply", 2),
    ("Compute.apply", 3),
    ("Conductor.report_events", 1),
    ("Conductor.report_events", 2),
    ("Conductor.report_events", 3),
    ("Conductor.begin_operation", 1),
    ("Conductor.begin_deletes", 1),
    ("Conductor.list_feed", 1),
    ("Router.feed_grew", 1),
    ("Conductor.get_digest", 1),
    ("Conductor.report_hosts", 1),
]
CASTS = ("Compute.apply", "Router.feed_grew")
CASES = [
    pytest.param(verb, nth, fate, id=f"{verb} {nth} {fate}")
    for (verb, nth), fate in itertools.product(MESSAGES, Fate)
    if not (verb in CASTS and fate is Fate.ANSWER_LOST)
]
NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneProcess]:
    with one_process(tmp_path_factory.mktemp("cloud")) as made:
        yield made


@pytest.mark.parametrize(("verb", "nth", "fate"), CASES)
def test_what_becomes_of_a_message_changes_no_outcome(cloud: OneProcess, verb: str, nth: int, fate: Fate) -> None:
    number = next(NUMBERS)
    cloud.messages.arm(verb, nth, fate)
    server_id = cloud.create(f"server-{number}", f"key-{number}")
    cloud.wait_for(server_id, "ACTIVE")
    assert len(cloud.hosts_with(server_id)) == 1
    cloud.stop(server_id)
    cloud.wait_for(server_id, "SHUTOFF")
    kept = cloud.create(f"kept-{number}", f"kept-{number}")
    cloud.delete(server_id)
    cloud.wait_for(server_id, "gone")
    cloud.wait_for(kept, "ACTIVE")
    until(lambda: not cloud.messages.is_armed, 60.0, what="such a message")
    cloud.messages.settle()
    wait_until_right(cloud.books, 60.0)
    assert cloud.hosts_with(server_id) == []
    assert len(cloud.hosts_with(kept)) == 1
