"""Bodies of the network API. Unknown keys are refused, as Neutron does."""

from __future__ import annotations

from typing import Any

from cellcloud.clients.network import INDEX_KEY, OWNED_KEY, PLACEMENT_KEY
from top_api.validation import Versioned

_ID = {"type": "string", "minLength": 1, "maxLength": 36}
_PROJECT = {"type": "string", "minLength": 1, "maxLength": 64}
_TEXT = {"type": "string", "maxLength": 255}
_ADDRESS = {"type": "string", "maxLength": 64}
_DEVICE = {"type": "string", "maxLength": 255}

_FIXED_IPS = {
    "type": "array",
    "maxItems": 5,
    "items": {
        "type": "object",
        "properties": {"subnet_id": _ID, "ip_address": _ADDRESS},
        "additionalProperties": False,
    },
}
_ROUTES = {
    "type": ["array", "null"],
    "maxItems": 1000,
    "items": {
        "type": "object",
        "properties": {"destination": _ADDRESS, "nexthop": _ADDRESS},
        "required": ["destination", "nexthop"],
        "additionalProperties": False,
    },
}
_NO_DNS = {"enum": [""]}  # there is no DNS service
_MODES = ("slaac", "dhcpv6-stateful", "dhcpv6-stateless")
_NETWORK_CHANGES = {
    "name": _TEXT,
    "description": _TEXT,
    "admin_state_up": {"type": "boolean"},
    "shared": {"type": "boolean"},
    "mtu": {"type": "integer", "minimum": 576, "maximum": 9000},
    "router:external": {"type": "boolean"},
    "is_default": {"type": "boolean"},
    "port_security_enabled": {"type": "boolean"},
    "dns_domain": _NO_DNS,
}
_NETWORK = {
    **_NETWORK_CHANGES,
    "project_id": _PROJECT,
    "tenant_id": _PROJECT,
    "availability_zone_hints": {"type": "array", "maxItems": 0},
    "provider:network_type": {"enum": ["vxlan", None]},
    "provider:physical_network": {"type": "null"},
    "provider:segmentation_id": {"type": ["integer", "null"], "minimum": 1, "maximum": (1 << 24) - 1},
}
_SUBNET_CHANGES = {
    "name": _TEXT,
    "description": _TEXT,
    "enable_dhcp": {"type": "boolean"},
    "dns_nameservers": {
        "type": ["array", "null"],
        "items": {"anyOf": [{"format": "ipv4"}, {"format": "ipv6"}], "type": "string", "maxLength": 45},
        "maxItems": 5,
    },
    "gateway_ip": {"type": ["string", "null"], "minLength": 1, "maxLength": 64},
    "host_routes": _ROUTES | {"maxItems": 20},
    "allocation_pools": {
        "type": ["array", "null"],
        "maxItems": 16,
        "items": {
            "type": "object",
            "properties": {"start": _ADDRESS, "end": _ADDRESS},
            "required": ["start", "end"],
            "additionalProperties": False,
        },
    },
}
_SUBNET = {
    **_SUBNET_CHANGES,
    "network_id": _ID,
    "project_id": _PROJECT,
    "tenant_id": _PROJECT,
    "cidr": _ADDRESS,
    "ip_version": {"enum": [4, 6]},
    "ipv6_ra_mode": {"enum": [*_MODES, None]},
    "ipv6_address_mode": {"enum": [*_MODES, None]},
    "subnetpool_id": {"type": "null"},
    "use_default_subnetpool": {"const": False},
    "service_types": {"type": "array", "maxItems": 0},
}
_MAC = {
    "type": "string",
    "pattern": "[0-9a-fA-F][02468aceACE](:[0-9a-fA-F]{2}){5}",
    "not": {"const": "00:00:00:00:00:00"},
}
_PORT_CHANGES = {
    "name": _TEXT,
    "description": _TEXT,
    "admin_state_up": {"type": "boolean"},
    "device_id": _DEVICE,
    "device_owner": _DEVICE,
    "security_groups": {"type": "array", "items": _ID, "maxItems": 64},
    "binding:host_id": {"type": ["string", "null"], "maxLength": 255},
    "binding:profile": {
        "type": ["object", "null"],
        "properties": {
            INDEX_KEY: {"type": "integer", "minimum": 0, "maximum": (1 << 31) - 1},
            OWNED_KEY: {"type": "boolean"},
            PLACEMENT_KEY: {"type": "integer", "minimum": 0, "maximum": 1 << 53},
        },
        "additionalProperties": False,
    },
    "binding:vnic_type": {"const": "normal"},
    "port_security_enabled": {"type": "boolean"},
    "fixed_ips": _FIXED_IPS,
    "mac_address": _MAC,
    "allowed_address_pairs": {
        "type": ["array", "null"],
        "maxItems": 10,
        "items": {
            "type": "object",
            "properties": {"ip_address": _ADDRESS, "mac_address": _MAC},
            "required": ["ip_address"],
            "additionalProperties": False,
        },
    },
    "extra_dhcp_opts": {"type": ["array", "null"], "maxItems": 0},
    "dns_name": _NO_DNS,
}
_PORT = {
    **_PORT_CHANGES,
    "network_id": _ID,
    "project_id": _PROJECT,
    "tenant_id": _PROJECT,
}
_GROUP = {"name": _TEXT, "description": _TEXT, "stateful": {"enum": [True]}}
_RANGE = {
    "anyOf": [
        {"type": "null"},
        {"type": "integer", "minimum": -(1 << 31), "maximum": 1 << 31},
        {"type": "string", "pattern": "-?[0-9]{1,9}"},
    ],
    "type": ["integer", "string", "null"],
}
_RULE = {
    "security_group_id": _ID,
    "project_id": _PROJECT,
    "tenant_id": _PROJECT,
    "direction": {"type": "string", "maxLength": 64},
    "ethertype": {"type": ["string", "null"], "maxLength": 64},
    "protocol": {"type": ["string", "integer", "null"], "maxLength": 64},
    "port_range_min": _RANGE,
    "port_range_max": _RANGE,
    "remote_group_id": {"type": ["string", "null"], "maxLength": 36},
    "remote_ip_prefix": {"type": ["string", "null"], "maxLength": 64},
    "description": {"type": ["string", "null"], "maxLength": 255},
}


