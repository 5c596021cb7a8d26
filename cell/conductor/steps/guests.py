"""Steps that ask a host to do something to a guest, and wait for the result."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from cell.conductor.steps import records
from cell.conductor.workflow import PassiveServices, PassiveStep, StepContext, StepResult, Wait
from cellcloud import errors
from cellcloud.model.guest_commands import DefiningCommand, Destroy, GuestCommand, ImageCommand, Rescue
from cellcloud.model.network import Ports
from cellcloud.model.server import NO_CHANGES, ServerRecord, ServerSpec
from cellcloud.model.volume import AttachmentState
from cellcloud.server_states import TaskState

WAIT_STEP = "guests.wait"
AWAY_SECONDS = 60.0  # between two commands to a host that is known to be away; one that is back is noticed at once
LATER_TRIES = 12  # of one host that puts off what no other can do; about a minute and a half


def command_for(
    context: StepContext,
    kind: type[GuestCommand],
    answer_to: str,
    *,
    host: str = "",
    spec: ServerSpec | None = None,
    **arguments: Any,
) -> GuestCommand:
    """Make a command of the run's for a host, the server's own unless one is named, with what else its kind takes.
    Raises Conflict for a server that is on none."""
    record = context.record
    host = host or record.host or ""
    if not host:
        raise errors.Conflict(f"Instance {record.id} is on no host.")
    given: dict[str, Any] = {
        "run_id": context.run.id,
        "step": answer_to,
        "server_id": record.id,
        "generation": context.run.generation,
        "request_id": context.run.request_id,
        "host": host,
    }
    if issubclass(kind, DefiningCommand):
        given |= {"spec": spec or placed(record), "ports": plugged(record)}
    if issubclass(kind, ImageCommand) and context.run.arguments.image is not None:
        given |= {"image_id": context.run.arguments.image.id}
    if issubclass(kind, Rescue) and context.run.arguments.image is not None:
        given |= {
            "image": context.run.arguments.image,
            "spec": replace(given["spec"], admin_pass_id=context.run.arguments.admin_pass_id),
        }
    return kind(**given, **arguments)


def placed(record: ServerRecord) -> ServerSpec:
    """Return the server's spec with the zone it is in, which a config drive tells, what its root disk was made from,
    and its volumes: one that it is about to have comes by a command of its own."""
    image = record.spec.root_image or record.spec.image
    held = tuple(one for one in record.volumes if one.state != AttachmentState.ATTACHING)
    return replace(record.spec, availability_zone=record.zone or None, image=image, volumes=held)


def plugged(record: ServerRecord) -> Ports:
    """Return the ports that the server's guest has: one that it is about to have comes by a command of its own."""
    return tuple(
        one if one.change is None else replace(one, change=None) for one in record.ports if not one.is_attaching
    )


def send_command(context: StepContext, services: PassiveServices) -> StepResult:
    """Send the operation's command; the answer comes to ``guests.wait``."""
    return StepResult(command=command_for(context, context.spec.command, WAIT_STEP))


def await_result(context: StepContext, services: PassiveServices) -> StepResult:
    """Return the result of the operation's command."""
    return result_of(context, services, context.spec.command, WAIT_STEP)


def result_of(context: StepContext, services: PassiveServices, kind: type[GuestCommand], address: str) -> StepResult:
    """Return the result of a command; asked again when none came for a while, or when it is to be asked later."""
    return answered(context, services, lambda: command_for(context, kind, address))


def answered(context: StepContext, services: PassiveServices, command: Callable[[], GuestCommand]) -> StepResult:
    """As ``result_of``, of a command that takes more than the server."""
    if isinstance(context.failure, errors.TryLater):
        raise _later(context, services, context.failure)
    if context.failure is not None:
        raise context.failure
    if context.event is not None:
        return StepResult()
    check_not_fenced(context, services, context.record.host or "")
    raise Wait(services.resend_after, command=command() if context.run.attempt > 1 else None)


