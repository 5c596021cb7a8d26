"""Steps that move a server: room on another host, its disks and its guest there; then its old host is done with, or it
goes back.

The guest's old host sets it aside, and keeps it until the move is confirmed. Whatever a host has of the server goes by
that host's own word. A delete waits for none of this: it has both hosts remove all that they have.
"""

from __future__ import annotations

from dataclasses import replace

from cell.conductor.steps import guests, networks, records, volumes
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
from cellcloud.model import migration as migrations
from cellcloud.model.guest_commands import (
    Arrive,
    Discard,
    FetchDisks,
    GuestCommand,
    MoveBack,
    OfferDisks,
    SetAside,
)
from cellcloud.model.migration import Migration, MigrationStatus, MigrationType
from cellcloud.model.no_valid_host_message import NO_HOST
from cellcloud.model.run import GuestResult, LeasedRun
from cellcloud.model.server import NO_CHANGES, ServerChanges, ServerRecord, ServerSpec
from cellcloud.server_states import PowerState, TaskState, VmState, seen_as

MOST_TRIES = 8  # to find a host; about a minute


def _present(context: StepContext) -> Migration:
    return context.record.migrations[-1]


def _told(context: StepContext, **values: object) -> tuple[Migration, ...]:
    return migrations.changed(context.record.migrations, **values)


def _ask(
    context: StepContext, services: PassiveServices, command: GuestCommand, shown: ServerChanges = NO_CHANGES
) -> GuestResult:
    """Return the host's answer to what this step asks of it, asked until it comes, with what is ``shown`` meanwhile.
    Raises Wait, and what the host raised."""
    if isinstance(context.failure, errors.TryLater):
        raise Wait(min(0.5 * 2.0 ** min(context.run.attempt, 6), services.resend_after), forget=True)
    if context.failure is not None:
        raise context.failure
    if context.event is None:
        guests.check_not_fenced(context, services, command.host)
        raise Wait(services.resend_after, command=command, changes=shown)
    return context.event


# ---- there -----------------------------------------------------------------------------------------------------------
def _claim(context: StepContext, services: StepServices) -> StepResult:
    migration = _present(context)
    spec = replace(context.record.spec, flavor=migration.new_flavor)
    same_host = migration.type == MigrationType.RESIZE
    try:
        found = services.find_move(context.run, spec, migration.id, may_stay=same_host)
    except errors.TryLater as error:
        if context.run.attempt < MOST_TRIES:
            raise
        raise errors.NoValidHost(error.message or NO_HOST, detail=error.detail) from error
    told = _told(
        context,
        status=MigrationStatus.MIGRATING,
        destination=found.host,
        destination_zone=found.zone,
        destination_address=found.address,
    )
    return StepResult(changes=ServerChanges(migrations=told))


def _unclaim(context: StepContext, services: StepServices) -> StepResult:
    return StepResult(release_claim=_present(context).id)


def _set_aside(context: StepContext, services: PassiveServices) -> StepResult:
    command = guests.command_for(context, SetAside, context.step, host=_present(context).source)
    answer = _ask(context, services, command)
    return StepResult(changes=ServerChanges(power_state=answer.power_state))


def _restore(context: StepContext, services: PassiveServices) -> StepResult:
    """Have the old host put the guest back, as it was."""
    migration = _present(context)
    if context.run.cancel_requested:
        return StepResult()
    if context.failure is not None and not isinstance(context.failure, errors.TryLater):
        fault = records.fault_of(context.failure.message, context.failure.detail)
        power = context.event.power_state if context.event else PowerState.NOSTATE
        return StepResult(changes=ServerChanges(vm_state=VmState.ERROR, fault=fault, power_state=power))
    shown = NO_CHANGES
    if context.event is None and context.run.attempt > 1 and not services.is_up(migration.source):
        if services.is_fenced(migration.source):
            return _without_source(context)
        shown = records.shown_without_host(context)
    command = guests.command_for(
        context,
        MoveBack,
        context.step,
        host=migration.source,
        spec=guests.placed(replace(context.record, availability_zone=migration.source_zone)),
        running=migration.vm_state == VmState.ACTIVE,
    )
    answer = _ask(context, services, command, shown)
    vm_state = VmState.ACTIVE if answer.power_state == PowerState.RUNNING else VmState.STOPPED
    return StepResult(changes=ServerChanges(power_state=answer.power_state, vm_state=vm_state, fault=None))


def _without_source(context: StepContext) -> StepResult:
    """Leave the guest set aside on a host that nobody hears any more; of a reverted server, whose other guest
    is removed, that is an error."""
    changes = ServerChanges(power_state=PowerState.NOSTATE)
    if context.run.direction == "do":
        lost = f"Host {_present(context).source} is away, and the guest set aside on it."
        fault = records.fault_of("The server's old host was lost before the guest was back on it.", lost)
        changes = changes.followed_by(ServerChanges(vm_state=VmState.ERROR, fault=fault))
    return StepResult(changes=changes)


