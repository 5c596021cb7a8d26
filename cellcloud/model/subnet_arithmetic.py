"""Address arithmetic of subnets, IPv4 and IPv6."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import replace

from cellcloud import errors
from cellcloud.model.network import FixedIp, Subnet

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
LONGEST_PREFIX = {4: 30, 6: 126}  # a gateway and one guest
SLAAC, STATEFUL, STATELESS = "slaac", "dhcpv6-stateful", "dhcpv6-stateless"
AUTOMATIC = (SLAAC, STATELESS)
"""Modes in which a guest makes its address out of its MAC."""
_AUTOMATIC_PREFIX = 64
# "This" network, loopback, link-local with the metadata address, multicast: no range for guests has any of them.
SPECIAL = tuple(
    map(
        ipaddress.ip_network,
        (
            "0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4",
            "::/128", "::1/128", "::ffff:0:0/96", "fe80::/10", "ff00::/8",
        ),
    )
)  # fmt: skip


def completed(subnet: Subnet, *, gateway: bool) -> Subnet:
    """In canonical form, its gateway (unless there shall be none) and pools filled in. Raises Invalid, Conflict for
    pools that overlap or hold the gateway."""
    try:
        known = ipaddress.ip_network(subnet.cidr)
        router = ipaddress.ip_address(subnet.gateway_ip) if subnet.gateway_ip else known.network_address + 1
        pools = [(ipaddress.ip_address(a), ipaddress.ip_address(b)) for a, b in subnet.allocation_pools]
        dns = tuple(str(ipaddress.ip_address(server)) for server in subnet.dns_nameservers)
        routes = tuple(canonical_route(known.version, *route) for route in subnet.host_routes)
    except ValueError as error:
        raise _invalid(f"the subnet is wrong: {error}") from None
    gateway_ip = router if gateway else None
    _check_addresses(subnet, known, gateway_ip, dns)
    _check_modes(subnet, known)
    pools = pools or _around(known, gateway_ip)
    _check_pools(known, pools, gateway_ip)
    return replace(
        subnet,
        cidr=str(known),
        gateway_ip=None if gateway_ip is None else str(gateway_ip),
        dns_nameservers=dns,
        host_routes=routes,
        allocation_pools=tuple((str(first), str(last)) for first, last in sorted(pools, key=lambda pool: int(pool[0]))),
    )


def _invalid(what: str) -> errors.Invalid:
    return errors.Invalid(f"Invalid input for operation: {what}.")


def _check_addresses(subnet: Subnet, known: IpNetwork, gateway: IpAddress | None, dns: Sequence[str]) -> None:
    version = subnet.ip_version
    if known.version != version:
        raise _invalid(f"cidr '{known}' does not match the ip_version '{version}'")
    if known.prefixlen == 0:
        raise _invalid("0 is not allowed as CIDR prefix length")
    if known.prefixlen > LONGEST_PREFIX[version] or any(_overlap(known, special) for special in SPECIAL):
        raise _invalid(f"the range {known} cannot be used for guests")
    if gateway is not None and gateway.version != version:
        raise _invalid(f"gateway_ip '{gateway}' does not match the ip_version '{version}'")
    if gateway is not None and not (_usable(known, gateway) or (version == 6 and gateway.is_link_local)):
        raise _invalid("Gateway is not valid on subnet")
    for server in dns:
        if ipaddress.ip_address(server).version != version:
            raise _invalid(f"dns_nameserver '{server}' does not match the ip_version '{version}'")


def canonical_route(version: int | None, destination: str, hop: str) -> tuple[str, str]:
    """Return a route in canonical form. ``version`` None: of the hop's. Raises ValueError."""
    to, by = ipaddress.ip_network(destination), ipaddress.ip_address(hop)
    if not to.version == by.version == (version or by.version):
        raise ValueError(f"a route to {to} by {by}")
    return str(to), str(by)


def overlapping(first: str, second: str) -> bool:
    """Return whether two ranges have addresses in common."""
    return _overlap(ipaddress.ip_network(first), ipaddress.ip_network(second))


def is_within(address: str, cidr: str) -> bool:
    """Return whether the range has the address."""
    return ipaddress.ip_address(address) in ipaddress.ip_network(cidr)


def containing(subnets: Sequence[Subnet], address: str, *, router: bool = False) -> Subnet:
    """Return the subnet that may give this address to a guest, or to a ``router``, which may be its gateway. Raises
    Invalid."""
    try:
        wanted = ipaddress.ip_address(address)
    except ValueError:
        raise errors.Invalid(f"'{address[:64]}' is not a valid IP address.") from None
    for subnet in subnets:
        if _usable(ipaddress.ip_network(subnet.cidr), wanted):
            if str(wanted) == subnet.gateway_ip and not router:
                raise errors.Invalid(f"IP address {address} is the gateway's.")
            return subnet
    raise errors.Invalid(f"IP address {address} is not a valid IP for any of the subnets of the network.")


