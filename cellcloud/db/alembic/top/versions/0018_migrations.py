"""the index of migrations, and what each server counts for in its project's quota"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import cellcloud.db.engine

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("server_index", sa.Column("quota_cores", sa.Integer(), nullable=True))
    op.add_column("server_index", sa.Column("quota_ram", sa.Integer(), nullable=True))
    op.create_table(
        "migrations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("server_id", sa.String(length=36), nullable=False),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("source", sa.String(length=255), nullable=False),
        sa.Column("destination", sa.String(length=255), nullable=False),
        sa.Column("user_id", sa.String(length=255), nullable=False),
        sa.Column("project_id", sa.String(length=255), nullable=False),
        sa.Column("created_at", cellcloud.db.engine.UtcDateTime(), nullable=False),
        sa.Column("updated_at", cellcloud.db.engine.UtcDateTime(), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("record", cellcloud.db.engine.Json(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_migrations")),
        sa.UniqueConstraint("uuid", name=op.f("uq_migrations_uuid")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_migrations_created_at", "migrations", ["created_at", "id"])
    op.create_index("ix_migrations_server", "migrations", ["server_id"])


def downgrade() -> None:
    op.drop_table("migrations")
    op.drop_column("server_index", "quota_ram")
    op.drop_column("server_index", "quota_cores")
