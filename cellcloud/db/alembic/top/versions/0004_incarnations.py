"""incarnations"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import cellcloud.db.engine

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "incarnations",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("value", sa.String(length=36), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("since", cellcloud.db.engine.UtcDateTime(), nullable=False),
        sa.Column("reason", sa.String(length=255), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_incarnations")),
    )
    op.add_column("cells", sa.Column("feed_mark", sa.String(length=128), nullable=False, server_default=""))
    op.add_column("cells", sa.Column("incarnation", sa.String(length=36), nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("cells", "incarnation")
    op.drop_column("cells", "feed_mark")
    op.drop_table("incarnations")