def from_mac(subnet: Subnet, mac_address: str) -> str:
    """Return the address that a guest makes of its MAC in the subnet's range (RFC 4291, appendix A)."""
    octets = bytes.fromhex(mac_address.replace(":", ""))
    suffix = bytes((octets[0] ^ 2, *octets[1:3], 0xFF, 0xFE, *octets[3:]))
    return str(ipaddress.ip_network(subnet.cidr).network_address + int.from_bytes(suffix, "big"))


def is_automatic(subnet: Subnet) -> bool:
    """Return whether guests make their addresses in the subnet themselves."""
    return subnet.ipv6_address_mode in AUTOMATIC or subnet.ipv6_ra_mode in AUTOMATIC


def fixed_ip(subnet: Subnet, address: str) -> FixedIp:
    """Return an address with its subnet's facts."""
    return FixedIp(
        ip_address=address,
        subnet_id=subnet.id,
        cidr=subnet.cidr,
        gateway_ip=subnet.gateway_ip,
        dns_nameservers=subnet.dns_nameservers,
        enable_dhcp=subnet.enable_dhcp,
    )


class Pool:
    """A subnet's addresses that are handed out, as one row of numbers."""

    def __init__(self, subnet: Subnet) -> None:
        self._ranges = [
            (ipaddress.ip_address(first), ipaddress.ip_address(last)) for first, last in subnet.allocation_pools
        ]
        self.size = sum(int(last) - int(first) + 1 for first, last in self._ranges)

    def __getitem__(self, offset: int) -> str:
        """Return the address at ``offset``, counted round and round."""
        offset %= self.size
        for first, last in self._ranges:
            length = int(last) - int(first) + 1
            if offset < length:
                return str(first + offset)
            offset -= length
        raise IndexError(offset)


def _overlap(first: IpNetwork, second: IpNetwork) -> bool:
    return first.version == second.version and first.overlaps(second)


def _usable(known: IpNetwork, address: IpAddress) -> bool:
    edges = (known.network_address, known.broadcast_address) if known.version == 4 else (known.network_address,)
    return address in known and address not in edges


def _check_modes(subnet: Subnet, known: IpNetwork) -> None:
    modes = {mode for mode in (subnet.ipv6_ra_mode, subnet.ipv6_address_mode) if mode is not None}
    if not modes:
        return
    if known.version == 4:
        name = "ipv6_ra_mode" if subnet.ipv6_ra_mode is not None else "ipv6_address_mode"
        raise _invalid(f"{name} is not valid when ip_version is 4")
    if not subnet.enable_dhcp:
        raise _invalid("ipv6_ra_mode or ipv6_address_mode cannot be set when enable_dhcp is set to False")
    if len(modes) > 1:
        raise _invalid(
            f"ipv6_ra_mode set to '{subnet.ipv6_ra_mode}' with ipv6_address_mode set to '{subnet.ipv6_address_mode}' "
            "is not valid. If both attributes are set, they must be the same value"
        )
    if modes & set(AUTOMATIC) and known.prefixlen != _AUTOMATIC_PREFIX:
        raise _invalid(f"Invalid CIDR {known} for IPv6 address mode, which requires a prefix of /{_AUTOMATIC_PREFIX}")


def _around(known: IpNetwork, router: IpAddress | None) -> list[tuple[IpAddress, IpAddress]]:
    first = known.network_address + 1
    last = known.broadcast_address - 1 if known.version == 4 else known.broadcast_address
    if router is None or router not in known:
        return [(first, last)]
    return [(a, b) for a, b in ((first, router - 1), (router + 1, last)) if int(a) <= int(b)]


def _check_pools(known: IpNetwork, pools: Sequence[tuple[IpAddress, IpAddress]], router: IpAddress | None) -> None:
    before: tuple[IpAddress, IpAddress] | None = None
    for first, last in sorted(pools, key=lambda pool: int(pool[0])):
        if not first.version == last.version == known.version or int(first) > int(last):
            raise errors.Invalid(f"The allocation pool {first}-{last} is not valid.")
        if not (_usable(known, first) and _usable(known, last)):
            raise errors.Invalid(f"The allocation pool {first}-{last} spans beyond the subnet cidr {known}.")
        if router is not None and int(first) <= int(router) <= int(last):
            raise errors.Conflict(f"Gateway ip {router} conflicts with allocation pool {first}-{last}.")
        if before is not None and int(first) <= int(before[1]):
            raise errors.Conflict(
                f"Found overlapping allocation pools: {before[0]}-{before[1]} {first}-{last} for subnet {known}."
            )
        before = first, last
