"""Answers about floating IPs, their pools, and networks as nova-network had them."""

from __future__ import annotations

from top_api.answers.types import ADDRESS, NULL, TEXT, UUID, WORD, only
from top_api.response_schema import FieldParts, Fields, list_of, nullable

_ONE = Fields(
    {
        "id": UUID,
        "ip": ADDRESS,
        "pool": WORD,
        "fixed_ip": nullable(ADDRESS),
        "instance_id": nullable(UUID),
    },
    name="FloatingIp",
)
LIST = only("floating_ips", list_of(_ONE))
ONE = only("floating_ip", _ONE)
POOLS = only("floating_ip_pools", list_of(Fields({"name": WORD}, name="FloatingIpPool")))
_UNTOLD: FieldParts = dict.fromkeys(
    ("cidr", "netmask", "gateway", "broadcast", "dns1", "dns2", "cidr_v6", "gateway_v6", "netmask_v6"), NULL
)
_NETWORK = Fields({"id": UUID, "label": TEXT, **_UNTOLD}, name="Network")
NETWORKS = only("networks", list_of(_NETWORK))
NETWORK = only("network", _NETWORK)
_TENANT_NETWORK = Fields({"id": UUID, "label": TEXT, "cidr": {"const": "None"}}, name="TenantNetwork")
TENANT_NETWORKS = only("networks", list_of(_TENANT_NETWORK))
TENANT_NETWORK = only("network", _TENANT_NETWORK)
