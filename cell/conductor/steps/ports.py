"""Steps that give a server that exists a port and take it away: the network service binds it to the server's host, and
the host gives it to the guest; and back.

A port is released only once the guest has let go of it, or once nothing of the guest is left.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from cell.conductor.steps import guests, networks
from cell.conductor.workflow import PassiveServices, PassiveStep, Step, StepContext, StepResult, StepServices
from cellcloud import errors
from cellcloud.model.guest_commands import AttachPort, DetachPort
from cellcloud.model.network import Port, find_port, with_port, without_port
from cellcloud.model.server import ServerChanges

LOG = logging.getLogger(__name__)


def _own(context: StepContext) -> Port:
    """Return the port that the run is about, as the record has it now."""
    port = context.run.arguments.port
    if port is None:
        raise errors.CallHuman("The operation does not say which port it is about.")
    return find_port(context.record.ports, port.id) or port


def _changed(context: StepContext, **values: Any) -> StepResult:
    return StepResult(changes=ServerChanges(ports=with_port(context.record.ports, replace(_own(context), **values))))


def _forgotten(context: StepContext) -> StepResult:
    return StepResult(changes=ServerChanges(ports=without_port(context.record.ports, _own(context).id)))


# ---- given -----------------------------------------------------------------------------------------------------------
def _bind(context: StepContext, services: StepServices) -> StepResult:
    """Have the network service bind the port to the server's host. Raises NotFound where it is gone."""
    record = context.record
    return networks.bind(context, services, record.host or "", record.availability_zone or "", needed=_own(context).id)


def _unbind(context: StepContext, services: StepServices) -> StepResult:
    """Give the port back, unless a delete follows, which does so once the guest is gone."""
    return StepResult() if context.run.cancel_requested else _give_back(context, services)


def _attach(context: StepContext, services: PassiveServices) -> StepResult:
    if context.record.host is not None:
        guests.check_not_fenced(context, services, context.record.host)
        guests.ask(context, services, AttachPort, port=_own(context))
    return StepResult()


def _take_off(context: StepContext, services: PassiveServices) -> StepResult:
    return guests.ask_back(context, services, DetachPort, port=_own(context))


def _complete(context: StepContext, services: PassiveServices) -> StepResult:
    return _changed(context, change=None)


# ---- taken away ------------------------------------------------------------------------------------------------------
def _mark(context: StepContext, services: PassiveServices) -> StepResult:
    return StepResult()


def _unmark(context: StepContext, services: PassiveServices) -> StepResult:
    """Return the port is in use, as it was, by a guest that does not let go of it."""
    return StepResult() if context.run.cancel_requested else _changed(context, change=None)


def _detach(context: StepContext, services: PassiveServices) -> StepResult:
    return guests.ask_to_let_go(context, services, DetachPort, port=_own(context))


def _put_on(context: StepContext, services: PassiveServices) -> StepResult:
    return guests.ask_back(context, services, AttachPort, port=_own(context))


def _give_back(context: StepContext, services: StepServices) -> StepResult:
    """Delete the port if it was made for the server, or else release it. One that the network service does not let go,
    as its owner has a use for it, stays the owner's."""
    record, port = context.record, _own(context)
    try:
        services.networks.release_port(record.id, port.id, placement=record.placement)
    except errors.FixRequest as error:
        LOG.warning("port not released", extra={"server": record.id, "port": port.id, "why": error.message})
    return _forgotten(context)


bind = Step(name="ports.bind", do=_bind, undo=_unbind)
attach = PassiveStep(name="ports.attach", do=_attach, undo=_take_off)
complete = PassiveStep(name="ports.complete", do=_complete)
mark = PassiveStep(name="ports.mark", do=_mark, undo=_unmark)
detach = PassiveStep(name="ports.detach", do=_detach, undo=_put_on)
give_back = Step(name="ports.give_back", do=_give_back, commit=True)
