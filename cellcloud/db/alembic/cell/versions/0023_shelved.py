"""since when a server is shelved and still has its host"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from cellcloud.db.engine import UtcDateTime

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("servers", sa.Column("shelved_at", UtcDateTime()))
    op.create_index("ix_servers_shelved_at", "servers", ["shelved_at"])


def downgrade() -> None:
    op.drop_index("ix_servers_shelved_at", "servers")
    op.drop_column("servers", "shelved_at")
