"""Console tokens: hashed, single-use, expiring by the database's clock, bound to a server's generation and host."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud import errors
from cellcloud.db.cell_schema import console_tokens, servers
from cellcloud.db.engine import utc_after, utc_now
from cellcloud.model.console import ConsoleBinding
from cellcloud.model.server import ServerRecord

PRUNED_AT_ONCE = 5000
NOT_VALID = "The console token is not valid."


def insert(
    connection: Connection, record: ServerRecord, *, token_hash: str, protocol: str, user_id: str, ttl: float
) -> ConsoleBinding:
    """Bind a token to the server as it is."""
    host = record.host or ""
    connection.execute(
        sa.insert(console_tokens).values(
            token_hash=token_hash,
            server_id=record.id,
            generation=record.generation,
            host=host,
            protocol=protocol,
            user_id=user_id,
            expires_at=utc_after(ttl),
        )
    )
    return ConsoleBinding(
        server_id=record.id, generation=record.generation, host=host, protocol=protocol, user_id=user_id
    )


def redeem(connection: Connection, token_hash: str) -> ConsoleBinding:
    """Use the token up. Raises NotFound, always in the same words, for one that opens nothing."""
    used = connection.execute(
        sa.update(console_tokens)
        .where(
            console_tokens.c.token_hash == token_hash,
            console_tokens.c.used_at.is_(None),
            console_tokens.c.expires_at > utc_now(),
        )
        .values(used_at=utc_now())
    )
    if used.rowcount != 1:
        raise errors.NotFound(NOT_VALID)
    return _find(connection, token_hash)


def find(connection: Connection, token_hash: str) -> ConsoleBinding:
    """Return what a token would open. Raises as ``redeem`` does."""
    return _find(connection, token_hash, console_tokens.c.used_at.is_(None), console_tokens.c.expires_at > utc_now())


def _find(connection: Connection, token_hash: str, *valid: sa.ColumnElement[bool]) -> ConsoleBinding:
    row = connection.execute(
        sa.select(console_tokens)
        .join(
            servers,
            sa.and_(
                servers.c.id == console_tokens.c.server_id,
                servers.c.generation == console_tokens.c.generation,
                servers.c.host == console_tokens.c.host,
                servers.c.deleted.is_(False),
            ),
        )
        .where(console_tokens.c.token_hash == token_hash, *valid)
    ).one_or_none()
    if row is None:
        raise errors.NotFound(NOT_VALID)
    return ConsoleBinding(
        server_id=row.server_id,
        generation=row.generation,
        host=row.host,
        protocol=row.protocol,
        user_id=row.user_id,
    )


def is_current(connection: Connection, server_id: str, generation: int) -> bool:
    """Return whether the server is still at that generation."""
    query = sa.select(servers.c.id).where(
        servers.c.id == server_id, servers.c.generation == generation, servers.c.deleted.is_(False)
    )
    return connection.execute(query).one_or_none() is not None


def prune(connection: Connection) -> int:
    """Forget some of the tokens that expired an hour ago; returns how many."""
    key, old = console_tokens.c.token_hash, console_tokens.c.expires_at < utc_after(-3600.0)
    some = connection.execute(sa.select(key).where(old).limit(PRUNED_AT_ONCE)).scalars().all()
    return connection.execute(sa.delete(console_tokens).where(key.in_(some), old)).rowcount if some else 0
