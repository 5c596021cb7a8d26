"""Steps that rebuild a guest where it is: the host is asked for, the new disk, then the record, then the guest.

What the guest is from the record's change on is told by the record: its metadata are read while it boots.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from msgspec import UNSET, structs

from cell.conductor.steps import guests, records, volumes
from cell.conductor.workflow import PassiveServices, PassiveStep, Step, StepContext, StepResult, StepServices, Wait
from cellcloud import errors
from cellcloud.model.guest_commands import PrepareRebuild, Rebuild, Stop
from cellcloud.model.image import Image
from cellcloud.model.no_valid_host_message import NO_HOST
from cellcloud.model.run import LeasedRun
from cellcloud.model.server import ServerChanges, ServerRecord, ServerSpec
from cellcloud.server_states import PowerState, TaskState, VmState

MOST_TRIES = 8  # to hear from a scheduler; about a minute
PREPARED, REBUILT = "guests.prepared", "guests.rebuilt"
_BESIDE = {"user_data": "user_data_id", "admin_pass": "admin_pass_id"}  # texts, and where a record has their ids


def spec_after(run: LeasedRun, record: ServerRecord) -> ServerSpec:
    """Return the server's spec with what the rebuild gives it, and all else as it is now."""
    wanted = run.arguments.spec
    if wanted is None:
        raise errors.CallHuman("The operation does not say what it is to make of the server.")
    names = {_BESIDE.get(name, name) for name in run.arguments.spec_changes}
    given: dict[str, Any] = {name: getattr(wanted, name) for name in names}
    return replace(record.spec, root_image=None, **given)


def _check(context: StepContext, services: StepServices) -> StepResult:
    """Ask whether the host suits an image that the server has not yet. Raises NoValidHost."""
    run, record = context.run, context.record
    wanted = spec_after(run, record)
    if _looked_at(wanted.image) == _looked_at(record.spec.image):
        return StepResult()
    try:
        services.check_rebuild(run, wanted, record.host or "")
    except errors.TryLater as error:
        if run.attempt < MOST_TRIES:
            raise
        raise errors.NoValidHost(error.message or NO_HOST, detail=error.detail) from error
    return StepResult()


def _looked_at(image: Image) -> object:
    """Return what schedulers read of an image."""
    return image.id, image.disk_format, image.properties


def _prepare(context: StepContext) -> PrepareRebuild:
    record = replace(context.record, spec=spec_after(context.run, context.record))
    command = guests.command_for(replace(context, record=record), PrepareRebuild, PREPARED)
    assert isinstance(command, PrepareRebuild)  # noqa: S101 -- what was asked for
    return command


def send_prepare(context: StepContext, services: PassiveServices) -> StepResult:
    """Have the host make the new root disk beside the present one."""
    return StepResult(command=_prepare(context))


def await_prepared(context: StepContext, services: PassiveServices) -> StepResult:
    """Wait until the new root disk is whole."""
    return guests.answered(context, services, lambda: _prepare(context))


def change_record(context: StepContext, services: PassiveServices) -> StepResult:
    """From now on the server is what it is rebuilt to."""
    return StepResult(changes=ServerChanges(spec=spec_after(context.run, context.record)))


def stop(context: StepContext, services: PassiveServices) -> StepResult:
    """Turn the guest off whose root volume is to be written."""
    if not context.run.arguments.reimage:
        return StepResult()
    if isinstance(context.failure, errors.TryLater):
        raise Wait(min(0.5 * 2.0 ** min(context.run.attempt, 6), services.resend_after), forget=True)
    if context.failure is not None:
        raise context.failure
    if context.event is None:
        guests.check_not_fenced(context, services, context.record.host or "")
        raise Wait(services.resend_after, command=guests.command_for(context, Stop, context.step))
    return StepResult(changes=ServerChanges(power_state=context.event.power_state))


def _rebuild(context: StepContext) -> Rebuild:
    command = guests.command_for(context, Rebuild, REBUILT)
    assert isinstance(command, Rebuild)  # noqa: S101 -- what was asked for
    keep = context.run.arguments.keep_ephemeral
    return structs.replace(command, run=context.record.vm_state != VmState.STOPPED, keep_ephemeral=keep)


def send_rebuild(context: StepContext, services: PassiveServices) -> StepResult:
    """Have the host end the old guest and begin the new one."""
    return StepResult(command=_rebuild(context))


def await_rebuilt(context: StepContext, services: PassiveServices) -> StepResult:
    """Wait until the new guest is there."""
    return guests.answered(context, services, lambda: _rebuild(context))


def settle(context: StepContext, services: PassiveServices) -> StepResult:
    """Settle the server as running, unless it was stopped before."""
    stopped = context.record.vm_state == VmState.STOPPED
    return StepResult(
        changes=ServerChanges(
            vm_state=VmState.STOPPED if stopped else VmState.ACTIVE,
            power_state=PowerState.SHUTDOWN if stopped else PowerState.RUNNING,
            task_state=None,
            fault=None,
            launched=not stopped,
        )
    )


def keep_or_fail(run: LeasedRun, record: ServerRecord) -> StepResult:
    """Before its record has changed the server is what it was; afterwards it is in ERROR, and can be rebuilt again."""
    prepared = run.events.get(PREPARED)
    if prepared is None or prepared.error or record.spec != spec_after(run, record):
        return records.keep_state(run, record)
    fault = records.fault_of(run.message or "The server could not be rebuilt.", run.detail)
    return StepResult(changes=ServerChanges(vm_state=VmState.ERROR, task_state=None, power_state=UNSET, fault=fault))


check = Step(name="rebuild.check", do=_check)
prepare = PassiveStep(name="guests.prepare", do=send_prepare)
prepared = PassiveStep(name=PREPARED, do=await_prepared)
changed = PassiveStep(name="records.rebuild", do=change_record)
stopped = PassiveStep(name="guests.stop", do=stop, task_state=TaskState.REBUILD_BLOCK_DEVICE_MAPPING)
reimaged = Step(name="volumes.reimage", do=volumes.reimage, undo=volumes.have_root_again)
rebuild = PassiveStep(name="guests.rebuild", do=send_rebuild, task_state=TaskState.REBUILD_SPAWNING)
rebuilt = PassiveStep(name=REBUILT, do=await_rebuilt)
settled = PassiveStep(name="records.settle", do=settle)
