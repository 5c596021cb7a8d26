"""large fields of servers beside their records"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("server_index", sa.Column("large_fields_id", sa.String(length=64), nullable=True))
    op.create_index("ix_server_index_large_fields", "server_index", ["large_fields_id"])
    if op.get_bind().dialect.name in ("mysql", "mariadb"):  # the others' texts have no bound
        op.alter_column("user_data", "text", type_=mysql.LONGTEXT(), existing_type=sa.Text(), existing_nullable=False)


def downgrade() -> None:
    op.drop_index("ix_server_index_large_fields", "server_index")
    op.drop_column("server_index", "large_fields_id")
