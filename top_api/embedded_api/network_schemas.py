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

_NETWORK_CHANGES = {
    "name": _TEXT,
    "description": _TEXT,
    "admin_state_up": {"const": True},  # nothing here can be taken down
    "shared": {"type": "boolean"},
    "mtu": {"type": "integer", "minimum": 576, "maximum": 9000},
}
_NETWORK = {
    **_NETWORK_CHANGES,
    "project_id": _PROJECT,
    "tenant_id": _PROJECT,
    "router:external": {"const": False},
    "port_security_enabled": {"const": True},
    "is_default": {"const": False},
}
_SUBNET_CHANGES = {
    "name": _TEXT,
    "description": _TEXT,
    "enable_dhcp": {"type": "boolean"},
    "dns_nameservers": {"type": "array", "items": {"type": "string", "format": "ipv4", "maxLength": 45}, "maxItems": 5},
}
_SUBNET = {
    **_SUBNET_CHANGES,
    "network_id": _ID,
    "project_id": _PROJECT,
    "tenant_id": _PROJECT,
    "cidr": _ADDRESS,
    "ip_version": {"enum": [4, "4"]},
    "gateway_ip": {"type": ["string", "null"], "minLength": 1, "maxLength": 64},
    "host_routes": {"type": "array", "maxItems": 0},
    "allocation_pools": {
        "type": "array",
        "maxItems": 16,
        "items": {
            "type": "object",
            "properties": {"start": _ADDRESS, "end": _ADDRESS},
            "required": ["start", "end"],
            "additionalProperties": False,
        },
    },
}
_PORT_CHANGES = {
    "name": _TEXT,
    "description": _TEXT,
    "admin_state_up": {"const": True},  # nothing here can be taken down
    "device_id": _DEVICE,
    "device_owner": _DEVICE,
    "security_groups": {"type": "array", "items": _ID, "maxItems": 64},
    "binding:host_id": {"type": ["string", "null"], "maxLength": 255},
    "binding:profile": {
        "type": ["object", "null"],
        "properties": {
            INDEX_KEY: {"type": "integer", "minimum": 0, "maximum": 999},
            OWNED_KEY: {"type": "boolean"},
            PLACEMENT_KEY: {"type": "integer", "minimum": 0, "maximum": 1 << 53},
        },
        "additionalProperties": False,
    },
    "binding:vnic_type": {"const": "normal"},
    "port_security_enabled": {"const": True},
}
_PORT = {
    **_PORT_CHANGES,
    "network_id": _ID,
    "project_id": _PROJECT,
    "tenant_id": _PROJECT,
    "mac_address": {
        "type": "string",
        "pattern": "[0-9a-fA-F][02468aceACE](:[0-9a-fA-F]{2}){5}",
        "not": {"const": "00:00:00:00:00:00"},
    },
    "fixed_ips": {
        "type": "array",
        "maxItems": 5,  # Neutron's max_fixed_ips_per_port
        "items": {
            "type": "object",
            "properties": {"subnet_id": _ID, "ip_address": _ADDRESS},
            "additionalProperties": False,
        },
    },
}


_GROUP = {"name": _TEXT, "description": _TEXT, "stateful": {"type": "boolean"}}
_RANGE = {
    "anyOf": [
        {"type": "null"},
        {"type": "integer", "minimum": 0, "maximum": 65535},
        {"type": "string", "pattern": "[0-9]{1,4}"},
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


NETWORK = _one("network", _object(_NETWORK))
NETWORK_UPDATE = _one("network", _object(_NETWORK_CHANGES))
SUBNET = _one("subnet", _object(_SUBNET, ("network_id", "cidr")))
SUBNET_UPDATE = _one("subnet", _object(_SUBNET_CHANGES))
PORTS = _one_or_many("port", _object(_PORT, ("network_id",)))
PORT_UPDATE = _one("port", _object(_PORT_CHANGES))
SECURITY_GROUPS = _one_or_many("security_group", _object({**_GROUP, "project_id": _PROJECT, "tenant_id": _PROJECT}))
SECURITY_GROUP_UPDATE = _one("security_group", _object(_GROUP))
SECURITY_GROUP_RULES = _one_or_many("security_group_rule", _object(_RULE, ("security_group_id", "direction")))
