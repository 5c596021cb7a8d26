"""Steps that give a server its ports and take them away."""

from __future__ import annotations

import logging

from cell.conductor.workflow import Step, StepContext, StepResult, StepServices
from cellcloud import errors
from cellcloud.model.network import as_known, find_port
from cellcloud.model.server import ServerChanges

LOG = logging.getLogger(__name__)


def allocate(context: StepContext, services: StepServices) -> StepResult:
    """One port per requested network, bound to the server's host."""
    record = context.record
    outputs = context.run.outputs
    before = context.run.attempt > 1 or bool(outputs.tried) or outputs.put_back or record.placement > 0
    return bind(context, services, record.host or "", record.availability_zone or "", adopt=before, anew=True)


def bind(
    context: StepContext,
    services: StepServices,
    host: str,
    zone: str,
    *,
    adopt: bool = True,
    anew: bool = False,
    needed: str = "",
) -> StepResult:
    """Bind the server's ports to that host. ``adopt``: there may be some already. ``anew``: one for each network that
    was requested is made where there is none. ``needed``: the port without which there is nothing to do: raises
    NotFound."""
    spec, known = context.record.spec, context.record.ports
    if spec.networks == () and not known:
        return StepResult()
    ports = services.networks.ensure_ports(
        server_id=spec.id,
        project_id=spec.project_id,
        host=host,
        zone=zone,
        hostname=spec.hostname,
        requested=spec.networks or (),
        security_groups=spec.security_groups,
        adopt=adopt,
        anew=anew,
        placement=context.record.placement,
    )
    if needed and find_port(ports, needed) is None:
        raise errors.NotFound(f"Port {needed} could not be found.")
    return StepResult(changes=ServerChanges(ports=ports if anew else as_known(ports, known)))


def bind_back(context: StepContext, services: StepServices, host: str, zone: str) -> StepResult:
    """As ``bind``, where there is no other way: what the network service refuses holds the server up no more. Its ports
    stay as they are; or another cell has them, and this one is about to be told to delete it."""
    try:
        return bind(context, services, host, zone)
    except errors.FixRequest as error:
        LOG.warning("ports not bound", extra={"server": context.record.id, "host": host, "why": error.message})
        return StepResult()


def release(context: StepContext, services: StepServices) -> StepResult:
    """Delete the ports made for the server; those it was lent become free. Unless another cell goes on with them. One
    that the network service does not let go, as its owner has a use for it, stays the owner's."""
    record = context.record
    if (record.spec.networks != () or record.ports) and not context.run.arguments.keep_ports:
        try:
            services.networks.delete_ports(record.id, placement=record.placement)
        except errors.FixRequest as error:
            LOG.warning("ports not released", extra={"server": record.id, "why": error.message})
    return StepResult(changes=ServerChanges(ports=()))


release_ports = Step(name="networks.release_ports", do=release)
