"""Leases, deadlines and heartbeats when the database's clock is set: they go on as if it had run evenly.

Each process watches that clock beside its machine's own, which nobody sets. The first to see a step moves what has not
run out yet with it. Whatever then lies further ahead than it was ever given is cut to that: so much is lost at most by
whoever sees no step, because nobody ran meanwhile.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from cellcloud.db import cell_schema as cell
from cellcloud.db import top_schema as top
from cellcloud.db.engine import Database, UtcDateTime, racing, retried, utc_after, utc_now
from cellcloud.db.identity_schema import identity_tokens, identity_users
from cellcloud.db.volume_schema import volume_hosts, volume_tasks
from cellcloud.model.intent import IntentState

LOG = logging.getLogger(__name__)
TOLERANCE = 2.0  # seconds: a clock that is slewed, or a process that was held up, is no step
LOOK_EVERY = 0.25
CUT_EVERY = 60.0
LONGEST_WAIT = 60.0  # seconds until a run is due again, at most
LONGEST_RUN = 14400.0
LONGEST_CONSOLE_TOKEN = 3600.0


class TimeKind(Enum):
    UNTIL = "until"  # holds until then
    DUE = "due"  # is taken up then; too early does no harm
    SEEN = "seen"  # was heard of then; never ahead of now


@dataclass(frozen=True, slots=True, kw_only=True)
class Decisive:
    """A time that something is decided by. ``longest``: seconds that it lies ahead at most when it is written, or the
    name of the length that says it. ``among``: the rows that count; None: all."""

    column: sa.Column[Any]
    kind: TimeKind
    longest: float | str = 0.0
    among: sa.ColumnElement[bool] | None = None

    @property
    def name(self) -> str:
        return f"{self.column.table.name}.{self.column.name}"


_RUNNING = cell.runs.c.active == 1
_UNFINISHED = top.intents.c.state.in_((IntentState.PENDING, IntentState.RECORDED))
CELL_TIMES = (
    Decisive(
        column=cell.servers.c.hold_until,
        kind=TimeKind.UNTIL,
        longest="hold_seconds",
        among=cell.servers.c.held.is_(True),
    ),
    Decisive(column=cell.runs.c.run_at, kind=TimeKind.DUE, longest=LONGEST_WAIT, among=_RUNNING),
    Decisive(column=cell.runs.c.lease_until, kind=TimeKind.UNTIL, longest="run_lease", among=_RUNNING),
    Decisive(column=cell.runs.c.deadline, kind=TimeKind.UNTIL, longest=LONGEST_RUN, among=_RUNNING),
    Decisive(column=cell.console_tokens.c.expires_at, kind=TimeKind.UNTIL, longest=LONGEST_CONSOLE_TOKEN),
    Decisive(column=cell.host_names.c.held_until, kind=TimeKind.UNTIL, longest="service_down_time"),
    Decisive(column=cell.servers.c.unconfirmed_since, kind=TimeKind.SEEN),
    Decisive(column=cell.hosts.c.last_seen, kind=TimeKind.SEEN),
    Decisive(column=cell.services.c.last_seen, kind=TimeKind.SEEN),
    Decisive(column=cell.servers.c.soft_deleted_at, kind=TimeKind.SEEN),
    Decisive(column=cell.servers.c.shelved_at, kind=TimeKind.SEEN),
    Decisive(column=cell.image_cachings.c.asked_at, kind=TimeKind.SEEN),
    Decisive(column=cell.listening.c.since, kind=TimeKind.SEEN),
    Decisive(column=cell.listening.c.looked_at, kind=TimeKind.SEEN),
)
TOP_TIMES = (
    Decisive(column=top.intents.c.lease_until, kind=TimeKind.UNTIL, longest="intent_lease", among=_UNFINISHED),
    Decisive(column=top.intents.c.deadline, kind=TimeKind.UNTIL, longest="intent_deadline", among=_UNFINISHED),
    Decisive(column=identity_tokens.c.expires_at, kind=TimeKind.UNTIL, longest="token_seconds"),
    Decisive(column=identity_users.c.failed_at, kind=TimeKind.SEEN),
    Decisive(column=top.services.c.last_seen, kind=TimeKind.SEEN),
    Decisive(column=top.walks.c.started_at, kind=TimeKind.SEEN),
    Decisive(column=top.server_index.c.quota_asked_at, kind=TimeKind.SEEN),
    Decisive(column=volume_tasks.c.lease_until, kind=TimeKind.UNTIL, longest=600.0),
    Decisive(column=volume_hosts.c.last_seen, kind=TimeKind.SEEN),
)


class _shifted(FunctionElement[Any]):
    """A time plus a number of seconds."""

    type = UtcDateTime()
    inherit_cache = True
    name = "shifted"


@compiles(_shifted, "sqlite")
def _shifted_sqlite(element: Any, compiler: Any, **kw: Any) -> str:
    column, seconds = (compiler.process(each, **kw) for each in element.clauses)
    return f"strftime('%Y-%m-%d %H:%M:%f000', julianday({column}) + {seconds} / 86400.0)"


@compiles(_shifted, "mysql")
@compiles(_shifted, "mariadb")
def _shifted_mysql(element: Any, compiler: Any, **kw: Any) -> str:
    column, seconds = (compiler.process(each, **kw) for each in element.clauses)
    return f"DATE_ADD({column}, INTERVAL CAST({seconds} * 1000000 AS SIGNED) MICROSECOND)"


@compiles(_shifted, "postgresql")
def _shifted_postgresql(element: Any, compiler: Any, **kw: Any) -> str:
    column, seconds = (compiler.process(each, **kw) for each in element.clauses)
    return f"{column} + make_interval(secs => {seconds})"


def boot_seconds() -> float:
    """Seconds since the machine started; nobody sets them, and they count while it sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class SteadyClock:
    """One process's watch over a database's clock. Safe to use from several threads. ``lengths``: name -> seconds."""

    def __init__(
        self,
        database: Database,
        times: Sequence[Decisive],
        lengths: Mapping[str, float],
        *,
        even: Callable[[], float] = boot_seconds,
    ) -> None:
        self._database = database
        self._times = [(one, lengths[one.longest] if isinstance(one.longest, str) else one.longest) for one in times]
        self._table = cell.clock_steps if times[0].column.table.metadata is cell.metadata else top.clock_steps
        self._even = even
        self._lock = threading.Lock()
        self._offset: float | None = None
        self._number = 0
        self._looked = self._cut_at = -CUT_EVERY

    def compensate(self, within: float = LOOK_EVERY) -> None:
        """Notice a step since the last look, and mend it unless another process has. To be called every second, and
        before anything is judged by the clock. ``within``: seconds after a look that another is not needed. Raises
        TryLater."""
        with self._lock:
            begun = self._even()
            if self._offset is not None and 0 <= begun - self._looked < within:
                return
            number = sa.select(self._table.c.number).where(self._table.c.id == 1).scalar_subquery()
            with self._database.read() as connection:
                now, mended = connection.execute(sa.select(utc_now(), number)).one()
            ended = self._even()
            offset = now.timestamp() - (begun + ended) / 2
            step = 0.0 if self._offset is None else offset - self._offset
            if abs(step) <= TOLERANCE + ended - begun:
                step = 0.0
            elif (mended or 0) == self._number:
                LOG.warning("the database's clock was set", extra={"seconds": round(step, 3)})
                mended = _mend(self._database, self._table, self._times, mended, step)
            if step or ended - self._cut_at >= CUT_EVERY:
                _cut(self._database, self._times)
                self._cut_at = ended
            self._offset, self._number, self._looked = offset, mended or 0, ended