def _object(properties: dict[str, Any], required: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def _one(name: str, inner: dict[str, Any]) -> Versioned:
    return Versioned(_object({name: inner}, (name,)))


def _one_or_many(name: str, inner: dict[str, Any]) -> Versioned:
    many = {"type": "array", "items": inner, "minItems": 1, "maxItems": 1000}
    return Versioned({**_object({name: inner, f"{name}s": many}), "minProperties": 1, "maxProperties": 1})


NETWORKS = _one_or_many("network", _object(_NETWORK))
NETWORK_UPDATE = _one("network", _object(_NETWORK_CHANGES))
SUBNETS = _one_or_many("subnet", _object(_SUBNET, ("network_id", "cidr")))
SUBNET_UPDATE = _one("subnet", _object(_SUBNET_CHANGES))
PORTS = _one_or_many("port", _object(_PORT, ("network_id",)))
PORT_UPDATE = _one("port", _object(_PORT_CHANGES))
SECURITY_GROUPS = _one_or_many("security_group", _object({**_GROUP, "project_id": _PROJECT, "tenant_id": _PROJECT}))
SECURITY_GROUP_UPDATE = _one("security_group", _object(_GROUP))
SECURITY_GROUP_RULES = _one_or_many("security_group_rule", _object(_RULE, ("security_group_id", "direction")))
_ROUTER_CREATE = {
    "name": _TEXT,
    "description": _TEXT,
    "admin_state_up": {"type": "boolean"},
    "external_gateway_info": {
        "type": ["object", "null"],
        "properties": {
            "network_id": {"type": ["string", "null"], "maxLength": 36},
            "enable_snat": {"type": "boolean"},
            "external_fixed_ips": _FIXED_IPS,
        },
        "additionalProperties": False,
    },
    "distributed": {"enum": [False, None]},
    "ha": {"enum": [False, None]},
}
_ROUTER = {
    **_ROUTER_CREATE,
    "project_id": _PROJECT,
    "tenant_id": _PROJECT,
    "availability_zone_hints": {"type": "array", "maxItems": 0},
}
ROUTER = _one("router", _object(_ROUTER))
ROUTER_UPDATE = _one("router", _object({**_ROUTER_CREATE, "routes": _ROUTES}))
ROUTER_ROUTES = _one("router", _object({"routes": _ROUTES}, ("routes",)))
ROUTER_INTERFACE = Versioned(_object({"subnet_id": _ID, "port_id": _ID}))
_MAYBE_ID = {"type": ["string", "null"], "maxLength": 36}
_MAYBE_TEXT = {"type": ["string", "null"], "maxLength": 255}
_FLOATING_IP = {
    "description": _MAYBE_TEXT,
    "port_id": _MAYBE_ID,
    "fixed_ip_address": {"type": ["string", "null"], "maxLength": 64},
}
FLOATING_IP = _one(
    "floatingip",
    _object(
        {
            **_FLOATING_IP,
            "floating_network_id": _ID,
            "floating_ip_address": {"type": ["string", "null"], "maxLength": 64},
            "subnet_id": _MAYBE_ID,
            "project_id": _PROJECT,
            "tenant_id": _PROJECT,
            "dns_name": _NO_DNS,
            "dns_domain": _NO_DNS,
        },
        ("floating_network_id",),
    ),
)
FLOATING_IP_UPDATE = _one("floatingip", _object(_FLOATING_IP))
_TARGET = {"type": "string", "pattern": r"\*|[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}"}
_POLICY = {
    "object_type": {"type": "string", "maxLength": 255},
    "object_id": _ID,
    "action": {"type": "string", "maxLength": 255},
    "target_tenant": _TARGET,
    "project_id": _PROJECT,
    "tenant_id": _PROJECT,
}
_NEW_POLICY = _object(_POLICY, ("object_type", "object_id", "action", "target_tenant"))
RBAC_POLICIES = Versioned(
    {
        **_object(
            {
                "rbac_policy": _NEW_POLICY,
                "rbac_policies": {"type": "array", "items": _NEW_POLICY, "minItems": 1, "maxItems": 1000},
            }
        ),
        "minProperties": 1,
        "maxProperties": 1,
    }
)
RBAC_POLICY_UPDATE = _one("rbac_policy", _object({"target_tenant": _TARGET}, ("target_tenant",)))
TAGS = Versioned(
    _object(
        {
            "tags": {
                "type": "array",
                "items": {"type": "string", "minLength": 1, "maxLength": 60},
                "maxItems": 50,
                "uniqueItems": True,
            }
        },
        ("tags",),
    )
)
