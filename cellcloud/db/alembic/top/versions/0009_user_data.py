"""user data beside the records of servers"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import cellcloud.db.engine

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "user_data",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("used_at", cellcloud.db.engine.UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user_data")),
    )
    op.add_column("server_index", sa.Column("user_data_id", sa.String(length=64), nullable=True))
    op.create_index("ix_server_index_user_data", "server_index", ["user_data_id"])
