"""Lists of the index's servers: which of them, in what order, from where on.

A page costs about the same wherever it begins and however many servers there are. What a query asks for is counted
first, by indexes and never beyond ``FEW``: the fewest are taken and sorted; where nothing is asked that few have, the
order's own index is followed until the page is full. A page that begins behind a server is the end of that server's
equals, then those behind them: a stream each, which begins in the index at its first row.
"""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from cellcloud import errors
from cellcloud.db.listing import holds, json_text
from cellcloud.db.server_index import CHUNK, RAW_RECORD, records_of
from cellcloud.db.top_schema import server_index
from cellcloud.model.server import ServerRecord
from cellcloud.server_states import VmState

FEW = 2000
"""Servers that are rather sorted than looked for in the order of them all."""
MOST_AT_ONCE = 2000  # records, of which some are kept
_FENCE = 1 << 20  # a bound that keeps a database from looking for the few in another way

_c = server_index.c
SORT_KEYS: Mapping[str, sa.ColumnElement[Any]] = {
    **{
        name: _c[name]
        for name in (
            "availability_zone", "created_at", "deleted_at", "flavor_id", "host", "hostname", "id", "image_id",
            "key_name", "launched_at", "name", "node", "power_state", "project_id", "reservation_id", "task_state",
            "updated_at", "user_id", "vm_state",
        )
    },
    # Seldom asked for, so not worth columns: read from the records of those that the list is of.
    **{
        name: sa.func.coalesce(json_text(_c.record, *path), "")
        for name, path in {
            "access_ip_v4": ("spec", "access_ip_v4"),
            "access_ip_v6": ("spec", "access_ip_v6"),
            "config_drive": ("spec", "config_drive"),
            "description": ("spec", "description"),
            "disk_config": ("spec", "disk_config"),
            "launch_index": ("spec", "launch_index"),
            "locked": ("locked",),
        }.items()
    },
}  # fmt: skip
_NEVER_CHANGING = frozenset({"created_at", "project_id", "reservation_id", "user_id"})
# Each has an index that goes on with ``created_at`` and ``id``: that of a server's states is only of those that it has.
_INDEXED = frozenset(
    {"flavor_id", "host", "image_id", "key_name", "name", "reservation_id", "task_state", "updated_at", "user_id",
     "vm_state"}
)  # fmt: skip
_OF_PROJECT = frozenset({"created_at", "name", "updated_at"})  # orders that a project's servers have an index in


class unindexed(FunctionElement[Any]):
    """A column as it is, by no index."""

    inherit_cache = True
    name = "unindexed"

    def __init__(self, column: sa.ColumnElement[Any]) -> None:
        super().__init__(column)
        self.type = column.type


@compiles(unindexed)
def _plain(element: Any, compiler: Any, **kw: Any) -> str:
    return str(compiler.process(element.clauses, **kw))


@compiles(unindexed, "sqlite")
def _unary(element: Any, compiler: Any, **kw: Any) -> str:
    return f"+{compiler.process(element.clauses, **kw)}"


@compiles(unindexed, "mysql")
@compiles(unindexed, "mariadb")
def _of_one(element: Any, compiler: Any, **kw: Any) -> str:
    return f"COALESCE({compiler.process(element.clauses, **kw)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerQuery:
    """Which servers, in what order, how many.

    ``project_id`` None: every project. ``equal``: column -> values, any of which will do. ``containing``: column ->
    texts found anywhere in it, without regard to case. ``states``: (vm state, task state) pairs; a task state of None
    stands for any but those that ``task_states_apart`` has for that vm state. ``keep`` is asked about each record
    for what no column says. ``deleted`` None: both kinds. ``soft_deleted``: whether those that wait for their reclaim
    are among what is asked for. ``sort``: (key, descending); no value comes before every value.
    """

    project_id: str | None
    equal: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    containing: Mapping[str, Sequence[str]] = field(default_factory=dict)
    states: Sequence[tuple[str, str | None]] | None = None
    task_states_apart: Mapping[str, Collection[str]] = field(default_factory=dict)
    changed_since: dt.datetime | None = None
    changed_before: dt.datetime | None = None
    deleted: bool | None = False
    soft_deleted: bool = False
    keep: Callable[[ServerRecord], bool] | None = None
    sort: Sequence[tuple[str, bool]] = (("created_at", True), ("id", True))
    limit: int = 1000
    marker: str | None = None

    @property
    def order(self) -> Sequence[tuple[str, bool]]:
        """What sorts the servers, up to the id: no two have the same."""
        unique = next((place for place, (key, _) in enumerate(self.sort) if key == "id"), len(self.sort))
        return self.sort[: unique + 1]

    @property
    def is_steady(self) -> bool:
        """Whether no server ever changes its place in that order."""
        return all(key in _NEVER_CHANGING for key, _ in self.order if key != "id")


