"""One program per operation; ``REGISTRY`` is what the executor runs and what the generated tests go through."""

from __future__ import annotations

from cell.conductor.workflow import Workflow
from cell.conductor.workflows.command import command_workflow
from cell.conductor.workflows.create import CREATE
from cell.conductor.workflows.delete import DELETE
from cell.conductor.workflows.image import CREATE_BACKUP, CREATE_IMAGE
from cell.conductor.workflows.move import CONFIRM_RESIZE, MIGRATE, RESIZE, REVERT_RESIZE
from cell.conductor.workflows.ports import ATTACH_INTERFACE, DETACH_INTERFACE
from cell.conductor.workflows.rebuild import REBUILD
from cell.conductor.workflows.rescue import RESCUE
from cell.conductor.workflows.shelving import SHELVE, SHELVE_OFFLOAD, UNSHELVE
from cell.conductor.workflows.soft_delete import RESTORE, SOFT_DELETE
from cell.conductor.workflows.volumes import ATTACH_VOLUME, DETACH_VOLUME, EXTEND_VOLUME
from cellcloud.model.operations import Operation

_MOVES = (RESIZE, MIGRATE, CONFIRM_RESIZE, REVERT_RESIZE)
_SHELVES = (SHELVE, SHELVE_OFFLOAD, UNSHELVE)
_IMAGES = (CREATE_IMAGE, CREATE_BACKUP)
_VOLUMES = (ATTACH_VOLUME, DETACH_VOLUME, EXTEND_VOLUME)
_PORTS = (ATTACH_INTERFACE, DETACH_INTERFACE)
_OWN = {
    workflow.operation: workflow
    for workflow in (
        CREATE,
        DELETE,
        SOFT_DELETE,
        RESTORE,
        REBUILD,
        RESCUE,
        *_IMAGES,
        *_MOVES,
        *_SHELVES,
        *_VOLUMES,
        *_PORTS,
    )
}
REGISTRY: dict[str, Workflow] = {
    operation: _OWN.get(operation) or command_workflow(operation) for operation in Operation
}
