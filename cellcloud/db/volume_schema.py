"""Tables of the embedded volume service, in the top cell's database."""

from __future__ import annotations

import sqlalchemy as sa

from cellcloud.db.engine import Json, UtcDateTime
from cellcloud.db.top_metadata import ID, NAME, metadata

volume_types = sa.Table(
    "volume_types",
    metadata,
    sa.Column("id", ID, primary_key=True),
    sa.Column("name", NAME, nullable=False, unique=True),
    sa.Column("description", NAME),
    sa.Column("is_public", sa.Boolean, nullable=False, default=True),
    sa.Column("extra_specs", Json, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime),
)
volume_type_projects = sa.Table(
    "volume_type_projects",
    metadata,
    sa.Column("type_id", ID, sa.ForeignKey("volume_types.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("project_id", NAME, primary_key=True),
)
# The type of new volumes that name none, of a project; of project "": everybody's.
volume_default_types = sa.Table(
    "volume_default_types",
    metadata,
    sa.Column("project_id", NAME, primary_key=True),
    sa.Column("type_id", ID, sa.ForeignKey("volume_types.id"), nullable=False),
)

# ``generation``: grows with each change that the cell is asked for; ``reason``: of an error.
volumes = sa.Table(
    "volumes",
    metadata,
    sa.Column("id", ID, primary_key=True),
    sa.Column("project_id", NAME, nullable=False),
    sa.Column("user_id", NAME, nullable=False),
    sa.Column("name", NAME),
    sa.Column("description", NAME),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("status", sa.String(32), nullable=False),
    sa.Column("previous_status", sa.String(32), nullable=False, default=""),
    sa.Column("type_id", ID, sa.ForeignKey("volume_types.id"), nullable=False, index=True),
    sa.Column("availability_zone", NAME, nullable=False, default=""),
    sa.Column("cell", sa.String(64), nullable=False, default=""),
    sa.Column("host", NAME, nullable=False, default=""),
    sa.Column("bootable", sa.Boolean, nullable=False, default=False),
    sa.Column("multiattach", sa.Boolean, nullable=False, default=False),
    sa.Column("readonly", sa.Boolean, nullable=False, default=False),
    sa.Column("metadata", Json, nullable=False),
    sa.Column("image_metadata", Json),
    sa.Column("snapshot_id", ID),
    sa.Column("source_volid", ID),
    sa.Column("image_id", ID),
    sa.Column("generation", sa.BigInteger, nullable=False, default=1),
    sa.Column("reason", sa.String(255), nullable=False, default=""),
    sa.Column("movable", sa.Boolean, nullable=False, default=False, server_default=sa.false()),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime),
    sa.Index("ix_volumes_project", "project_id", "created_at", "id"),
    sa.Index("ix_volumes_host", "cell", "host"),
)
volume_snapshots = sa.Table(
    "volume_snapshots",
    metadata,
    sa.Column("id", ID, primary_key=True),
    sa.Column("volume_id", ID, sa.ForeignKey("volumes.id"), nullable=False, index=True),
    sa.Column("project_id", NAME, nullable=False),
    sa.Column("user_id", NAME, nullable=False),
    sa.Column("name", NAME),
    sa.Column("description", NAME),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("status", sa.String(32), nullable=False),
    sa.Column("metadata", Json, nullable=False),
    sa.Column("type_id", ID, nullable=False),
    sa.Column("progress", sa.String(8), nullable=False, default="", server_default=""),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime),
    sa.Index("ix_volume_snapshots_project", "project_id", "created_at", "id"),
)
# ``host``: whose connector it has; ``connection_info``: secret, what that host got.
volume_attachments = sa.Table(
    "volume_attachments",
    metadata,
    sa.Column("id", ID, primary_key=True),
    sa.Column("volume_id", ID, sa.ForeignKey("volumes.id"), nullable=False, index=True),
    sa.Column("project_id", NAME, nullable=False),
    sa.Column("server_id", ID, index=True),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("mode", sa.String(8), nullable=False, default="rw"),
    sa.Column("mountpoint", NAME),
    sa.Column("host", NAME),
    sa.Column("connector", Json, nullable=False),
    sa.Column("connection_info", Json, nullable=False),
    sa.Column("attached_at", UtcDateTime),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Index("ix_volume_attachments_project", "project_id", "created_at", "id"),
)
volume_transfers = sa.Table(
    "volume_transfers",
    metadata,
    sa.Column("id", ID, primary_key=True),
    sa.Column("volume_id", ID, sa.ForeignKey("volumes.id", ondelete="CASCADE"), nullable=False, unique=True),
    sa.Column("name", NAME),
    sa.Column("key_hash", sa.String(64), nullable=False),
    sa.Column("source_project_id", NAME, nullable=False, index=True),
    sa.Column("no_snapshots", sa.Boolean, nullable=False, default=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
)

# What projects have, moved by conditional updates only, and their own limits; of project "class:NAME": that class's.
volume_usages = sa.Table(
    "volume_usages",
    metadata,
    sa.Column("project_id", NAME, primary_key=True),
    sa.Column("resource", sa.String(255), primary_key=True),
    sa.Column("used", sa.BigInteger, nullable=False, default=0),
    sa.Column("hard_limit", sa.BigInteger),
)

# Accepted requests that a cell has not answered yet; ``id``: the volume's, the snapshot's or the attachment's.
volume_tasks = sa.Table(
    "volume_tasks",
    metadata,
    sa.Column("id", ID, primary_key=True),
    sa.Column("volume_id", ID, nullable=False, index=True),
    sa.Column("cell", sa.String(64), nullable=False, default=""),
    sa.Column("host", NAME, nullable=False, default=""),
    sa.Column("task", Json, nullable=False),
    sa.Column("lease_until", UtcDateTime, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Index("ix_volume_tasks_next", "cell", "lease_until"),
)

# The volume services of the cells, as they last described themselves.
volume_hosts = sa.Table(
    "volume_hosts",
    metadata,
    sa.Column("cell", sa.String(64), primary_key=True),
    sa.Column("host", NAME, primary_key=True),
    sa.Column("zone", NAME, nullable=False),
    sa.Column("total_gb", sa.BigInteger, nullable=False),
    sa.Column("free_gb", sa.BigInteger, nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False, default=True),
    sa.Column("disabled_reason", NAME),
    sa.Column("frozen", sa.Boolean, nullable=False, default=False),
    sa.Column("last_seen", UtcDateTime, nullable=False),
)
TABLES = (
    volume_types,
    volume_type_projects,
    volume_default_types,
    volumes,
    volume_snapshots,
    volume_attachments,
    volume_transfers,
    volume_usages,
    volume_tasks,
    volume_hosts,
)