Conditions = list[sa.ColumnElement[bool]]


# ---- what is asked for -----------------------------------------------------------------------------------------------
def list_records(connection: Connection, query: ServerQuery) -> list[ServerRecord]:
    """One page. Raises NotFound for a marker that is no such server."""
    after = None if query.marker is None else _position_of(connection, query)
    few = find_few(connection, query, FEW)
    found: list[ServerRecord] = []
    size = query.limit
    while len(found) < query.limit:
        rows = connection.execute(page_of(query, few, after, size)).all()
        records = records_of(connection, rows)
        found.extend(record for record in records if query.keep is None or query.keep(record))
        if query.keep is None or len(rows) < size:
            break
        after, size = tuple(rows[-1])[2:], min(4 * size, MOST_AT_ONCE)
    return found[: query.limit]


def list_ids(connection: Connection, query: ServerQuery, most: int) -> list[str] | None:
    """Return the ids of a whole list in its order, but for what ``keep`` would leave out. None: they may be more than
    so many."""
    few = find_few(connection, query, most)
    if few is None and not _is_short(connection, query, most):
        return None
    ids = _ids(query, few, None, most + 1).subquery("page")
    found = list(connection.execute(_in_order(sa.select(ids.c.id), ids, query)).scalars())
    return found if len(found) <= most else None


def list_of(connection: Connection, query: ServerQuery, ids: Sequence[str]) -> list[ServerRecord]:
    """One page of these servers in their order, without those that the query does not ask for, or not any more."""
    found: list[ServerRecord] = []
    size = query.limit if query.keep is None else max(query.limit, CHUNK)
    wanted = [*_conditions(query), *_life(query)]
    for start in range(0, len(ids), max(size, 1)):
        some = ids[start : start + size]
        rows = sa.select(_c.cell, RAW_RECORD).where(_c.id.in_(some), *wanted)
        records = {record.id: record for record in records_of(connection, connection.execute(rows).all())}
        found += [r for one in some if (r := records.get(one)) and (query.keep is None or query.keep(r))]
        if len(found) >= query.limit:
            break
    return found[: query.limit]


# ---- by what they are looked for -------------------------------------------------------------------------------------
def find_few(connection: Connection, query: ServerQuery, most: int) -> sa.ColumnElement[bool] | None:
    """Return the condition that the fewest servers meet. None: the order is rather followed, as more than ``most``
    meet each of them, or there is none."""
    if _leads(query):
        return None
    if ways := _ways(query):
        counts = connection.execute(sa.select(*(_count(way, most + 1) for way in ways))).one()
        least = min(range(len(ways)), key=lambda place: counts[place])
        if counts[least] <= most:
            return ways[least]
    if "name" not in query.containing:
        return None
    named = [*_of_project(query), *_containing("name", query.containing["name"])]
    ids = connection.execute(sa.select(_c.id).where(*named).limit(FEW + 1)).scalars().all()
    return _c.id.in_(ids) if len(ids) <= FEW else None


def _leads(query: ServerQuery) -> bool:
    """Whether one value is all that is asked for, whose index goes on in the order asked for."""
    values = [list(values) for name, values in query.equal.items() if name in _INDEXED]
    if query.states is not None:
        values.append(list({vm for vm, _ in query.states}))
    rest = (query.project_id, query.changed_since, query.changed_before, query.containing or None, query.keep)
    with_task = any(task for _, task in query.states or ())
    one = len(values) == 1 and len(values[0]) == 1 and len(query.equal) + (query.states is not None) == 1
    return one and not with_task and query.order[0][0] == "created_at" and all(other is None for other in rest)


def _ways(query: ServerQuery) -> Conditions:
    """Conditions that an index answers."""
    found = [_is_one_of(name, values) for name, values in query.equal.items() if name in _INDEXED or name == "id"]
    if query.changed_since is not None or query.changed_before is not None:
        found.append(sa.and_(*_of_project(query), *_changed(query, _c.updated_at)))
    if query.states is not None:
        found.append(_state_column(query))
    if found or query.order[0][0] not in _OF_PROJECT:
        found += _of_project(query)
    return found


def _of_project(query: ServerQuery) -> Conditions:
    return [] if query.project_id is None else [_c.project_id == query.project_id]


def _is_one_of(name: str, values: Sequence[Any]) -> sa.ColumnElement[bool]:
    return _c[name] == values[0] if len(values) == 1 else _c[name].in_(values)


def _state_column(query: ServerQuery) -> sa.ColumnElement[bool]:
    """Return what the states asked for have in common: the tasks, which few servers have, or the vm states."""
    pairs = query.states or ()
    tasks = {task for _, task in pairs}
    name, values = ("vm_state", {vm for vm, _ in pairs}) if None in tasks else ("task_state", tasks)
    return _is_one_of(name, sorted(value for value in values if value))


