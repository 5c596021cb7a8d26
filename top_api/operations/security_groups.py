"""Security groups in the Compute API: rules in Nova's words, and the groups of servers."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from cellcloud import errors
from cellcloud.context import RequestContext
from cellcloud.model.security_group import INGRESS, SecurityGroupRule
from cellcloud.model.server import ServerRecord
from top_api.operations import server_in_cell
from top_api.services import ApiServices

_ICMP, _WITH_PORTS = "ICMP", ("TCP", "UDP")
_LAST_PORT, _LAST_TYPE = 65535, 255


def change_groups(
    services: ApiServices, context: RequestContext, record: ServerRecord, *, add: str = "", remove: str = ""
) -> None:
    """Put a server into a group, or out of one, by name or id: its ports are, and it is shown with those that they are
    in. Raises NotFound, Conflict, Invalid, Unreachable."""
    names = services.networks.security_group_client.change_server(
        record.spec.project_id, record.id, add=[add] if add else (), remove=[remove] if remove else ()
    )
    verb = "add_security_group" if add else "remove_security_group"
    server_in_cell.change(services, context, record, verb, {"security_groups": names})


@contextmanager
def as_nova_refuses() -> Iterator[None]:
    """Answer what conflicts with other things as a bad request, as Nova's proxies do."""
    try:
        yield
    except errors.Conflict as error:
        raise errors.Invalid(error.message) from error


def read_rule(wanted: Mapping[str, Any]) -> SecurityGroupRule:
    """Return the rule that a body asks for. Raises Invalid."""
    group_id, protocol = wanted.get("group_id"), wanted.get("ip_protocol")
    low, high = wanted.get("from_port"), wanted.get("to_port")
    kind = str(protocol).upper() if protocol else ""
    cidr = None if group_id else _read_cidr(wanted.get("cidr"))
    if group_id and low is None and high is None:
        low, high = (-1, -1) if kind == _ICMP else (1, _LAST_PORT) if kind in _WITH_PORTS else (None, None)
    if protocol and low is not None and high is not None:
        low, high = _read_range(kind, low, high)
    elif cidr is not None:
        raise errors.Invalid("Not enough parameters to build a valid rule.")
    else:
        protocol = low = high = None
    return SecurityGroupRule(
        id="",
        security_group_id=wanted["parent_group_id"],
        direction=INGRESS,
        ethertype=f"IPv{ipaddress.ip_interface(cidr).version}" if cidr else "IPv4",
        protocol=kind.lower() if protocol else None,
        port_range_min=None if low == -1 else low,
        port_range_max=None if high == -1 else high,
        remote_group_id=group_id,
        remote_ip_prefix=cidr,
    )


def _read_cidr(given: str | None) -> str:
    if not given:
        return "0.0.0.0/0"
    try:
        found = ipaddress.ip_interface(given.strip())
    except ValueError:
        raise errors.Invalid(f"Invalid CIDR {given[:64]}.") from None
    if found.network.prefixlen == 0 and int(found.ip):
        raise errors.Invalid(f"Bad prefix for network in cidr {given[:64]}")
    return str(found)


def _read_range(kind: str, low: Any, high: Any) -> tuple[int, int]:
    try:
        first, last = int(low), int(high)
    except ValueError:
        what = (
            "Type and Code must be integers for ICMP protocol type"
            if kind == _ICMP
            else ("To and From ports must be integers")
        )
        raise errors.Invalid(f"Invalid input received: {what}") from None
    if kind not in (_ICMP, *_WITH_PORTS):
        raise errors.Invalid(f"Invalid IP protocol {kind[:64]}")
    if kind == _ICMP:
        good = all(-1 <= value <= _LAST_TYPE for value in (first, last))
    else:
        good = 1 <= first <= last <= _LAST_PORT
    if not good:
        raise errors.Invalid(f"Invalid port range {first}:{last}. Valid {kind} ports or types are out of range.")
    return first, last
