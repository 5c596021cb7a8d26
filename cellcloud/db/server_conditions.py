"""What a list of the index's servers asks for, and its conditions."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from cellcloud.db import server_terms
from cellcloud.db.listing import json_text
from cellcloud.db.text_patterns import escaped, has_text
from cellcloud.db.top_schema import server_index
from cellcloud.model.server import ServerRecord
from cellcloud.server_states import VmState

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
# Each has an index that goes on with ``created_at``, ``id`` and the project; that of tasks, without it, is only of the
# servers that have one.
INDEXED = frozenset(
    {"availability_zone", "flavor_id", "host", "hostname", "image_id", "key_name", "launched_at", "name", "node",
     "power_state", "reservation_id", "task_state", "updated_at", "user_id", "vm_state"}
)  # fmt: skip
OF_PROJECT = frozenset(
    {"created_at", "key_name", "name", "updated_at", "user_id"}
)  # orders that a project's servers have an index in
BY_KIND = frozenset(
    {"created_at", "deleted_at", "project_id"}
)  # orders that servers of each kind, deleted or not, have an index in
SELDOM = frozenset({"deleted_at", "task_state"})  # what most servers have no value of
SECOND = dt.timedelta(seconds=1)
OTHER = "_apart"  # behind the name of a value that is given later: that of another one, which no row has


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


class computed(unindexed):
    """The same, and by no index of PostgreSQL either, which knows too little of how few others are to be looked at."""

    inherit_cache = True
    name = "computed"


@compiles(computed)
@compiles(computed, "sqlite")
@compiles(computed, "mysql")
@compiles(computed, "mariadb")
def _as_unindexed(element: Any, compiler: Any, **kw: Any) -> str:
    return str(compiler.process(unindexed(*element.clauses), **kw))


@compiles(computed, "postgresql")
def _coalesced(element: Any, compiler: Any, **kw: Any) -> str:
    return f"COALESCE({compiler.process(element.clauses, **kw)})"


class is_same(FunctionElement[Any]):
    """Whether a column, by which the rows are ordered too, has a value."""

    type = sa.types.NullType()  # else it would be compared with true, and no index be looked into
    inherit_cache = True
    name = "is_same"

    def __init__(self, column: sa.ColumnElement[Any], value: Any) -> None:
        if isinstance(value, sa.BindParameter):
            super().__init__(column, value, sa.bindparam(f"{value.key}{OTHER}", type_=value.type))
            return
        another = f"{value}\x01" if isinstance(value, str) else 2 if value in (0, 1) else value
        as_it_is = sa.Integer() if isinstance(column.type, sa.Boolean) else column.type
        super().__init__(column, sa.literal(value, column.type), sa.literal(another, as_it_is))


@compiles(is_same)
def _equals(element: Any, compiler: Any, **kw: Any) -> str:
    column, value, _ = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"({column} = {value})"


@compiles(is_same, "mysql")
@compiles(is_same, "mariadb")
def _is_one_of_two(element: Any, compiler: Any, **kw: Any) -> str:
    """Of an equality MariaDB reads every row, though a range of the next column is asked for; of two values, the other
    one of which no row has, it reads the ranges."""
    column, value, another = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"({column} IN ({value}, {another}))"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerQuery:
    """Which servers, in what order, how many.

    ``project_id`` None: every project. ``equal``: column -> values, any of which will do. ``containing``: column ->
    ASCII texts found anywhere in it, without regard to case. ``seconds``: column -> times, in the second that begins
    with any of which it is. ``terms``: one at least of each of these sets of terms; ``lacking``: not all of each.
    ``states``: (vm state, task state) pairs; a task state of None
    stands for any but those that ``task_states_apart`` has for that vm state. ``keep`` is asked about each record
    for what no column says. ``deleted`` None: both kinds. ``soft_deleted``: whether those that wait for their reclaim
    are among what is asked for. ``sort``: (key, descending); no value comes before every value.
    """

    project_id: str | None
    equal: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    containing: Mapping[str, Sequence[str]] = field(default_factory=dict)
    seconds: Mapping[str, Sequence[dt.datetime]] = field(default_factory=dict)
    terms: Sequence[Collection[str]] = ()
    lacking: Sequence[Collection[str]] = ()
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
        """What sorts the servers, up to the id: no two have the same. What they all have alike does not."""
        alike = {name for name, values in self.equal.items() if len(values) == 1}
        alike |= set() if self.project_id is None else {"project_id"}
        sort = [(key, descending) for key, descending in self.sort if key == "id" or key not in alike]
        unique = next((place for place, (key, _) in enumerate(sort) if key == "id"), len(sort))
        return sort[: unique + 1]

    @property
    def is_steady(self) -> bool:
        """Whether no server ever changes its place in that order."""
        return all(key in _NEVER_CHANGING for key, _ in self.order if key != "id")


Conditions = list[sa.ColumnElement[bool]]


def leading_key(query: ServerQuery, *, absent: bool) -> str:
    """Return what the index is to be in the order of. ``absent``: of servers that have no value of the first key."""
    keys = [key for key, _ in query.order]
    return keys[1] if absent and keys[0] in SELDOM else keys[0]


def kinds(query: ServerQuery) -> list[tuple[bool, Conditions]]:
    """Return (deleted, what else they are) of each kind of servers, all of ``life`` together with those that wait for
    their reclaim, where these are asked for as deleted ones."""
    if query.deleted is None:
        return [(True, []), (False, [])]
    if query.deleted:
        return [(True, [])]
    return [(False, [] if query.soft_deleted else [sa.not_(unindexed(_c.vm_state) == VmState.SOFT_DELETED)])]


def life(query: ServerQuery, column: sa.ColumnElement[bool] = _c.deleted) -> Conditions:
    """Source: Nova's filters ``deleted`` and ``soft_deleted``."""
    if query.deleted is None:
        return []
    gone, waits = is_gone(query.deleted, column), _c.vm_state == VmState.SOFT_DELETED
    if query.deleted:
        return [sa.or_(gone, waits) if query.soft_deleted else gone]
    return [gone] if query.soft_deleted else [gone, _c.vm_state != VmState.SOFT_DELETED]