def _count(condition: sa.ColumnElement[bool], most: int) -> sa.ScalarSelect[int]:
    some = sa.select(sa.literal(1).label("one")).select_from(server_index).where(condition).limit(most).subquery()
    return sa.select(sa.func.count()).select_from(some).scalar_subquery()


def _is_short(connection: Connection, query: ServerQuery, most: int) -> bool:
    """Whether the project, or the whole index, has no more servers than that of the kind asked for, deleted or not."""
    mine = _of_project(query)
    if query.deleted is not None:
        mine.append(_is_gone(query.deleted))
    return connection.execute(sa.select(_count(sa.and_(sa.true(), *mine), most + 1))).scalar_one() <= most


# ---- one page --------------------------------------------------------------------------------------------------------
def page_of(
    query: ServerQuery, few: sa.ColumnElement[bool] | None, after: Sequence[Any] | None, size: int
) -> sa.Select[Any]:
    """Return the query of a page: records are read of those that are on it, and of no other. ``few``: what
    ``find_few`` found."""
    ids = _ids(query, few, after, size).subquery("page")
    columns = (_c.cell, RAW_RECORD, *(ids.c[f"sort_{place}"] for place in range(len(query.order))))
    return _in_order(sa.select(*columns).join_from(ids, server_index, _c.id == ids.c.id), ids, query)


def _in_order(statement: sa.Select[Any], ids: sa.Subquery, query: ServerQuery) -> sa.Select[Any]:
    ranks = [(ids.c[f"sort_{place}"], descending) for place, (_, descending) in enumerate(query.order)]
    return statement.order_by(ids.c.stream, *(rank.desc() if descending else rank.asc() for rank, descending in ranks))


def _ids(
    query: ServerQuery, few: sa.ColumnElement[bool] | None, after: Sequence[Any] | None, size: int
) -> sa.Select[Any]:
    """(id, stream, sort keys) of the servers of a page: the first ``size`` of all streams."""
    parts = parts_of(query, few, after, size)
    if len(parts) == 1:
        return parts[0]
    joined = sa.union_all(*(sa.select(part.subquery()) for part in parts)).subquery("streams")
    return _in_order(sa.select(joined), joined, query).limit(size)


def parts_of(
    query: ServerQuery, few: sa.ColumnElement[bool] | None, after: Sequence[Any] | None, size: int
) -> list[sa.Select[Any]]:
    """Return the first ``size`` of each stream: without ``few`` each is read from an index in its order."""
    ranks = _ranks(query)
    keys = [rank.label(f"sort_{place}") for place, rank in enumerate(ranks)]
    order = [rank.desc() if down else rank.asc() for rank, (_, down) in zip(ranks, query.order, strict=True)]
    wanted = sa.select(_c.id, *keys)
    if few is not None:
        some = sa.select(_c.id).where(few).limit(_FENCE).subquery("few")
        wanted = wanted.join_from(some, server_index, _c.id == some.c.id)
    lives = [_life(query)] if few is not None else _lives(query)
    scope = _scope(query, followed=few is None)
    return [
        wanted.add_columns(sa.literal(number).label("stream"))
        .where(*scope, *life, *stream)
        .order_by(*order[alike:])
        .limit(size)
        for number, (stream, alike) in enumerate(_streams(query, ranks, after))
        for life in lives
    ]


def _ranks(query: ServerQuery) -> list[sa.ColumnElement[Any]]:
    """Return what servers are sorted by. Of the first key no value is a stream of its own; of others it is an
    empty text, or the time when the server was accepted."""
    first, *others = (SORT_KEYS[key] for key, _ in query.order)
    return [first, *(_with_value(each) for each in others)]


