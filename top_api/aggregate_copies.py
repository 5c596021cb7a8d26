"""Give each cell its copy of the aggregates: at once by whoever changes them, and by the router until it has it."""

from __future__ import annotations

from dataclasses import replace

from cellcloud.batching import portions
from cellcloud.context import RequestContext, service_context
from cellcloud.db import aggregates
from cellcloud.db.engine import Database, retried
from cellcloud.model import codec
from cellcloud.model.host import Aggregate
from cellcloud.rpc.scheduling_store import SchedulingStore


def give(database: Database, cell: str, store: SchedulingStore, context: RequestContext) -> bool:
    """Bring the cell's copy up to date; whether it is. Raises what the store raises.

    A mark of the version and of the cell's incarnation says that nothing is to be done. A cell that has seen a newer
    version than there is (the top's database was put back) refuses, and is given the copy again under a newer one.
    """
    with database.read() as connection:
        given, incarnation, version = aggregates.find_given(connection, cell)
    if given == f"{version} {incarnation}" or (not version and not given):
        return True
    with database.read_as_one() as connection:
        given, incarnation, version = aggregates.find_given(connection, cell)
        wanted = [_copy(one) for one in aggregates.list_all(connection, cell=cell)]
    mark = f"{version} {incarnation}"
    there = {one.id: one for one in store.list_aggregates(context)}
    changed = [one for one in wanted if there.get(one.id) != one]
    removed = sorted(there.keys() - {one.id for one in wanted})
    answer = list(there.values())
    for some in list(portions(changed, codec.wire_size)) or ([[]] if removed else []):
        answer = store.set_aggregates(context, some, removed, version)
        removed = []
    if {one.id: one for one in answer} != {one.id: one for one in wanted}:
        _renew(database, version)
        return False
    _note(database, cell, mark)
    return True


def _copy(aggregate: Aggregate) -> Aggregate:
    return replace(aggregate, created_at=None, updated_at=None)


@retried
def _renew(database: Database, version: int) -> None:
    with database.write() as connection:
        if aggregates.version_of(connection) == version:
            aggregates.begin_change(connection, leap=True)


@retried
def _note(database: Database, cell: str, mark: str) -> None:
    with database.write() as connection:
        aggregates.note_given(connection, cell, mark)


class CopyKeeper:
    """Looks whether one cell has its copy."""

    def __init__(self, database: Database, cell: str, store: SchedulingStore, budget: float) -> None:
        self._database = database
        self._cell = cell
        self._store = store
        self._budget = budget

    def look(self) -> bool:
        """Give the cell its copy where it lacks it; whether another look is due at once."""
        return not give(self._database, self._cell, self._store, service_context(self._budget))
