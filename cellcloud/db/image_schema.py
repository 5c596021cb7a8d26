"""Tables of the embedded image service, in the top cell's database."""

from __future__ import annotations

import sqlalchemy as sa

from cellcloud.db.engine import Json, UtcDateTime
from cellcloud.db.top_metadata import ID, NAME, metadata

images = sa.Table(
    "images",
    metadata,
    sa.Column("id", ID, primary_key=True),
    sa.Column("name", NAME, nullable=False, default="", index=True),
    sa.Column("owner", NAME, nullable=False),
    sa.Column("status", sa.String(32), nullable=False),
    sa.Column("visibility", sa.String(16), nullable=False),
    sa.Column("protected", sa.Boolean, nullable=False, default=False),
    sa.Column("os_hidden", sa.Boolean, nullable=False, default=False, server_default=sa.false()),
    sa.Column("disk_format", sa.String(16)),
    sa.Column("container_format", sa.String(16)),
    sa.Column("size", sa.BigInteger),
    sa.Column("virtual_size", sa.BigInteger),
    sa.Column("checksum", sa.String(32)),
    sa.Column("os_hash_value", sa.String(128)),
    sa.Column("min_ram", sa.Integer, nullable=False, default=0),
    sa.Column("min_disk", sa.Integer, nullable=False, default=0),
    sa.Column("tags", Json, nullable=False),
    sa.Column("properties", Json, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
)

# Projects that a shared image is offered to, and what each makes of the offer.
image_members = sa.Table(
    "image_members",
    metadata,
    sa.Column("image_id", ID, sa.ForeignKey("images.id"), primary_key=True),
    sa.Column("member_id", NAME, primary_key=True, index=True),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
)

# Imports, under way and over. They outlive their images.
image_tasks = sa.Table(
    "image_tasks",
    metadata,
    sa.Column("id", ID, primary_key=True),
    sa.Column("image_id", ID, nullable=False, index=True),
    sa.Column("type", sa.String(32), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("owner", NAME, nullable=False),
    sa.Column("user_id", NAME, nullable=False),
    sa.Column("request_id", sa.String(64), nullable=False),
    sa.Column("input", Json, nullable=False),
    sa.Column("result", Json),
    sa.Column("message", sa.String(255), nullable=False, default=""),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False, index=True),
)
