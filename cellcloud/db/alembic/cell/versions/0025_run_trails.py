"""the names of a run's steps, up to its present one"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("trail", sa.String(1024), nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("runs", "trail")