def is_gone(deleted: bool, column: sa.ColumnElement[bool] = _c.deleted) -> sa.ColumnElement[bool]:
    """As a comparison: MariaDB looks for no truth value by ``IS``."""
    return column == (sa.true() if deleted else sa.false())


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """Servers that an index has in an order. ``within``: what it is looked into for, by its first columns, which are
    ``alike``. ``others``: what the servers must be besides."""

    within: Conditions
    alike: Sequence[sa.Column[Any]]
    others: Conditions


def followed(query: ServerQuery, leading: str) -> Iterator[Followed]:
    """Yield the servers that an index has in the order of ``leading``: together all that are asked for."""
    project = {} if query.project_id is None else {"project_id": query.project_id}
    if leading in BY_KIND and not (one := _single_value(query, leading)):
        within: dict[str, Any] = project if leading == "created_at" else {}
        others = conditions(query, column=functools.partial(column_but, ()), but=within)
        for deleted, also in kinds(query):
            yield _followed({"deleted": deleted, **within}, [*others, *also])
        if query.deleted and query.soft_deleted:  # few, which are not looked for among all that are not deleted
            others = [
                *conditions(query, column=functools.partial(column_but, ())),
                is_gone(False, unindexed(_c.deleted)),
            ]
            yield _followed({"vm_state": VmState.SOFT_DELETED.value}, others)
        return
    within = one if leading in BY_KIND else project if leading in OF_PROJECT else {}
    others = conditions(query, column=functools.partial(column_but, ()), but=within)
    yield _followed(within, [*others, *life(query, unindexed(_c.deleted))])


def _followed(within: Mapping[str, Any], others: Conditions) -> Followed:
    columns = [_c[name] for name in within]
    return Followed(within=[is_same(_c[name], value) for name, value in within.items()], alike=columns, others=others)


def _single_value(query: ServerQuery, leading: str) -> dict[str, Any]:
    """Return the column and value of the servers of all projects whose index goes on in the order of acceptance."""
    if leading != "created_at" or query.project_id is not None:
        return {}
    for name, values in query.equal.items():
        if name in INDEXED and len(values) == 1:
            return {name: values[0]}
    return {"vm_state": query.states[0][0]} if query.states is not None and len(query.states) == 1 else {}


def column_but(plain: Collection[str], name: str) -> sa.ColumnElement[Any]:
    """Return a column, by no index but where it is one of these."""
    return _c[name] if name in plain else unindexed(_c[name])


def computed_but(plain: Collection[str], name: str) -> sa.ColumnElement[Any]:
    """As ``column_but``, by no index of any database."""
    return _c[name] if name in plain else computed(_c[name])


def _plain_column(name: str) -> sa.ColumnElement[Any]:
    return _c[name]


def conditions(
    query: ServerQuery,
    *,
    but: Collection[str] = (),
    column: Callable[[str], sa.ColumnElement[Any]] = _plain_column,
) -> Conditions:
    wanted: Conditions = []
    if query.project_id is not None and "project_id" not in but:
        wanted.append(column("project_id") == query.project_id)
    wanted += changed(query, column("updated_at"))
    for name, values in query.equal.items():
        wanted.append(column(name) == values[0] if len(values) == 1 else column(name).in_(values))
    for name, texts in query.containing.items():
        wanted += containing(name, texts)
    for name, times in query.seconds.items():
        wanted.append(in_seconds(column(name), times))
    wanted += server_terms.meets(query.terms, query.lacking)
    if query.states is not None:
        wanted.append(sa.or_(sa.false(), *(_in_state(query, column, *pair) for pair in query.states)))
    return wanted


def containing(name: str, texts: Sequence[str]) -> Conditions:
    """Return whether a column has all of the texts in it."""
    return [has_text(_c[name], sa.literal(f"%{escaped(text.lower())}%")) for text in texts if text]


def in_seconds(column: sa.ColumnElement[Any], times: Sequence[dt.datetime]) -> sa.ColumnElement[bool]:
    """Return whether a time is in a second that begins with one of these."""
    return sa.or_(sa.false(), *(sa.and_(column >= at, column < at + SECOND) for at in times))


def changed(query: ServerQuery, at: sa.ColumnElement[Any]) -> Conditions:
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
