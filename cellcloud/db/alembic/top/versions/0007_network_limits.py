"""network limits"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("network_usages", sa.Column("hard_limit", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("network_usages", "hard_limit")
