"""What makes a security group's rule a good one, and its canonical form, as Neutron has it."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

from cellcloud import errors
from cellcloud.model.security_group import EGRESS, INGRESS, IPV4, IPV6, PROTOCOLS, SecurityGroupRule, protocol_number

_WITH_PORTS = frozenset(PROTOCOLS[name] for name in ("tcp", "udp", "dccp", "sctp", "udplite"))
_ICMP = frozenset((PROTOCOLS["icmp"], PROTOCOLS["ipv6-icmp"]))
_OF_IPV6 = frozenset(number for name, number in PROTOCOLS.items() if "v6" in name)
_LAST_PORT, _LAST_PROTOCOL, _LAST_TYPE = 65535, 255, 255


def canonical(rule: SecurityGroupRule) -> SecurityGroupRule:
    """Return the rule in its canonical form: names in lower case, the family's own ICMP, a prefix with its length, no
    range where it is every port. Raises Invalid."""
    if rule.direction not in (INGRESS, EGRESS):
        raise errors.Invalid(f"Invalid value for direction '{rule.direction[:64]}': it is ingress or egress.")
    ethertype = {IPV4.lower(): IPV4, IPV6.lower(): IPV6}.get(rule.ethertype.lower())
    if ethertype is None:
        raise errors.Invalid(
            f"Security group rule for ethertype '{rule.ethertype[:64]}' not supported. "
            f"Allowed values are ['{IPV4}', '{IPV6}']."
        )
    protocol = _protocol(rule.protocol, ethertype)
    prefix = _prefix(rule.remote_ip_prefix, ethertype)
    if prefix is not None and rule.remote_group_id is not None:
        raise errors.Invalid("Only remote_ip_prefix or remote_group_id may be provided.")
    low, high = rule.port_range_min, rule.port_range_max
    if protocol is not None and (low, high) == (1, _LAST_PORT) and protocol_number(protocol) in _WITH_PORTS:
        low = high = None
    _check_range(protocol, low, high)
    return replace(
        rule, ethertype=ethertype, protocol=protocol, remote_ip_prefix=prefix, port_range_min=low, port_range_max=high
    )


def _protocol(given: str | None, ethertype: str) -> str | None:
    if given is None:
        return None
    protocol = given.lower()
    known = protocol in PROTOCOLS or (
        protocol.isascii() and protocol.isdecimal() and len(protocol) < 4 and int(protocol) <= _LAST_PROTOCOL
    )
    if not known:
        raise errors.Invalid(
            f"Security group rule protocol '{given[:64]}' not supported. Only protocol values {sorted(PROTOCOLS)} and "
            f"integer representations [0 to {_LAST_PROTOCOL}] are supported."
        )
    if ethertype == IPV6:
        return {"icmp": "ipv6-icmp", "icmpv6": "ipv6-icmp", "1": "58"}.get(protocol, protocol)
    if protocol_number(protocol) in _OF_IPV6:
        raise errors.Invalid(f"Invalid ethertype {ethertype} for protocol {protocol}.")
    return protocol


def _prefix(given: str | None, ethertype: str) -> str | None:
    if given is None:
        return None
    try:
        address = ipaddress.ip_interface(given)
    except ValueError:
        raise errors.Invalid(f"'{given[:64]}' is not a valid IP subnet.") from None
    if ethertype != f"IPv{address.version}":
        raise errors.Invalid(f"Conflicting value ethertype {ethertype} for CIDR {given[:64]}")
    return str(address)


def _check_range(protocol: str | None, low: int | None, high: int | None) -> None:
    if low is None and high is None:
        return
    for port in (low, high):
        if port is not None and not 0 <= port <= _LAST_PORT:
            raise errors.Invalid(f"Invalid value for port {port}")
    if protocol is None:
        raise errors.Invalid("Must also specify protocol if port range is given.")
    number = protocol_number(protocol)
    if number in _WITH_PORTS:
        if 0 in (low, high):
            raise errors.Invalid("Invalid value for port 0")
        if low is None or high is None or low > high:
            raise errors.Invalid("For TCP/UDP protocols, port_range_min must be <= port_range_max")
        return
    if number not in _ICMP:
        raise errors.Invalid(
            f"Invalid protocol {protocol} for port range, only supported for TCP, UDP, SCTP and others."
        )
    for value, field, attribute in ((low, "type", "port_range_min"), (high, "code", "port_range_max")):
        if value is not None and value > _LAST_TYPE:
            raise errors.Invalid(f"Invalid value for ICMP {field} ({attribute}) {value}. It must be 0 to {_LAST_TYPE}.")
    if low is None:
        raise errors.Invalid(
            f"ICMP code (port-range-max) {high} is provided but ICMP type (port-range-min) is missing."
        )
