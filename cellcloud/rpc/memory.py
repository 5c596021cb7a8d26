"""Messages inside one process: kombu's memory transport, with receivers that sleep until a message arrives.

Kombu's own asks all its queues again and again, which keeps a processor busy. What is overridden is what kombu
documents for transports of others (kombu.transport.virtual) and its channels' public methods.
"""

from __future__ import annotations

import threading
import weakref
from collections import defaultdict
from typing import Any

import amqp
from kombu.transport import memory

from cellcloud import clock, third_party_patches

NAME = "cellcloud"
_lock = threading.Lock()
_receivers: defaultdict[str, weakref.WeakSet[MemoryTransport]] = defaultdict(weakref.WeakSet)


class Channel(memory.Channel):
    """Wakes those who receive from a queue when a message is put there. What leads nowhere is told to senders who want
    to know, as by a broker, and is not kept."""

    def basic_publish(self, message: Any, exchange: str, routing_key: str, **options: Any) -> Any:
        bindings = self.state.exchanges.get(exchange, {}).get("table")
        if bindings is None or not any(binding[0] == routing_key for binding in bindings):
            if options.get("mandatory") or bindings is None:
                raise amqp.NotFound(f"NOT_FOUND - no queue for {routing_key}", (60, 40), "Channel.basic_publish")
            return None
        return super().basic_publish(message, exchange, routing_key, **options)  # type: ignore[no-untyped-call]

    def _put(self, queue: str, *args: Any, **options: Any) -> None:
        super()._put(queue, *args, **options)  # type: ignore[no-untyped-call]
        _wake(queue)

    def basic_consume(self, queue: str, *args: Any, **options: Any) -> Any:
        super().basic_consume(queue, *args, **options)  # type: ignore[no-untyped-call]
        with _lock:
            _receivers[queue].add(self.connection)


class MemoryTransport(memory.Transport):
    """As kombu's, but for how it waits."""

    Channel = Channel

    def __init__(self, client: Any, **options: Any) -> None:
        super().__init__(client, **options)  # type: ignore[no-untyped-call]
        self.arrival = threading.Event()

    def drain_events(self, connection: Any, timeout: float | None = None, **options: Any) -> None:
        """Deliver one message; raises TimeoutError when none came in ``timeout`` seconds."""
        end = None if timeout is None else clock.monotonic() + timeout
        while True:
            self.arrival.clear()
            try:
                super().drain_events(connection, timeout=0)  # type: ignore[no-untyped-call]
                return
            except TimeoutError:
                left = None if end is None else end - clock.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError
            self.arrival.wait(left)


def _wake(name: str) -> None:
    with _lock:
        receivers = list(_receivers.get(name, ()))
    for receiver in receivers:
        receiver.arrival.set()


third_party_patches.name_transport(NAME, f"{__name__}:{MemoryTransport.__name__}")
