"""Values that clients send in more than one form, as Neutron takes them: numbers as text, truth values as words."""

from __future__ import annotations

from typing import Any

from cellcloud.db.network_quota_usages import TABLES
from top_api.embedded_api.lists import boolean, number

_BOOLEANS = frozenset(
    {
        *("admin_state_up", "shared", "router:external", "is_default", "port_security_enabled", "enable_dhcp"),
        *("enable_snat", "stateful", "distributed", "ha", "use_default_subnetpool", "check_limit", "force"),
    }
)
_NUMBERS = frozenset({"mtu", "ip_version", "provider:segmentation_id", *TABLES})


def canonical(value: Any) -> Any:
    """Return a body with such values in the one form that is taken; what cannot be brought into it stays as it is."""
    if isinstance(value, list):
        return [canonical(one) for one in value]
    if isinstance(value, dict):
        return {name: _canonical(name, one) for name, one in value.items()}
    return value


def _canonical(name: str, value: Any) -> Any:
    try:
        if name in _BOOLEANS and isinstance(value, str | int):
            return boolean(str(value))
        if name in _NUMBERS and isinstance(value, str):
            return number(value)
    except ValueError:
        return value
    return canonical(value)
