"""the version at which a cell holds a server"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("intents", sa.Column("hold", sa.BigInteger(), nullable=False, server_default="1"))


def downgrade() -> None:
    op.drop_column("intents", "hold")
