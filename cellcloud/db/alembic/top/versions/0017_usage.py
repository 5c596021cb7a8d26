"""what usage still tells of servers that the index has forgotten, and the index in the order of usage and by host"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from cellcloud.db.engine import UtcDateTime

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "past_servers",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("project_id", sa.String(255), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("flavor", sa.String(255), nullable=False),
        sa.Column("vcpus", sa.Integer(), nullable=False),
        sa.Column("memory_mb", sa.Integer(), nullable=False),
        sa.Column("disk_gb", sa.Integer(), nullable=False),
        sa.Column("launched_at", UtcDateTime(), nullable=False),
        sa.Column("terminated_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_past_servers")),
    )
    op.create_index("ix_past_servers_project", "past_servers", ["project_id", "id"])
    op.create_index("ix_past_servers_terminated_at", "past_servers", ["terminated_at"])
    op.create_index("ix_server_index_usage", "server_index", ["project_id", "id"])
    op.create_index("ix_server_index_host", "server_index", ["cell", "host", "deleted"])


def downgrade() -> None:
    op.drop_index("ix_server_index_host", "server_index")
    op.drop_index("ix_server_index_usage", "server_index")
    op.drop_table("past_servers")
