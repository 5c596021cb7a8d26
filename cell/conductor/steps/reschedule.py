"""Steps that give a server a host."""

from __future__ import annotations

from cell.conductor.workflow import StepContext, StepResult, StepServices


def find_another(context: StepContext, services: StepServices) -> StepResult:
    """Claim a host that was not tried yet, unless an earlier attempt has. Raises NoValidHost."""
    record = context.record
    if record.host is None:
        record = services.find_host(context.run, record.spec, [one.host for one in context.run.outputs.tried])
    return StepResult(moved=record)
