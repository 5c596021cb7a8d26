"""What the scheduler chose for whom, and how many hosts each filter refused."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud.db.cell_schema import decisions
from cellcloud.db.engine import utc_now
from cellcloud.model.placement import SelectAnswer


def insert(connection: Connection, made: Sequence[tuple[SelectAnswer, str, str | None]]) -> None:
    """(answer, request id, host that was claimed or None) each."""
    if made:
        connection.execute(
            sa.insert(decisions).values(created_at=utc_now()),
            [
                {
                    "id": str(uuid.uuid4()),
                    "server_id": answer.server_id,
                    "request_id": request_id,
                    "hosts": list(answer.hosts),
                    "chosen": chosen,
                    "refused": answer.refused,
                }
                for answer, request_id, chosen in made
            ],
        )


def list_of(connection: Connection, server_id: str) -> list[dict[str, Any]]:
    """The decisions about a server, oldest first."""
    rows = connection.execute(
        sa.select(decisions).where(decisions.c.server_id == server_id).order_by(decisions.c.created_at)
    )
    return [dict(row._mapping) for row in rows]
