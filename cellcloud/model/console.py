"""Console: the grant a user gets, the form of its token, and what a redeemed token opens."""

from __future__ import annotations

from dataclasses import dataclass

from cellcloud.safe_regex import Pattern

VNC, SERIAL = "vnc", "serial"
_TOKEN = Pattern(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleGrant:
    """``token`` is shown once and kept only as a hash. ``url`` is what the user opens."""

    server_id: str
    protocol: str
    type: str
    url: str
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleBinding:
    """What a token is bound to, read back when it is redeemed."""

    server_id: str
    generation: int
    host: str
    protocol: str
    user_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleAddress:
    """Where a guest's VNC server or serial port listens. ``socket`` (a unix socket) wins over host and port."""

    server_id: str
    generation: int
    host: str
    port: int
    socket: str = ""
    protocol: str = VNC


def unavailable(kind: str) -> str:
    """Return what Nova says of consoles that a guest has not."""
    return f"Unavailable console type {kind}."


def is_token(text: str) -> bool:
    """Tell whether the text could be a console's token at all."""
    return _TOKEN.matches(text)
