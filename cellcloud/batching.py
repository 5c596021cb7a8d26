"""Calls of many threads in few, and messages of a bounded size."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from cellcloud import errors, metrics

T = TypeVar("T")
R = TypeVar("R")
INSTANT = 0.003
MOST_BYTES = 1 << 20  # of what is put into one message


def portions(items: Sequence[T], size_of: Callable[[T], int], most: int = MOST_BYTES) -> Iterator[list[T]]:
    """Return the items in their order, as many at once as come to no more than ``most``, and at least one."""
    some: list[T] = []
    size = 0
    for item in items:
        length = size_of(item)
        if some and size + length > most:
            yield some
            some, size = [], 0
        some.append(item)
        size += length
    if some:
        yield some


def in_full(
    ask: Callable[[list[T]], Sequence[R]],
    items: Sequence[T],
    *,
    key_of: Callable[[T], Hashable],
    answers: Callable[[R], Hashable],
) -> list[R]:
    """All that is answered for the items by one who answers as many as fit into a message, in any order, and at least
    one of those there are. Those left out are asked for again, some at a time, until nothing is answered for them.

    ``key_of``: an item's key; ``answers``: the key of the item that an answer is for.
    """
    found: list[R] = []
    left, most = list(items), len(items)
    while left:
        asked, left = left[:most], left[most:]
        some = ask(asked)
        found += some
        told = {answers(one) for one in some}
        omitted = [item for item in asked if key_of(item) not in told]
        if len(omitted) < len(asked):
            left = omitted + left
            most = 2 * (len(asked) - len(omitted))
    return found


@dataclass(slots=True)
class _Call(Generic[T, R]):
    """A thread's item. ``woken``: it is to lead, or has its answer. ``taken``: its item is in a batch."""

    item: T
    weight: int
    answer: Future[R] = field(default_factory=Future)
    woken: threading.Event = field(default_factory=threading.Event)
    leads: bool = False
    taken: bool = False


class Batcher(Generic[T, R]):
    """Does the work of many threads at once: whoever comes while a batch is at work waits, and goes with the next.

    One of the waiting threads leads: it takes its own item and what waits beside it, does the work, gives everybody
    the answer, then hands the lead to the first who still waits, and is gone: nobody is kept for what others ask.

    ``work`` gives one result an item, in order. When it raises on several items each is tried alone, so that what is
    wrong with one does not fail the others; TryLater is the error of all.
    """

    def __init__(
        self,
        work: Callable[[Sequence[T]], Sequence[R]],
        *,
        name: str = "",
        weigh: Callable[[T], int] = lambda _: 1,
        most: int | None = None,
        leaders: int = 1,
        crowd: int | None = None,
        linger: float = INSTANT,
    ) -> None:
        """``name``: what its figures are called by. ``most``: what the items of a batch weigh at most, unless it has
        only one. ``leaders``: batches at work at once; one more where what waits weighs ``crowd``.
        ``linger``: seconds that a leader waits for others, since those who belong together seldom come in the same
        moment."""
        self._work = work
        self._depth = metrics.BATCH_DEPTH.labels(name) if name else None
        self._sizes = metrics.BATCHES.labels(name) if name else None
        self._weigh = weigh
        self._most = most
        self._usual_leaders = leaders
        self._crowd = crowd
        self._linger = linger
        self._lock = threading.Lock()
        self._waiting: dict[int, _Call[T, R]] = {}  # in order of arrival, by identity
        self._weight = 0  # of all that waits
        self._leaders = 0
        self._at_work: set[int] = set()  # threads

    def __call__(self, item: T) -> R:
        """Return what ``work`` made of the item, or the error it raised."""
        if threading.get_ident() in self._at_work:
            raise RuntimeError("The work of a batch waits for a batch of its own.")
        call: _Call[T, R] = _Call(item, self._weigh(item))
        batch: list[_Call[T, R]] = []
        try:
            with self._lock:
                self._waiting[id(call)] = call
                self._weight += call.weight
                if self._depth is not None:
                    self._depth.inc()
                self._appoint()
            call.woken.wait()
            if call.leads:
                batch = self._gather(call)
                if batch:
                    self._settle(batch)
        finally:
            self._leave(call, batch)
        return call.answer.result()

    def _appoint(self) -> None:
        """Let the first of those who wait lead, as many as may."""
        while self._leaders < self._usual_leaders + (self._crowd is not None and self._weight >= self._crowd):
            first = next((call for call in self._waiting.values() if not call.leads), None)
            if first is None:
                return
            first.leads = True
            self._leaders += 1
            first.woken.set()

    def _gather(self, leader: _Call[T, R]) -> list[_Call[T, R]]:
        if self._linger and not leader.taken:
            time.sleep(self._linger)
        with self._lock:
            return self._take(leader)

    def _leave(self, call: _Call[T, R], batch: Sequence[_Call[T, R]]) -> None:
        """Hand the lead on, if the call has it, and wake those it led. Whoever was interrupted waits no more, and no
        other waits for an answer that its leader was kept from giving."""
        if call.leads or not call.taken:
            with self._lock:
                if not call.taken:
                    self._remove(call)
                if call.leads:
                    self._leaders -= 1
                self._appoint()
        for each in batch:
            if not each.answer.done():
                each.answer.set_exception(errors.Unreachable("What was asked together was interrupted."))
            each.woken.set()

    def _remove(self, call: _Call[T, R]) -> None:
        if self._waiting.pop(id(call), None) is not None:
            self._weight -= call.weight
            if self._depth is not None:
                self._depth.dec()

    def _take(self, leader: _Call[T, R]) -> list[_Call[T, R]]:
        """Return the leader's item with what has waited longest; nothing where another leader has it already."""
        if leader.taken:
            return []
        batch, size = [leader], leader.weight
        for call in self._waiting.values():
            if call is not leader:
                size += call.weight
                if self._most is not None and size > self._most:
                    break
                batch.append(call)
        for call in batch:
            call.taken = True
            self._remove(call)
        if self._sizes is not None:
            self._sizes.observe(len(batch))
        return batch

    def _settle(self, batch: Sequence[_Call[T, R]]) -> None:
        """Answer all. Only what failed is tried again, alone: what gave a wrong number of results has been done."""
        try:
            results = self._do([call.item for call in batch])
        except Exception as error:  # noqa: BLE001 -- each waiting thread raises it
            if len(batch) > 1 and not isinstance(error, errors.TryLater):
                for call in batch:
                    self._settle([call])
                    call.woken.set()
                return
            for call in batch:
                call.answer.set_exception(error)
            return
        for place, call in enumerate(batch):
            if len(results) == len(batch):
                call.answer.set_result(results[place])
            else:
                call.answer.set_exception(ValueError(f"{len(results)} results of {len(batch)} items"))

    def _do(self, items: Sequence[T]) -> Sequence[R]:
        thread = threading.get_ident()
        self._at_work.add(thread)
        try:
            return self._work(items)
        finally:
            self._at_work.discard(thread)
