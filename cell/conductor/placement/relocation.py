"""Another host for a server: one whose first could not have it, or one that is to be moved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from cell.conductor.placement.claiming import PlacementRequest, Won, place
from cell.conductor.workflow import FoundHost
from cellcloud import errors
from cellcloud.context import service_context
from cellcloud.db import claims, decisions, hosts, runs, scheduler_change_log, servers
from cellcloud.db.claims import Claim
from cellcloud.db.engine import Connection, Database
from cellcloud.model.run import LeasedRun
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
        record = runs.begin_try(connection, run, claim.host) and servers.begin_try(
            connection, spec.id, run.generation, host=claim.host, zone=zone, decision=decision
        )
        if not record:
            raise errors.Stale("The lease of this run went to another conductor.", detail=run.id)
        return (record,)

    with database.read() as connection:
        newest = scheduler_change_log.get_newest(connection)
    asked = PlacementRequest(spec=spec, request_id=run.request_id, exclude=tuple(exclude))
    context = service_context(MOVE_BUDGET)
    answer = place(database, scheduler, context, [asked], store=store, at_least=newest)[spec.id]
    if answer.outcome == "later":
        raise errors.TryLater(answer.reason, detail=answer.detail)
    if answer.record is None:
        raise errors.NoValidHost(answer.reason, detail=answer.detail)
    return answer.record


def place_move(
    database: Database,
    scheduler: Scheduler,
    spec: ServerSpec,
    migration_id: str,
    *,
    request_id: str,
    exclude: Sequence[str] = (),
    same_host: bool = False,
    host: str | None = None,
    store: Callable[[Connection, Won], None] | None = None,
) -> Claim:
    """Claim room for a server where it is to be moved, beside all that it holds: the claim of its migration, which
    claims.confirm makes its own and claims.release gives up. Asked again for that migration, the same claim.

    ``spec``: the server as it is to be there, with the flavor it is resized to. ``same_host``: it may stay where it
    has its claim, and takes the room there twice. ``host``: the only one that will do. ``store``: what else the
    transaction stores. Raises NoValidHost, TryLater; Conflict when the server holds no host.
    """

    def keep(connection: Connection, won: Sequence[Won], decision: int) -> Sequence[ServerRecord]:
        for one in won:
            if store is not None:
                store(connection, one)
        return ()

    with database.read() as connection:
        newest = scheduler_change_log.get_newest(connection)
        held = {one.id: one for one in claims.list_of(connection, spec.id)}
    if migration_id in held:
        return held[migration_id]
    asked = PlacementRequest(
        spec=replace(spec, host=host),
        request_id=request_id,
        exclude=tuple(exclude) if same_host else (*exclude, *(one.host for one in held.values())),
        migration_id=migration_id,
        same_host=same_host,
    )
    answer = place(database, scheduler, service_context(MOVE_BUDGET), [asked], store=keep, at_least=newest)[
        migration_id
    ]
    if answer.outcome == "later":
        raise errors.TryLater(answer.reason, detail=answer.detail)
    if answer.outcome == "refused":
        raise errors.NoValidHost(answer.reason, detail=answer.detail)
    with database.read() as connection:
        found = {one.id: one for one in claims.list_of(connection, spec.id)}
    if migration_id not in found:
        raise errors.TryLater(f"The claim of migration {migration_id} was given back at once.")
    return found[migration_id]


def find_move(
    database: Database,
    scheduler: Scheduler,
    run: LeasedRun,
    spec: ServerSpec,
    migration_id: str,
    may_stay: bool,
    *,
    same_host: bool,
) -> FoundHost:
    """Find a host for a run's server, claimed for its migration, and where it is. ``same_host``: whether a server that
    may stay where it is may do so here. Raises as place_move does, and Stale when the run's lease went to another."""

    def check(connection: Connection, won: Won) -> None:
        if not runs.lock_leased(connection, run):
            raise errors.Stale("The lease of this run went to another conductor.", detail=run.id)

    claim = place_move(
        database,
        scheduler,
        spec,
        migration_id,
        request_id=run.request_id,
        same_host=may_stay and same_host,
        host=run.arguments.host or None,
        store=check,
    )
    with database.read() as connection:
        zone, address = hosts.find_place(connection, claim.host) or ("", "")
    return FoundHost(host=claim.host, zone=zone, address=address)
