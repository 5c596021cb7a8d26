"""Keypairs: named public keys of users."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from cellcloud import errors
from cellcloud.db import quotas
from cellcloud.db.engine import utc_now
from cellcloud.db.top_schema import keypairs
from cellcloud.model.keypair import Keypair


def _keypair(row: Row[Any]) -> Keypair:
    return Keypair(**row._mapping)


def create_keypair(connection: Connection, keypair: Keypair, *, most: int = quotas.UNLIMITED) -> Keypair:
    """Store a key pair. Raises Conflict when the user has one of that name, QuotaExceeded when they have ``most``."""
    have = sa.select(sa.func.count()).select_from(keypairs).where(keypairs.c.user_id == keypair.user_id)
    if not quotas.fits(connection, f"user:{keypair.user_id}"[:255], "key_pairs", have, 1, most):
        raise errors.QuotaExceeded("Quota exceeded, too many key pairs.")
    try:
        with connection.begin_nested():
            connection.execute(
                sa.insert(keypairs).values(
                    user_id=keypair.user_id,
                    name=keypair.name,
                    type=keypair.type,
                    public_key=keypair.public_key,
                    fingerprint=keypair.fingerprint,
                    created_at=utc_now(),
                )
            )
    except sa.exc.IntegrityError as error:
        raise errors.Conflict(f"Key pair '{keypair.name}' already exists.") from error
    return get_keypair(connection, keypair.user_id, keypair.name)


def find_keypair(connection: Connection, user_id: str, name: str) -> Keypair | None:
    row = connection.execute(
        sa.select(keypairs).where(keypairs.c.user_id == user_id, keypairs.c.name == name)
    ).one_or_none()
    return None if row is None else _keypair(row)


def get_keypair(connection: Connection, user_id: str, name: str) -> Keypair:
    """Return a user's key pair. Raises NotFound."""
    keypair = find_keypair(connection, user_id, name)
    if keypair is None:
        raise errors.NotFound(f"Keypair {name} not found for user {user_id}")
    return keypair


def list_keypairs(connection: Connection, user_id: str) -> list[Keypair]:
    """By name."""
    statement = sa.select(keypairs).where(keypairs.c.user_id == user_id).order_by(keypairs.c.name)
    return [_keypair(row) for row in connection.execute(statement)]


def delete_keypair(connection: Connection, user_id: str, name: str) -> None:
    """Delete a user's key pair; servers keep the key they were made with. Raises NotFound."""
    gone = connection.execute(sa.delete(keypairs).where(keypairs.c.user_id == user_id, keypairs.c.name == name))
    if gone.rowcount == 0:
        raise errors.NotFound(f"Keypair {name} not found for user {user_id}")
