"""large scheduler hints beside the records of servers"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("servers", sa.Column("hints_id", sa.String(length=64), nullable=True))
    op.create_index("ix_servers_hints", "servers", ["hints_id"])


def downgrade() -> None:
    op.drop_index("ix_servers_hints", "servers")
    op.drop_column("servers", "hints_id")
