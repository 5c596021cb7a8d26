"""plans of networks that hosts hold"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from cellcloud.db.engine import UtcDateTime

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "network_plans",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("document", sa.LargeBinary(length=1 << 24), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_network_plans")),
    )
    op.create_table(
        "network_plan_hosts",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.PrimaryKeyConstraint("key", "host", name=op.f("pk_network_plan_hosts")),
    )
    op.create_index("ix_network_plan_hosts_host", "network_plan_hosts", ["host"])


def downgrade() -> None:
    op.drop_table("network_plan_hosts")
    op.drop_table("network_plans")
