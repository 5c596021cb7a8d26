"""what is found quickly that is to be forgotten"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import cellcloud.db.engine

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("hosts", sa.Column("compared_at", cellcloud.db.engine.UtcDateTime()))
    op.create_index("ix_servers_deleted", "servers", ["deleted", "terminated_at"])
    op.create_index("ix_runs_finished", "runs", ["finished_at"])
