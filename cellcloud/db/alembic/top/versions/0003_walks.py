"""walks through lists"""

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
        "walks",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("whose", sa.String(length=64), nullable=False),
        sa.Column("what", sa.String(length=64), nullable=False),
        sa.Column("ids", sa.LargeBinary(length=1 << 24), nullable=False),
        sa.Column("started_at", cellcloud.db.engine.UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_walks")),
    )
    op.create_index("ix_walks_whose", "walks", ["whose", "started_at"], unique=False)
    op.create_index("ix_walks_started_at", "walks", ["started_at"], unique=False)


def downgrade() -> None:
    op.drop_table("walks")
