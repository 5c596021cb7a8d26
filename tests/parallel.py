"""How the tests of a run with several workers are shared out: in groups, those that take longest first.

The tests of a group run on one worker, one after the other, since they share what one of them has started.
"""

from __future__ import annotations

import re

import pytest
from xdist.scheduler import LoadScopeScheduling

SHARED = ("mariadb", "postgresql", "rabbitmq")  # a run has one of each, as it has of a module's fixtures
LONGEST = ("tests/integration", "tests/faults", "tests/contract")


def group_of(nodeid: str) -> str:
    """The test's module, or what of its parameters is shared by all modules; the story's profiles are two groups."""
    module, _, test = nodeid.partition("::")
    parameters = re.findall(r"[a-z]+", test.partition("[")[2])
    if module.endswith("test_story.py"):
        return "-".join([module, *parameters])
    return next((each for each in SHARED if each in parameters), module)


def order(item: pytest.Item) -> tuple[bool, int]:
    """What to sort tests by: those that take minutes, then by what their directory starts."""
    places = [place for place, directory in enumerate(LONGEST) if item.nodeid.startswith(directory)]
    return item.get_closest_marker("slow") is None, (places or [len(LONGEST)])[0]


class Groups(LoadScopeScheduling):
    """Gives each worker a group at a time, in the order in which tests are collected."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)
