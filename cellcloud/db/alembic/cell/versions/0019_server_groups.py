"""which server group a server is in, and a row for each group that claims are made for"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "server_groups",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_server_groups")),
    )
    op.add_column("servers", sa.Column("group_id", sa.String(length=36), nullable=True))
    some = sa.text("group_id IS NOT NULL")
    op.create_index("ix_servers_group", "servers", ["group_id", "deleted"], postgresql_where=some, sqlite_where=some)


def downgrade() -> None:
    op.drop_index("ix_servers_group", "servers")
    op.drop_column("servers", "group_id")
    op.drop_table("server_groups")
