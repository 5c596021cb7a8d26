"""Serving the API behind its front: under gunicorn in processes of its own, or in a thread of the embedded process."""

from __future__ import annotations

import resource
import socket
import threading
from pathlib import Path
from typing import Any

import uvicorn
from gunicorn.app.base import BaseApplication
from uvicorn_worker import UvicornWorker

from cellcloud import config as options
from cellcloud import errors, log
from cellcloud.launcher.process_units import load_service
from cellcloud.launcher.request_buffering import MOST_HEAD, MOST_WAITING, Front, HeadProtocol
from cellcloud.service import serve_worker_health

BACKLOG = 2048  # connections that the system keeps until they are taken
FILES = 65536
KEPT_SECONDS = 30  # an idle connection
STOP_SECONDS = 8  # for what is at work when told to stop
FRONT: dict[str, Any] = {
    "loop": "uvloop",  # asyncio leaves TCP_NODELAY off where a listener was made without a protocol
    "http": HeadProtocol,
    "ws": "none",
    "lifespan": "off",
    "interface": "asgi3",
    "h11_max_incomplete_event_size": MOST_HEAD,
    "server_header": False,
    "proxy_headers": False,
    "access_log": False,
    "timeout_graceful_shutdown": STOP_SECONDS,
}


def allow_many_connections() -> None:
    """As many open files as this process may ask for: each connection is one. No more than a quarter of them wait for
    a head."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = FILES if hard == resource.RLIM_INFINITY else min(hard, FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    HeadProtocol.most_waiting = min(MOST_WAITING, most // 4)


class FrontWorker(UvicornWorker):  # type: ignore[misc]
    """A gunicorn worker with the front before the Flask application."""

    CONFIG_KWARGS = FRONT

    wsgi: Any

    def load_wsgi(self) -> None:
        super().load_wsgi()
        self.wsgi = Front(self.wsgi, threads=self.cfg.threads)

    def init_process(self) -> None:
        allow_many_connections()
        super().init_process()


class Gunicorn(BaseApplication):  # type: ignore[misc]
    """Threads in several workers, each of which builds the application for itself."""

    def __init__(self, config: options.Config, run: Path) -> None:
        """``run``: where each worker's socket for health and figures is."""
        self._config = config
        self._run = run
        super().__init__()

    def load_config(self) -> None:
        """Set what ``etc/gunicorn.conf.py`` sets for an API started by hand."""
        top = self._config.top
        settings = {
            "bind": f"{top.bind_host}:{top.bind_port}",
            "workers": top.workers,
            "worker_class": FrontWorker,
            "threads": top.threads,
            "backlog": BACKLOG,
            "timeout": 120,
            "graceful_timeout": STOP_SECONDS,
            "keepalive": KEPT_SECONDS,
            "proc_name": "cellcloud: top.api",
            "control_socket_disable": True,
            **({"certfile": top.tls_certificate, "keyfile": top.tls_key} if top.tls_certificate else {}),
        }
        for name in settings.keys() & self.cfg.settings.keys():  # older versions lack some
            self.cfg.set(name, settings[name])

    def load(self) -> Any:
        """Load the application in each worker, which serves its figures and its health beside those of the other
        processes."""
        log.set_up("top.api", level=self._config.log_level)
        serve_worker_health("top.api", self._run)
        return load_service("api")(self._config)


class Web:
    """The application and its front as one service among others of a process."""

    name = "top.api"

    def __init__(self, config: options.Config) -> None:
        self._config = config
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Take requests from now on. Raises Misconfigured where the address cannot be had."""
        top = self._config.top
        try:
            listener = socket.create_server((top.bind_host, top.bind_port), backlog=BACKLOG)
        except OSError as error:
            raise errors.Misconfigured(f"{top.bind_host}:{top.bind_port} cannot be listened at: {error}") from error
        allow_many_connections()
        front = Front(load_service("api")(self._config), threads=top.threads)
        settings = uvicorn.Config(
            front,
            log_config=None,
            backlog=BACKLOG,
            timeout_keep_alive=KEPT_SECONDS,
            ssl_certfile=top.tls_certificate or None,
            ssl_keyfile=top.tls_key or None,
            **FRONT,
        )
        self._server = uvicorn.Server(settings)
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name=self.name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Take no more requests and let those at hand end."""
        server, self._server = self._server, None
        if server is not None and self._thread is not None:
            server.should_exit = True
            self._thread.join(STOP_SECONDS + 2)

    def check(self) -> dict[str, str]:
        """Return whether the server's thread lives."""
        alive = self._thread is not None and self._thread.is_alive()
        return {"http": "ok" if alive else "not serving"}
