"""Steps and endings that change nothing but the server's record."""

from __future__ import annotations

from msgspec import UNSET

from cell.conductor.workflow import PassiveServices, PassiveStep, StepContext, StepResult
from cellcloud import errors
from cellcloud.clock import now
from cellcloud.model import migration as migrations
from cellcloud.model.no_valid_host_message import LONGEST, NO_HOST
from cellcloud.model.run import LeasedRun
from cellcloud.model.server import NO_CHANGES, ServerChanges, ServerFault, ServerRecord
from cellcloud.server_states import PowerState, VmState


def _settle(context: StepContext, services: PassiveServices) -> StepResult:
    """Return the server rests in the states that the operation leads to."""
    spec = context.spec
    changes = ServerChanges(
        vm_state=UNSET if spec.vm_state is None else spec.vm_state,
        task_state=None,
        power_state=UNSET if spec.power_state is None else spec.power_state,
        fault=UNSET if spec.vm_state is None else None,
        launched=spec.vm_state == VmState.RESCUED
        or (spec.vm_state == VmState.ACTIVE and context.record.launched_at is None),
        soft_deleted=spec.vm_state == VmState.SOFT_DELETED,
    )
    return StepResult(changes=changes)


DELETED = ServerChanges(
    vm_state=VmState.DELETED,
    task_state=None,
    power_state=PowerState.NOSTATE,
    deleted=True,
    terminated=True,
    ports=(),
)


def _deleted(context: StepContext, services: PassiveServices) -> StepResult:
    record = context.record
    changes = NO_CHANGES if record.deleted else DELETED
    if record.migration is not None and not record.deleted:
        over = migrations.changed(record.migrations, status=record.migration.ended)
        changes = changes.followed_by(ServerChanges(migrations=over))
    return StepResult(changes=changes, release_claims=True)


def shown_without_host(context: StepContext) -> ServerChanges:
    """Return what users see of a server that is being taken away while its host is: it is gone, as in Nova, or in
    ERROR."""
    run, record = context.run, context.record
    if record.deleted:
        return NO_CHANGES
    if context.spec.vm_state == VmState.DELETED or run.cancel_requested:
        return DELETED
    if record.vm_state == VmState.ERROR or not (run.direction == "undo" or run.overdue):
        return NO_CHANGES
    message = run.message or "The server's host does not answer."
    detail = run.detail or f"Host {record.host} does not answer."
    return ServerChanges(vm_state=VmState.ERROR, task_state=None, fault=fault_of(message, detail))


def fault_of(message: str, details: str) -> ServerFault:
    """Return a fault of now."""
    return ServerFault(code=500, message=message, created=now(), details=details)


def mark_error(run: LeasedRun, record: ServerRecord) -> StepResult:
    """ERROR with the reason; everything the run had taken has been given back."""
    changes = ServerChanges(
        vm_state=VmState.ERROR,
        task_state=None,
        power_state=PowerState.NOSTATE,
        host=None,
        ports=(),
        fault=fault_of(run.message or "The server could not be built.", run.detail),
    )
    return StepResult(changes=changes, release_claims=True)


def mark_put_back(run: LeasedRun, record: ServerRecord) -> StepResult:
    """ERROR with the reason, on its host and with all that it has taken."""
    message = run.message or "The server could not be built."
    return StepResult(
        changes=ServerChanges(vm_state=VmState.ERROR, task_state=None, fault=fault_of(message, run.detail))
    )


def give_up(run: LeasedRun, record: ServerRecord) -> StepResult:
    """Return where hosts refused: nothing of the server is left here, and its record says so for the top to place it in
    another cell. Else as ``mark_error``, and where users have been shown that end already."""
    if record.vm_state == VmState.ERROR or not issubclass(errors.nearest([run.error]), errors.TryElsewhere):
        return mark_error(run, record)
    tried = run.outputs.tried
    last = tried[-1].message if tried else run.message
    why = f"{NO_HOST} Hosts that were tried: {len(tried)}. The last of them: {last}" if tried else run.message
    details = [f"{one.host}: {one.message}" for one in tried] + [f"{run.message} {run.detail}".strip()]
    changes = ServerChanges(
        vm_state=VmState.BUILDING,
        task_state=None,
        power_state=PowerState.NOSTATE,
        host=None,
        ports=(),
        fault=fault_of(why[:LONGEST], "\n".join(dict.fromkeys(details))[:4000]),
        deleted=True,
        terminated=True,
    )
    return StepResult(changes=changes, release_claims=True)


def keep_state(run: LeasedRun, record: ServerRecord) -> StepResult:
    """Leave the server what it was; the operation's record says what went wrong."""
    return StepResult(changes=ServerChanges(task_state=None))


def put_away(run: LeasedRun, record: ServerRecord) -> StepResult:
    """Delete it but for its reclaim, though its host may not have said that the guest is off: where it is found
    running, it is stopped."""
    told = [result.power_state for result in run.events.values() if not result.error]
    changes = ServerChanges(
        vm_state=VmState.SOFT_DELETED,
        task_state=None,
        power_state=told[-1] if told else UNSET,
        soft_deleted=True,
    )
    return StepResult(changes=changes)


settle = PassiveStep(name="records.settle", do=_settle)
settle_for_good = PassiveStep(name="records.settle", do=_settle, commit=True)
mark_deleted = PassiveStep(name="records.mark_deleted", do=_deleted)
