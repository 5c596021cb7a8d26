"""Console tokens: made here, shown once, kept nowhere but as a hash."""

from __future__ import annotations

import hashlib
import secrets
from urllib.parse import quote

BYTES = 32


def make_token() -> str:
    """256 random bits, fit for a URL."""
    return secrets.token_urlsafe(BYTES)


def hash_token(token: str) -> str:
    """Return what is kept of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def console_url(base_url: str, token: str) -> str:
    """Return what the user opens: noVNC's page, told by which path to ask for its websocket. Source: Nova's console
    URLs."""
    path = quote(f"websockify?token={token}", safe="")
    return f"{base_url}/vnc.html?path={path}&autoconnect=true&reconnect=false"


def serial_url(base_url: str, token: str) -> str:
    """Return what a program opens: the websocket itself. Source: Nova's serial console URLs."""
    return f"ws{base_url.removeprefix('http')}/?token={token}"
