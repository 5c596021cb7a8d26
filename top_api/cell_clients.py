"""The cells as the API and the router reach them: a breaker and a deadline for each, and the choice among them."""

from __future__ import annotations

import concurrent.futures
import functools
import random
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from cellcloud import clock, errors, metrics
from cellcloud.config import TopConfig
from cellcloud.context import RequestContext
from cellcloud.db import cells as cells_table
from cellcloud.db.engine import Database
from cellcloud.model.cell import Cell
from cellcloud.model.placement_messages import CellDigest
from cellcloud.model.server import ServerSpec
from cellcloud.rpc.conductor import Conductor
from cellcloud.rpc.consoleauth import ConsoleAuth
from cellcloud.rpc.scheduler import Scheduler
from cellcloud.rpc.scheduling_store import SchedulingStore
from cellcloud.rpc.transport import Transport

T = TypeVar("T")
REREAD = 1.0  # seconds for which the cells table is not read again
TRIAL_BUDGET = 1.0  # seconds a cell believed to be away has for the call that tries it
PATIENCE = 2.0  # seconds without any answer for which callers wait for a place: a healthy cell needs less
ASK_ALL_BUDGET = 2.0  # seconds all cells together have when an answer is made of every cell's
KEPT_SUBJECTS = frozenset({"hosts", "services"})  # whose last answers are kept for a cell that falls silent


class Breaker:
    """Leaves a cell's service alone for ``seconds`` after a failure; then one caller tries it, and not for long, while
    the others are still refused.

    At most ``most`` calls are under way at once. Further callers wait for a place as long as the service answers
    anybody, so that one that has just fallen silent cannot take up every thread of the API before the first of them
    gives up.
    """

    def __init__(self, cell: str, interface: str = "Conductor", *, seconds: float, most: int) -> None:
        self._cell = cell
        self._seconds = seconds
        self._most = most
        self._inside = 0
        self._answers = 0
        self._heard_at = -seconds
        self._silent_since = 0.0  # when somebody began to wait for an answer, none having come since
        self._changed = threading.Condition()
        self._open_until: float | None = None
        self._opened_at = 0.0
        metrics.BREAKERS.labels(cell, interface).set_function(lambda: float(self.is_open))

    @property
    def is_open(self) -> bool:
        until = self._open_until
        return until is not None and clock.monotonic() < until

    def call(self, send: Callable[..., T], context: RequestContext, *args: Any, **kwargs: Any) -> T:
        """Do ``send`` if the service may be asked now. Raises Unreachable, Busy, and what ``send`` raises."""
        context, answers = self._enter(context)
        try:
            answer = send(context, *args, **kwargs)
        except BaseException as error:
            self._leave(silent=_is_silence(error), answers=answers)
            raise
        self._leave(silent=False, answers=answers)
        return answer

    def trip(self) -> None:
        """Somebody else saw that the cell does not answer. What was heard here meanwhile counts for more."""
        with self._changed:
            if self._open_until is None and clock.monotonic() - self._heard_at >= self._seconds:
                self._open()

    def hear(self, since: float, *, certain: bool) -> None:
        """Somebody else was answered by the cell after ``since``, by this process's clock: what opened before that is
        closed. Not ``certain``: another service of the cell answered; this one is tried at once."""
        with self._changed:
            if self._open_until is not None and self._opened_at < since:
                self._open_until = None if certain else min(self._open_until, clock.monotonic())
            if certain:
                self._silent_since = clock.monotonic()
                self._changed.notify_all()

    def _enter(self, context: RequestContext) -> tuple[RequestContext, int]:
        """Return the context to call with, and how many answers there were before."""
        with self._changed:
            while self._open_until is None and self._inside >= self._most:
                patience = min(context.remaining(), self._silent_since + PATIENCE - clock.monotonic())
                if patience <= 0:
                    raise errors.Busy(f"Cell {self._cell} has as many requests as it can take; try again shortly.")
                self._changed.wait(patience)
            now = clock.monotonic()
            if self._open_until is not None:
                if now < self._open_until:
                    raise errors.Unreachable(f"Cell {self._cell} does not answer; it is tried again shortly.")
                self._open_until = now + 2 * TRIAL_BUDGET
                context = context.with_budget(min(TRIAL_BUDGET, context.remaining()))
            if self._inside == 0:
                self._silent_since = now
            self._inside += 1
            return context, self._answers

    def _leave(self, *, silent: bool, answers: int) -> None:
        """``answers``: how many there were before the call. One that was not answered while others were says nothing
        of the service."""
        with self._changed:
            self._inside -= 1
            if not silent:
                self._answers += 1
                self._heard_at = self._silent_since = clock.monotonic()
                self._open_until = None
            elif answers == self._answers:
                self._open()
            self._changed.notify_all()

    def _open(self) -> None:
        self._opened_at = clock.monotonic()
        self._open_until = self._opened_at + self._seconds


def _is_silence(error: BaseException) -> bool:
    """Return whether nobody answered. That something behind the cell does not answer is the cell's answer."""
    silent = isinstance(error, errors.Unreachable | errors.DeadlineExceeded)
    return silent and not (isinstance(error, errors.CellcloudError) and error.relayed)


