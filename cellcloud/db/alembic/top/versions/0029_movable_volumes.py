"""volumes that nobody has used follow their first server; how far a snapshot is said to be"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("volumes", sa.Column("movable", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("volume_snapshots", sa.Column("progress", sa.String(8), nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("volume_snapshots", "progress")
    op.drop_column("volumes", "movable")
