"""Lists of the index's servers: which of them, in what order, from where on.

A page costs about the same wherever it begins and however many servers there are. What a query asks for is counted
first, by indexes and never beyond ``FEW``: the fewest are taken and sorted; where nothing is asked that few have, the
page is of the first ``LOOKED_AT`` in the order, or its index is followed until the page is full, if these let expect
that it soon is: else those whose texts are asked for are taken, up to ``NAMED``, or the fewest, up to ``MANY``.
A page that begins behind a server is the end of that server's equals, then those behind them: a stream each, which
begins in the index at its first row.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from cellcloud import errors
from cellcloud.db import server_candidates
from cellcloud.db.kept_statements import built_once, values_of
from cellcloud.db.server_candidates import Candidates
from cellcloud.db.server_conditions import (
    SELDOM,
    SORT_KEYS,
    Conditions,
    ServerQuery,
    computed,
    computed_but,
    conditions,
    followed,
    is_same,
    leading_key,
    life,
    unindexed,
)
from cellcloud.db.server_index import CHUNK, RAW_RECORD, records_of
from cellcloud.db.top_schema import server_index
from cellcloud.model.server import ServerRecord

FEW = 2000
"""Servers that are rather sorted than looked for in the order of them all."""
MANY = 20_000
"""Servers that are rather sorted than looked for where the order has none of them for long."""
LOOKED_AT = 500
NAMED = 5000
"""Servers whose texts are asked for, which are rather sorted than looked for."""
MOST_AT_ONCE = 2000  # records, of which some are kept
_FENCE = 1 << 20  # a bound that keeps a database from looking for the few in another way
_c = server_index.c


# ---- what is asked for -----------------------------------------------------------------------------------------------
def list_records(connection: Connection, query: ServerQuery) -> list[ServerRecord]:
    """One page. Raises NotFound for a marker that is no such server."""
    after = None if query.marker is None else _marked(connection, query)
    found: list[ServerRecord] = []
    few, size, is_for_all = None, query.limit, False
    while len(found) < query.limit:
        if not is_for_all:
            few, is_for_all = _find_candidates(connection, query, after, size)
        rows = rows_of(connection, query, few, after, size)
        records = records_of(connection, rows)
        found.extend(record for record in records if query.keep is None or query.keep(record))
        if query.keep is None or len(rows) < size:
            break
        after, size = position_of(rows[-1]), min(4 * size, MOST_AT_ONCE)
    return found[: query.limit]


def list_ids(connection: Connection, query: ServerQuery, most: int) -> list[str] | None:
    """Return the ids of a whole list in its order, but for what ``keep`` would leave out. None: they may be more than
    so many."""
    few = find_few(connection, query, most)
    if few is None and not server_candidates.is_short(connection, query, most):
        return None
    ids = _ids(query, few, None, most + 1).subquery("page")
    statement = sa.select(ids.c.id).order_by(*_order_of(ids, query))
    found = list(connection.execute(statement, values_of(query)).scalars())
    return found if len(found) <= most else None


def list_of(connection: Connection, query: ServerQuery, ids: Sequence[str]) -> list[ServerRecord]:
    """One page of these servers in their order, without those that the query does not ask for, or not any more."""
    found: list[ServerRecord] = []
    start, size = 0, max(query.limit, 1)
    wanted = [*conditions(query), *life(query)]
    while start < len(ids) and len(found) < query.limit:
        some = ids[start : start + size]
        start, size = start + size, max(size, min(4 * size, CHUNK))
        rows = sa.select(_c.cell, RAW_RECORD).where(_c.id.in_(some), *wanted)
        records = {record.id: record for record in records_of(connection, connection.execute(rows).all())}
        found += [r for one in some if (r := records.get(one)) and (query.keep is None or query.keep(r))]
    return found[: query.limit]


# ---- where to look ---------------------------------------------------------------------------------------------------
def find_few(connection: Connection, query: ServerQuery, most: int) -> Candidates | None:
    """Return the fewest servers among which those asked for are. None: the order is rather followed, as there are more
    than ``most``, or nothing says which."""
    if server_candidates.leads(query):
        return None
    ids, count = server_candidates.find_indexed(connection, query, most)
    return ids if count <= most else server_candidates.find_texts(connection, query, FEW)


def _find_candidates(
    connection: Connection, query: ServerQuery, after: Sequence[Any] | None, size: int
) -> tuple[Candidates | None, bool]:
    """As ``find_few``, for one page behind that position; and whether further pages are to be found in the same way."""
    if server_candidates.leads(query):
        return None, True
    few, count = server_candidates.find_indexed(connection, query, FEW)
    is_for_text = any(text for texts in query.containing.values() for text in texts)
    if count <= FEW or (few is None and not is_for_text):
        return few, True
    page, steps = _look(connection, query, after, max(LOOKED_AT, size), size)
    if page is None and is_for_text and steps <= FEW:  # PostgreSQL guesses that few have a text, and reads them all
        page, more = _look(connection, query, after, 2 * int(steps) + LOOKED_AT, size)
        steps = max(FEW + 1, more)
    if page is not None:
        return server_candidates.by_ids(page), False
    if steps <= FEW:
        return None, True
    if (named := server_candidates.find_texts(connection, query, NAMED)) is not None:
        return named, True
    many, count = server_candidates.find_indexed(connection, query, MANY)
    return (many if count <= min(MANY, steps) else None), True


def _look(
    connection: Connection, query: ServerQuery, after: Sequence[Any] | None, most: int, size: int
) -> tuple[list[str] | None, float]:
    """Return the ids of a page, if it is full or the list is at its end after a look at the first ``most`` servers of
    each stream; and how many are to be looked at until it is, as they let expect."""
    looked = _first_look(query, most, size) if after is None else _looked_at(query, after, most, size)
    rows = connection.execute(looked, values_of(query)).all()
    page: list[str] = []
    for number in sorted({row.stream for row in rows}):
        mine = [row for row in rows if row.stream == number]
        if any(row.seen == most and row.met < size for row in mine):
            break
        page += [row.id for row in mine if row.wanted]
        if len(page) >= size:
            break
    else:
        return page, len(rows)
    if len(page) >= size:
        return page[:size], len(page)
    counts = {row.part: (int(row.seen), int(row.met)) for row in rows}.values()
    needed = [most * size / met if met else math.inf for seen, met in counts if seen == most]
    return None, sum(needed) + sum(seen for seen, _ in counts if seen < most)


@built_once
def _first_look(query: ServerQuery, most: int, size: int) -> sa.Select[Any]:
    return _looked_at(query, None, most, size)


def _looked_at(query: ServerQuery, after: Sequence[Any] | None, most: int, size: int) -> sa.Select[Any]:
    streams = enumerate(_streams_followed(query, after))
    parts = [_part_looked_at(query, number, stream, most, size) for number, stream in streams]
    joined = sa.union_all(*(sa.select(part.subquery()) for part in parts)).subquery("looked")
    return sa.select(joined).order_by(*_order_of(joined, query))


def _part_looked_at(query: ServerQuery, number: int, stream: _Stream, most: int, size: int) -> sa.Select[Any]:
    """Return (id, sort keys, stream, part, wanted, seen, met): the first ``size`` that are asked for of the first
    ``most`` of a stream, then others; with each, how many these are, and how many of them are asked for."""
    keys = [rank.label(f"sort_{place}") for place, rank in enumerate(_ranks(query))]
    wanted = sa.case((sa.and_(sa.true(), *stream.others), 1), else_=0).label("wanted")
    columns = (_c.id, *keys, sa.literal(stream.number).label("stream"), sa.literal(number).label("part"), wanted)
    some = sa.select(*columns).where(*stream.within).order_by(*stream.order).limit(most).subquery()
    counts = (sa.func.count().over().label("seen"), sa.func.sum(some.c.wanted).over().label("met"))
    counted = sa.select(some, *counts).subquery()
    return sa.select(counted).order_by(counted.c.wanted.desc(), *_order_of(counted, query)).limit(size)


# ---- one page --------------------------------------------------------------------------------------------------------
def rows_of(
    connection: Connection, query: ServerQuery, few: Candidates | None, after: Sequence[Any] | None, size: int
) -> list[Row[Any]]:
    """Return the rows of a page: records are read of those that are on it, and of no other. ``few``: what ``find_few``
    found."""
    is_kept = after is None and (few is None or not few.are_known)
    page = _first_page(query, few, size) if is_kept else _page(query, few, after, size)
    rows = connection.execute(page, values_of(query)).all()  # not in order: a database would sort the records with them
    return sorted(rows, key=lambda row: int(row.place))


@built_once
def _first_page(query: ServerQuery, few: Candidates | None, size: int) -> sa.Select[Any]:
    return _page(query, few, None, size)


def _page(query: ServerQuery, few: Candidates | None, after: Sequence[Any] | None, size: int) -> sa.Select[Any]:
    ids = _ids(query, few, after, size).subquery("page")
    place = sa.func.row_number().over(order_by=_order_of(ids, query)).label("place")
    placed = sa.select(ids, place).subquery("placed")
    keys = (placed.c[f"sort_{place}"] for place in range(len(query.order)))
    return sa.select(_c.cell, RAW_RECORD, placed.c.place, *keys).join_from(placed, server_index, _c.id == placed.c.id)


def position_of(row: Row[Any]) -> Sequence[Any]:
    """Return the place of a page's row in the order, behind which another page begins."""
    return tuple(row)[3:]


