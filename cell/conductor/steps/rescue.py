"""Steps that start a server from another disk than its own, and let it back."""

from __future__ import annotations

from msgspec import structs

from cell.conductor.steps import guests, records
from cell.conductor.workflow import PassiveServices, PassiveStep, StepContext, StepResult, Wait
from cellcloud import errors
from cellcloud.model.guest_commands import Unrescue
from cellcloud.model.server import ServerChanges
from cellcloud.server_states import PowerState, VmState


def _let_back(context: StepContext, services: PassiveServices) -> StepResult:
    """Have the host put the guest back, as it was. A delete that follows has no need of it."""
    record, failure = context.record, context.failure
    if context.run.cancel_requested or record.host is None:
        return StepResult()
    if isinstance(failure, errors.TryLater):
        raise Wait(services.resend_after, forget=True)
    if failure is not None:
        fault = records.fault_of(failure.message, failure.detail)
        power = context.event.power_state if context.event else PowerState.NOSTATE
        return StepResult(changes=ServerChanges(vm_state=VmState.ERROR, power_state=power, fault=fault))
    if context.event is not None:
        return StepResult(changes=ServerChanges(power_state=context.event.power_state))
    if context.run.attempt > 1 and services.is_fenced(record.host):
        return StepResult()
    command = guests.command_for(context, Unrescue, context.step)
    if isinstance(command, Unrescue):
        command = structs.replace(command, running=record.power_state == PowerState.RUNNING)
    raise Wait(services.resend_after, command=command)


rescue = PassiveStep(name="guests.rescue", do=guests.send_command, undo=_let_back)
