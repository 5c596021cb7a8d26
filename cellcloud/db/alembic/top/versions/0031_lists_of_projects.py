"""indexes by which a project's servers are told from others' without reading them"""

from __future__ import annotations

from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None

TABLE = "server_index"
BY = (
    "availability_zone", "flavor_id", "host", "hostname", "image_id", "key_name", "launched_at", "name", "node",
    "power_state", "reservation_id", "updated_at", "user_id", "vm_state",
)  # fmt: skip
OF_PROJECT = {"ix_server_index_project_key": "key_name", "ix_server_index_project_user": "user_id"}


def upgrade() -> None:
    for name, column in OF_PROJECT.items():
        op.create_index(name, TABLE, ["project_id", column, "created_at", "id"])
    for column in BY:
        op.drop_index(f"ix_server_index_by_{column}", TABLE)
        op.create_index(f"ix_server_index_by_{column}", TABLE, [column, "created_at", "id", "project_id"])


def downgrade() -> None:
    for column in BY:
        op.drop_index(f"ix_server_index_by_{column}", TABLE)
        op.create_index(f"ix_server_index_by_{column}", TABLE, [column, "created_at", "id"])
    for name in OF_PROJECT:
        op.drop_index(name, TABLE)
