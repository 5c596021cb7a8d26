"""A guest's consoles as its running domain has them: its screen by VNC, its first serial port, and what was written to
that."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from cellcloud import errors
from cellcloud.model.console import SERIAL, unavailable

CONSOLE_LOG = "console.log"


def find_port(domain: Any, protocol: str) -> int:
    """Return the port of the host at which the console of a running domain listens; 0 when it does not run. Raises
    Invalid when it was started without one."""
    if not domain.isActive():
        return 0
    devices = ET.fromstring(domain.XMLDesc())  # noqa: S314
    if protocol == SERIAL:
        source = devices.find("devices/serial[@type='tcp']/source[@mode='bind']")
        if source is None:
            raise errors.Invalid(unavailable(SERIAL))
        return int(source.get("service", "0"))
    graphics = devices.find("devices/graphics[@type='vnc']")
    return max(0, int(graphics.get("port", "0"))) if graphics is not None else 0


def read_log(directory: Path, length: int) -> str:
    """Return the last ``length`` characters of what the guest in that directory has written; all when negative."""
    log = directory / CONSOLE_LOG
    text = (_read(log.with_name(f"{CONSOLE_LOG}.0")) + _read(log)).decode(errors="replace")
    return text if length < 0 else text[max(0, len(text) - length) :]


def _read(path: Path) -> bytes:
    with suppress(FileNotFoundError):
        return path.read_bytes()
    return b""
