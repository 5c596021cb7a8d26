"""Address arithmetic of subnets. IPv4: what the hosts serve."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

from cellcloud import errors
from cellcloud.model.network import FixedIp, Subnet

LONGEST_PREFIX = 30  # a gateway and one guest
# "This" network, loopback, link-local with the metadata address, multicast: no range for guests has any of them.
SPECIAL = tuple(map(IPv4Network, ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4")))


def completed(subnet: Subnet, *, gateway: bool) -> Subnet:
    """In canonical form, its gateway (unless there shall be none) and pools filled in. Raises Invalid."""
    try:
        known = IPv4Network(subnet.cidr)
        router = IPv4Address(subnet.gateway_ip) if subnet.gateway_ip else known.network_address + 1
        pools = sorted((IPv4Address(a), IPv4Address(b)) for a, b in subnet.allocation_pools)
        dns = tuple(str(ipaddress.ip_address(server)) for server in subnet.dns_nameservers)
    except ValueError as error:
        raise errors.Invalid(f"The subnet is wrong: {error}.") from None
    if known.prefixlen > LONGEST_PREFIX or any(known.overlaps(special) for special in SPECIAL):
        raise errors.Invalid(f"The range {known} cannot be used for guests.")
    if gateway and not _usable(known, router):
        raise errors.Invalid("The gateway is not an address of the subnet.")
    pools = pools or _around(known, router if gateway else None)
    _check_pools(known, pools, router if gateway else None)
    return replace(
        subnet,
        cidr=str(known),
        gateway_ip=str(router) if gateway else None,
        dns_nameservers=dns,
        allocation_pools=tuple((str(first), str(last)) for first, last in pools),
    )


def containing(subnets: Sequence[Subnet], address: str) -> Subnet:
    """Return the subnet that may give this address to a guest. Raises Invalid."""
    try:
        wanted = IPv4Address(address)
    except ValueError:
        raise errors.Invalid(f"'{address[:64]}' is not a valid IPv4 address.") from None
    for subnet in subnets:
        if _usable(IPv4Network(subnet.cidr), wanted):
            if str(wanted) == subnet.gateway_ip:
                raise errors.Invalid(f"IP address {address} is the gateway's.")
            return subnet
    raise errors.Invalid(f"IP address {address} is not a valid IP for any of the subnets of the network.")


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
        self._ranges = [(IPv4Address(first), IPv4Address(last)) for first, last in subnet.allocation_pools]
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


def _usable(known: IPv4Network, address: IPv4Address) -> bool:
    return address in known and address not in (known.network_address, known.broadcast_address)


def _around(known: IPv4Network, router: IPv4Address | None) -> list[tuple[IPv4Address, IPv4Address]]:
    first, last = known.network_address + 1, known.broadcast_address - 1
    if router is None:
        return [(first, last)]
    return [(a, b) for a, b in ((first, router - 1), (router + 1, last)) if a <= b]


def _check_pools(
    known: IPv4Network, pools: Sequence[tuple[IPv4Address, IPv4Address]], router: IPv4Address | None
) -> None:
    before: IPv4Address | None = None
    for first, last in pools:
        if not (_usable(known, first) and _usable(known, last) and first <= last):
            raise errors.Invalid("An allocation pool is not a range of the subnet.")
        if router is not None and first <= router <= last:
            raise errors.Invalid("An allocation pool holds the gateway.")
        if before is not None and first <= before:
            raise errors.Invalid("Allocation pools overlap.")
        before = last
