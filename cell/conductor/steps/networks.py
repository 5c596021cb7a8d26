"""Steps that give a server its ports and take them away."""

from __future__ import annotations

from cell.conductor.workflow import Done, Step, Turn, World
from cellcloud.lifecycle import KEEP_PORTS, TaskState


def allocate(turn: Turn, world: World) -> Done:
    """One port per requested network, bound to the server's host."""
    spec = turn.record.spec
    if spec.networks == ():
        return Done()
    ports = world.networks.ensure_ports(
        server_id=spec.id,
        project_id=spec.project_id,
        host=turn.record.host or "",
        zone=turn.record.availability_zone or "",
        hostname=spec.hostname,
        requested=spec.networks or (),
        security_groups=spec.security_groups,
        adopt=turn.run.attempt > 1 or bool(turn.tried),
    )
    return Done(changes={"ports": ports})


def release(turn: Turn, world: World) -> Done:
    """Delete the ports made for the server; those it was lent become free. Unless another cell goes on with them."""
    if turn.record.spec.networks != () and not turn.run.arguments.get(KEEP_PORTS):
        world.networks.delete_ports(turn.record.id)
    return Done(changes={"ports": ()})


allocate_ports = Step(
    name="networks.allocate_ports", do=allocate, undo=release, stays=True, task_state=TaskState.NETWORKING
)
release_ports = Step(name="networks.release_ports", do=release)
