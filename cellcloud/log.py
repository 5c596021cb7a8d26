"""One structured line per event, with the request id of whoever caused it."""

from __future__ import annotations

import contextvars
import json
import logging
import sys
from typing import Any

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="-")
_STANDARD = frozenset(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """A JSON object a line; what is passed as ``extra`` becomes fields. Long values are cut."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}",
            "level": record.levelname,
            "service": self._service,
            "request_id": request_id.get(),
            "event": record.getMessage()[:2000],
        }
        for key, value in record.__dict__.items():
            if key not in _STANDARD and not key.startswith("_"):
                line[key] = str(value)[:500]
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)[-4000:]
        return json.dumps(line, ensure_ascii=True)


def set_up(service: str, *, level: str = "INFO", file: str = "") -> None:
    """Send every logger of this process to ``file`` or standard error."""
    handler: logging.Handler = logging.FileHandler(file) if file else logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in ("amqp", "kombu", "oslo_messaging", "oslo.messaging", "alembic", "urllib3", "keystoneauth"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("kombu.connection").setLevel(logging.ERROR)  # it warns that memory has no host name
