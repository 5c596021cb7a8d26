"""images that hosts are to fetch ahead of servers"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from cellcloud.db.engine import Json, UtcDateTime

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "image_cachings",
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("images", Json(), nullable=False),
        sa.Column("request_id", sa.String(255), nullable=False),
        sa.Column("begun", sa.Integer, nullable=False),
        sa.Column("asked_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("host", name=op.f("pk_image_cachings")),
    )


def downgrade() -> None:
    op.drop_table("image_cachings")
