"""Tables of a child cell's database."""

from __future__ import annotations

import sqlalchemy as sa

from cellcloud.db.engine import Json, LongText, UtcDateTime

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
ID = sa.String(36)
NAME = sa.String(255)

# Steps of the database's clock that a process has mended; one row.
clock_steps = sa.Table(
    "clock_steps",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("mended_at", UtcDateTime, nullable=False),
)

# Which cell this database is of; one row.
owner = sa.Table(
    "owner",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("cell", NAME, nullable=False),
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

_GROUPED = sa.text("group_id IS NOT NULL")
servers = sa.Table(
    "servers",
    metadata,
    sa.Column("id", ID, primary_key=True),
    sa.Column("project_id", NAME, nullable=False),
    sa.Column("user_id", NAME, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False, default=1),
    sa.Column("generation", sa.BigInteger, nullable=False, default=0),
    sa.Column("vm_state", sa.String(32), nullable=False),
    sa.Column("task_state", sa.String(32)),
    sa.Column("power_state", sa.Integer, nullable=False, default=0),
    sa.Column("host", NAME),
    sa.Column("availability_zone", NAME),
    sa.Column("held", sa.Boolean, nullable=False, default=False),
    sa.Column("hold_until", UtcDateTime),
    sa.Column("delete_requested", sa.Boolean, nullable=False, default=False),
    sa.Column("delete_context", Json),
    sa.Column("locked", sa.Boolean, nullable=False, default=False),
    sa.Column("locked_by", sa.String(16)),
    sa.Column("locked_reason", sa.String(255)),
    sa.Column("user_data_id", sa.String(64)),
    sa.Column("group_id", ID),
    sa.Column("hints_id", sa.String(64)),
    sa.Column("large_fields_id", sa.String(64)),
    sa.Column("spec", Json, nullable=False),
    sa.Column("ports", Json, nullable=False),
    sa.Column("fault", Json),
    sa.Column("decision", sa.BigInteger),
    sa.Column("placement", sa.BigInteger, nullable=False, default=0, server_default="0"),  # as the top numbers them
    sa.Column("migrations", Json),  # the newest
    sa.Column("volumes", Json),
    sa.Column("unconfirmed_since", UtcDateTime, index=True),  # its move waits to be confirmed
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    sa.Column("launched_at", UtcDateTime),
    sa.Column("terminated_at", UtcDateTime),
    sa.Column("soft_deleted_at", UtcDateTime),
    sa.Column("shelved_at", UtcDateTime, index=True),  # it waits to be offloaded
    sa.Column("deleted", sa.Boolean, nullable=False, default=False),
    sa.Index("ix_servers_soft_deleted", "soft_deleted_at"),
    sa.Index("ix_servers_held", "held", "hold_until"),
    sa.Index("ix_servers_user_data", "user_data_id"),
    sa.Index("ix_servers_hints", "hints_id"),
    sa.Index("ix_servers_large_fields", "large_fields_id"),
    sa.Index("ix_servers_group", "group_id", "deleted", postgresql_where=_GROUPED, sqlite_where=_GROUPED),
    sa.Index("ix_servers_deleted", "deleted", "terminated_at"),
    sa.Index("ix_servers_on", "host", "deleted"),
)

# Server groups that claims are made for; the row is locked by whoever makes one.
server_groups = sa.Table("server_groups", metadata, sa.Column("id", ID, primary_key=True))

# What servers are started with, their large scheduler hints and other large fields; their records have the ids.
user_data = sa.Table(
    "user_data",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("text", LongText, nullable=False),
    sa.Column("used_at", UtcDateTime, nullable=False),
)

# ``active`` is 1 while unfinished and NULL after: with server_id a unique index, which is the server's lock.
# state: running | done | undone | failed.
runs = sa.Table(
    "runs",
    metadata,
    sa.Column("id", ID, primary_key=True),
    sa.Column("server_id", ID, nullable=False),
    sa.Column("active", sa.Integer),
    sa.Column("operation", sa.String(32), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("step", sa.Integer, nullable=False, default=0),
    sa.Column(
        "trail", sa.String(1024), nullable=False, default="", server_default=""
    ),  # names of steps, up to that one
    sa.Column("direction", sa.String(8), nullable=False, default="do"),
    sa.Column("arguments", Json, nullable=False),
    sa.Column("outputs", Json, nullable=False),  # RunOutputs
    sa.Column("events", Json, nullable=False),  # step name -> the host's GuestResult that arrived for it
    sa.Column("generation", sa.BigInteger, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False, default=0),  # of the present step
    sa.Column("step_since", UtcDateTime),  # when it was first taken; null: not yet
    sa.Column("run_at", UtcDateTime, nullable=False),
    sa.Column("lease_owner", sa.String(64)),
    sa.Column("lease_until", UtcDateTime),
    sa.Column("lease_number", sa.BigInteger, nullable=False, server_default="0"),  # how often it was leased: the fence
    sa.Column("deadline", UtcDateTime, nullable=False),
    sa.Column("cancel_requested", sa.Boolean, nullable=False, default=False),
    sa.Column("error", sa.String(64), nullable=False, default=""),
    sa.Column("message", sa.Text, nullable=False, default=""),
    sa.Column("detail", sa.Text, nullable=False, default=""),
    sa.Column("request_id", sa.String(64), nullable=False),
    sa.Column("user_id", NAME, nullable=False),
    sa.Column("project_id", NAME, nullable=False),
    sa.Column("host", NAME, nullable=False, default="", server_default=""),  # where the server was for it
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    sa.Column("finished_at", UtcDateTime),
    sa.UniqueConstraint("server_id", "active"),
    sa.Index("ix_runs_due", "active", "run_at"),
    sa.Index("ix_runs_finished", "finished_at"),
)
run_steps = sa.Table(
    "run_steps",
    metadata,
    sa.Column("run_id", ID, sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("step", sa.String(64), primary_key=True),
    sa.Column("direction", sa.String(8), primary_key=True),
    sa.Column("outcome", sa.String(16), nullable=False),  # done | failed
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("message", sa.Text, nullable=False, default=""),
    sa.Column("outputs", Json),
    sa.Column("started_at", UtcDateTime, nullable=False),
    sa.Column("finished_at", UtcDateTime, nullable=False),
)

hosts = sa.Table(
    "hosts",
    metadata,
    sa.Column("host", NAME, primary_key=True),
    sa.Column("id", ID, nullable=False, unique=True),
    sa.Column("queue", NAME, nullable=False),  # server name of the compute service that answers for the host
    sa.Column("zone", NAME, nullable=False),  # an aggregate's, else its own
    sa.Column("own_zone", NAME, nullable=False),
    sa.Column("machine", NAME, nullable=False, index=True),  # what the hypervisor calls itself
    sa.Column("facts", Json, nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False, default=True),
    sa.Column("disabled_reason", sa.String(255)),
    sa.Column("forced_down", sa.Boolean, nullable=False, default=False),
    sa.Column("up", sa.Boolean, nullable=False, default=True),  # as the change log has it
    sa.Column("trouble", sa.Text, nullable=False, default=""),  # why nothing new is put there; empty: nothing
    sa.Column("generation", sa.BigInteger, nullable=False, default=1),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("last_seen", UtcDateTime, nullable=False),
    sa.Column("compared_at", UtcDateTime),  # when it last held nothing that was to be destroyed
)
# capacity = floor((total - reserved) * ratio); a claim is a conditional update of ``used`` against it. Room in each of
# PostgreSQL's pages lets an update stay in its page and leave the index alone.
inventories = sa.Table(
    "inventories",
    metadata,
    sa.Column("host", NAME, sa.ForeignKey("hosts.host"), primary_key=True),
    sa.Column("resource_class", sa.String(64), primary_key=True),
    sa.Column("total", sa.BigInteger, nullable=False),
    sa.Column("reserved", sa.BigInteger, nullable=False),
    sa.Column("ratio", sa.Float, nullable=False),
    sa.Column("capacity", sa.BigInteger, nullable=False),
    sa.Column("used", sa.BigInteger, nullable=False, default=0),
    postgresql_with={"fillfactor": 60},
)
# A name is one machine's while it renews its lease. ``rival``: the place of another that was refused it.
host_names = sa.Table(
    "host_names",
    metadata,
    sa.Column("host", NAME, primary_key=True),
    sa.Column("identity", ID, nullable=False),
    sa.Column("place", NAME, nullable=False),
    sa.Column("held_until", UtcDateTime, nullable=False),
    sa.Column("rival", NAME, nullable=False, default=""),
    sa.Column("rival_at", UtcDateTime, nullable=False),
)
# Guests that hosts hold and no record accounts for; an operator adopts them or has them removed.
unknown_guests = sa.Table(
    "unknown_guests",
    metadata,
    sa.Column("server_id", ID, primary_key=True),
    sa.Column("host", NAME, primary_key=True),
    sa.Column("generation", sa.BigInteger, nullable=False),
    sa.Column("power_state", sa.Integer, nullable=False),
    sa.Column("project_id", NAME, nullable=False),
    sa.Column("reason", sa.String(255), nullable=False),
    sa.Column("removal", sa.Boolean, nullable=False, default=False),
    sa.Column("first_seen", UtcDateTime, nullable=False),
)
# What hosts are still to fetch into their caches of images. ``begun``: whether the host is at it, 0 or 1.
image_cachings = sa.Table(
    "image_cachings",
    metadata,
    sa.Column("host", NAME, primary_key=True),
    sa.Column("images", Json, nullable=False),
    sa.Column("request_id", NAME, nullable=False),
    sa.Column("begun", sa.Integer, nullable=False),
    sa.Column("asked_at", UtcDateTime, nullable=False),
)
# ``id``: the server's own, or that of the migration that made the claim. ``holding``: what it takes of the host, see
# cellcloud.model.allocation.
claims = sa.Table(
    "claims",
    metadata,
    sa.Column("id", ID, primary_key=True),
    sa.Column("server_id", ID, nullable=False, index=True),
    sa.Column("host", NAME, nullable=False),
    sa.Column("holding", Json, nullable=False),
)

# What a scheduler chose: one row a batch with all that it read and answered. A server's row names the batch that
# placed it; decisions name those that did not.
decision_batches = sa.Table(
    "decision_batches",
    metadata,
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("record", sa.LargeBinary(1 << 24), nullable=False),
    sa.Column("at", UtcDateTime, nullable=False, index=True),
)
decisions = sa.Table(
    "decisions",
    metadata,
    sa.Column("server_id", ID, primary_key=True),
    sa.Column("batch", sa.BigInteger, primary_key=True),
)
decision_requests = sa.Table(
    "decision_requests",
    metadata,
    sa.Column("request_id", sa.String(64), primary_key=True),
    sa.Column("batch", sa.BigInteger, primary_key=True),
)

# The change log of what schedulers read: one entry a transaction. Its sequence is given out as the feed's is.
changes = sa.Table(
    "changes",
    metadata,
    sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("entry", Json, nullable=False),
    sa.Column("at", UtcDateTime, nullable=False, index=True),
)
change_counter = sa.Table(
    "change_counter",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("value", sa.BigInteger, nullable=False),
)

host_aggregates = sa.Table(
    "host_aggregates",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("aggregate", Json, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
)

# What the top has given of networks, security groups and routers (network_plan.GivenPlan), and who holds it.
network_plans = sa.Table(
    "network_plans",
    metadata,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("document", sa.LargeBinary(1 << 24), nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
)
network_plan_hosts = sa.Table(
    "network_plan_hosts",
    metadata,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("host", NAME, primary_key=True, index=True),
)

# The version of the newest set of aggregates that the top has given; one row.
aggregates_version = sa.Table(
    "aggregates_version",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("value", sa.BigInteger, nullable=False),
)

# Scheduling policies: documents that never change, one of them in force, at most one tried in its shadow.
policies = sa.Table(
    "policies",
    metadata,
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("document", Json, nullable=False),
    sa.Column("comment", sa.Text, nullable=False, default=""),
    sa.Column("created_at", UtcDateTime, nullable=False),
)
policy_roles = sa.Table(
    "policy_roles",
    metadata,
    sa.Column("role", sa.String(16), primary_key=True),  # active | shadow
    sa.Column("version", sa.Integer, nullable=False),
)

# Since when the cell has heard its services without a break, and when that was last looked at.
listening = sa.Table(
    "listening",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("since", UtcDateTime, nullable=False),
    sa.Column("looked_at", UtcDateTime, nullable=False),
)

console_tokens = sa.Table(
    "console_tokens",
    metadata,
    sa.Column("token_hash", sa.String(64), primary_key=True),
    sa.Column("server_id", ID, nullable=False, index=True),
    sa.Column("generation", sa.BigInteger, nullable=False),
    sa.Column("host", NAME, nullable=False),
    sa.Column("protocol", sa.String(16), nullable=False),
    sa.Column("user_id", NAME, nullable=False),
    sa.Column("expires_at", UtcDateTime, nullable=False),
    sa.Column("used_at", UtcDateTime),
)

# The feed. Its sequence is given out by a counter row, updated last in each transaction: entries become visible in
# order and without gaps.
feed = sa.Table(
    "feed",
    metadata,
    sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("server_id", ID, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("record", Json, nullable=False),
    sa.Column("size", sa.Integer, nullable=False, default=0, server_default="0"),  # characters of the record
    sa.Column("at", UtcDateTime, nullable=False),
)
feed_counter = sa.Table(
    "feed_counter",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("value", sa.BigInteger, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False, default=0, server_default="0"),  # of all entries together
)

services = sa.Table(
    "services",
    metadata,
    sa.Column("id", ID, primary_key=True),
    sa.Column("binary", sa.String(64), nullable=False),
    sa.Column("host", NAME, nullable=False),
    sa.Column("zone", NAME, nullable=False, default="internal"),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("last_seen", UtcDateTime, nullable=False),
    sa.UniqueConstraint("binary", "host"),
)
