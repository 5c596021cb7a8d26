"""Steps that give a server its ports and take them away."""

from __future__ import annotations

from cell.conductor.workflow import Step, StepContext, StepResult, StepServices
from cellcloud.model.server import ServerChanges
from cellcloud.server_states import TaskState


def allocate(context: StepContext, services: StepServices) -> StepResult:
    """One port per requested network, bound to the server's host."""
    record = context.record
    before = context.run.attempt > 1 or bool(context.run.outputs.tried) or record.placement > 0
    return bind(context, services, record.host or "", record.availability_zone or "", adopt=before)


def bind(context: StepContext, services: StepServices, host: str, zone: str, *, adopt: bool = True) -> StepResult:
    """One port per requested network, bound to that host. ``adopt``: there may be some already."""
    spec = context.record.spec
    if spec.networks == ():
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
        placement=context.record.placement,
    )
    return StepResult(changes=ServerChanges(ports=ports))


def release(context: StepContext, services: StepServices) -> StepResult:
    """Delete the ports made for the server; those it was lent become free. Unless another cell goes on with them."""
    if context.record.spec.networks != () and not context.run.arguments.keep_ports:
        services.networks.delete_ports(context.record.id, placement=context.record.placement)
    return StepResult(changes=ServerChanges(ports=()))


allocate_ports = Step(
    name="networks.allocate_ports", do=allocate, undo=release, stays=True, task_state=TaskState.NETWORKING
)
release_ports = Step(name="networks.release_ports", do=release)
