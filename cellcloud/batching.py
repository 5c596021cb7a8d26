"""Calls of many threads in few, and messages of a bounded size."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

from cellcloud import errors

T = TypeVar("T")
R = TypeVar("R")
INSTANT = 0.003
MOST_BYTES = 1 << 20  # of what is put into one message


def portions(items: Sequence[T], size_of: Callable[[T], int], most: int = MOST_BYTES) -> Iterator[list[T]]:
    """The items in their order, as many at once as come to no more than ``most``, and at least one."""
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


class Batcher(Generic[T, R]):
    """Does the work of many threads at once: whoever comes while a batch is at work waits, and the first of those who
    waited takes them all with it. The first of all waits for an instant, since those who belong together seldom come
    in the same moment.

    ``work`` gives one result an item, in order. When it raises on several items each is tried alone, so that what is
    wrong with one does not fail the others; TryLater is the error of all.
    """

    def __init__(self, work: Callable[[Sequence[T]], Sequence[R]]) -> None:
        self._work = work
        self._working = threading.Lock()
        self._gathering = threading.Lock()
        self._waiting: list[tuple[T, Future[R]]] = []

    def __call__(self, item: T) -> R:
        """What ``work`` made of the item, or the error it raised."""
        future: Future[R] = Future()
        with self._gathering:
            self._waiting.append((item, future))
        with self._working:
            if not future.done():
                time.sleep(INSTANT)
                with self._gathering:
                    batch, self._waiting = self._waiting, []
                self._settle(batch)
        return future.result()

    def _settle(self, batch: Sequence[tuple[T, Future[R]]]) -> None:
        try:
            results = self._work([item for item, _ in batch])
        except BaseException as error:  # noqa: BLE001 -- each waiting thread raises it
            if len(batch) > 1 and not isinstance(error, errors.TryLater):
                for one in batch:
                    self._settle([one])
                return
            for _, future in batch:
                future.set_exception(error)
            return
        for (_, future), result in zip(batch, results, strict=True):
            future.set_result(result)