@retried
def _mend(
    database: Database, table: sa.Table, times: Sequence[tuple[Decisive, float]], number: int | None, step: float
) -> int:
    """Move what has not run out; returns the number of the step. Of several that saw it one does it."""
    with database.write() as connection:
        if number is None:
            with racing():
                connection.execute(sa.insert(table).values(id=1, number=1, seconds=step, mended_at=utc_now()))
        else:
            mine = (table.c.id == 1, table.c.number == number)
            values = {"number": number + 1, "seconds": step, "mended_at": utc_now()}
            if connection.execute(sa.update(table).where(*mine).values(values)).rowcount == 0:
                return number + 1
        if step > 0:
            for one, longest in times:
                if one.kind is not TimeKind.DUE:
                    _shift(connection, one, longest, step)
    return (number or 0) + 1


def _shift(connection: Connection, one: Decisive, longest: float, step: float) -> None:
    moved, most = _shifted(one.column, sa.literal(step, sa.Float)), utc_after(longest)
    rows = [] if one.among is None else [one.among]
    if one.kind is TimeKind.UNTIL:
        rows.append(one.column > utc_after(-step))
    value = sa.case((moved > most, most), else_=moved)
    connection.execute(sa.update(one.column.table).where(one.column.is_not(None), *rows).values({one.column: value}))


@retried
def _cut(database: Database, times: Sequence[tuple[Decisive, float]]) -> None:
    """Whatever lies further ahead than it was ever given was written by a clock that was ahead."""
    for one, longest in times:
        rows = [] if one.among is None else [one.among]
        ahead = one.column > utc_after(longest + TOLERANCE)
        with database.read() as connection:
            if connection.execute(sa.select(one.column).where(ahead, *rows).limit(1)).first() is None:
                continue
        with database.write() as connection:
            most = utc_now() if one.kind is TimeKind.DUE else utc_after(longest)
            count = connection.execute(
                sa.update(one.column.table).where(ahead, *rows).values({one.column: most})
            ).rowcount
        LOG.warning("times too far ahead were cut", extra={"of": one.name, "rows": count})
