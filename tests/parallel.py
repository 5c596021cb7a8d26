"""How the tests of a run with several workers are shared out: in groups, from both ends of their order.

The tests of a group run on one worker, one after the other, since they share what one of them has started. Half of the
workers begin with the groups that mostly wait, the others with those that mostly compute, the longest first; they meet
among the short ones.
"""

from __future__ import annotations

import re
from functools import cache

import pytest
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

SHARED = ("mariadb", "postgresql", "rabbitmq")  # a run has one of each, as it has of a module's fixtures
DIVIDED = (  # whose tests share nothing
    "tests/fastsched/test_index.py",
    "tests/unit/test_schemas_are_linear.py",
    "tests/workflows/test_every_step.py",
)
ORDER = (  # what groups' names begin with; the longest beginning counts
    "tests/integration/test_story.py",
    "tests/integration/test_client_day.py",
    "tests/integration/test_libvirt_guest.py",
    "tests/integration/test_launcher_cloud.py",
    "tests/contract/test_driver.py",
    "tests/faults/test_outage.py",
    "tests/faults/test_kill.py",
    "tests/contract/test_moves.py",
    "rabbitmq",
    "tests/integration",
    "tests/faults",
    "tests/security",
    "tests/contract",
    "",
    "tests/functional",
    "tests/workflows",
    "tests/unit/test_schemas_are_linear.py",
    "tests/fastsched",
    "tests/oracle",
    "tests/integration/test_tempest.py",
    "tests/faults/test_messages.py",
    "mariadb",
    "postgresql",
)


@cache
def group_of(nodeid: str) -> str:
    """The test's module, or what of its parameters is shared by all modules; the story's profiles are two groups."""
    module, _, test = nodeid.partition("::")
    name, _, given = test.partition("[")
    parameters = re.findall(r"[a-z]+", given)
    if module.endswith("test_story.py"):
        return "-".join([module, *parameters])
    if module in DIVIDED:
        return f"{module}::{name}"
    return next((each for each in SHARED if each in parameters), module)


def order(item: pytest.Item) -> int:
    """What to sort tests by."""
    group = group_of(item.nodeid)
    return ORDER.index(max((name for name in ORDER if group.startswith(name)), key=len))


class Groups(LoadScopeScheduling):
    """Gives each worker a group at a time, from the end of the tests' order at which it began."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)

    def _assign_work_unit(self, node: WorkerController) -> None:
        if self.nodes.index(node) % 2:
            self.workqueue.move_to_end(next(reversed(self.workqueue)), last=False)
        super()._assign_work_unit(node)