class _Guarded:
    """A client whose every call passes the breaker. Built like the interface by attribute access."""

    def __init__(self, client: object, breaker: Breaker, is_down: Callable[[], bool]) -> None:
        self._client = client
        self._breaker = breaker
        self._is_down = is_down

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        send = getattr(self._client, verb)

        def call(context: RequestContext, *args: Any, **kwargs: Any) -> Any:
            if self._is_down():
                self._breaker.trip()
            return self._breaker.call(send, context, *args, **kwargs)

        setattr(self, verb, call)
        return call


@dataclass(slots=True)
class CellRoom:
    """A cell's free room as its digest says, less what was routed there since."""

    digest_at: object
    buckets: list[tuple[int, int, int, int]] = field(default_factory=list)

    def fits(self, need: tuple[int, int, int]) -> int:
        """Return how many servers of that need the cell's hosts can take."""
        return sum(count * _times(free, need) for *free, count in self.buckets)

    def take(self, need: tuple[int, int, int]) -> None:
        """Put one server on the host with the most room."""
        fitting = [bucket for bucket in self.buckets if _times(bucket[:3], need)]
        if not fitting:
            return
        best = max(fitting)
        self.buckets.remove(best)
        *free, count = best
        if count > 1:
            self.buckets.append((best[0], best[1], best[2], count - 1))
        left = [have - want for have, want in zip(free, need, strict=True)]
        self.buckets.append((left[0], left[1], left[2], 1))


