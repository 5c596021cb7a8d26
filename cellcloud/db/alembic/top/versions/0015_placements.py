"""the number of a server's placement, which its ports have too, and the revisions of ports"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("intents", sa.Column("placement", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("ports", sa.Column("placement", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("ports", sa.Column("revision", sa.BigInteger(), nullable=False, server_default="1"))


def downgrade() -> None:
    op.drop_column("ports", "revision")
    op.drop_column("ports", "placement")
    op.drop_column("intents", "placement")
