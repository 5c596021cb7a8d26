"""tables of the embedded volume service"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from cellcloud.db.engine import Json, UtcDateTime

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _volume_types()
    _volume_type_projects()
    _volume_default_types()
    _volumes()
    _volume_snapshots()
    _volume_attachments()
    _volume_transfers()
    _volume_usages()
    _volume_tasks()
    _volume_hosts()


def downgrade() -> None:
    op.drop_table("volume_hosts")
    op.drop_table("volume_tasks")
    op.drop_table("volume_usages")
    op.drop_table("volume_transfers")
    op.drop_table("volume_attachments")
    op.drop_table("volume_snapshots")
    op.drop_table("volumes")
    op.drop_table("volume_default_types")
    op.drop_table("volume_type_projects")
    op.drop_table("volume_types")


def _volume_types() -> None:
    op.create_table(
        "volume_types",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("description", sa.String(255), nullable=True),
        sa.Column("is_public", sa.Boolean(), nullable=False),
        sa.Column("extra_specs", Json(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_volume_types"),
        sa.UniqueConstraint("name", name="uq_volume_types_name"),
    )


def _volume_type_projects() -> None:
    op.create_table(
        "volume_type_projects",
        sa.Column("type_id", sa.String(36), nullable=False),
        sa.Column("project_id", sa.String(255), nullable=False),
        sa.PrimaryKeyConstraint("type_id", "project_id", name="pk_volume_type_projects"),
        sa.ForeignKeyConstraint(["type_id"], ["volume_types.id"], ondelete="CASCADE"),
    )


def _volume_default_types() -> None:
    op.create_table(
        "volume_default_types",
        sa.Column("project_id", sa.String(255), nullable=False),
        sa.Column("type_id", sa.String(36), nullable=False),
        sa.PrimaryKeyConstraint("project_id", name="pk_volume_default_types"),
        sa.ForeignKeyConstraint(["type_id"], ["volume_types.id"]),
    )


def _volumes() -> None:
    op.create_table(
        "volumes",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("project_id", sa.String(255), nullable=False),
        sa.Column("user_id", sa.String(255), nullable=False),
        sa.Column("name", sa.String(255), nullable=True),
        sa.Column("description", sa.String(255), nullable=True),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("previous_status", sa.String(32), nullable=False),
        sa.Column("type_id", sa.String(36), nullable=False),
        sa.Column("availability_zone", sa.String(255), nullable=False),
        sa.Column("cell", sa.String(64), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("bootable", sa.Boolean(), nullable=False),
        sa.Column("multiattach", sa.Boolean(), nullable=False),
        sa.Column("readonly", sa.Boolean(), nullable=False),
        sa.Column("metadata", Json(), nullable=False),
        sa.Column("image_metadata", Json(), nullable=True),
        sa.Column("snapshot_id", sa.String(36), nullable=True),
        sa.Column("source_volid", sa.String(36), nullable=True),
        sa.Column("image_id", sa.String(36), nullable=True),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(255), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_volumes"),
        sa.ForeignKeyConstraint(["type_id"], ["volume_types.id"]),
    )
    op.create_index("ix_volumes_type_id", "volumes", ["type_id"])
    op.create_index("ix_volumes_project", "volumes", ["project_id", "created_at", "id"])
    op.create_index("ix_volumes_host", "volumes", ["cell", "host"])


def _volume_snapshots() -> None:
    op.create_table(
        "volume_snapshots",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("volume_id", sa.String(36), nullable=False),
        sa.Column("project_id", sa.String(255), nullable=False),
        sa.Column("user_id", sa.String(255), nullable=False),
        sa.Column("name", sa.String(255), nullable=True),
        sa.Column("description", sa.String(255), nullable=True),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("metadata", Json(), nullable=False),
        sa.Column("type_id", sa.String(36), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_volume_snapshots"),
        sa.ForeignKeyConstraint(["volume_id"], ["volumes.id"]),
    )
    op.create_index("ix_volume_snapshots_volume_id", "volume_snapshots", ["volume_id"])
    op.create_index("ix_volume_snapshots_project", "volume_snapshots", ["project_id", "created_at", "id"])


def _volume_attachments() -> None:
    op.create_table(
        "volume_attachments",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("volume_id", sa.String(36), nullable=False),
        sa.Column("project_id", sa.String(255), nullable=False),
        sa.Column("server_id", sa.String(36), nullable=True),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("mode", sa.String(8), nullable=False),
        sa.Column("mountpoint", sa.String(255), nullable=True),
        sa.Column("host", sa.String(255), nullable=True),
        sa.Column("connector", Json(), nullable=False),
        sa.Column("connection_info", Json(), nullable=False),
        sa.Column("attached_at", UtcDateTime(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_volume_attachments"),
        sa.ForeignKeyConstraint(["volume_id"], ["volumes.id"]),
    )
    op.create_index("ix_volume_attachments_volume_id", "volume_attachments", ["volume_id"])
    op.create_index("ix_volume_attachments_server_id", "volume_attachments", ["server_id"])
    op.create_index("ix_volume_attachments_project", "volume_attachments", ["project_id", "created_at", "id"])


def _volume_transfers() -> None:
    op.create_table(
        "volume_transfers",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("volume_id", sa.String(36), nullable=False),
        sa.Column("name", sa.String(255), nullable=True),
        sa.Column("key_hash", sa.String(64), nullable=False),
        sa.Column("source_project_id", sa.String(255), nullable=False),
        sa.Column("no_snapshots", sa.Boolean(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_volume_transfers"),
        sa.ForeignKeyConstraint(["volume_id"], ["volumes.id"], ondelete="CASCADE"),
        sa.UniqueConstraint("volume_id", name="uq_volume_transfers_volume_id"),
    )
    op.create_index("ix_volume_transfers_source_project_id", "volume_transfers", ["source_project_id"])


def _volume_usages() -> None:
    op.create_table(
        "volume_usages",
        sa.Column("project_id", sa.String(255), nullable=False),
        sa.Column("resource", sa.String(255), nullable=False),
        sa.Column("used", sa.BigInteger(), nullable=False),
        sa.Column("hard_limit", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("project_id", "resource", name="pk_volume_usages"),
    )


def _volume_tasks() -> None:
    op.create_table(
        "volume_tasks",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("volume_id", sa.String(36), nullable=False),
        sa.Column("cell", sa.String(64), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("task", Json(), nullable=False),
        sa.Column("lease_until", UtcDateTime(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_volume_tasks"),
    )
    op.create_index("ix_volume_tasks_volume_id", "volume_tasks", ["volume_id"])
    op.create_index("ix_volume_tasks_next", "volume_tasks", ["cell", "lease_until"])


def _volume_hosts() -> None:
    op.create_table(
        "volume_hosts",
        sa.Column("cell", sa.String(64), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("zone", sa.String(255), nullable=False),
        sa.Column("total_gb", sa.BigInteger(), nullable=False),
        sa.Column("free_gb", sa.BigInteger(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("disabled_reason", sa.String(255), nullable=True),
        sa.Column("frozen", sa.Boolean(), nullable=False),
        sa.Column("last_seen", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("cell", "host", name="pk_volume_hosts"),
    )
