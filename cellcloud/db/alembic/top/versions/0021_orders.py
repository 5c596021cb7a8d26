"""orders that lists of servers are asked for in"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

TABLE = "server_index"
BY = (
    "flavor_id",
    "host",
    "image_id",
    "key_name",
    "name",
    "reservation_id",
    "updated_at",
    "user_id",
    "vm_state",
)
OTHERS = {
    "ix_server_index_accepted": ["deleted", "created_at", "id"],
    "ix_server_index_project_name": ["project_id", "name", "created_at", "id"],
    "ix_server_index_project_updated": ["project_id", "updated_at", "created_at", "id"],
}
TASK = "ix_server_index_by_task_state"
WITH_TASK = sa.text("task_state IS NOT NULL")
BEFORE = {
    "ix_server_index_name": ["project_id", "name"],
    "ix_server_index_updated": ["updated_at"],
}


def upgrade() -> None:
    for name in BEFORE:
        op.drop_index(name, TABLE)
    for name, columns in OTHERS.items():
        op.create_index(name, TABLE, columns)
    for column in BY:
        op.create_index(f"ix_server_index_by_{column}", TABLE, [column, "created_at", "id"])
    op.create_index(TASK, TABLE, ["task_state", "created_at", "id"], postgresql_where=WITH_TASK, sqlite_where=WITH_TASK)


def downgrade() -> None:
    op.drop_index(TASK, TABLE)
    for column in BY:
        op.drop_index(f"ix_server_index_by_{column}", TABLE)
    for name in OTHERS:
        op.drop_index(name, TABLE)
    for name, columns in BEFORE.items():
        op.create_index(name, TABLE, columns)
