"""Serving the API: under gunicorn in processes of its own, or by waitress inside the one embedded process."""

from __future__ import annotations

import threading
from typing import Any

import waitress
from gunicorn.app.base import BaseApplication

from cellcloud import config as options
from cellcloud import log
from cellcloud.up.units import load_entry

APPLICATION = "top_api.app:create_app"


class Gunicorn(BaseApplication):  # type: ignore[misc]
    """Threads in several workers, each of which builds the application for itself."""

    def __init__(self, config: options.Config) -> None:
        self._config = config
        super().__init__()

    def load_config(self) -> None:
        """What ``etc/gunicorn.conf.py`` sets for an API started by hand."""
        top = self._config.top
        settings = {
            "bind": f"{top.bind_host}:{top.bind_port}",
            "workers": top.workers,
            "worker_class": "gthread",
            "threads": top.threads,
            "timeout": 120,
            "graceful_timeout": 8,
            "keepalive": 30,
            "proc_name": "cellcloud: top.api",
            "control_socket_disable": True,
        }
        for name in settings.keys() & self.cfg.settings.keys():  # older versions lack some
            self.cfg.set(name, settings[name])

    def load(self) -> Any:
        """Called in each worker."""
        log.set_up("top.api", level=self._config.log_level)
        return load_entry(APPLICATION)(self._config)


class Waitress:
    """The application as one service among others of a process."""

    name = "top.api"

    def __init__(self, config: options.Config) -> None:
        self._config = config
        self._server: Any = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Take requests from now on."""
        top = self._config.top
        application = load_entry(APPLICATION)(self._config)
        self._server = waitress.create_server(
            application,
            host=top.bind_host,
            port=top.bind_port,
            threads=top.threads,
            ident=None,
            max_request_body_size=self._config.outside.max_image_bytes,
        )
        self._thread = threading.Thread(target=self._server.run, name=self.name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Take no more requests and let those at hand end."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
            server.task_dispatcher.shutdown(timeout=5)

    def check(self) -> dict[str, str]:
        """Whether the server's thread lives."""
        alive = self._thread is not None and self._thread.is_alive()
        return {"http": "ok" if alive else "not serving"}
