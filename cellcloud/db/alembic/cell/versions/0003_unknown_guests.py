"""guests that no record accounts for"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import cellcloud.db.engine

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "unknown_guests",
        sa.Column("server_id", sa.String(length=36), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("power_state", sa.Integer(), nullable=False),
        sa.Column("project_id", sa.String(length=255), nullable=False),
        sa.Column("reason", sa.String(length=255), nullable=False),
        sa.Column("removal", sa.Boolean(), nullable=False),
        sa.Column("first_seen", cellcloud.db.engine.UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("server_id", "host", name=op.f("pk_unknown_guests")),
    )
