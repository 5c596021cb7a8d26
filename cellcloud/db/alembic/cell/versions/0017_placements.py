"""the number that the top gave a server's placement"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("servers", sa.Column("placement", sa.BigInteger(), nullable=False, server_default="0"))


def downgrade() -> None:
    op.drop_column("servers", "placement")
