"""server groups, and which of them each server is in"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import cellcloud.db.engine

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "server_groups",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=255), nullable=False),
        sa.Column("user_id", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("policy", sa.String(length=32), nullable=False),
        sa.Column("max_server_per_host", sa.Integer(), nullable=True),
        sa.Column("created_at", cellcloud.db.engine.UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_server_groups")),
    )
    op.create_index("ix_server_groups_project", "server_groups", ["project_id", "created_at", "id"])
    op.create_index("ix_server_groups_created_at", "server_groups", ["created_at", "id"])
    op.add_column("server_index", sa.Column("group_id", sa.String(length=36), nullable=True))
    op.create_index("ix_server_index_group", "server_index", ["group_id", "deleted"])


def downgrade() -> None:
    op.drop_index("ix_server_index_group", "server_index")
    op.drop_column("server_index", "group_id")
    op.drop_table("server_groups")
