"""where a server was for each of its operations; counting servers by host from an index alone"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("host", sa.String(255), nullable=False, server_default=""))
    op.create_index("ix_servers_on", "servers", ["host", "deleted"])
    op.drop_index("ix_servers_host", "servers")


def downgrade() -> None:
    op.create_index("ix_servers_host", "servers", ["host"])
    op.drop_index("ix_servers_on", "servers")
    op.drop_column("runs", "host")
