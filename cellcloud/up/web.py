"""Serving the API under gunicorn, in processes of its own."""

from __future__ import annotations

from typing import Any

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
