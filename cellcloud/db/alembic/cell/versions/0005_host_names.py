"""which machine a host's name belongs to"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import cellcloud.db.engine

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "host_names",
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("identity", sa.String(length=36), nullable=False),
        sa.Column("place", sa.String(length=255), nullable=False),
        sa.Column("held_until", cellcloud.db.engine.UtcDateTime(), nullable=False),
        sa.Column("rival", sa.String(length=255), nullable=False),
        sa.Column("rival_at", cellcloud.db.engine.UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("host", name=op.f("pk_host_names")),
    )
