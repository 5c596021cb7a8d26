"""Steps that put a server away in the image service, and bring it back to life on whichever host has room.

Its root disk is copied while nothing writes to it. Until the image is whole the server can be what it was, and is when
a step fails; from then on its host may forget it.
"""

from __future__ import annotations

from dataclasses import replace

from msgspec import UNSET

from cell.conductor.steps import guests, images, networks, records, volumes
from cell.conductor.workflow import (
    PassiveServices,
    PassiveStep,
    Step,
    StepContext,
    StepResult,
    StepServices,
    Wait,
)
from cellcloud import errors
from cellcloud.clients.image import READABLE
from cellcloud.model.guest_commands import GuestCommand, Spawn, Start, Stop
from cellcloud.model.run import GuestResult, LeasedRun
from cellcloud.model.server import ServerChanges, ServerRecord
from cellcloud.server_states import PowerState, TaskState, VmState

STARTED = "guests.started"


def is_offloaded(record: ServerRecord) -> bool:
    """Return whether no host has anything of the server, but the one that it is being brought back on."""
    return record.vm_state == VmState.SHELVED_OFFLOADED


def _ask(context: StepContext, services: PassiveServices, kind: type[GuestCommand]) -> GuestResult:
    """Return the host's answer to what this step asks of it. Raises Wait, and what the host raised."""
    if isinstance(context.failure, errors.TryLater):
        raise Wait(min(0.5 * 2.0 ** min(context.run.attempt, 6), services.resend_after), forget=True)
    if context.failure is not None:
        raise context.failure
    if context.event is None:
        guests.check_not_fenced(context, services, context.record.host or "")
        raise Wait(services.resend_after, command=guests.command_for(context, kind, context.step))
    return context.event


# ---- put away --------------------------------------------------------------------------------------------------------
def _stop(context: StepContext, services: PassiveServices) -> StepResult:
    """Turn off a guest that runs. One whose processors are halted writes nothing, and keeps its memory until the image
    is whole."""
    if context.record.vm_state != VmState.ACTIVE:
        return StepResult()
    return StepResult(changes=ServerChanges(power_state=_ask(context, services, Stop).power_state))


def _start_again(context: StepContext, services: PassiveServices) -> StepResult:
    """Let a guest that ran run again. A delete that follows has no need of it."""
    record = context.record
    if context.run.cancel_requested or record.vm_state != VmState.ACTIVE or record.host is None:
        return StepResult()
    if context.failure is not None and not isinstance(context.failure, errors.TryLater):
        power = context.event.power_state if context.event else PowerState.SHUTDOWN
        fault = records.fault_of(context.failure.message, context.failure.detail)
        return StepResult(changes=ServerChanges(vm_state=VmState.STOPPED, power_state=power, fault=fault))
    if context.run.attempt > 1 and services.is_fenced(record.host):
        return StepResult()
    return StepResult(changes=ServerChanges(power_state=_ask(context, services, Start).power_state))


def _rest(context: StepContext, services: PassiveServices) -> StepResult:
    """Turn off what is left of the guest: its image has all of its disk. A host that cannot, or is away, is not waited
    for: it is told to remove the guest later."""
    record, failure = context.record, context.failure
    if record.vm_state not in (VmState.PAUSED, VmState.SUSPENDED) or context.run.cancel_requested:
        return StepResult()
    refused = failure is not None and not isinstance(failure, errors.TryLater)
    if refused or (context.run.attempt > 1 and not services.is_up(record.host or "")):
        return StepResult()
    _ask(context, services, Stop)
    return StepResult()


def _offload_at_once(context: StepContext, services: PassiveServices) -> StepResult:
    """Have the host remove a guest whose volumes have all of its disks; another stays until it is offloaded."""
    return guests.remove(context, services) if context.record.spec.is_volume_backed else StepResult()


def _unbind_at_once(context: StepContext, services: StepServices) -> StepResult:
    return _unbind(context, services) if context.record.spec.is_volume_backed else StepResult()


