"""since when a server is deleted but for its reclaim"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from cellcloud.db.engine import UtcDateTime

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("servers", sa.Column("soft_deleted_at", UtcDateTime()))
    op.create_index("ix_servers_soft_deleted", "servers", ["soft_deleted_at"])


def downgrade() -> None:
    op.drop_index("ix_servers_soft_deleted", "servers")
    op.drop_column("servers", "soft_deleted_at")
