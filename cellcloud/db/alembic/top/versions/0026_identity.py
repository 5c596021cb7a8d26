"""identity: domains, trees of projects, groups, grants in every scope, a catalog, credentials and limits

What users had in projects is copied into the table of all grants; what the roles implied by their names becomes rows.
"""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from alembic import op

from cellcloud.db.engine import Json, UtcDateTime

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

KEY, NAME = sa.String(64), sa.String(255)
IMPLIED = (("admin", "manager"), ("manager", "member"), ("member", "reader"))


def upgrade() -> None:
    _add_columns()
    _add_directory()
    _add_catalog()
    _add_credentials()
    _add_limits()
    _copy()


def _add_columns() -> None:
    for name in ("tags", "extra"):
        op.add_column("identity_domains", sa.Column(name, Json(), nullable=True))
    op.add_column("identity_projects", sa.Column("parent_id", KEY, nullable=True))
    op.create_index(op.f("ix_identity_projects_parent_id"), "identity_projects", ["parent_id"])
    for name in ("password_expires_at", "failed_at"):
        op.add_column("identity_users", sa.Column(name, UtcDateTime(), nullable=True))
    op.add_column("identity_users", sa.Column("failures", sa.Integer(), nullable=False, server_default="0"))
    with op.batch_alter_table("identity_roles") as batch:
        batch.add_column(sa.Column("domain_id", KEY, nullable=False, server_default=""))
        batch.add_column(sa.Column("description", sa.Text(), nullable=True))
        batch.add_column(sa.Column("extra", Json(), nullable=True))
        batch.drop_constraint(op.f("uq_identity_roles_name"), type_="unique")
        batch.create_unique_constraint(op.f("uq_identity_roles_domain_id_name"), ["domain_id", "name"])
    op.add_column("identity_tokens", sa.Column("domain_id", KEY, nullable=True))
    op.add_column("identity_tokens", sa.Column("system", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("identity_tokens", sa.Column("application_credential_id", KEY, nullable=True))
    op.create_index(
        op.f("ix_identity_tokens_application_credential_id"), "identity_tokens", ["application_credential_id"]
    )


def _add_directory() -> None:
    op.create_table(
        "identity_old_passwords",
        sa.Column("id", KEY, nullable=False),
        sa.Column("user_id", KEY, nullable=False),
        sa.Column("password_hash", NAME, nullable=False),
        sa.Column("replaced_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_identity_old_passwords")),
    )
    op.create_index(op.f("ix_identity_old_passwords_user_id"), "identity_old_passwords", ["user_id"])
    op.create_table(
        "identity_groups",
        sa.Column("id", KEY, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("domain_id", KEY, nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("extra", Json(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_identity_groups")),
        sa.UniqueConstraint("domain_id", "name", name=op.f("uq_identity_groups_domain_id_name")),
    )
    op.create_table(
        "identity_group_members",
        sa.Column("group_id", KEY, nullable=False),
        sa.Column("user_id", KEY, nullable=False),
        sa.PrimaryKeyConstraint("group_id", "user_id", name=op.f("pk_identity_group_members")),
    )
    op.create_index(op.f("ix_identity_group_members_user_id"), "identity_group_members", ["user_id"])
    op.create_table(
        "identity_implied_roles",
        sa.Column("prior_role_id", KEY, nullable=False),
        sa.Column("implied_role_id", KEY, nullable=False),
        sa.PrimaryKeyConstraint("prior_role_id", "implied_role_id", name=op.f("pk_identity_implied_roles")),
    )
    keys = ("actor", "actor_id", "scope", "scope_id", "role_id", "inherited")
    op.create_table(
        "identity_assignments",
        sa.Column("actor", sa.String(8), nullable=False),
        sa.Column("actor_id", KEY, nullable=False),
        sa.Column("scope", sa.String(8), nullable=False),
        sa.Column("scope_id", KEY, nullable=False),
        sa.Column("role_id", KEY, nullable=False),
        sa.Column("inherited", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint(*keys, name=op.f("pk_identity_assignments")),
    )
    op.create_index("ix_identity_assignments_scope", "identity_assignments", ["scope", "scope_id"])
    op.create_table(
        "identity_epoch",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("value", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_identity_epoch")),
    )


def _add_catalog() -> None:
    op.create_table(
        "identity_regions",
        sa.Column("id", NAME, nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("parent_region_id", NAME, nullable=True),
        sa.Column("extra", Json(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_identity_regions")),
    )
    op.create_table(
        "identity_services",
        sa.Column("id", KEY, nullable=False),
        sa.Column("type", NAME, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("extra", Json(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_identity_services")),
    )
    op.create_table(
        "identity_endpoints",
        sa.Column("id", KEY, nullable=False),
        sa.Column("service_id", KEY, nullable=False),
        sa.Column("region_id", NAME, nullable=True),
        sa.Column("interface", sa.String(8), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("extra", Json(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_identity_endpoints")),
    )
    op.create_index(op.f("ix_identity_endpoints_service_id"), "identity_endpoints", ["service_id"])


def _add_credentials() -> None:
    op.create_table(
        "identity_application_credentials",
        sa.Column("id", KEY, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("user_id", KEY, nullable=False),
        sa.Column("project_id", KEY, nullable=False),
        sa.Column("secret_hash", NAME, nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("expires_at", UtcDateTime(), nullable=True),
        sa.Column("unrestricted", sa.Boolean(), nullable=False),
        sa.Column("role_ids", Json(), nullable=False),
        sa.Column("access_rule_ids", Json(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_identity_application_credentials")),
        sa.UniqueConstraint("user_id", "name", name=op.f("uq_identity_application_credentials_user_id_name")),
    )
    op.create_index(
        op.f("ix_identity_application_credentials_project_id"), "identity_application_credentials", ["project_id"]
    )
    op.create_table(
        "identity_access_rules",
        sa.Column("id", KEY, nullable=False),
        sa.Column("user_id", KEY, nullable=False),
        sa.Column("service", NAME, nullable=False),
        sa.Column("method", sa.String(16), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_identity_access_rules")),
    )
    op.create_index(op.f("ix_identity_access_rules_user_id"), "identity_access_rules", ["user_id"])
    op.create_table(
        "identity_credentials",
        sa.Column("id", KEY, nullable=False),
        sa.Column("user_id", KEY, nullable=False),
        sa.Column("project_id", KEY, nullable=True),
        sa.Column("type", NAME, nullable=False),
        sa.Column("blob", sa.Text(), nullable=False),
        sa.Column("extra", Json(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_identity_credentials")),
    )
    op.create_index(op.f("ix_identity_credentials_user_id"), "identity_credentials", ["user_id"])


def _add_limits() -> None:
    of_one = ("service_id", "region_id", "resource_name")
    op.create_table(
        "identity_registered_limits",
        sa.Column("id", KEY, nullable=False),
        sa.Column("service_id", KEY, nullable=False),
        sa.Column("region_id", sa.String(64), nullable=False),
        sa.Column("resource_name", sa.String(128), nullable=False),
        sa.Column("default_limit", sa.Integer(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_identity_registered_limits")),
        sa.UniqueConstraint(*of_one, name=op.f("uq_identity_registered_limits_service_id_region_id_resource_name")),
    )
    op.create_table(
        "identity_limits",
        sa.Column("id", KEY, nullable=False),
        sa.Column("owner", sa.String(8), nullable=False),
        sa.Column("owner_id", KEY, nullable=False),
        sa.Column("registered_limit_id", KEY, nullable=False),
        sa.Column("resource_limit", sa.Integer(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_identity_limits")),
        sa.UniqueConstraint(
            "owner",
            "owner_id",
            "registered_limit_id",
            name=op.f("uq_identity_limits_owner_owner_id_registered_limit_id"),
        ),
    )
    op.create_index(op.f("ix_identity_limits_registered_limit_id"), "identity_limits", ["registered_limit_id"])


def _copy() -> None:
    connection = op.get_bind()
    keys = ("actor", "actor_id", "scope", "scope_id", "role_id", "inherited")
    assignments = sa.table("identity_assignments", *(sa.column(name) for name in keys))
    grants = sa.table("identity_grants", *(sa.column(name) for name in ("user_id", "project_id", "role_id")))
    old = sa.select(
        sa.literal("user"),
        grants.c.user_id,
        sa.literal("project"),
        grants.c.project_id,
        grants.c.role_id,
        sa.false() if connection.dialect.name == "postgresql" else sa.literal(0, sa.Integer),
    )
    connection.execute(assignments.insert().from_select(keys, old))
    roles = sa.table("identity_roles", sa.column("id"), sa.column("name"))
    implied = sa.table("identity_implied_roles", sa.column("prior_role_id"), sa.column("implied_role_id"))
    for prior, other in IMPLIED:
        first, second = roles.alias("first"), roles.alias("second")
        pair = sa.select(first.c.id, second.c.id).join(second, (first.c.name == prior) & (second.c.name == other))
        connection.execute(implied.insert().from_select(["prior_role_id", "implied_role_id"], pair))
    epoch = sa.table("identity_epoch", sa.column("id"), sa.column("value"))
    connection.execute(epoch.insert().values(id=1, value=secrets.token_hex(16)))


def downgrade() -> None:
    for table in (
        "identity_limits",
        "identity_registered_limits",
        "identity_credentials",
        "identity_access_rules",
        "identity_application_credentials",
        "identity_endpoints",
        "identity_services",
        "identity_regions",
        "identity_epoch",
        "identity_assignments",
        "identity_implied_roles",
        "identity_group_members",
        "identity_groups",
        "identity_old_passwords",
    ):
        op.drop_table(table)
    op.drop_index(op.f("ix_identity_tokens_application_credential_id"), "identity_tokens")
    roles = sa.table("identity_roles", sa.column("domain_id"))
    op.get_bind().execute(roles.delete().where(roles.c.domain_id != ""))
    with op.batch_alter_table("identity_roles") as batch:
        batch.drop_constraint(op.f("uq_identity_roles_domain_id_name"), type_="unique")
        batch.create_unique_constraint(op.f("uq_identity_roles_name"), ["name"])
        for name in ("domain_id", "description", "extra"):
            batch.drop_column(name)
    for table, names in {
        "identity_tokens": ("domain_id", "system", "application_credential_id"),
        "identity_users": ("password_expires_at", "failed_at", "failures"),
        "identity_domains": ("tags", "extra"),
    }.items():
        with op.batch_alter_table(table) as batch:
            for name in names:
                batch.drop_column(name)
    with op.batch_alter_table("identity_projects") as batch:
        batch.drop_index(op.f("ix_identity_projects_parent_id"))
        batch.drop_column("parent_id")
