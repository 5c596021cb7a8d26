"""Images of a server: its root disk as it was at one moment, copied on its host and sent to the image service.

The server goes on meanwhile. Until the image is whole all can be taken back, and is: when a step fails, when the
deadline passes, or when the server is deleted.
"""

from __future__ import annotations

from cell.conductor.steps import images, records
from cell.conductor.workflow import Workflow, minutes
from cellcloud.model.operations import Operation

_STEPS = (images.ensure, images.copy, images.copied, images.upload, images.uploaded)
CREATE_IMAGE = Workflow(
    operation=Operation.CREATE_IMAGE,
    steps=(*_STEPS, records.settle_for_good),
    deadline=minutes(240),
    on_failure=records.keep_state,
)
CREATE_BACKUP = Workflow(
    operation=Operation.CREATE_BACKUP,
    steps=(*_STEPS, images.rotated, records.settle_for_good),
    deadline=minutes(240),
    on_failure=records.keep_state,
)