def _times(free: Collection[int], need: tuple[int, int, int]) -> int:
    return min((have // want for have, want in zip(free, need, strict=True) if want > 0), default=1)


def _need_of(spec: ServerSpec) -> tuple[int, int, int]:
    amounts = spec.resources()
    return amounts["VCPU"], amounts["MEMORY_MB"], amounts["DISK_GB"]


class Cells:
    """Every cell of the cells table. Safe to call from several threads."""

    def __init__(
        self, database: Database, config: TopConfig, transports: Mapping[str, Transport] | None = None
    ) -> None:
        self._database = database
        self._config = config
        self._lock = threading.Lock()
        self._transports: dict[str, Transport] = dict(transports or {})
        self._breakers: dict[tuple[str, str], Breaker] = {}
        self._clients: dict[tuple[str, str], Any] = {}
        self._rooms: dict[str, CellRoom] = {}
        self._known: tuple[float, list[Cell]] = (-REREAD, [])
        self._last_answers: dict[tuple[str, str], Any] = {}
        self._pool = concurrent.futures.ThreadPoolExecutor(16, thread_name_prefix="ask-cells")

    def close(self) -> None:
        """Let go of the threads and the queues opened here."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    # ---- knowing -------------------------------------------------------------------------------------------------
    def list_cells(self) -> list[Cell]:
        """Return the cells table, at most a second old."""
        read_at, known = self._known
        if clock.monotonic() - read_at < REREAD:
            return known
        with self._database.read() as connection:
            fresh = cells_table.list_cells(connection)
        self._known = (clock.monotonic(), fresh)
        marks = {cell.name: cell.digest_at for cell in known}
        for cell in fresh:
            if cell.health == "up" and cell.digest_at != marks.get(cell.name, cell.digest_at):
                self._hear(cell.name, read_at)
        return fresh

    def _hear(self, name: str, since: float) -> None:
        """Note that the router was answered by the cell's conductors after ``since``."""
        for (cell, interface), breaker in list(self._breakers.items()):
            if cell == name:
                breaker.hear(since, certain=interface == Conductor.__name__)

    def digest_mark(self, name: str) -> object:
        """Another value with each digest of the cell."""
        return next((cell.digest_at for cell in self.list_cells() if cell.name == name), None)

    def is_unreachable(self, name: str) -> bool:
        """Return whether a cell is believed not to answer."""
        breaker = self._breakers.get((name, Conductor.__name__))
        return (breaker is not None and breaker.is_open) or self._is_down(name)

    def _is_down(self, name: str) -> bool:
        """Return the router's judgement."""
        return any(cell.name == name and cell.health == "down" for cell in self.list_cells())

    def unreachable_cells(self) -> frozenset[str]:
        """Return the cells that are believed not to answer."""
        return frozenset(cell.name for cell in self.list_cells() if self.is_unreachable(cell.name))

    def zones(self) -> dict[str, bool]:
        """Availability zone -> whether an answering cell offers it now."""
        found: dict[str, bool] = {}
        for cell in self.list_cells():
            usable = cell.enabled and not self.is_unreachable(cell.name) and cell.digest is not None
            for zone in cell.digest.zones if cell.digest else ():
                found[zone] = found.get(zone, False) or (
                    usable and cell.digest is not None and cell.digest.hosts_up > 0
                )
        return found

    # ---- reaching ------------------------------------------------------------------------------------------------
    def transport(self, name: str) -> Transport:
        """Return the cell's queue. Raises NotFound."""
        with self._lock:
            if name not in self._transports:
                with self._database.read() as connection:
                    urls = cells_table.list_transports(connection)
                if name not in urls:
                    raise errors.NotFound(f"Cell {name} could not be found.")
                self._transports[name] = Transport(name, urls[name])
            return self._transports[name]

    def conductor(self, name: str) -> Conductor:
        """Return the cell's conductors, behind its breaker."""
        return self._client(name, Conductor)

    def consoleauth(self, name: str) -> ConsoleAuth:
        """Return the cell's console authority, behind its breaker."""
        return self._client(name, ConsoleAuth)

    def scheduler(self, name: str) -> Scheduler:
        """Return the cell's schedulers, for what operators ask them, behind their own breaker."""
        return self._client(name, Scheduler)

    def scheduling_store(self, name: str) -> SchedulingStore:
        """Return the cell's log, decisions and policies, behind their own breaker."""
        return self._client(name, SchedulingStore)

    def _client(self, name: str, interface: type[T]) -> T:
        key = (name, interface.__name__)
        found = self._clients.get(key)
        if found is None:
            client = self.transport(name).client(interface)
            with self._lock:
                if key not in self._clients:
                    most = max(1, self._config.threads // 2)
                    self._breakers[key] = Breaker(*key, seconds=self._config.breaker_seconds, most=most)
                    is_down = functools.partial(self._is_down, name)
                    self._clients[key] = _Guarded(client, self._breakers[key], is_down)
                found = self._clients[key]
        return cast(T, found)

    def budget(self, context: RequestContext) -> RequestContext:
        """Return the caller's context with what one call to a cell may take."""
        return context.with_budget(min(self._config.cell_timeout, context.remaining()))

    def ask_all(
        self, context: RequestContext, subject: str, ask: Callable[[Conductor, RequestContext], T]
    ) -> list[tuple[Cell, T, bool]]:
        """Ask every cell at once. Returns (cell, answer, fresh): an unreachable cell's last answer, if it gave one."""
        patient = context.with_budget(min(ASK_ALL_BUDGET, context.remaining()))
        cells = self.list_cells()
        asked = {cell.name: self._pool.submit(self._ask, cell.name, ask, patient) for cell in cells}
        concurrent.futures.wait(asked.values(), timeout=ASK_ALL_BUDGET)
        answers: list[tuple[Cell, T, bool]] = []
        for cell in cells:
            future = asked[cell.name]
            if future.done() and future.exception() is None:
                if subject in KEPT_SUBJECTS:
                    self._last_answers[cell.name, subject] = future.result()
                answers.append((cell, future.result(), True))
            elif (cell.name, subject) in self._last_answers:
                answers.append((cell, self._last_answers[cell.name, subject], False))
        return answers

    def ask_each(self, names: Collection[str], ask: Callable[[str], T]) -> dict[str, T | errors.CellcloudError]:
        """Ask some cells at once for what may take long; each one's answer or error."""

        def one(name: str) -> T | errors.CellcloudError:
            try:
                return ask(name)
            except errors.CellcloudError as error:
                return error

        return dict(zip(names, self._pool.map(one, names), strict=True))

    def _ask(self, name: str, ask: Callable[[Conductor, RequestContext], T], context: RequestContext) -> T:
        return ask(self.conductor(name), context)

    # ---- choosing ------------------------------------------------------------------------------------------------
    def choose(self, spec: ServerSpec, excluded: Collection[str]) -> str | None:
        """Return a cell for a server: one whose digest has room, likelier the more room it has; None with none left.

        A digest rounds down, so cells that seem full are still asked when no other is left.
        """
        usable = [
            cell
            for cell in self.list_cells()
            if cell.enabled and cell.name not in excluded and not self.is_unreachable(cell.name) and _offers(cell, spec)
        ]
        if not usable:
            return None
        need = _need_of(spec)
        with self._lock:
            rooms = {cell.name: self._room(cell) for cell in usable}
            weights = [rooms[cell.name].fits(need) for cell in usable]
            chosen = random.choices(usable, weights if any(weights) else None)[0].name  # noqa: S311 -- spreading
            rooms[chosen].take(need)
        return chosen

    def may_take(self, spec: ServerSpec, refused: Collection[str]) -> list[str]:
        """Return the cells, unreachable or not, that have not refused and offer what is asked for."""
        offering = (cell.name for cell in self.list_cells() if cell.enabled and _offers(cell, spec))
        return [name for name in offering if name not in refused]

    def _room(self, cell: Cell) -> CellRoom:
        room = self._rooms.get(cell.name)
        if room is None or room.digest_at != cell.digest_at:
            digest = cell.digest or CellDigest(cell=cell.name, hosts_total=0, hosts_up=0)
            room = self._rooms[cell.name] = CellRoom(digest_at=cell.digest_at, buckets=list(digest.buckets))
        return room


def _offers(cell: Cell, spec: ServerSpec) -> bool:
    zone = spec.availability_zone
    if spec.cell not in ("", cell.name):
        return False
    return zone is None or cell.digest is None or zone in cell.digest.zones
