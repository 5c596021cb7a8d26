"""Servers of the index that a list is rather looked for among than in the order of them all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud.db import server_terms
from cellcloud.db.kept_statements import built_once, values_of
from cellcloud.db.server_conditions import (
    INDEXED,
    OF_PROJECT,
    SELDOM,
    Conditions,
    ServerQuery,
    changed,
    containing,
    in_seconds,
    is_gone,
    unindexed,
)
from cellcloud.db.top_schema import server_index

_c = server_index.c
LOOKED_THROUGH = 20_000
"""Rows of an index that are looked through for a project's."""
Ids = sa.Select[Any] | sa.CompoundSelect[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidates:
    """Servers among which those asked for are. ``condition``: what the index says of them, by these of its ``columns``;
    None where it does not. ``narrowed``: that condition without the project, where the index has the project behind its
    other columns."""

    ids: Ids
    condition: sa.ColumnElement[bool] | None = None
    columns: frozenset[str] = frozenset()
    narrowed: sa.ColumnElement[bool] | None = None

    @property
    def are_known(self) -> bool:
        """Whether they are told by their ids, which others that are asked for do not share."""
        return "id" in self.columns


def leads(query: ServerQuery) -> bool:
    """Return whether one value is all that is asked for, whose index goes on in the order asked for."""
    values = [list(values) for name, values in query.equal.items() if name in INDEXED]
    if query.states is not None:
        values.append(list({vm for vm, _ in query.states}))
    rest = (query.project_id, query.changed_since, query.changed_before, query.keep)
    others = (query.containing, query.seconds, query.terms, query.lacking)
    with_task = any(task for _, task in query.states or ())
    one = len(values) == 1 and len(values[0]) == 1 and len(query.equal) + (query.states is not None) == 1
    alone = all(other is None for other in rest) and not any(others)
    return one and not with_task and query.order[0][0] == "created_at" and alone


def find_indexed(connection: Connection, query: ServerQuery, most: int) -> tuple[Candidates | None, int]:
    """Return the fewest servers that an index has for something that is asked for, and how many these are, counted up
    to ``most`` and one more. None: no index has."""
    ways, counts = _counted(query, most)
    if counts is None:
        return None, most + 1
    found = connection.execute(counts, values_of(query)).one()
    least = min(range(len(ways)), key=lambda place: found[place])
    return ways[least], found[least]


@built_once
def _counted(query: ServerQuery, most: int) -> tuple[list[Candidates], sa.Select[Any] | None]:
    """Return what an index answers, and what counts each up to ``most`` and one more."""
    ways = list(_ways(query))
    counts = cast("sa.Select[Any]", sa.select(*(_count(query, way, most) for way in ways))) if ways else None
    return ways, counts


def find_texts(connection: Connection, query: ServerQuery, most: int) -> Candidates | None:
    """Return the servers with a text that is asked for, of which all are read. None: these are more than ``most``, or
    no text is asked for."""
    for name, texts in query.containing.items():
        if not any(texts):
            continue
        named = sa.select(_c.id).where(*of_project(query), *containing(name, texts))
        way: Ids = server_terms.with_address(max(texts, key=len)) if name == "addresses" else named
        ids = connection.execute(way.limit(most + 1)).scalars().all()
        if len(ids) <= most:
            return by_ids(ids)
    return None


def by_ids(ids: Sequence[str]) -> Candidates:
    """Return servers that are known."""
    return _by(_c.id.in_(ids), "id")


def _count(query: ServerQuery, way: Candidates, most: int) -> sa.ScalarSelect[int]:
    """Return how many of the project's there are: more than ``most``, where it is not told by a look at some more."""
    if way.narrowed is None or query.project_id is None:
        return count(way.ids, most + 1)
    bound = max(most, min(4 * most, LOOKED_THROUGH))
    some = sa.select(_c.project_id).where(way.narrowed).limit(bound + 1).subquery()
    mine = sa.func.sum(sa.case((some.c.project_id == query.project_id, 1), else_=0))
    told = sa.case((sa.func.count() > bound, most + 1), else_=sa.func.coalesce(mine, 0))
    return sa.select(told).select_from(some).scalar_subquery()


def _by_indexed(query: ServerQuery, condition: sa.ColumnElement[bool], name: str) -> Candidates:
    """As ``_by``, for a column whose index has the project too."""
    if query.project_id is None or name not in INDEXED or name in SELDOM:
        return _by(condition, name)
    mine = _c.project_id == query.project_id
    also = unindexed(_c.project_id) == query.project_id
    return Candidates(
        ids=sa.select(_c.id).where(condition, mine),
        condition=sa.and_(condition, also),
        columns=frozenset({name}),
        narrowed=condition,
    )


def _by(condition: sa.ColumnElement[bool], *columns: str) -> Candidates:
    return Candidates(ids=sa.select(_c.id).where(condition), condition=condition, columns=frozenset(columns))


def _ways(query: ServerQuery) -> Iterator[Candidates]:
    """Yield what an index answers."""
    found = list(_by_columns(query))
    found += [Candidates(ids=server_terms.candidates(terms)) for terms in query.terms]
    if query.project_id is not None and (found or query.order[0][0] not in OF_PROJECT):
        found.append(_by(sa.and_(*of_project(query)), "project_id", "deleted"))
    yield from found


def _by_columns(query: ServerQuery) -> Iterator[Candidates]:
    for name, values in query.equal.items():
        if name in INDEXED or name == "id":
            yield _by_indexed(query, _is_one_of(name, values), name)
    for name, times in query.seconds.items():
        if name in INDEXED:
            yield _by_indexed(query, in_seconds(_c[name], times), name)
        else:  # in the order of each kind
            yield _by(sa.and_(_c.deleted.in_([False, True]), in_seconds(_c[name], times)), name, "deleted")
    if query.changed_since is not None or query.changed_before is not None:
        columns = ("updated_at",) if query.project_id is None else ("updated_at", "project_id")
        yield _by(sa.and_(*of_project(query), *changed(query, _c.updated_at)), *columns)
    if query.states is not None:
        name, values = _state_column(query)
        yield _by_indexed(query, _is_one_of(name, values), name)


def of_project(query: ServerQuery) -> Conditions:
    """Return that servers are of the project asked for, if any."""
    return [] if query.project_id is None else [_c.project_id == query.project_id]


def _is_one_of(name: str, values: Sequence[Any]) -> sa.ColumnElement[bool]:
    return _c[name] == values[0] if len(values) == 1 else _c[name].in_(values)


def _state_column(query: ServerQuery) -> tuple[str, list[str]]:
    """Return what the states asked for have in common: the tasks, which few servers have, or the vm states."""
    pairs = query.states or ()
    tasks = {task for _, task in pairs}
    name, values = ("vm_state", {vm for vm, _ in pairs}) if None in tasks else ("task_state", tasks)
    return name, sorted(value for value in values if value)


def count(ids: Ids, most: int) -> sa.ScalarSelect[int]:
    """Return how many there are, at most so many."""
    some = ids.limit(most).subquery()
    return sa.select(sa.func.count()).select_from(some).scalar_subquery()


def is_short(connection: Connection, query: ServerQuery, most: int) -> bool:
    """Whether the project, or the whole index, has no more servers than that of the kind asked for, deleted or not."""
    mine = of_project(query)
    if query.deleted is not None:
        mine.append(is_gone(query.deleted))
    return connection.execute(sa.select(count(sa.select(_c.id).where(*mine), most + 1))).scalar_one() <= most
