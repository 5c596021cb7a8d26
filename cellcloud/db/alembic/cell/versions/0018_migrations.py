"""a server's moves, and since when one waits to be confirmed"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import cellcloud.db.engine

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("servers", sa.Column("migrations", cellcloud.db.engine.Json(), nullable=True))
    op.add_column("servers", sa.Column("unconfirmed_since", cellcloud.db.engine.UtcDateTime(), nullable=True))
    op.create_index("ix_servers_unconfirmed_since", "servers", ["unconfirmed_since"])


def downgrade() -> None:
    op.drop_index("ix_servers_unconfirmed_since", table_name="servers")
    op.drop_column("servers", "unconfirmed_since")
    op.drop_column("servers", "migrations")
