"""The sentence that tenants read: how many hosts for which kind of reason, and no names."""

from __future__ import annotations

import pytest

from cell.scheduler.policy.filters import FILTERS
from cellcloud.model.no_valid_host_message import LONGEST, NO_HOST, Reason, RefusedGroup, is_for_now, message, sentence


def lacking(count: int, what: str, needed: int, available: int) -> RefusedGroup:
    reason = Reason(filter="ResourceClassFilter", text="?", what=what, needed=needed, available=available)
    return RefusedGroup(count=count, reason=reason)


def refused(count: int, name: str, what: str = "") -> RefusedGroup:
    return RefusedGroup(count=count, reason=Reason(filter=name, text=f"secret-host {what}", what=what))


def test_the_example() -> None:
    groups = [lacking(800, "MEMORY_MB", 8192, 4096), refused(40, "ComputeFilter", "is disabled")]
    groups.append(lacking(12, "MEMORY_MB", 8192, 6144))
    assert sentence(groups) == "No host fits: 812 lack memory by at least 2 GiB, 40 are disabled."
    assert message(groups).startswith(f"{NO_HOST} No host fits: 812")


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        (lacking(1, "MEMORY_MB", 1000, 900), "1 lacks memory by at least 100 MiB"),
        (lacking(2, "VCPU", 4, 1), "2 lack CPUs by at least 3"),
        (lacking(2, "DISK_GB", 40, 10), "2 lack disk by at least 30 GiB"),
        (lacking(2, "CUSTOM_GPU", 1, 0), "2 lack CUSTOM_GPU by at least 1"),
        (refused(1, "ComputeFilter", "is down"), "1 is down"),
        (refused(3, "AvailabilityZoneFilter", "is in zone secret"), "3 are in other zones"),
        (refused(3, "SomethingNew"), "3 do not suit the request"),
    ],
)
def test_each_kind(group: RefusedGroup, expected: str) -> None:
    assert sentence([group]) == f"No host fits: {expected}."


def test_nothing_is_named_whoever_refused() -> None:
    said = sentence([refused(2, name, "aggregate secret") for name in FILTERS])
    assert "secret" not in said
    assert "Filter" not in said


def test_it_stays_short_and_says_the_most_first() -> None:
    groups = [lacking(number, f"CUSTOM_{number:050}", 2, 1) for number in range(1, 40)]
    said = message(groups)
    assert len(said) <= LONGEST
    assert said.startswith(f"{NO_HOST} No host fits: 39 lack")
    assert said.endswith(".")


def test_without_hosts_it_says_what_else_is_known() -> None:
    assert message([]) == NO_HOST
    assert message([], "Scheduler hint 'query' is not JSON.") == f"{NO_HOST} Scheduler hint 'query' is not JSON."


DOWN = refused(20, "ComputeFilter", "is down")


@pytest.mark.parametrize(
    ("groups", "for_now"),
    [
        ([], False),
        ([DOWN], True),
        ([DOWN, refused(3, "ComputeFilter", "is disabled")], True),
        ([DOWN, refused(5, "AvailabilityZoneFilter")], True),
        ([DOWN, refused(5, "names"), refused(1, "ServerGroupAntiAffinityFilter")], True),
        ([DOWN, lacking(1, "VCPU", 4, 1)], False),
        ([DOWN, refused(1, "NumInstancesFilter")], False),
        ([DOWN, refused(1, "NUMATopologyFilter")], False),
        ([lacking(1, "VCPU", 4, 1)], False),
        ([refused(3, "ComputeFilter", "is disabled")], False),
    ],
)
def test_what_is_refused_only_because_hosts_are_silent(groups: list[RefusedGroup], for_now: bool) -> None:
    assert is_for_now(groups) == for_now