def _order_of(ids: sa.Subquery, query: ServerQuery) -> list[sa.ColumnElement[Any]]:
    ranks = [(ids.c[f"sort_{place}"], descending) for place, (_, descending) in enumerate(query.order)]
    return [ids.c.stream, *(rank.desc() if descending else rank.asc() for rank, descending in ranks)]


def _ids(query: ServerQuery, few: Candidates | None, after: Sequence[Any] | None, size: int) -> sa.Select[Any]:
    """(id, stream, sort keys) of the servers of a page: the first ``size`` of all streams."""
    parts = parts_of(query, few, after, size)
    if len(parts) == 1:
        return parts[0]
    joined = sa.union_all(*(sa.select(part.subquery()) for part in parts)).subquery("streams")
    return sa.select(joined).order_by(*_order_of(joined, query)).limit(size)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stream:
    """Servers that an index has in an order. ``number``: its place among the streams. ``within``: what the index is
    looked into for. ``others``: what they must be besides."""

    number: int
    within: Conditions
    others: Conditions
    order: Sequence[sa.ColumnElement[Any]]


def parts_of(
    query: ServerQuery, few: Candidates | None, after: Sequence[Any] | None, size: int
) -> list[sa.Select[Any]]:
    """Return the first ``size`` of each stream: without ``few`` each is read from an index in its order; else they are
    one, which is sorted."""
    if few is not None:
        return [_among(query, few, after).limit(size)]
    keys = [rank.label(f"sort_{place}") for place, rank in enumerate(_ranks(query))]
    return [
        sa.select(_c.id, *keys, sa.literal(stream.number).label("stream"))
        .where(*stream.others, *stream.within)
        .order_by(*stream.order)
        .limit(size)
        for stream in _streams_followed(query, after)
    ]


