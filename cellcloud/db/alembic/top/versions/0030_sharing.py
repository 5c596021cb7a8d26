"""what is shared with everybody, or external, has a policy that says so"""

from __future__ import annotations

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    names = ("id", "project_id", "shared", "external")
    networks = sa.table("networks", *(sa.column(name) for name in names))
    policy = ("id", "project_id", "object_type", "object_id", "action", "target_project")
    policies = sa.table("network_rbac_policies", *(sa.column(name) for name in policy))
    connection = op.get_bind()
    new = [
        {
            "id": str(uuid.uuid4()),
            "project_id": row.project_id,
            "object_type": "network",
            "object_id": row.id,
            "action": action,
            "target_project": "*",
        }
        for row in connection.execute(sa.select(networks)).all()
        for action, there in (("access_as_shared", row.shared), ("access_as_external", row.external))
        if there
    ]
    if new:
        connection.execute(policies.insert(), new)


def downgrade() -> None:
    op.execute("DELETE FROM network_rbac_policies")
