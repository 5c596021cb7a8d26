"""large scheduler hints beside the records of servers"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("server_index", sa.Column("hints_id", sa.String(length=64), nullable=True))
    op.create_index("ix_server_index_hints", "server_index", ["hints_id"])


def downgrade() -> None:
    op.drop_index("ix_server_index_hints", "server_index")
    op.drop_column("server_index", "hints_id")