def _among(query: ServerQuery, few: Candidates, after: Sequence[Any] | None) -> sa.Select[Any]:
    """Return those of the few that are behind a position, in order."""
    ranks = _ranks(query)
    keys = [rank.label(f"sort_{place}") for place, rank in enumerate(ranks)]
    half: sa.ColumnElement[int] = sa.literal(0)
    if _may_be_absent(query):
        half = sa.case((ranks[0].is_(None), int(query.order[0][1])), else_=int(not query.order[0][1]))
    stream = half.label("stream")
    wanted = sa.select(_c.id, *keys, stream)
    ranks = [computed(rank) for rank in ranks]
    column = functools.partial(computed_but, few.columns)
    others = [*conditions(query, column=column), *life(query, column("deleted"))]
    if few.condition is None:
        some = few.ids.limit(_FENCE).subquery("few")
        wanted = wanted.join_from(some, server_index, _c.id == some.c.id).where(*others)
    else:
        wanted = wanted.where(few.condition, *others)
    if after is not None:
        wanted = wanted.where(sa.or_(*(sa.and_(*behind) for behind, _ in _streams(query, ranks, after))))
    return wanted.order_by(stream, *_order(query, ranks))


def _streams_followed(query: ServerQuery, after: Sequence[Any] | None) -> Iterator[_Stream]:
    ranks = _ranks(query)
    for number, (stream, absent) in enumerate(_streams(query, ranks, after)):
        order = _order(query, ranks)[int(absent) :]
        down = query.order[int(absent)][1]
        for part in followed(query, leading_key(query, absent=absent)):
            first = [column.desc() if down else column.asc() for column in part.alike]
            yield _Stream(number=number, within=[*part.within, *stream], others=part.others, order=[*first, *order])


