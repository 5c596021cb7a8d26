"""A thread that works on whatever waits, many at once."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class BatchWorker(Generic[T]):
    """Hands what was put, up to ``most`` items at once, to ``work`` in a thread that starts with the first item.

    While one batch is at work the next one gathers, so that batches grow with the load. ``work`` must not raise.
    """

    def __init__(self, name: str, work: Callable[[list[T]], None], *, most: int) -> None:
        self._name = name
        self._work = work
        self._most = most
        self._waiting: queue.SimpleQueue[T | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def put(self, item: T) -> None:
        """Add an item; returns at once."""
        self._waiting.put(item)
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._turn, name=self._name, daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Let the batch at work end, and begin no other."""
        self._waiting.put(None)
        with self._lock:
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=30)

    def _turn(self) -> None:
        while True:
            batch: list[T] = []
            ending = False
            item = self._waiting.get()
            while item is not None:
                batch.append(item)
                if len(batch) == self._most or self._waiting.empty():
                    break
                item = self._waiting.get()
            else:
                ending = True
            if batch:
                self._work(batch)
            if ending:
                return
