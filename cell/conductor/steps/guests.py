"""Steps that ask a host to do something to a guest, and wait for its word."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

from cell.conductor.steps import records
from cell.conductor.workflow import Done, Step, Turn, Wait, World
from cellcloud import errors
from cellcloud.lifecycle import Operation, PowerState, TaskState
from cellcloud.model.guest import CommandKind, GuestCommand
from cellcloud.model.server import ServerRecord, ServerSpec

WAIT_STEP = "guests.wait"
AWAY_SECONDS = 60.0  # between two commands to a host that is known to be away; one that is back is noticed at once
LATER_TRIES = 12  # of one host that puts off what no other can do; about a minute and a half


def _command(turn: Turn, kind: CommandKind, answer_to: str) -> GuestCommand:
    if turn.record.host is None:
        raise errors.Conflict(f"Instance {turn.record.id} is on no host.")
    return GuestCommand(
        kind=kind,
        run_id=turn.run.id,
        step=answer_to,
        server_id=turn.record.id,
        generation=turn.run.generation,
        spec=_placed(turn.record) if kind is not CommandKind.DESTROY else None,
        ports=turn.record.ports,
        request_id=turn.run.request_id,
        host=turn.record.host,
    )


def _placed(record: ServerRecord) -> ServerSpec:
    """The server's spec with the zone it is in: a config drive tells it."""
    return replace(record.spec, availability_zone=record.zone or None)


def _kind(turn: Turn) -> CommandKind:
    if turn.run.operation == "create":
        return CommandKind.SPAWN
    if turn.run.operation == "reboot":
        hard = turn.run.arguments.get("type") == "HARD"
        return CommandKind.REBOOT_HARD if hard else CommandKind.REBOOT_SOFT
    return CommandKind.START if turn.run.operation == "start" else CommandKind.STOP


def ask(turn: Turn, world: World) -> Done:
    """Send the operation's command; the answer comes to ``guests.wait``."""
    return Done(command=_command(turn, _kind(turn), WAIT_STEP))


def hear(turn: Turn, world: World) -> Done:
    """The host's word on the operation's command; asked again when none came for a while, or when it is to be asked
    later."""
    if isinstance(turn.failure, errors.TryLater):
        raise _later(turn, world, turn.failure)
    if turn.failure is not None:
        raise turn.failure
    if turn.event is not None:
        return Done(outputs={"power_state": turn.event.get("power_state", PowerState.NOSTATE)})
    again = _command(turn, _kind(turn), WAIT_STEP) if turn.run.attempt > 1 else None
    raise Wait(world.resend_after, command=again)


def _later(turn: Turn, world: World, put_off: errors.TryLater) -> Exception:
    """The command is sent again after a while. A host that puts off the making of a guest for too long is as good as
    one that cannot."""
    times = int(turn.run.outputs.get(WAIT_STEP, {}).get("put_off", 0)) + 1
    if times >= LATER_TRIES and turn.run.operation == Operation.CREATE:
        return errors.HostRefused(put_off.message, detail=put_off.detail)
    longest = min(0.5 * 2.0 ** min(times, 6), world.resend_after)
    return Wait(random.uniform(0.5, 1.0) * longest, forget=True, outputs={"put_off": times})  # noqa: S311 -- spreading


def remove(turn: Turn, world: World) -> Done:
    """Destroy the guest and wait until its host says so, however long that takes: only its word, or that of an operator
    who fenced or removed the host, frees what the guest had. Users do not wait for a host that is away: what they see
    is the end of it already.
    """
    if turn.record.host is None:
        return Done()
    if turn.failure is not None:
        raise Wait(min(2.0 ** min(turn.run.attempt, 5), world.resend_after), forget=True)
    if turn.event is not None:
        return Done()
    changes: Mapping[str, object] = {}
    seconds = world.resend_after
    if turn.run.attempt > 1 and not world.is_up(turn.record.host):
        if world.is_fenced(turn.record.host):
            return Done()
        changes, seconds = records.shown_without_host(turn), AWAY_SECONDS
    raise Wait(seconds, command=_command(turn, CommandKind.DESTROY, turn.step), changes=changes)


spawn = Step(name="guests.spawn", do=ask, undo=remove, passive=True, task_state=TaskState.SPAWNING)
power = Step(name="guests.power", do=ask, passive=True)
wait = Step(name=WAIT_STEP, do=hear, passive=True)
destroy = Step(name="guests.destroy", do=remove, passive=True, commit=True, task_state=TaskState.DELETING)