def _settle_shelved(context: StepContext, services: PassiveServices) -> StepResult:
    if context.record.spec.is_volume_backed:
        return _settle_offloaded(context, services)
    changes = ServerChanges(
        vm_state=VmState.SHELVED,
        task_state=None,
        power_state=PowerState.SHUTDOWN,
        fault=None,
        shelved=True,
    )
    return StepResult(changes=changes)


def stay_as_it_was(run: LeasedRun, record: ServerRecord) -> StepResult:
    """Let it be as before it was to be shelved; the image is gone."""
    return StepResult(changes=ServerChanges(task_state=None, spec=replace(record.spec, shelved_image=None)))


# ---- deleted ---------------------------------------------------------------------------------------------------------
def _release(context: StepContext, services: StepServices) -> StepResult:
    """Delete the server's ports, and the image that it is shelved as, and give its volumes back."""
    discard_image(context, services)
    released = volumes.release(context, services)
    done = networks.release(context, services)
    return replace(done, changes=done.changes.followed_by(released))


# ---- offloaded -------------------------------------------------------------------------------------------------------
def _check_image(context: StepContext, services: StepServices) -> StepResult:
    """Check that the server's disk is in the image service, deactivated or not: else its host has the only copy.
    Raises Conflict, NotFound."""
    image = context.record.spec.shelved_image
    if context.record.spec.is_volume_backed:
        return StepResult()
    if image is None or services.images.get_image(image.id, project_id="", is_admin=True).status not in READABLE:
        raise errors.Conflict("The image that the server is shelved as is not whole.")
    return StepResult()


def stay_on_host(run: LeasedRun, record: ServerRecord) -> StepResult:
    """Return the server keeps its disk. Without an image it is not offloaded by itself any more."""
    waits = issubclass(errors.nearest([run.error]), errors.TryLater)
    return StepResult(changes=ServerChanges(task_state=None, shelved=UNSET if waits else False))


def _unbind(context: StepContext, services: StepServices) -> StepResult:
    """Leave the server its ports and addresses, on no host, and its volumes, which none reaches any more."""
    done = networks.bind_back(context, services, "", "")
    return replace(done, changes=done.changes.followed_by(volumes.reserved(context, services)))


def _settle_offloaded(context: StepContext, services: PassiveServices) -> StepResult:
    changes = ServerChanges(
        vm_state=VmState.SHELVED_OFFLOADED,
        task_state=None,
        power_state=PowerState.SHUTDOWN,
        host=None,
        availability_zone=None,
        fault=None,
        shelved=False,
    )
    return StepResult(changes=changes, release_claims=True)


# ---- brought back ----------------------------------------------------------------------------------------------------
def find_host(context: StepContext, services: StepServices) -> StepResult:
    """Claim a host that was not tried yet, unless an earlier attempt has: the one asked for, where one is. Raises
    NoValidHost."""
    run, record = context.run, context.record
    if record.host is None:
        wanted = replace(record.spec, host=run.arguments.host or None)
        record = services.find_host(run, wanted, [one.host for one in run.outputs.tried])
    return StepResult(moved=record)


def _bind(context: StepContext, services: StepServices) -> StepResult:
    record = context.record
    if not is_offloaded(record):
        return StepResult()
    done = networks.bind(context, services, record.host or "", record.availability_zone or "")
    return replace(done, changes=done.changes.followed_by(volumes.bound(context, services, record.host or "")))


def _unbind_again(context: StepContext, services: StepServices) -> StepResult:
    """Return the ports are the server's still; a delete that follows takes them."""
    if context.run.cancel_requested or not is_offloaded(context.record):
        return StepResult()
    return _unbind(context, services)


def _make_command(context: StepContext) -> GuestCommand:
    record = context.record
    if not is_offloaded(record):
        return guests.command_for(context, Start, STARTED)
    spec = guests.placed(record)
    return guests.command_for(context, Spawn, STARTED, spec=replace(spec, image=spec.shelved_image or spec.image))


