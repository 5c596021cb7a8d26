"""Steps that give a server a host."""

from __future__ import annotations

from cell.conductor.workflow import Done, Turn, World


def find_another(turn: Turn, world: World) -> Done:
    """Claim a host that was not tried yet, unless an earlier attempt has. Raises NoValidHost."""
    record = turn.record
    if record.host is None:
        record = world.find_host(turn.run, record.spec, [one["host"] for one in turn.tried])
    return Done(moved=record)
