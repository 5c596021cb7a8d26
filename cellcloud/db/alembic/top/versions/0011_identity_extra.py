"""tags of projects, and what clients keep with users and projects"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import cellcloud.db.engine

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("identity_projects", sa.Column("tags", cellcloud.db.engine.Json(), nullable=True))
    op.add_column("identity_projects", sa.Column("extra", cellcloud.db.engine.Json(), nullable=True))
    op.add_column("identity_users", sa.Column("extra", cellcloud.db.engine.Json(), nullable=True))