def _send(context: StepContext, services: PassiveServices) -> StepResult:
    """Have the host start the guest, from the image where the host has no disk of it."""
    return StepResult(command=_make_command(context))


def _await(context: StepContext, services: PassiveServices) -> StepResult:
    """Return the guest runs. One that has its disk on its host is let go to no other."""
    refused = context.failure
    if not is_offloaded(context.record):
        context = replace(context, may_move=False)
        if refused is not None and not isinstance(refused, errors.TryLater):
            raise errors.GuestFailed(refused.message, detail=refused.detail)
    return guests.answered(context, services, lambda: _make_command(context))


def _take_back(context: StepContext, services: PassiveServices) -> StepResult:
    """Have the host remove what it made of the guest, or turn it off where it was there before."""
    if is_offloaded(context.record):
        return guests.remove(context, services)
    if context.run.cancel_requested or context.failure is not None:
        return StepResult()
    if context.run.attempt > 1 and services.is_fenced(context.record.host or ""):
        return StepResult()
    _ask(context, services, Stop)
    return StepResult()


def discard_image(context: StepContext, services: StepServices) -> StepResult:
    """Delete the image that the server was shelved as. One that its owner protects stays."""
    image = context.record.spec.shelved_image
    if image is not None:
        images.discard(services, image.id)
    return StepResult()


def _settle_unshelved(context: StepContext, services: PassiveServices) -> StepResult:
    spec = context.record.spec
    made_from = spec.shelved_image if is_offloaded(context.record) else spec.root_image
    changes = ServerChanges(
        vm_state=VmState.ACTIVE,
        task_state=None,
        power_state=PowerState.RUNNING,
        fault=None,
        launched=True,
        shelved=False,
        spec=replace(spec, shelved_image=None, root_image=made_from),
    )
    return StepResult(changes=changes)


def _settle_restored(context: StepContext, services: PassiveServices) -> StepResult:
    """Return one that was shelved on its host before it was deleted is shelved no more."""
    settled = records.settle.do(context, services).changes
    changes = ServerChanges(shelved=False, spec=replace(context.record.spec, shelved_image=None))
    return StepResult(changes=settled.followed_by(changes) if context.record.spec.shelved_image else settled)


def stay_shelved(run: LeasedRun, record: ServerRecord) -> StepResult:
    """Leave the server as it was; one that was on no host holds none."""
    if not is_offloaded(record):
        return StepResult(changes=ServerChanges(task_state=None))
    changes = ServerChanges(task_state=None, host=None, availability_zone=None)
    return StepResult(changes=changes, release_claims=True)


stop = PassiveStep(name="guests.stop", do=_stop, undo=_start_again)
copy = replace(images.copy, task_state=TaskState.SHELVING_IMAGE_PENDING_UPLOAD)
upload = replace(images.upload, task_state=TaskState.SHELVING_IMAGE_UPLOADING)
rest = PassiveStep(name="guests.rest", do=_rest, commit=True)
offload_at_once = PassiveStep(name="guests.offload", do=_offload_at_once)
unbind_at_once = Step(name="networks.unbind", do=_unbind_at_once)
settle_shelved = PassiveStep(name="records.settle", do=_settle_shelved)

check_image = Step(name="images.check", do=_check_image)
offload = replace(guests.destroy, task_state=TaskState.SHELVING_OFFLOADING)
release = Step(name="networks.release_ports", do=_release)

unbind = Step(name="networks.unbind", do=_unbind)
settle_offloaded = PassiveStep(name="records.settle", do=_settle_offloaded)

bind = Step(name="networks.bind", do=_bind, undo=_unbind_again, stays=True)
start = PassiveStep(name="guests.start", do=_send, undo=_take_back, task_state=TaskState.SPAWNING)
started = PassiveStep(name=STARTED, do=_await)
discard = Step(name="images.discard", do=discard_image, commit=True)
discard_left = Step(name="images.discard", do=discard_image)
settle_restored = PassiveStep(name="records.settle", do=_settle_restored)
settle_unshelved = PassiveStep(name="records.settle", do=_settle_unshelved)