def _fetch(context: StepContext, services: PassiveServices) -> StepResult:
    """Have the new host fetch the disks from the old one, which first says where and by what they are had."""
    migration = _present(context)
    if context.event is not None and not context.event.error:
        return StepResult(changes=ServerChanges(migrations=_told(context, progress=100)))
    offered = f"{context.step}/offer"
    offer = context.run.events.get(offered)
    if context.failure is not None or (offer is not None and offer.error):
        failed = context.failure or errors.nearest([offer.error if offer else ""])(offer.message if offer else "")
        if not isinstance(failed, errors.TryLater):
            raise failed
        raise Wait(min(0.5 * 2.0 ** min(context.run.attempt, 6), services.resend_after), forget=True)
    for host in (migration.source, migration.destination):
        guests.check_not_fenced(context, services, host)
    stays = migration.source == migration.destination
    if offer is None and not stays:
        asked = guests.command_for(context, OfferDisks, offered, host=migration.source)
        raise Wait(services.resend_after, command=asked, answer_to=offered)
    command = guests.command_for(
        context,
        FetchDisks,
        context.step,
        host=migration.destination,
        spec=_spec_there(context),
        source=migration.source,
        offer=offer.outputs if offer else {},
    )
    raise Wait(services.resend_after, command=command)


def _spec_there(context: StepContext) -> ServerSpec:
    migration = _present(context)
    there = replace(context.record, availability_zone=migration.destination_zone)
    return replace(guests.placed(there), flavor=migration.new_flavor)


def _leave(context: StepContext, services: PassiveServices) -> StepResult:
    """Have the new host remove what it has of the server; where it is the old one too, the guest is put back over
    that."""
    migration = _present(context)
    if context.run.cancel_requested or migration.source == migration.destination:
        return StepResult()
    return guests.removed_from(context, services, migration.destination)


def _bind(context: StepContext, services: StepServices) -> StepResult:
    migration = _present(context)
    done = networks.bind(context, services, migration.destination, migration.destination_zone)
    return replace(done, changes=done.changes.followed_by(volumes.bound(context, services, migration.destination)))


def _bind_back(context: StepContext, services: StepServices) -> StepResult:
    migration = _present(context)
    if context.run.cancel_requested:
        return StepResult()
    done = networks.bind_back(context, services, migration.source, migration.source_zone)
    return replace(done, changes=done.changes.followed_by(volumes.bound(context, services, migration.source)))


def _switch(context: StepContext, services: PassiveServices) -> StepResult:
    """Give the server's record and its own claim the new host and flavor."""
    migration = _present(context)
    changes = ServerChanges(
        host=migration.destination,
        availability_zone=migration.destination_zone,
        spec=replace(context.record.spec, flavor=migration.new_flavor),
        migrations=_told(context, status=MigrationStatus.POST_MIGRATING),
    )
    return StepResult(changes=changes, swap_claims=migration.id)


def _unswitch(context: StepContext, services: PassiveServices) -> StepResult:
    if _present(context).status != MigrationStatus.POST_MIGRATING or context.run.cancel_requested:
        return StepResult()
    return _switched_back(context, status=MigrationStatus.MIGRATING)


def _switched_back(context: StepContext, **told: object) -> StepResult:
    migration = _present(context)
    changes = ServerChanges(
        host=migration.source,
        availability_zone=migration.source_zone,
        spec=replace(context.record.spec, flavor=migration.old_flavor),
        migrations=_told(context, **told),
    )
    return StepResult(changes=changes, swap_claims=migration.id)


def _arrive(context: StepContext, services: PassiveServices) -> StepResult:
    migration = _present(context)
    running = migration.vm_state == VmState.ACTIVE
    command = guests.command_for(context, Arrive, context.step, host=migration.destination, running=running)
    answer = _ask(context, services, command)
    return StepResult(changes=ServerChanges(power_state=answer.power_state))


def _settle(context: StepContext, services: PassiveServices) -> StepResult:
    changes = ServerChanges(
        vm_state=VmState.RESIZED,
        task_state=None,
        fault=None,
        launched=True,
        unconfirmed=True,
        migrations=_told(context, status=MigrationStatus.FINISHED),
    )
    return StepResult(changes=changes)


def give_up(run: LeasedRun, record: ServerRecord) -> StepResult:
    """Let the server be where and what it was before."""
    told = migrations.changed(record.migrations, status=MigrationStatus.ERROR, over_at=_over_at(run, record))
    return StepResult(changes=ServerChanges(task_state=None, migrations=told))