def ask(context: StepContext, services: PassiveServices, kind: type[GuestCommand], **arguments: Any) -> None:
    """Have the host do that with one of the guest's devices. Raises Wait until it has, and what the host raised."""
    if isinstance(context.failure, errors.TryLater):
        raise Wait(min(0.5 * 2.0 ** min(context.run.attempt, 6), services.resend_after), forget=True)
    if context.failure is not None:
        raise context.failure
    if context.event is None:
        raise Wait(services.resend_after, command=command_for(context, kind, context.step, **arguments))


def ask_to_let_go(
    context: StepContext, services: PassiveServices, kind: type[GuestCommand], **arguments: Any
) -> StepResult:
    """Have the guest let go of one of its devices: what is on a host that was fenced holds nothing any more."""
    host = context.record.host
    if host is None or (context.event is None and context.run.attempt > 1 and services.is_fenced(host)):
        return StepResult()
    ask(context, services, kind, **arguments)
    return StepResult()


def ask_back(context: StepContext, services: PassiveServices, kind: type[GuestCommand], **arguments: Any) -> StepResult:
    """Have the host take back what it may have done. A delete that follows has no need of it; one on which nothing runs
    any more, or that goes on refusing, is not waited for."""
    record = context.record
    if record.host is None or context.run.cancel_requested:
        return StepResult()
    if context.run.attempt > 1 and services.is_fenced(record.host):
        return StepResult()
    refused = context.failure is not None and not isinstance(context.failure, errors.TryLater)
    if refused and context.run.attempt > LATER_TRIES:
        return StepResult()
    if refused:
        raise Wait(services.resend_after, forget=True)
    ask(context, services, kind, **arguments)
    return StepResult()


def check_not_fenced(context: StepContext, services: PassiveServices, host: str) -> None:
    """Nothing is waited for from a host on which nothing runs any more. Raises HostRefused."""
    if context.run.attempt > 1 and services.is_fenced(host):
        raise errors.HostRefused("The server's host is out of service.", detail=f"Host {host} is forced down.")


def _later(context: StepContext, services: PassiveServices, put_off: errors.TryLater) -> Exception:
    """Have the command sent again after a while. Where another host may do it, one that puts it off for too long is as
    good as one that cannot."""
    times = context.run.outputs.put_off + 1
    if times >= LATER_TRIES and context.may_move:
        return errors.HostRefused(put_off.message, detail=put_off.detail)
    longest = min(0.5 * 2.0 ** min(times, 6), services.resend_after)
    return Wait(random.uniform(0.5, 1.0) * longest, forget=True, put_off=times)  # noqa: S311 -- spreading


def remove(context: StepContext, services: PassiveServices) -> StepResult:
    """Destroy the guest where the server is."""
    return removed_from(context, services, context.record.host) if context.record.host else StepResult()


def removed_from(
    context: StepContext, services: PassiveServices, host: str, *, kind: type[GuestCommand] = Destroy
) -> StepResult:
    """Have a host remove what it has of the server and wait until it says so, however long that takes: only it, or the
    word of an operator who fenced or removed the host, frees what the guest had. Users do not wait for a host that is
    away: what they see is the end of it already.
    """
    if context.failure is not None:
        raise Wait(min(2.0 ** min(context.run.attempt, 5), services.resend_after), forget=True)
    if context.event is not None:
        return StepResult()
    changes = NO_CHANGES
    seconds = services.resend_after
    if context.run.attempt > 1 and not services.is_up(host):
        if services.is_fenced(host):
            return StepResult()
        changes, seconds = records.shown_without_host(context), AWAY_SECONDS
    raise Wait(seconds, command=command_for(context, kind, context.step, host=host), changes=changes)


spawn = PassiveStep(name="guests.spawn", do=send_command, undo=remove, task_state=TaskState.SPAWNING)
power = PassiveStep(name="guests.power", do=send_command)
wait = PassiveStep(name=WAIT_STEP, do=await_result)
destroy = PassiveStep(name="guests.destroy", do=remove, commit=True, task_state=TaskState.DELETING)
