"""what is found quickly that is to be forgotten"""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_server_index_deleted_at", "server_index", ["deleted", "deleted_at"])
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"])
