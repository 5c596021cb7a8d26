"""A rebuild's question to the scheduler: whether its server may have another image on the host that it is on."""

from __future__ import annotations

from dataclasses import replace

from cell.conductor.placement.relocation import MOVE_BUDGET
from cellcloud import errors
from cellcloud.context import service_context
from cellcloud.db import decisions, runs, scheduler_change_log
from cellcloud.db.engine import Connection, Database, transact
from cellcloud.model import no_valid_host_message
from cellcloud.model.decision import DecisionBatch, Move, RankBatch, shape_of
from cellcloud.model.run import LeasedRun
from cellcloud.model.server import ServerSpec
from cellcloud.rpc.scheduler import Scheduler

NAMES = "names"  # what refuses all other hosts


def check_rebuild(database: Database, scheduler: Scheduler, run: LeasedRun, spec: ServerSpec, host: str) -> None:
    """Ask the filters that count for a rebuild about the server as it is to be on its host, and keep what they said.

    Raises NoValidHost where they refuse it, TryLater, and Stale when the run's lease went to another.
    """
    with database.read() as connection:
        newest = scheduler_change_log.get_newest(connection)
    asked = replace(spec, host=host, scheduler_hints={}, hints_id="")
    batch = RankBatch(
        shapes=(replace(shape_of(asked), alternates=0, rebuild=True),),
        servers=((run.id, 0, 0),),
        moves={run.id: Move(server_id=spec.id, same_host=True)},
        at_least=newest,
    )
    answer = scheduler.rank(service_context(MOVE_BUDGET), batch)

    def keep(connection: Connection) -> None:
        if not runs.lock_leased(connection, run):
            raise errors.Stale("The lease of this run went to another conductor.", detail=run.id)
        decision = DecisionBatch(asked=batch, answer=answer, requests=(run.request_id,), request_of=(0,))
        decisions.insert(connection, decision, [spec.id])

    transact(database, keep)
    if not answer.ranked[0]:
        reasons = [one for one in answer.reasons_of(0) if one.reason.filter != NAMES]
        told = no_valid_host_message.message(reasons, answer.malformed.get(0, ""))
        detail = "; ".join(f"{one.reason.filter}: {one.reason.text}" for one in reasons)
        raise errors.NoValidHost(told, detail=detail)
