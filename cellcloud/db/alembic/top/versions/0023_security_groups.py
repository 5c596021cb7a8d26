"""security groups, routers, floating IPs, and what networks, subnets and ports have besides"""

from __future__ import annotations

import hashlib
import itertools
import json
import uuid
from typing import Any

import sqlalchemy as sa
from alembic import op

from cellcloud.db.engine import Json, UtcDateTime, utc_now

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

_ID, _NAME = sa.String(36), sa.String(255)


def _network_columns() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("segmentation_id", sa.Integer(), nullable=True),
        sa.Column("external", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("is_default", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("port_security_enabled", sa.Boolean(), nullable=False, server_default=sa.true()),
        sa.Column("dns_domain", _NAME, nullable=False, server_default=""),
        sa.Column("tags", Json(), nullable=False, server_default="[]"),
        sa.Column("revision", sa.BigInteger(), nullable=False, server_default="1"),
        sa.Column("version", sa.BigInteger(), nullable=False, server_default="1"),
    )


def _subnet_columns() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("ip_version", sa.Integer(), nullable=False, server_default="4"),
        sa.Column("ipv6_ra_mode", sa.String(32), nullable=True),
        sa.Column("ipv6_address_mode", sa.String(32), nullable=True),
        sa.Column("host_routes", Json(), nullable=False, server_default="[]"),
        sa.Column("tags", Json(), nullable=False, server_default="[]"),
        sa.Column("revision", sa.BigInteger(), nullable=False, server_default="1"),
    )


def _port_columns() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("port_security_enabled", sa.Boolean(), nullable=False, server_default=sa.true()),
        sa.Column("allowed_address_pairs", Json(), nullable=False, server_default="[]"),
        sa.Column("extra_dhcp_opts", Json(), nullable=False, server_default="[]"),
        sa.Column("dns_name", _NAME, nullable=False, server_default=""),
        sa.Column("tags", Json(), nullable=False, server_default="[]"),
    )


_COLUMNS = {"networks": _network_columns, "subnets": _subnet_columns, "ports": _port_columns}


def upgrade() -> None:
    for table, columns in _COLUMNS.items():
        for column in columns():
            op.add_column(table, column)
    _number_networks()
    with op.batch_alter_table("networks") as batch:
        batch.create_unique_constraint("uq_networks_segmentation_id", ["segmentation_id"])
    _create_groups()
    _create_routers()
    _give_default_groups()


def downgrade() -> None:
    for table in (
        "network_rbac_policies",
        "floating_ips",
        "router_interfaces",
        "routers",
        "port_security_groups",
        "security_group_rules",
        "security_groups",
    ):
        op.drop_table(table)
    with op.batch_alter_table("networks") as batch:
        batch.drop_constraint("uq_networks_segmentation_id", type_="unique")
    for table, columns in _COLUMNS.items():
        for column in columns():
            op.drop_column(table, column.name)


