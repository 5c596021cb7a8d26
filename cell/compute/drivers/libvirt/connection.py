"""One libvirtd as seen by its driver: opened in bounded time, opened again when lost, never waited for without end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

import libvirt

from cell.compute.drivers.libvirt.options import LibvirtOptions
from cellcloud import clock, errors

T = TypeVar("T")

KEEPALIVE_INTERVAL, KEEPALIVE_COUNT = 5, 3
MAX_CALLS = 64  # at once, stuck ones included
RETRY_SECONDS = 1.0

LifecycleListener = Callable[[str], None]
_loop_started = threading.Lock()


def _ignore(_context: object, _error: object) -> None:
    """libvirt's default is to print every error."""


def _run_event_loop() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()


def start_event_loop() -> None:
    """Start libvirt's event loop of this process, once."""
    if _loop_started.acquire(blocking=False):
        libvirt.registerErrorHandler(_ignore, None)
        libvirt.virEventRegisterDefaultImpl()
        threading.Thread(target=_run_event_loop, name="libvirt-events", daemon=True).start()


class LibvirtConnection:
    """A connection that mends itself. ``listener`` is told the name of each guest with a lifecycle event.

    libvirt's calls cannot be interrupted, so each runs on a thread of its own and is left behind when it takes too
    long; the connection is then replaced.
    """

    def __init__(self, options: LibvirtOptions, listener: LifecycleListener) -> None:
        self._options = options
        self._listener = listener
        self._lock = threading.Lock()
        self._opening = threading.Lock()
        self._calls = threading.BoundedSemaphore(MAX_CALLS)
        self._current: Any = None
        self._closed = threading.Event()

    def call(self, work: Callable[[Any], T], *, timeout: float | None = None) -> T:
        """``work(libvirt connection)`` in bounded time. Raises Unreachable when libvirtd does not answer; libvirt's own
        errors pass through.
        """
        seconds = timeout if timeout is not None else self._options.call_timeout
        for attempt in (1, 2):
            opened = self._get()
            try:
                return self._bounded(lambda opened=opened: work(opened), seconds)  # type: ignore[misc]
            except TimeoutError:
                self._drop(opened)
                raise errors.Unreachable("The hypervisor does not answer.") from None
            except libvirt.libvirtError:
                if opened.isAlive() == 1:
                    raise
                self._drop(opened)
                if attempt == 2:
                    raise errors.Unreachable("The hypervisor went away.") from None
        raise errors.Unreachable("The hypervisor went away.")

    def keep_open(self) -> None:
        """Stay connected, so that events come, until closed. Blocks."""
        while not self._closed.wait(RETRY_SECONDS):
            with suppress(errors.CellcloudError):
                self._get()

    def close(self) -> None:
        """Close for good."""
        self._closed.set()
        with self._lock:
            opened, self._current = self._current, None
        if opened is not None:
            threading.Thread(target=_close, args=(opened,), daemon=True).start()

    def _get(self) -> Any:
        with self._opening:
            with self._lock:
                opened = self._current
            if opened is not None and opened.isAlive() == 1:
                return opened
            if self._closed.is_set():
                raise errors.Unreachable("The hypervisor's connection is closed.")
            if opened is not None:
                self._drop(opened)
            try:
                opened = self._bounded(self._open, self._options.open_timeout)
            except TimeoutError:
                raise errors.Unreachable("The hypervisor does not answer.") from None
            except libvirt.libvirtError as error:
                raise errors.Unreachable("The hypervisor does not answer.", detail=str(error)) from error
            with self._lock:
                self._current = opened
            return opened

    def _open(self) -> Any:
        opened = libvirt.open(self._options.uri)
        opened.setKeepAlive(KEEPALIVE_INTERVAL, KEEPALIVE_COUNT)
        opened.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._on_event, None)
        return opened

    def _on_event(self, _opened: Any, domain: Any, _event: int, _detail: int, _opaque: object) -> None:
        self._listener(str(domain.name()))

    def _drop(self, opened: Any) -> None:
        with self._lock:
            if self._current is opened:
                self._current = None
        threading.Thread(target=_close, args=(opened,), daemon=True).start()

    def _bounded(self, work: Callable[[], T], seconds: float) -> T:
        deadline = clock.monotonic() + seconds
        if not self._calls.acquire(timeout=seconds):
            raise errors.Busy("Too many calls to the hypervisor are under way.")
        outcome: Future[T] = Future()

        def run() -> None:
            try:
                outcome.set_result(work())
            except BaseException as error:  # noqa: BLE001 - handed to whoever waits
                outcome.set_exception(error)
            finally:
                self._calls.release()

        threading.Thread(target=run, name="libvirt-call", daemon=True).start()
        return outcome.result(max(0.0, deadline - clock.monotonic()))


def _close(opened: Any) -> None:
    with suppress(libvirt.libvirtError):
        opened.close()


def translate(
    error: libvirt.libvirtError, refused: type[errors.CellcloudError] = errors.GuestFailed
) -> errors.CellcloudError:
    """Return a libvirt error in our terms."""
    if error.get_error_code() in (libvirt.VIR_ERR_NO_MEMORY, libvirt.VIR_ERR_NO_SUPPORT):
        return errors.HostRefused("The host cannot run the guest.", detail=str(error))
    return refused("The hypervisor refused the guest.", detail=str(error))
