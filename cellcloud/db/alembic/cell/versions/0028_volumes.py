"""what servers have of volumes"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import cellcloud.db.engine

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("servers", sa.Column("volumes", cellcloud.db.engine.Json(), nullable=True))


def downgrade() -> None:
    op.drop_column("servers", "volumes")
