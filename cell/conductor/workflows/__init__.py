"""One program per operation; ``REGISTRY`` is what the executor runs and what the generated tests go through."""

from __future__ import annotations

from cell.conductor.workflow import Workflow
from cell.conductor.workflows.create import CREATE
from cell.conductor.workflows.delete import DELETE
from cell.conductor.workflows.reboot import REBOOT
from cell.conductor.workflows.start import START
from cell.conductor.workflows.stop import STOP

REGISTRY: dict[str, Workflow] = {workflow.operation: workflow for workflow in (CREATE, DELETE, START, STOP, REBOOT)}
