"""which incarnation of the top a cell was compared with"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("cells", sa.Column("compared", sa.String(length=36), nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("cells", "compared")