def _with_value(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    if not isinstance(column, sa.Column) or not column.nullable:
        return column
    if isinstance(column.type, sa.String):
        return sa.func.coalesce(column, "")
    return sa.func.coalesce(column, _c.created_at)


def _streams(
    query: ServerQuery, ranks: Sequence[sa.ColumnElement[Any]], after: Sequence[Any] | None
) -> Iterator[tuple[Conditions, int]]:
    """Yield what comes behind a position, in order: those equal in all but the last key, in all but the last two, and
    on. With each, how many keys are alike in all of it: MariaDB would sort by them."""
    (_, down), first = query.order[0], ranks[0]
    may_be_absent = isinstance(first, sa.Column) and bool(first.nullable)
    if after is None:
        halves: list[tuple[Conditions, int]] = [([first.is_(None)], 1), ([first.is_not(None)], 0)]
        yield from (halves[::-1] if down else halves) if may_be_absent else [([], 0)]
        return
    for place in range(len(ranks) - 1, -1, -1):
        equals = zip(ranks[:place], after, strict=False)
        same = [rank.is_(None) if value is None else rank == value for rank, value in equals]
        if place or after[0] is not None:
            beyond = ranks[place] < after[place] if query.order[place][1] else ranks[place] > after[place]
            yield [*same, beyond], place
    if may_be_absent and (after[0] is None) is not down:
        yield ([first.is_(None)], 1) if down else ([first.is_not(None)], 0)


def _lives(query: ServerQuery) -> list[Conditions]:
    """Kinds of servers, all of ``_life`` together: where the order of acceptance is followed, each has one."""
    first = query.order[0][0]
    if first != "created_at":
        return [_life(query, unindexed(_c.deleted))]
    if query.deleted is False:
        return [_life(query)]
    gone, living = [_is_gone(True)], [_is_gone(False)]
    if query.deleted is None:
        return [gone, living]
    return [gone, [*living, _c.vm_state == VmState.SOFT_DELETED]] if query.soft_deleted else [gone]


def _life(query: ServerQuery, column: sa.ColumnElement[bool] = _c.deleted) -> Conditions:
    """Source: Nova's filters ``deleted`` and ``soft_deleted``."""
    if query.deleted is None:
        return []
    gone, waits = _is_gone(query.deleted, column), _c.vm_state == VmState.SOFT_DELETED
    if query.deleted:
        return [sa.or_(gone, waits) if query.soft_deleted else gone]
    return [gone] if query.soft_deleted else [gone, _c.vm_state != VmState.SOFT_DELETED]


def _is_gone(deleted: bool, column: sa.ColumnElement[bool] = _c.deleted) -> sa.ColumnElement[bool]:
    """As a comparison: MariaDB looks for no truth value by ``IS``."""
    return column == (sa.true() if deleted else sa.false())


def _scope(query: ServerQuery, *, followed: bool) -> Conditions:
    """``followed``: the order is, so that nothing but what it is an order of is to be looked for by an index."""
    if not followed:
        return _conditions(query)
    found: Conditions = []
    first = query.order[0][0]
    if query.project_id is not None:
        project = _c.project_id if first in _OF_PROJECT else unindexed(_c.project_id)
        found.append(project == query.project_id)
    leading = [name for name, values in query.equal.items() if name in _INDEXED and len(values) == 1]
    if query.states is not None and len(query.states) == 1:
        leading.append("vm_state")
    plain = set(leading[:1]) if first == "created_at" and query.project_id is None else set()
    column = functools.partial(_column_but, plain)
    return found + _conditions(query, without_project=True, column=column)


def _column_but(plain: Collection[str], name: str) -> sa.ColumnElement[Any]:
    return _c[name] if name in plain else unindexed(_c[name])


def _plain_column(name: str) -> sa.ColumnElement[Any]:
    return _c[name]


def _conditions(
    query: ServerQuery,
    *,
    without_project: bool = False,
    column: Callable[[str], sa.ColumnElement[Any]] = _plain_column,
) -> Conditions:
    wanted: Conditions = []
    if query.project_id is not None and not without_project:
        wanted.append(column("project_id") == query.project_id)
    wanted += _changed(query, column("updated_at"))
    for name, values in query.equal.items():
        wanted.append(column(name) == values[0] if len(values) == 1 else column(name).in_(values))
    for name, texts in query.containing.items():
        wanted += _containing(name, texts)
    if query.states is not None:
        wanted.append(sa.or_(sa.false(), *(_in_state(query, column, *pair) for pair in query.states)))
    return wanted


def _containing(name: str, texts: Sequence[str]) -> Conditions:
    return [holds(sa.func.lower(_c[name]), sa.literal(text.lower(), sa.Text)) for text in texts if text]


def _changed(query: ServerQuery, at: sa.ColumnElement[Any]) -> Conditions:
    since, before = query.changed_since, query.changed_before
    return [*([at >= since] if since is not None else []), *([at <= before] if before is not None else [])]


def _in_state(
    query: ServerQuery, column: Callable[[str], sa.ColumnElement[Any]], vm_state: str, task_state: str | None
) -> sa.ColumnElement[bool]:
    vm, task = column("vm_state") == vm_state, column("task_state")
    if task_state is not None:
        return sa.and_(vm, task == task_state)
    apart = query.task_states_apart.get(vm_state)
    return sa.and_(vm, sa.or_(task.is_(None), task.not_in(apart))) if apart else vm


def _position_of(connection: Connection, query: ServerQuery) -> Sequence[Any]:
    mine = [_c.id == query.marker]
    if query.project_id is not None:
        mine.append(_c.project_id == query.project_id)
    row: Row[Any] | None = connection.execute(sa.select(*_ranks(query)).where(*mine)).one_or_none()
    if row is None:
        raise errors.NotFound(f"marker [{query.marker}] not found")
    return tuple(row)
