"""when the present step of a run was first taken"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import cellcloud.db.engine

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("step_since", cellcloud.db.engine.UtcDateTime(), nullable=True))
