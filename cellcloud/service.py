"""Runs any service: signals, loops, health and heartbeat.

A service is built by the ``build(config, **params)`` of its ``__main__`` module, which wires its parts. ``run`` keeps
one in a process of its own; the embedded profile starts many side by side.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import signal
import socketserver
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Protocol

import click
import psutil

from cellcloud import clock, errors, log, metrics
from cellcloud.config import Config, load

LOG = logging.getLogger(__name__)


class Service(Protocol):
    """What the launcher asks of a service. ``stop`` finishes work at hand and may be called twice."""

    name: str

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def check(self) -> dict[str, str]:
        """Part -> "ok" or what is wrong with it."""
        ...


class Loop:
    """Calls ``work`` every ``interval`` seconds, and at once when woken; an error is logged and tried again.

    ``work`` may return True to be called again without waiting.
    """

    def __init__(self, name: str, interval: float, work: Callable[[], bool | None]) -> None:
        self.name = name
        self._interval = interval
        self._work = work
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.last_success = clock.monotonic()
        self.last_error = ""

    def start(self) -> None:
        """Begin calling."""
        self._thread = threading.Thread(target=self._turn, name=self.name, daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Do not wait for the interval's end."""
        self._wake.set()

    def stop(self) -> None:
        """Let the present call end, and no other begin."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=30)

    def check(self) -> str:
        """ "ok", or the last error when the loop has failed for more than ten intervals."""
        silent = clock.monotonic() - self.last_success
        if self.last_error and silent > max(10 * self._interval, 5.0):
            return self.last_error
        return "ok"

    def _turn(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            again: bool | None = False
            try:
                again = self._work()
                self.last_success, self.last_error = clock.monotonic(), ""
            except errors.TryLater as error:
                self._note(error.message, error.detail)
            except Exception as error:
                LOG.exception("loop failed", extra={"loop": self.name})
                self.last_error = type(error).__name__
            if not again or self.last_error:
                self._wake.wait(self._interval)

    def _note(self, message: str, detail: str) -> None:
        if self.last_error != message:
            LOG.warning("loop waits", extra={"loop": self.name, "why": message, "detail": detail})
        self.last_error = message


class _HealthHandler(BaseHTTPRequestHandler):
    server: _HealthServer

    def do_GET(self) -> None:
        if self.path == "/metrics":
            self._answer(200, "text/plain; version=0.0.4", metrics.render())
        elif self.path == "/health":
            parts = self.server.service.check()
            status = 200 if all(word == "ok" for word in parts.values()) else 503
            body = {"service": self.server.service.name, "pid": os.getpid(), "parts": parts}
            self._answer(status, "application/json", json.dumps(body).encode())
        else:
            self._answer(404, "text/plain", b"")

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "local"

    def log_message(self, format: str, *args: Any) -> None:
        """Health checks are not events."""


class _HealthServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, path: Path, service: Service) -> None:
        self.service = service
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.unlink(missing_ok=True)
        super().__init__(str(path), _HealthHandler)
        path.chmod(0o600)


def serve_health(service: Service, path: Path) -> Callable[[], None]:
    """Answer /health and /metrics on a unix socket; returns what ends it."""
    server = _HealthServer(path, service)
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()

    def end() -> None:
        server.shutdown()
        server.server_close()
        path.unlink(missing_ok=True)

    return end


class _Worker:
    """One of several alike processes of a service; it has no parts that could be ill by themselves."""

    def __init__(self, name: str) -> None:
        self.name = name

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def check(self) -> dict[str, str]:
        return {}


def serve_worker_health(name: str, directory: Path) -> None:
    """Answer /health and /metrics of this worker of gunicorn until it ends; sockets of workers that were killed go."""
    for left in directory.glob(f"{name}-*.sock"):
        if not psutil.pid_exists(int(left.stem.rpartition("-")[2])):
            left.unlink(missing_ok=True)
    atexit.register(serve_health(_Worker(name), directory / f"{name}-{os.getpid()}.sock"))


def command(name: str, what: str, build: Callable[[Config], Service]) -> click.Command:
    """Return the command that runs a cell's service until SIGTERM."""

    @click.command(name, help=f"Run {what} until SIGTERM.")
    @click.option("--config", "path", required=True, type=click.Path(exists=True), help="The cell's option file.")
    def main(path: str) -> None:
        config = load(path)
        log.set_up(name, level=config.log_level)
        run(build(config), health_socket=config.state_dir / "run" / f"{name}.sock")

    return main


def run(service: Service, *, health_socket: Path | None = None) -> None:
    """Start the service and keep it until SIGTERM or SIGINT, then let it drain. Call from the main thread."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    service.start()
    end_health = serve_health(service, health_socket) if health_socket else None
    LOG.info("service started", extra={"name_of_service": service.name})
    stop.wait()
    LOG.info("service stops", extra={"name_of_service": service.name})
    service.stop()
    if end_health:
        end_health()
