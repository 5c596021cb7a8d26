"""Which tests run on one worker, one after the other, when several workers share a run; the longest begin first."""

from __future__ import annotations

import re

from xdist.scheduler import LoadScopeScheduling

DAEMONS = ("mariadb", "postgresql", "rabbitmq")  # one of each a run: whoever needs it runs on the worker that has it


def group_of(nodeid: str) -> str:
    """The test's group: the daemon that it shares with other modules, or its module."""
    module, _, test = nodeid.partition("::")
    values = re.findall(r"[a-z]+", test.partition("[")[2])
    return next((daemon for daemon in DAEMONS if daemon in values), module)


class Groups(LoadScopeScheduling):
    """Gives each worker a group at a time."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)