def _order(query: ServerQuery, ranks: Sequence[sa.ColumnElement[Any]]) -> list[sa.ColumnElement[Any]]:
    return [rank.desc() if down else rank.asc() for rank, (_, down) in zip(ranks, query.order, strict=True)]


def _ranks(query: ServerQuery) -> list[sa.ColumnElement[Any]]:
    """Return what servers are sorted by. Of the first key no value is a stream of its own; of others it is an
    empty text, or the time when the server was accepted."""
    first, *others = (SORT_KEYS[key] for key, _ in query.order)
    return [first, *(_with_value(each) for each in others)]


def _may_be_absent(query: ServerQuery) -> bool:
    """Return whether servers may have no value of the first key."""
    first = SORT_KEYS[query.order[0][0]]
    return isinstance(first, sa.Column) and bool(first.nullable)


def _with_value(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    if not isinstance(column, sa.Column) or not column.nullable:
        return column
    if isinstance(column.type, sa.String):
        return sa.func.coalesce(column, "")
    return sa.func.coalesce(column, _c.created_at)


def _streams(
    query: ServerQuery, ranks: Sequence[sa.ColumnElement[Any]], after: Sequence[Any] | None
) -> Iterator[tuple[Conditions, bool]]:
    """Yield what comes behind a position, in order: those equal in all but the last key, in all but the last two, and
    on. With each, whether it is of servers that have no value of the first one."""
    (key, down), first = query.order[0], ranks[0]
    may_be_absent = _may_be_absent(query)
    none = (unindexed(first) if key in SELDOM else first).is_(None)
    if after is None:
        halves: list[tuple[Conditions, bool]] = [([none], True), ([first.is_not(None)], False)]
        yield from (halves[::-1] if down else halves) if may_be_absent else [([], False)]
        return
    for place in range(len(ranks) - 1, -1, -1):
        equals = zip(ranks[:place], after, strict=False)
        same = [none if value is None else is_same(rank, value) for rank, value in equals]
        if place or after[0] is not None:
            beyond = ranks[place] < after[place] if query.order[place][1] else ranks[place] > after[place]
            yield [*same, beyond], after[0] is None
    if may_be_absent and (after[0] is None) is not down:
        yield ([none], True) if down else ([first.is_not(None)], False)


def _marked(connection: Connection, query: ServerQuery) -> Sequence[Any]:
    mine = [_c.id == query.marker]
    if query.project_id is not None:
        mine.append(_c.project_id == query.project_id)
    row: Row[Any] | None = connection.execute(sa.select(*_ranks(query)).where(*mine)).one_or_none()
    if row is None:
        raise errors.NotFound(f"marker [{query.marker}] not found")
    return tuple(row)
