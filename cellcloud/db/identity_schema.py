"""Tables of the embedded identity. Ids have at most 64 characters. Nothing refers to a row by a foreign key: what goes
with a row is deleted in the transaction that deletes it. ``extra``: attributes of the client's own, and options."""

from __future__ import annotations

import sqlalchemy as sa

from cellcloud.db.engine import Json, UtcDateTime
from cellcloud.db.top_metadata import NAME, metadata

KEY = sa.String(64)

identity_domains = sa.Table(
    "identity_domains",
    metadata,
    sa.Column("id", KEY, primary_key=True),
    sa.Column("name", NAME, nullable=False, unique=True),
    sa.Column("enabled", sa.Boolean, nullable=False, default=True),
    sa.Column("description", sa.Text, nullable=False, default=""),
    sa.Column("tags", Json),
    sa.Column("extra", Json),
)
identity_projects = sa.Table(
    "identity_projects",
    metadata,
    sa.Column("id", KEY, primary_key=True),
    sa.Column("name", NAME, nullable=False),
    sa.Column("domain_id", KEY, nullable=False),
    sa.Column("parent_id", KEY, index=True),  # a project; null: the domain
    sa.Column("description", sa.Text, nullable=False, default=""),
    sa.Column("enabled", sa.Boolean, nullable=False, default=True),
    sa.Column("tags", Json),
    sa.Column("extra", Json),
    sa.UniqueConstraint("domain_id", "name"),
)
identity_users = sa.Table(
    "identity_users",
    metadata,
    sa.Column("id", KEY, primary_key=True),
    sa.Column("name", NAME, nullable=False),
    sa.Column("domain_id", KEY, nullable=False),
    sa.Column("password_hash", NAME, nullable=False),
    sa.Column("password_expires_at", UtcDateTime),
    sa.Column("default_project_id", KEY),
    sa.Column("enabled", sa.Boolean, nullable=False, default=True),
    sa.Column("extra", Json),
    sa.Column("failures", sa.Integer, nullable=False, default=0, server_default="0"),  # logins since the last success
    sa.Column("failed_at", UtcDateTime),  # the last of them
    sa.UniqueConstraint("domain_id", "name"),
)
# Hashes of passwords that a user had before, for those that may not be taken again.
identity_old_passwords = sa.Table(
    "identity_old_passwords",
    metadata,
    sa.Column("id", KEY, primary_key=True),
    sa.Column("user_id", KEY, nullable=False, index=True),
    sa.Column("password_hash", NAME, nullable=False),
    sa.Column("replaced_at", UtcDateTime, nullable=False),
)
identity_groups = sa.Table(
    "identity_groups",
    metadata,
    sa.Column("id", KEY, primary_key=True),
    sa.Column("name", NAME, nullable=False),
    sa.Column("domain_id", KEY, nullable=False),
    sa.Column("description", sa.Text, nullable=False, default=""),
    sa.Column("extra", Json),
    sa.UniqueConstraint("domain_id", "name"),
)
identity_group_members = sa.Table(
    "identity_group_members",
    metadata,
    sa.Column("group_id", KEY, primary_key=True),
    sa.Column("user_id", KEY, primary_key=True, index=True),
)
# ``domain_id`` empty: a role of the whole cloud.
identity_roles = sa.Table(
    "identity_roles",
    metadata,
    sa.Column("id", KEY, primary_key=True),
    sa.Column("name", NAME, nullable=False),
    sa.Column("domain_id", KEY, nullable=False, default="", server_default=""),
    sa.Column("description", sa.Text),
    sa.Column("extra", Json),
    sa.UniqueConstraint("domain_id", "name"),
)
# Who has the first role has the second one too.
identity_implied_roles = sa.Table(
    "identity_implied_roles",
    metadata,
    sa.Column("prior_role_id", KEY, primary_key=True),
    sa.Column("implied_role_id", KEY, primary_key=True),
)
# Read by the release before only, and copied to identity_assignments.
identity_grants = sa.Table(
    "identity_grants",
    metadata,
    sa.Column("user_id", KEY, primary_key=True),
    sa.Column("project_id", KEY, primary_key=True),
    sa.Column("role_id", KEY, primary_key=True),
)
# ``actor``: user or group; ``scope``: project, domain or system. ``inherited``: for the projects below, not for it.
identity_assignments = sa.Table(
    "identity_assignments",
    metadata,
    sa.Column("actor", sa.String(8), primary_key=True),
    sa.Column("actor_id", KEY, primary_key=True),
    sa.Column("scope", sa.String(8), primary_key=True),
    sa.Column("scope_id", KEY, primary_key=True),
    sa.Column("role_id", KEY, primary_key=True),
    sa.Column("inherited", sa.Boolean, primary_key=True),
    sa.Index("ix_identity_assignments_scope", "scope", "scope_id"),
)
# ``project_id``, ``domain_id``, ``system``: what it is for; none of them: unscoped.
identity_tokens = sa.Table(
    "identity_tokens",
    metadata,
    sa.Column("token_hash", sa.String(64), primary_key=True),
    sa.Column("user_id", KEY, nullable=False, index=True),
    sa.Column("project_id", KEY),
    sa.Column("domain_id", KEY),
    sa.Column("system", sa.Boolean, nullable=False, default=False, server_default=sa.false()),
    sa.Column("application_credential_id", KEY, index=True),
    sa.Column("methods", Json, nullable=False),
    sa.Column("audit_ids", Json, nullable=False),
    sa.Column("issued_at", UtcDateTime, nullable=False),
    sa.Column("expires_at", UtcDateTime, nullable=False, index=True),
)
# Changes with everything that a token's answer depends on; one row.
identity_epoch = sa.Table(
    "identity_epoch",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("value", sa.String(32), nullable=False),
)
identity_regions = sa.Table(
    "identity_regions",
    metadata,
    sa.Column("id", NAME, primary_key=True),
    sa.Column("description", sa.Text, nullable=False, default=""),
    sa.Column("parent_region_id", NAME),
    sa.Column("extra", Json),
)
identity_services = sa.Table(
    "identity_services",
    metadata,
    sa.Column("id", KEY, primary_key=True),
    sa.Column("type", NAME, nullable=False),
    sa.Column("name", NAME, nullable=False, default=""),
    sa.Column("description", sa.Text),
    sa.Column("enabled", sa.Boolean, nullable=False, default=True),
    sa.Column("extra", Json),
)
# A ``url`` that begins with a slash is below the address that the caller came to.
identity_endpoints = sa.Table(
    "identity_endpoints",
    metadata,
    sa.Column("id", KEY, primary_key=True),
    sa.Column("service_id", KEY, nullable=False, index=True),
    sa.Column("region_id", NAME),
    sa.Column("interface", sa.String(8), nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False, default=True),
    sa.Column("extra", Json),
)
identity_application_credentials = sa.Table(
    "identity_application_credentials",
    metadata,
    sa.Column("id", KEY, primary_key=True),
    sa.Column("name", NAME, nullable=False),
    sa.Column("user_id", KEY, nullable=False),
    sa.Column("project_id", KEY, nullable=False, index=True),
    sa.Column("secret_hash", NAME, nullable=False),
    sa.Column("description", sa.Text),
    sa.Column("expires_at", UtcDateTime),
    sa.Column("unrestricted", sa.Boolean, nullable=False, default=False),
    sa.Column("role_ids", Json, nullable=False),
    sa.Column("access_rule_ids", Json),  # null: everything is allowed
    sa.UniqueConstraint("user_id", "name"),
)
identity_access_rules = sa.Table(
    "identity_access_rules",
    metadata,
    sa.Column("id", KEY, primary_key=True),
    sa.Column("user_id", KEY, nullable=False, index=True),
    sa.Column("service", NAME, nullable=False),
    sa.Column("method", sa.String(16), nullable=False),
    sa.Column("path", sa.Text, nullable=False),
)
identity_credentials = sa.Table(
    "identity_credentials",
    metadata,
    sa.Column("id", KEY, primary_key=True),
    sa.Column("user_id", KEY, nullable=False, index=True),
    sa.Column("project_id", KEY),
    sa.Column("type", NAME, nullable=False),
    sa.Column("blob", sa.Text, nullable=False),
    sa.Column("extra", Json),
)
# ``region_id`` empty: of every region.
identity_registered_limits = sa.Table(
    "identity_registered_limits",
    metadata,
    sa.Column("id", KEY, primary_key=True),
    sa.Column("service_id", KEY, nullable=False),
    sa.Column("region_id", sa.String(64), nullable=False, default=""),
    sa.Column("resource_name", sa.String(128), nullable=False),
    sa.Column("default_limit", sa.Integer, nullable=False),
    sa.Column("description", sa.Text),
    sa.UniqueConstraint("service_id", "region_id", "resource_name"),
)
identity_limits = sa.Table(
    "identity_limits",
    metadata,
    sa.Column("id", KEY, primary_key=True),
    sa.Column("owner", sa.String(8), nullable=False),
    sa.Column("owner_id", KEY, nullable=False),
    sa.Column("registered_limit_id", KEY, nullable=False, index=True),
    sa.Column("resource_limit", sa.Integer, nullable=False),
    sa.Column("description", sa.Text),
    sa.UniqueConstraint("owner", "owner_id", "registered_limit_id"),
)
