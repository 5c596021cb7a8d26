"""Connections to PostgreSQL that wait for an answer only so long: neither a server that has stopped nor a network that
swallows packets may hold a thread."""

from __future__ import annotations

from typing import Any


def longest(seconds: float) -> float:
    """Return how long this side waits for an answer, where the server itself gives a statement so many seconds."""
    return seconds + max(1.0, seconds / 4)


def bounds(seconds: float) -> dict[str, Any]:
    """Return what a connection is opened with so that the server gives statements up after that time, and locks after
    half of it; and so that a peer that is gone is noticed. 0: statements may take as long as they do."""
    settings = {
        "statement_timeout": seconds,
        "lock_timeout": seconds / 2,
        "idle_in_transaction_session_timeout": 3 * seconds,
    }
    given = " ".join(f"-c {name}={int(value * 1000)}" for name, value in settings.items() if value)
    alive = {"keepalives": 1, "keepalives_idle": 5, "keepalives_interval": 3, "keepalives_count": 3}
    return {"options": given, "tcp_user_timeout": 15_000, **alive}


def connect(seconds: float, *args: Any, **kwargs: Any) -> Any:
    """Open a connection whose every exchange with the server takes at most that long."""
    import psycopg

    from cellcloud.third_party_patches import impatient_postgresql_connection

    kind = impatient_postgresql_connection(longest(seconds)) if seconds else psycopg.Connection
    return kind.connect(*args, **kwargs)
