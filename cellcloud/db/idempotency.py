"""Client tokens: the answer a create gave, kept for days under the client's key.

Keys are stored as hashes. The primary key decides between two requests that come at once: the later one's transaction
fails, and it reads the earlier one's answer.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud.db.engine import utc_now
from cellcloud.db.top_schema import idempotency_keys


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAnswer:
    """``body_hash`` tells a retry from another request under the same key."""

    body_hash: str
    answer: dict[str, Any]


def hash_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def find_answer(connection: Connection, project_id: str, key: str) -> KeptAnswer | None:
    row = connection.execute(
        sa.select(idempotency_keys.c.body_hash, idempotency_keys.c.answer).where(
            idempotency_keys.c.project_id == project_id, idempotency_keys.c.key_hash == hash_of(key.encode())
        )
    ).one_or_none()
    return None if row is None else KeptAnswer(body_hash=row.body_hash, answer=row.answer)


def keep_answer(connection: Connection, project_id: str, key: str, kept: KeptAnswer) -> bool:
    """Keep the answer to a request. False when the key has one already; the transaction must then be rolled back."""
    try:
        with connection.begin_nested():
            connection.execute(
                sa.insert(idempotency_keys).values(
                    project_id=project_id,
                    key_hash=hash_of(key.encode()),
                    body_hash=kept.body_hash,
                    answer=kept.answer,
                    created_at=utc_now(),
                )
            )
    except sa.exc.IntegrityError:
        return False
    return True
