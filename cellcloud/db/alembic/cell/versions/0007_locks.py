"""who locked a server, and why"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("servers", sa.Column("locked_by", sa.String(length=16), nullable=True))
    op.add_column("servers", sa.Column("locked_reason", sa.String(length=255), nullable=True))
