"""Another host for a server whose first could not have it."""

from __future__ import annotations

from collections.abc import Sequence

from cell.conductor.placement.claiming import PlacementRequest, Won, place
from cellcloud import errors
from cellcloud.context import service_context
from cellcloud.db import changes, decisions, runs, servers
from cellcloud.db.engine import Connection, Database
from cellcloud.db.runs import LeasedRun
from cellcloud.model.server import ServerRecord, ServerSpec
from cellcloud.rpc.scheduler import Scheduler

MOVE_BUDGET = 8.0  # seconds a scheduler has to name another host


def place_elsewhere(
    database: Database, scheduler: Scheduler, run: LeasedRun, spec: ServerSpec, exclude: Sequence[str]
) -> ServerRecord:
    """Claim another host for a run's server, which holds none; the record with that host and the next generation.

    Raises NoValidHost, TryLater, and Stale when the run's lease went to another.
    """

    def store(connection: Connection, won: Sequence[Won], decision: int) -> Sequence[ServerRecord]:
        if not won:
            return ()
        ((_, claim, zone),) = won
        decisions.keep_last(connection, spec.id)
        changed = {"host": claim.host, "availability_zone": zone, "decision": decision}
        record = runs.begin_try(connection, run) and servers.begin_try(connection, spec.id, run.generation, changed)
        if not record:
            raise errors.Stale("The lease of this run went to another conductor.", detail=run.id)
        return (record,)

    with database.read() as connection:
        newest = changes.get_newest(connection)
    asked = PlacementRequest(spec=spec, request_id=run.request_id, exclude=tuple(exclude))
    context = service_context(MOVE_BUDGET)
    answer = place(database, scheduler, context, [asked], store=store, at_least=newest)[spec.id]
    if answer.outcome == "later":
        raise errors.TryLater(answer.reason, detail=answer.detail)
    if answer.record is None:
        raise errors.NoValidHost(answer.reason, detail=answer.detail)
    return answer.record