def _described() -> list[sa.Column[Any]]:
    return [
        sa.Column("id", _ID, nullable=False),
        sa.Column("name", _NAME, nullable=False),
        sa.Column("project_id", _NAME, nullable=False),
        sa.Column("description", _NAME, nullable=False),
        sa.Column("tags", Json(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False, server_default="1"),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
    ]


def _create_groups() -> None:
    op.create_table(
        "security_groups",
        *_described(),
        sa.Column("stateful", sa.Boolean(), nullable=False),
        sa.Column("default_of", _NAME, nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False, server_default="1"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_security_groups")),
        sa.UniqueConstraint("default_of", name=op.f("uq_security_groups_default_of")),
    )
    op.create_index("ix_security_groups_project_id", "security_groups", ["project_id"])
    op.create_table(
        "security_group_rules",
        sa.Column("id", _ID, nullable=False),
        sa.Column("project_id", _NAME, nullable=False),
        sa.Column("security_group_id", _ID, nullable=False),
        sa.Column("direction", sa.String(8), nullable=False),
        sa.Column("ethertype", sa.String(8), nullable=False),
        sa.Column("protocol", sa.String(40), nullable=True),
        sa.Column("port_range_min", sa.Integer(), nullable=True),
        sa.Column("port_range_max", sa.Integer(), nullable=True),
        sa.Column("remote_group_id", _ID, nullable=True),
        sa.Column("remote_ip_prefix", sa.String(64), nullable=True),
        sa.Column("description", _NAME, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False, server_default="1"),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["security_group_id"], ["security_groups.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["remote_group_id"], ["security_groups.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_security_group_rules")),
        sa.UniqueConstraint(
            "security_group_id", "digest", name=op.f("uq_security_group_rules_security_group_id_digest")
        ),
    )
    op.create_index("ix_security_group_rules_project_id", "security_group_rules", ["project_id"])
    op.create_index("ix_security_group_rules_remote_group_id", "security_group_rules", ["remote_group_id"])
    op.create_table(
        "port_security_groups",
        sa.Column("port_id", _ID, nullable=False),
        sa.Column("security_group_id", _ID, nullable=False),
        sa.ForeignKeyConstraint(["port_id"], ["ports.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["security_group_id"], ["security_groups.id"]),
        sa.PrimaryKeyConstraint("port_id", "security_group_id", name=op.f("pk_port_security_groups")),
    )
    op.create_index("ix_port_security_groups_security_group_id", "port_security_groups", ["security_group_id"])
    op.create_table(
        "network_rbac_policies",
        sa.Column("id", _ID, nullable=False),
        sa.Column("project_id", _NAME, nullable=False),
        sa.Column("object_type", sa.String(32), nullable=False),
        sa.Column("object_id", _ID, nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("target_project", _NAME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_network_rbac_policies")),
        sa.UniqueConstraint(
            "object_id",
            "action",
            "target_project",
            name=op.f("uq_network_rbac_policies_object_id_action_target_project"),
        ),
    )
    op.create_index("ix_network_rbac_policies_project_id", "network_rbac_policies", ["project_id"])


def _create_routers() -> None:
    op.create_table(
        "routers",
        *_described(),
        sa.Column("admin_state_up", sa.Boolean(), nullable=False),
        sa.Column("gateway_network_id", _ID, nullable=True),
        sa.Column("gateway_port_id", _ID, nullable=True),
        sa.Column("enable_snat", sa.Boolean(), nullable=False),
        sa.Column("routes", Json(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False, server_default="1"),
        sa.ForeignKeyConstraint(["gateway_network_id"], ["networks.id"]),
        sa.ForeignKeyConstraint(["gateway_port_id"], ["ports.id"]),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_routers")),
        sa.UniqueConstraint("gateway_port_id", name=op.f("uq_routers_gateway_port_id")),
    )
    op.create_index("ix_routers_project_id", "routers", ["project_id"])
    op.create_index("ix_routers_gateway_network_id", "routers", ["gateway_network_id"])
    op.create_table(
        "router_interfaces",
        sa.Column("router_id", _ID, nullable=False),
        sa.Column("subnet_id", _ID, nullable=False),
        sa.Column("port_id", _ID, nullable=False),
        sa.ForeignKeyConstraint(["router_id"], ["routers.id"]),
        sa.ForeignKeyConstraint(["subnet_id"], ["subnets.id"]),
        sa.ForeignKeyConstraint(["port_id"], ["ports.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("router_id", "subnet_id", name=op.f("pk_router_interfaces")),
    )
    op.create_index("ix_router_interfaces_subnet_id", "router_interfaces", ["subnet_id"])
    op.create_index("ix_router_interfaces_port_id", "router_interfaces", ["port_id"])
    op.create_table(
        "floating_ips",
        *(column for column in _described() if column.name != "name"),
        sa.Column("floating_network_id", _ID, nullable=False),
        sa.Column("floating_ip_address", sa.String(64), nullable=False),
        sa.Column("floating_port_id", _ID, nullable=False),
        sa.Column("port_id", _ID, nullable=True),
        sa.Column("fixed_ip_address", sa.String(64), nullable=True),
        sa.Column("router_id", _ID, nullable=True),
        sa.Column("dns_name", _NAME, nullable=False),
        sa.Column("dns_domain", _NAME, nullable=False),
        sa.ForeignKeyConstraint(["floating_network_id"], ["networks.id"]),
        sa.ForeignKeyConstraint(["floating_port_id"], ["ports.id"]),
        sa.ForeignKeyConstraint(["port_id"], ["ports.id"]),
        sa.ForeignKeyConstraint(["router_id"], ["routers.id"]),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_floating_ips")),
        sa.UniqueConstraint("floating_port_id", name=op.f("uq_floating_ips_floating_port_id")),
        sa.UniqueConstraint("port_id", "fixed_ip_address", name=op.f("uq_floating_ips_port_id_fixed_ip_address")),
    )
    for name in ("project_id", "floating_network_id", "floating_ip_address", "router_id"):
        op.create_index(f"ix_floating_ips_{name}", "floating_ips", [name])


def _number_networks() -> None:
    """Give each network that there is a segment of its own."""
    c = op.get_bind()
    networks = sa.table("networks", sa.column("id", _ID), sa.column("segmentation_id", sa.Integer))
    ids = c.execute(sa.select(networks.c.id).order_by(networks.c.id)).scalars().all()
    if ids:
        number = sa.update(networks).where(networks.c.id == sa.bindparam("which"))
        c.execute(
            number.values(segmentation_id=sa.bindparam("number")),
            [{"which": one, "number": number} for number, one in enumerate(ids, start=1)],
        )


def _give_default_groups() -> None:
    """Put each port that there is into its project's default group, which is all that a port could be in."""
    c = op.get_bind()
    names = ("ports", "security_groups", "security_group_rules", "port_security_groups")
    ports, groups, rules, bindings = (sa.Table(name, sa.MetaData(), autoload_with=c) for name in names)
    times = {"created_at": utc_now(), "updated_at": utc_now()}
    for project_id in c.execute(sa.select(ports.c.project_id).distinct()).scalars().all():
        group = {"id": str(uuid.uuid4()), "project_id": project_id, "name": "default", "default_of": project_id}
        described = {"description": "Default security group", "tags": "[]", "stateful": True}
        c.execute(sa.insert(groups).values(**group, **described, **times))
        for direction, ethertype in itertools.product(("egress", "ingress"), ("IPv4", "IPv6")):
            remote = group["id"] if direction == "ingress" else None
            whole = [direction, ethertype, None, None, None, remote, None]
            rule = {
                "id": str(uuid.uuid4()),
                "project_id": project_id,
                "security_group_id": group["id"],
                "direction": direction,
                "ethertype": ethertype,
                "remote_group_id": remote,
                "description": "",
                "digest": hashlib.sha256(json.dumps(whole).encode()).hexdigest(),
            }
            c.execute(sa.insert(rules).values(**rule, **times))
        mine = sa.select(ports.c.id, sa.literal(group["id"])).where(ports.c.project_id == project_id)
        c.execute(sa.insert(bindings).from_select(["port_id", "security_group_id"], mine))
        named = sa.update(ports).where(ports.c.project_id == project_id)
        c.execute(named.values(security_groups=json.dumps([group["id"]])))
