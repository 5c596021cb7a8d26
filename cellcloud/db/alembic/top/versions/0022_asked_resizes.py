"""when a cell was last asked for a resize of which it has told nothing"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from cellcloud.db.engine import UtcDateTime

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("server_index", sa.Column("quota_asked_at", UtcDateTime(), nullable=True))
    op.create_index("ix_server_index_asked", "server_index", ["quota_asked_at"])


def downgrade() -> None:
    op.drop_index("ix_server_index_asked", "server_index")
    op.drop_column("server_index", "quota_asked_at")
