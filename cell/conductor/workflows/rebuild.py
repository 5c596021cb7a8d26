"""Rebuild: another root disk for a server where it is, on the claim and the ports that it has.

The scheduler's filters are asked about another image first. The new disk is made beside the old one while the guest
runs on; a root volume is written by its service while the guest is off. A step that fails until then leaves the server
what it was; one that fails afterwards leaves it in ERROR, on its host.
"""

from __future__ import annotations

from cell.conductor.steps import rebuild
from cell.conductor.workflow import Workflow, minutes
from cellcloud.model.operations import Operation

REBUILD = Workflow(
    operation=Operation.REBUILD,
    steps=(
        rebuild.check,
        rebuild.prepare,
        rebuild.prepared,
        rebuild.changed,
        rebuild.stopped,
        rebuild.reimaged,
        rebuild.rebuild,
        rebuild.rebuilt,
        rebuild.settled,
    ),
    deadline=minutes(60),
    on_failure=rebuild.keep_or_fail,
)
