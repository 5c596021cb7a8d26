"""claims have ids of their own

A server's claim has the server's id. Should one have had claims on several hosts, the one where its record has it is
its own, and the others count as those of migrations that nobody is at work on, for the audit to tell.
"""

from __future__ import annotations

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("claims") as batch:
        batch.add_column(sa.Column("id", sa.String(length=36), nullable=True))
    claims = sa.table("claims", *(sa.column(name) for name in ("id", "server_id", "host")))
    connection = op.get_bind()
    connection.execute(sa.update(claims).values(id=claims.c.server_id))
    _tell_apart(connection, claims)
    with op.batch_alter_table("claims") as batch:
        batch.drop_constraint(op.f("pk_claims"), type_="primary")
        batch.alter_column("id", existing_type=sa.String(length=36), nullable=False)
        batch.create_primary_key(op.f("pk_claims"), ["id"])
        batch.create_index(op.f("ix_claims_server_id"), ["server_id"])


def _tell_apart(connection: sa.Connection, claims: sa.TableClause) -> None:
    servers = sa.table("servers", sa.column("id"), sa.column("host"))
    several = sa.select(claims.c.server_id).group_by(claims.c.server_id).having(sa.func.count() > 1)
    twice = connection.execute(several).scalars().all()
    rows = connection.execute(
        sa.select(claims.c.server_id, claims.c.host)
        .join_from(claims, servers, servers.c.id == claims.c.server_id, isouter=True)
        .where(claims.c.server_id.in_(twice))
        .order_by(claims.c.server_id, sa.case((servers.c.host == claims.c.host, 0), else_=1), claims.c.host)
    ).all()
    own: set[str] = set()
    for row in rows:
        if row.server_id in own:
            mine = (claims.c.server_id == row.server_id, claims.c.host == row.host)
            connection.execute(sa.update(claims).where(*mine).values(id=str(uuid.uuid4())))
        own.add(row.server_id)
