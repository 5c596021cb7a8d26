"""Tables of the embedded network service beside networks, subnets and ports: security groups, routers, floating IPs.

``version`` of networks, security groups and routers grows with each transaction that changes anything that a host must
know of them; ``revision`` with each change that the API shows.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from cellcloud.db.engine import Json, UtcDateTime
from cellcloud.db.top_metadata import ID, NAME, metadata


def _counter(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger, nullable=False, default=1, server_default="1")


def _described() -> tuple[sa.Column[Any], ...]:
    """Return the columns of everything that the network API shows."""
    return (
        sa.Column("id", ID, primary_key=True),
        sa.Column("name", NAME, nullable=False, default=""),
        sa.Column("project_id", NAME, nullable=False, index=True),
        sa.Column("description", sa.String(255), nullable=False, default=""),
        sa.Column("tags", Json, nullable=False, default=list),
        _counter("revision"),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("updated_at", UtcDateTime, nullable=False),
    )


security_groups = sa.Table(
    "security_groups",
    metadata,
    *_described(),
    sa.Column("stateful", sa.Boolean, nullable=False, default=True),
    sa.Column("default_of", NAME, unique=True),  # the project whose default group it is
    _counter("version"),
)
security_group_rules = sa.Table(
    "security_group_rules",
    metadata,
    sa.Column("id", ID, primary_key=True),
    sa.Column("project_id", NAME, nullable=False, index=True),
    sa.Column("security_group_id", ID, sa.ForeignKey("security_groups.id", ondelete="CASCADE"), nullable=False),
    sa.Column("direction", sa.String(8), nullable=False),
    sa.Column("ethertype", sa.String(8), nullable=False),
    sa.Column("protocol", sa.String(40)),  # None: any
    sa.Column("port_range_min", sa.Integer),  # of ICMP the type
    sa.Column("port_range_max", sa.Integer),  # of ICMP the code
    sa.Column("remote_group_id", ID, sa.ForeignKey("security_groups.id", ondelete="CASCADE"), index=True),
    sa.Column("remote_ip_prefix", sa.String(64)),
    sa.Column("description", sa.String(255), nullable=False, default=""),
    sa.Column("digest", sa.String(64), nullable=False),  # of all that makes a rule another one than its group has
    _counter("revision"),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    sa.UniqueConstraint("security_group_id", "digest"),
)
# The groups of a port are in its row, in order; here is what keeps a group that a port is in.
port_security_groups = sa.Table(
    "port_security_groups",
    metadata,
    sa.Column("port_id", ID, sa.ForeignKey("ports.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("security_group_id", ID, sa.ForeignKey("security_groups.id"), primary_key=True, index=True),
)
routers = sa.Table(
    "routers",
    metadata,
    *_described(),
    sa.Column("admin_state_up", sa.Boolean, nullable=False, default=True),
    sa.Column("gateway_network_id", ID, sa.ForeignKey("networks.id"), index=True),
    sa.Column("gateway_port_id", ID, sa.ForeignKey("ports.id"), unique=True),  # device_owner network:router_gateway
    sa.Column("enable_snat", sa.Boolean, nullable=False, default=True),
    sa.Column("routes", Json, nullable=False, default=list),  # (destination, next hop) pairs
    _counter("version"),
)
# One port of a router on a subnet: the port has device_owner network:router_interface.
router_interfaces = sa.Table(
    "router_interfaces",
    metadata,
    sa.Column("router_id", ID, sa.ForeignKey("routers.id"), primary_key=True),
    sa.Column("subnet_id", ID, sa.ForeignKey("subnets.id"), primary_key=True, index=True),
    sa.Column("port_id", ID, sa.ForeignKey("ports.id", ondelete="CASCADE"), nullable=False, index=True),
)
floating_ips = sa.Table(
    "floating_ips",
    metadata,
    *(column for column in _described() if column.name != "name"),
    sa.Column("floating_network_id", ID, sa.ForeignKey("networks.id"), nullable=False, index=True),
    sa.Column("floating_ip_address", sa.String(64), nullable=False, index=True),
    # What holds the address: device_owner network:floatingip.
    sa.Column("floating_port_id", ID, sa.ForeignKey("ports.id"), nullable=False, unique=True),
    # All three or none: where it is forwarded to, and by which router.
    sa.Column("port_id", ID, sa.ForeignKey("ports.id")),
    sa.Column("fixed_ip_address", sa.String(64)),
    sa.Column("router_id", ID, sa.ForeignKey("routers.id"), index=True),
    sa.Column("dns_name", NAME, nullable=False, default=""),
    sa.Column("dns_domain", NAME, nullable=False, default=""),
    sa.UniqueConstraint("port_id", "fixed_ip_address"),
)
network_rbac_policies = sa.Table(
    "network_rbac_policies",
    metadata,
    sa.Column("id", ID, primary_key=True),
    sa.Column("project_id", NAME, nullable=False, index=True),
    sa.Column("object_type", sa.String(32), nullable=False),
    sa.Column("object_id", ID, nullable=False),
    sa.Column("action", sa.String(32), nullable=False),
    sa.Column("target_project", NAME, nullable=False),  # "*": everybody
    sa.UniqueConstraint("object_id", "action", "target_project"),
)
# Hosts of all cells as those last told. ``gone``: an operator has said that it is down.
network_hosts = sa.Table(
    "network_hosts",
    metadata,
    sa.Column("cell", NAME, primary_key=True),
    sa.Column("host", NAME, primary_key=True),
    sa.Column("address", sa.String(64), nullable=False),
    sa.Column("external", sa.Boolean, nullable=False, default=False),
    sa.Column("gone", sa.Boolean, nullable=False, default=False),
)
# The one host that has a router.
router_hosts = sa.Table(
    "router_hosts",
    metadata,
    sa.Column("router_id", ID, sa.ForeignKey("routers.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("host", NAME, nullable=False),
)
