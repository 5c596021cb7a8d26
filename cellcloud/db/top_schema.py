"""Tables of the top cell's database."""

from __future__ import annotations

import sqlalchemy as sa

from cellcloud.db import (
    identity_schema,  # noqa: F401 -- as network_schema
    image_schema,
    network_schema,  # noqa: F401 -- the rest of the same database's tables
    top_metadata,
    volume_schema,  # noqa: F401
)
from cellcloud.db.engine import Json, LongText, UtcDateTime
from cellcloud.db.top_metadata import ID, NAME

metadata = top_metadata.metadata
images, image_members, image_tasks = image_schema.images, image_schema.image_members, image_schema.image_tasks

# Steps of the database's clock that a process has mended; one row.
clock_steps = sa.Table(
    "clock_steps",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("mended_at", UtcDateTime, nullable=False),
)

# Which history this database tells; one row.
incarnations = sa.Table(
    "incarnations",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("value", ID, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("since", UtcDateTime, nullable=False),
    sa.Column("reason", sa.String(255), nullable=False, default=""),
)

# How far each state directory has seen this database; a file there has the same number.
marks = sa.Table(
    "marks",
    metadata,
    sa.Column("directory", ID, primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
)

cells = sa.Table(
    "cells",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("transport_url", sa.String(512), nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False, default=True),
    sa.Column("health", sa.String(16), nullable=False, default="unknown"),
    sa.Column("reason", sa.String(255), nullable=False, default=""),
    sa.Column("last_seen", UtcDateTime),
    sa.Column("digest", Json),
    sa.Column("digest_at", UtcDateTime),
    sa.Column("feed_cursor", sa.BigInteger, nullable=False, default=0),
    sa.Column("feed_mark", sa.String(128), nullable=False, default="", server_default=""),  # the entry at the cursor
    sa.Column("incarnation", ID, nullable=False, default="", server_default=""),  # of the cell's database, as followed
    sa.Column("compared", ID, nullable=False, default="", server_default=""),  # incarnation of this one that has been
    sa.Column("aggregates", sa.String(128), nullable=False, default="", server_default=""),  # what it was given last
)

# Aggregates: named sets of hosts with metadata. Each cell is given a copy; ``cells.aggregates`` says which.
aggregates = sa.Table(
    "aggregates",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("uuid", ID, nullable=False),
    sa.Column("name", NAME, nullable=False),
    sa.Column("metadata", Json, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime),
    sa.UniqueConstraint("name"),
    sqlite_autoincrement=True,  # a deleted one's number is not given again
)

aggregate_hosts = sa.Table(
    "aggregate_hosts",
    metadata,
    sa.Column("aggregate_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("host", NAME, primary_key=True),
    sa.Column("cell", sa.String(64), nullable=False),
    sa.Index("ix_aggregate_hosts_host", "host", "cell"),
)

# The version of all aggregates together; one row, locked by whoever changes any.
aggregates_version = sa.Table(
    "aggregates_version",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("value", sa.BigInteger, nullable=False),
)

_STALE = "CASE WHEN terms_version = version THEN NULL ELSE 1 END"


def _rare(name: str, column: str, *others: str) -> sa.Index:
    """Return an index of those rows only that have a value there, where the database can have such."""
    some = sa.text(f"{column} IS NOT NULL")
    return sa.Index(name, column, *others, postgresql_where=some, sqlite_where=some)


# The index: the newest known record of each server, and the columns that lists filter and sort by.
server_index = sa.Table(
    "server_index",
    metadata,
    sa.Column("id", ID, primary_key=True),
    sa.Column("cell", sa.String(64), nullable=False, default=""),
    sa.Column("project_id", NAME, nullable=False),
    sa.Column("user_id", NAME, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("name", NAME, nullable=False),
    sa.Column("hostname", NAME, nullable=False, default=""),
    sa.Column("vm_state", sa.String(32), nullable=False),
    sa.Column("task_state", sa.String(32)),
    sa.Column("power_state", sa.Integer, nullable=False, default=0),
    sa.Column("host", NAME),
    sa.Column("node", NAME),
    sa.Column("availability_zone", NAME),
    sa.Column("flavor_id", NAME, nullable=False),
    sa.Column("image_id", ID, nullable=False),
    sa.Column("key_name", NAME),
    sa.Column("reservation_id", NAME, nullable=False, default=""),
    sa.Column("addresses", sa.Text, nullable=False, default=""),  # space-joined, for the ip filters
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    sa.Column("launched_at", UtcDateTime),
    sa.Column("deleted_at", UtcDateTime),
    sa.Column("deleted", sa.Boolean, nullable=False, default=False),
    sa.Column("quota_held", sa.Boolean, nullable=False, default=True),  # turned off in the update that gives it back
    sa.Column("quota_cores", sa.Integer),  # what it is counted for; null: as its record says
    sa.Column("quota_ram", sa.Integer),
    sa.Column("quota_asked_at", UtcDateTime),  # a resize was asked for of which no copy tells yet; null: none was
    sa.Column("user_data_id", sa.String(64)),
    sa.Column("hints_id", sa.String(64)),
    sa.Column("large_fields_id", sa.String(64)),
    sa.Column("group_id", ID),
    sa.Column("terms_version", sa.BigInteger),  # of the record that its terms are of
    sa.Column("terms_stale", sa.Integer, sa.Computed(_STALE, persisted=True)),
    sa.Column("record", Json, nullable=False),
    _rare("ix_server_index_group", "group_id", "deleted"),
    _rare("ix_server_index_terms_stale", "terms_stale", "id"),
    sa.Index("ix_server_index_ended", "deleted", "deleted_at", "created_at", "id"),
    # Orders that lists are asked for in; by what has no index here they are sorted.
    sa.Index("ix_server_index_accepted", "deleted", "created_at", "id"),
    sa.Index("ix_server_index_of_project", "deleted", "project_id", "created_at", "id"),
    sa.Index("ix_server_index_project_key", "project_id", "key_name", "created_at", "id"),
    sa.Index("ix_server_index_project_name", "project_id", "name", "created_at", "id"),
    sa.Index("ix_server_index_project_updated", "project_id", "updated_at", "created_at", "id"),
    sa.Index("ix_server_index_project_user", "project_id", "user_id", "created_at", "id"),
    *(  # with the project: others' servers are not read
        sa.Index(f"ix_server_index_by_{name}", name, "created_at", "id", "project_id")
        for name in (
            "availability_zone",
            "flavor_id",
            "host",
            "hostname",
            "image_id",
            "key_name",
            "launched_at",
            "name",
            "node",
            "power_state",
            "reservation_id",
            "updated_at",
            "user_id",
            "vm_state",
        )
    ),
    _rare("ix_server_index_by_task_state", "task_state", "created_at", "id"),
    sa.Index("ix_server_index_cell", "cell", "id"),
    _rare("ix_server_index_asked", "quota_asked_at"),
    _rare("ix_server_index_user_data", "user_data_id"),
    _rare("ix_server_index_hints", "hints_id"),
    _rare("ix_server_index_large_fields", "large_fields_id"),
    sa.Index("ix_server_index_usage", "project_id", "id"),
)

# What servers are found by that a column cannot say: tags, addresses, marks that few have.
server_terms = sa.Table(
    "server_terms",
    metadata,
    sa.Column("term", sa.String(80), primary_key=True),
    sa.Column("server_id", ID, sa.ForeignKey("server_index.id", ondelete="CASCADE"), primary_key=True),
    sa.Index("ix_server_terms_server", "server_id"),
    sqlite_with_rowid=False,
)

# What usage still tells of servers that the index has forgotten.
past_servers = sa.Table(
    "past_servers",
    metadata,
    sa.Column("id", ID, primary_key=True),
    sa.Column("project_id", NAME, nullable=False),
    sa.Column("name", NAME, nullable=False),
    sa.Column("flavor", NAME, nullable=False),
    sa.Column("vcpus", sa.Integer, nullable=False),
    sa.Column("memory_mb", sa.Integer, nullable=False),
    sa.Column("disk_gb", sa.Integer, nullable=False),
    sa.Column("launched_at", UtcDateTime, nullable=False),
    sa.Column("terminated_at", UtcDateTime, nullable=False),
    sa.Index("ix_past_servers_project", "project_id", "id"),
    sa.Index("ix_past_servers_terminated_at", "terminated_at"),
)

# Server groups; their members are the servers of the index with that group_id.
server_groups = sa.Table(
    "server_groups",
    metadata,
    sa.Column("id", ID, primary_key=True),
    sa.Column("project_id", NAME, nullable=False),
    sa.Column("user_id", NAME, nullable=False),
    sa.Column("name", NAME, nullable=False),
    sa.Column("policy", sa.String(32), nullable=False),
    sa.Column("max_server_per_host", sa.Integer),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Index("ix_server_groups_project", "project_id", "created_at", "id"),
    sa.Index("ix_server_groups_created_at", "created_at", "id"),
)

# Moves of servers, as their records tell of them. ``version``: of the record that told of it last.
migrations = sa.Table(
    "migrations",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("uuid", ID, nullable=False),
    sa.Column("server_id", ID, nullable=False),
    sa.Column("type", sa.String(16), nullable=False),
    sa.Column("status", sa.String(32), nullable=False),
    sa.Column("source", NAME, nullable=False),
    sa.Column("destination", NAME, nullable=False),
    sa.Column("user_id", NAME, nullable=False),
    sa.Column("project_id", NAME, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("record", Json, nullable=False),
    sa.UniqueConstraint("uuid"),
    sa.Index("ix_migrations_created_at", "created_at", "id"),
    sa.Index("ix_migrations_server", "server_id"),
    sqlite_autoincrement=True,  # a number is not given again
)

# What servers are started with, their large scheduler hints and other large fields; their records have the ids.
user_data = sa.Table(
    "user_data",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("text", LongText, nullable=False),
    sa.Column("used_at", UtcDateTime, nullable=False),
)

# The order in which a list was begun, for as long as somebody may walk through it: ids of 16 bytes.
walks = sa.Table(
    "walks",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("whose", sa.String(64), nullable=False),
    sa.Column("what", sa.String(64), nullable=False),
    sa.Column("ids", sa.LargeBinary(1 << 24), nullable=False),
    sa.Column("started_at", UtcDateTime, nullable=False),
    sa.Index("ix_walks_whose", "whose", "started_at"),
    sa.Index("ix_walks_started_at", "started_at"),
)

# One accepted request for one server, until its cell has taken it. kind: create | delete.
# state: pending -> recorded in ``cell`` (commit point) -> settled; or cancelled, or failed.
intents = sa.Table(
    "intents",
    metadata,
    sa.Column("id", ID, primary_key=True),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("server_id", ID, nullable=False),
    sa.Column("state", sa.String(16), nullable=False, default="pending"),
    sa.Column("cell", sa.String(64), nullable=False, default=""),
    sa.Column("request_id", sa.String(64), nullable=False, default=""),
    sa.Column("context", Json, nullable=False),
    sa.Column("refusals", Json),  # cell -> why it said no, so far
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("hold", sa.BigInteger, nullable=False, default=1, server_default="1"),  # version held at in the cell
    sa.Column("placement", sa.BigInteger, nullable=False, default=0, server_default="0"),  # higher with each placement
    sa.Column("lease_owner", sa.String(64)),
    sa.Column("lease_until", UtcDateTime),
    sa.Column("deadline", UtcDateTime, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    sa.UniqueConstraint("server_id", "kind"),
    sa.Index("ix_intents_state", "state", "lease_until"),
)

flavors = sa.Table(
    "flavors",
    metadata,
    sa.Column("id", NAME, primary_key=True),
    sa.Column("name", NAME, nullable=False, unique=True),
    sa.Column("vcpus", sa.Integer, nullable=False),
    sa.Column("memory_mb", sa.Integer, nullable=False),
    sa.Column("root_gb", sa.Integer, nullable=False),
    sa.Column("ephemeral_gb", sa.Integer, nullable=False, default=0),
    sa.Column("swap_mb", sa.Integer, nullable=False, default=0),
    sa.Column("rxtx_factor", sa.Float, nullable=False, default=1.0),
    sa.Column("is_public", sa.Boolean, nullable=False, default=True),
    sa.Column("disabled", sa.Boolean, nullable=False, default=False),
    sa.Column("description", sa.Text),
    sa.Column("extra_specs", Json, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
)
flavor_projects = sa.Table(
    "flavor_projects",
    metadata,
    sa.Column("flavor_id", NAME, sa.ForeignKey("flavors.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("project_id", NAME, primary_key=True),
)

keypairs = sa.Table(
    "keypairs",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("user_id", NAME, nullable=False),
    sa.Column("name", NAME, nullable=False),
    sa.Column("type", sa.String(16), nullable=False, default="ssh"),
    sa.Column("public_key", sa.Text, nullable=False),
    sa.Column("fingerprint", NAME, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.UniqueConstraint("user_id", "name"),
)

# A counter per project and resource, moved by conditional updates only.
quota_usages = sa.Table(
    "quota_usages",
    metadata,
    sa.Column("project_id", NAME, primary_key=True),
    sa.Column("resource", sa.String(64), primary_key=True),
    sa.Column("used", sa.BigInteger, nullable=False, default=0),
)
quota_limits = sa.Table(
    "quota_limits",
    metadata,
    sa.Column("project_id", NAME, primary_key=True),
    sa.Column("resource", sa.String(64), primary_key=True),
    sa.Column("hard_limit", sa.BigInteger, nullable=False),
)

# Limits of single users within a project, and what is counted against those of servers, cores and memory.
user_quotas = sa.Table(
    "user_quotas",
    metadata,
    sa.Column("project_id", NAME, primary_key=True),
    sa.Column("user_id", NAME, primary_key=True),
    sa.Column("resource", sa.String(64), primary_key=True),
    sa.Column("hard_limit", sa.BigInteger, nullable=False),
    sa.Column("used", sa.BigInteger, nullable=False, default=0),
)

idempotency_keys = sa.Table(
    "idempotency_keys",
    metadata,
    sa.Column("project_id", NAME, primary_key=True),
    sa.Column("key_hash", sa.String(64), primary_key=True),
    sa.Column("body_hash", sa.String(64), nullable=False),
    sa.Column("answer", Json, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False, index=True),
)

# Heartbeats of the top's own processes.
services = sa.Table(
    "services",
    metadata,
    sa.Column("id", ID, primary_key=True),
    sa.Column("binary", sa.String(64), nullable=False),
    sa.Column("host", NAME, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("last_seen", UtcDateTime, nullable=False),
    sa.UniqueConstraint("binary", "host"),
)

# ---- embedded network --------------------------------------------------------------------------------------------
networks = sa.Table(
    "networks",
    metadata,
    sa.Column("id", ID, primary_key=True),
    sa.Column("name", NAME, nullable=False, default=""),
    sa.Column("project_id", NAME, nullable=False),
    sa.Column("shared", sa.Boolean, nullable=False, default=False),
    sa.Column("admin_state_up", sa.Boolean, nullable=False, default=True),
    sa.Column("mtu", sa.Integer, nullable=False, default=1400),
    sa.Column("description", sa.String(255), nullable=False, default=""),
    sa.Column("segmentation_id", sa.Integer, unique=True),  # its VXLAN network identifier
    sa.Column("external", sa.Boolean, nullable=False, default=False, server_default=sa.false()),
    sa.Column("is_default", sa.Boolean, nullable=False, default=False, server_default=sa.false()),
    sa.Column("port_security_enabled", sa.Boolean, nullable=False, default=True, server_default=sa.true()),
    sa.Column("dns_domain", NAME, nullable=False, default="", server_default=""),
    sa.Column("tags", Json, nullable=False, default=list, server_default="[]"),
    sa.Column("revision", sa.BigInteger, nullable=False, default=1, server_default="1"),
    sa.Column("version", sa.BigInteger, nullable=False, default=1, server_default="1"),  # of what hosts know of it
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
)
subnets = sa.Table(
    "subnets",
    metadata,
    sa.Column("id", ID, primary_key=True),
    sa.Column("name", NAME, nullable=False, default=""),
    sa.Column("network_id", ID, sa.ForeignKey("networks.id"), nullable=False, index=True),
    sa.Column("project_id", NAME, nullable=False),
    sa.Column("cidr", sa.String(64), nullable=False),
    sa.Column("gateway_ip", sa.String(64)),
    sa.Column("enable_dhcp", sa.Boolean, nullable=False, default=True),
    sa.Column("dns_nameservers", Json, nullable=False),
    sa.Column("allocation_pools", Json, nullable=False),
    sa.Column("description", sa.String(255), nullable=False, default=""),
    sa.Column("next_offset", sa.BigInteger, nullable=False, default=0),  # where the next free address is looked for
    sa.Column("ip_version", sa.Integer, nullable=False, default=4, server_default="4"),
    sa.Column("ipv6_ra_mode", sa.String(32)),
    sa.Column("ipv6_address_mode", sa.String(32)),
    sa.Column("host_routes", Json, nullable=False, default=list, server_default="[]"),  # (destination, next hop) pairs
    sa.Column("tags", Json, nullable=False, default=list, server_default="[]"),
    sa.Column("revision", sa.BigInteger, nullable=False, default=1, server_default="1"),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
)
ports = sa.Table(
    "ports",
    metadata,
    sa.Column("id", ID, primary_key=True),
    sa.Column("name", NAME, nullable=False, default=""),
    sa.Column("network_id", ID, sa.ForeignKey("networks.id"), nullable=False, index=True),
    sa.Column("project_id", NAME, nullable=False, index=True),
    sa.Column("device_id", NAME, nullable=False, default="", index=True),
    sa.Column("device_owner", NAME, nullable=False, default=""),
    sa.Column("device_index", sa.Integer),  # which of the server's requests this port answers
    sa.Column("placement", sa.BigInteger, nullable=False, default=0, server_default="0"),  # the server's that has it
    sa.Column("revision", sa.BigInteger, nullable=False, default=1, server_default="1"),  # grows with each change
    sa.Column("owned", sa.Boolean, nullable=False, default=False),  # made for the server, so deleted with it
    sa.Column("mac_address", sa.String(32), nullable=False, unique=True),
    sa.Column("host_id", NAME, nullable=False, default=""),
    sa.Column("admin_state_up", sa.Boolean, nullable=False, default=True),
    sa.Column("security_groups", Json, nullable=False),  # ids
    sa.Column("description", sa.String(255), nullable=False, default=""),
    sa.Column("port_security_enabled", sa.Boolean, nullable=False, default=True, server_default=sa.true()),
    sa.Column("allowed_address_pairs", Json, nullable=False, default=list, server_default="[]"),  # (address, MAC)
    sa.Column("extra_dhcp_opts", Json, nullable=False, default=list, server_default="[]"),  # (name, value, IP version)
    sa.Column("dns_name", NAME, nullable=False, default="", server_default=""),
    sa.Column("tags", Json, nullable=False, default=list, server_default="[]"),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    sa.UniqueConstraint("device_id", "device_index"),
)
network_usages = sa.Table(
    "network_usages",
    metadata,
    sa.Column("project_id", NAME, primary_key=True),
    sa.Column("resource", sa.String(64), primary_key=True),
    sa.Column("used", sa.BigInteger, nullable=False, default=0),
    sa.Column("hard_limit", sa.BigInteger),  # the project's own
)
# The primary key is what makes an address unique in its subnet.
port_addresses = sa.Table(
    "port_addresses",
    metadata,
    sa.Column("subnet_id", ID, sa.ForeignKey("subnets.id"), primary_key=True),
    sa.Column("ip_address", sa.String(64), primary_key=True),
    sa.Column("port_id", ID, sa.ForeignKey("ports.id", ondelete="CASCADE"), nullable=False, index=True),
)
