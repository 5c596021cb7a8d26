"""members and imports of the embedded image service, and images that are hidden"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from cellcloud.db.engine import Json, UtcDateTime

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("images", sa.Column("os_hidden", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_table(
        "image_members",
        sa.Column("image_id", sa.String(36), sa.ForeignKey("images.id"), nullable=False),
        sa.Column("member_id", sa.String(255), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("image_id", "member_id", name="pk_image_members"),
    )
    op.create_index("ix_image_members_member_id", "image_members", ["member_id"])
    op.create_table(
        "image_tasks",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("image_id", sa.String(36), nullable=False),
        sa.Column("type", sa.String(32), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("user_id", sa.String(255), nullable=False),
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.Column("input", Json(), nullable=False),
        sa.Column("result", Json(), nullable=True),
        sa.Column("message", sa.String(255), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_image_tasks"),
    )
    op.create_index("ix_image_tasks_image_id", "image_tasks", ["image_id"])
    op.create_index("ix_image_tasks_updated_at", "image_tasks", ["updated_at"])
    _share_with_owners_of_servers()


def _share_with_owners_of_servers() -> None:
    """Let images that an administrator made of another project's server have that project as a member."""
    c = op.get_bind()
    images = sa.table("images", sa.column("id"), sa.column("visibility"), sa.column("properties", Json()),
                      sa.column("created_at"), sa.column("updated_at"))  # fmt: skip
    members = sa.table("image_members", *(sa.column(name) for name in (
        "image_id", "member_id", "status", "created_at", "updated_at")))  # fmt: skip
    query = sa.select(images.c.id, images.c.properties, images.c.created_at, images.c.updated_at)
    for row in c.execute(query.where(images.c.visibility == "shared")).all():
        if project := row.properties.get("instance_owner"):
            values = {"created_at": row.created_at, "updated_at": row.updated_at, "status": "pending"}
            c.execute(members.insert().values(image_id=row.id, member_id=project, **values))


def downgrade() -> None:
    op.drop_table("image_tasks")
    op.drop_table("image_members")
    op.drop_column("images", "os_hidden")
