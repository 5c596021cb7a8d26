"""how large the entries of the feed are, each and together"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("feed", sa.Column("size", sa.Integer(), server_default="0", nullable=False))
    op.add_column("feed_counter", sa.Column("size", sa.BigInteger(), server_default="0", nullable=False))