def _over_at(run: LeasedRun, record: ServerRecord) -> int:
    """Return the generation by which the new host has nothing more to keep: none where the old one has not said that it
    has the guest again."""
    is_back = record.vm_state != VmState.ERROR and record.power_state != PowerState.NOSTATE
    return run.generation if is_back else 0


# ---- confirmed -------------------------------------------------------------------------------------------------------
def _discard(context: StepContext, services: PassiveServices) -> StepResult:
    """Have the old host remove what it has set aside."""
    migration = _present(context)
    if context.run.cancel_requested:
        return StepResult()
    return guests.removed_from(context, services, migration.source, kind=Discard)


def _confirm_first(context: StepContext, services: PassiveServices) -> StepResult:
    """End a move that waits to be confirmed, as if it was: of a server that is put away nothing goes back."""
    migration = context.record.migration
    if migration is None:
        return StepResult()
    guests.removed_from(context, services, migration.source, kind=Discard)
    told = _told(context, status=MigrationStatus.CONFIRMED, over_at=context.run.generation)
    changes = ServerChanges(unconfirmed=False, migrations=told)
    return StepResult(changes=changes, release_claim=migration.id)


def _settle_confirmed(context: StepContext, services: PassiveServices) -> StepResult:
    """Settle the server in the state of which its guest's power tells, and release its other claim."""
    changes = ServerChanges(
        vm_state=seen_as(VmState.ACTIVE, context.record.power_state),
        task_state=None,
        unconfirmed=False,
        migrations=_told(context, status=MigrationStatus.CONFIRMED, over_at=context.run.generation),
    )
    return StepResult(changes=changes, release_claim=_present(context).id)


# ---- reverted --------------------------------------------------------------------------------------------------------
def _find_aside(context: StepContext, services: PassiveServices) -> StepResult:
    """Hear from the old host that it still has the guest, before the new one removes what may be all there is."""
    source = _present(context).source
    if source == _present(context).destination:
        return StepResult()
    if context.event is None and services.is_fenced(source):
        raise errors.Conflict("The server's old host is away, and the guest's old disks with it.", detail=source)
    _ask(context, services, guests.command_for(context, OfferDisks, context.step, host=source))
    return StepResult()


def stay_moved(run: LeasedRun, record: ServerRecord) -> StepResult:
    """Leave the server where it was moved; its move waits to be confirmed or reverted as before."""
    told = migrations.changed(record.migrations, status=MigrationStatus.FINISHED)
    return StepResult(changes=ServerChanges(task_state=None, migrations=told))


def _switch_back(context: StepContext, services: PassiveServices) -> StepResult:
    return _switched_back(context)


def _settle_reverted(context: StepContext, services: PassiveServices) -> StepResult:
    told = _told(context, status=MigrationStatus.REVERTED, over_at=_over_at(context.run, context.record))
    changes = ServerChanges(task_state=None, unconfirmed=False, migrations=told)
    return StepResult(changes=changes, release_claim=_present(context).id)


# ---- deleted ---------------------------------------------------------------------------------------------------------
def _destroy_elsewhere(context: StepContext, services: PassiveServices) -> StepResult:
    """Have the other host of a move that is not over remove all that it has of the server."""
    migration = context.record.migration
    other = migration.other_than(context.record.host) if migration else ""
    return guests.removed_from(context, services, other) if other else StepResult()


claim = Step(name="moves.claim", do=_claim, undo=_unclaim, task_state=TaskState.RESIZE_PREP)
set_aside = PassiveStep(name="moves.set_aside", do=_set_aside, undo=_restore, task_state=TaskState.RESIZE_MIGRATING)
fetch = PassiveStep(name="moves.fetch", do=_fetch, undo=_leave)
bind = Step(name="moves.bind", do=_bind, undo=_bind_back, task_state=TaskState.RESIZE_MIGRATED)
switch = PassiveStep(name="moves.switch", do=_switch, undo=_unswitch, task_state=TaskState.RESIZE_FINISH)
arrive = PassiveStep(name="moves.arrive", do=_arrive, undo=_leave)
settle = PassiveStep(name="moves.settle", do=_settle)

discard = PassiveStep(name="moves.discard", do=_discard, commit=True)
confirm_first = PassiveStep(name="moves.confirm_first", do=_confirm_first)
settle_confirmed = PassiveStep(name="moves.settle", do=_settle_confirmed)

find_aside = PassiveStep(name="moves.find_aside", do=_find_aside)
leave = PassiveStep(name="moves.leave", do=_leave, commit=True)
bind_back = Step(name="moves.bind_back", do=_bind_back)
switch_back = PassiveStep(name="moves.switch_back", do=_switch_back)
put_back = PassiveStep(name="moves.put_back", do=_restore)
settle_reverted = PassiveStep(name="moves.settle", do=_settle_reverted)

destroy_elsewhere = PassiveStep(name="moves.destroy_elsewhere", do=_destroy_elsewhere)
