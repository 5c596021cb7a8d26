"""Shelve: a server's disk goes into the image service; then its host forgets it; then it is brought back elsewhere.
One on a volume has its disks there already, and is forgotten at once."""

from __future__ import annotations

from cell.conductor.steps import images, shelving
from cell.conductor.workflow import Workflow, minutes
from cellcloud.model.operations import Operation

SHELVE = Workflow(
    operation=Operation.SHELVE,
    steps=(
        images.ensure,
        shelving.stop,
        shelving.copy,
        images.copied,
        shelving.upload,
        images.uploaded,
        shelving.rest,
        shelving.offload_at_once,
        shelving.unbind_at_once,
        shelving.settle_shelved,
    ),
    deadline=minutes(240),
    on_failure=shelving.stay_as_it_was,
)
SHELVE_OFFLOAD = Workflow(
    operation=Operation.SHELVE_OFFLOAD,
    steps=(shelving.check_image, shelving.offload, shelving.unbind, shelving.settle_offloaded),
    deadline=minutes(30),
    on_failure=shelving.stay_on_host,
)
UNSHELVE = Workflow(
    operation=Operation.UNSHELVE,
    steps=(shelving.bind, shelving.start, shelving.started, shelving.discard, shelving.settle_unshelved),
    deadline=minutes(60),
    on_failure=shelving.stay_shelved,
    elsewhere=shelving.find_host,
)
