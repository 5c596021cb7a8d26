"""Which addresses ports get: the keys of the table decide races for one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NoReturn

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud import errors
from cellcloud.db.top_schema import port_addresses, subnets
from cellcloud.model.network import FixedIp, NewPort, Subnet
from cellcloud.model.subnet_arithmetic import Pool, containing, fixed_ip, from_mac, is_automatic

_MOST_AT_ONCE = 1000
_UNREAD: Mapping[str, int] = {}
_COUNT_ON = (
    subnets.update()
    .where(subnets.c.id == sa.bindparam("subnet"))
    .values(next_offset=subnets.c.next_offset + sa.bindparam("step"))
)
_COUNT_FROM = _COUNT_ON.where(subnets.c.next_offset == sa.bindparam("known_offset", type_=sa.BigInteger))
_COUNTER = sa.select(subnets.c.next_offset).where(subnets.c.id == sa.bindparam("subnet"))
_HELD = sa.select(port_addresses.c.ip_address).where(
    port_addresses.c.subnet_id == sa.bindparam("subnet"),
    port_addresses.c.ip_address.in_(sa.bindparam("candidates", expanding=True)),
)


def asked_addresses(wanted: NewPort, known: Sequence[Subnet]) -> list[tuple[str | None, str | None]]:
    """Return the (subnet, address) pairs that a port gets on a network of these subnets; None: any. One of each IP
    version where nothing is asked for, and those that a guest makes itself in any case, but a router."""
    by_hand = [subnet for subnet in known if not is_automatic(subnet)]
    asked = list(wanted.addresses or ())
    if wanted.addresses is None:
        for version in (4, 6):
            fitting = [subnet.id for subnet in by_hand if subnet.ip_version == version]
            if fitting:
                asked.append((None if version == 4 else fitting[0], None))
    if wanted.device_owner.startswith("network:router_"):
        return asked
    named = {subnet_id for subnet_id, _ in asked}
    return asked + [(subnet.id, None) for subnet in known if is_automatic(subnet) and subnet.id not in named]


def choose_addresses(
    c: Connection, new: Sequence[NewPort], known: Sequence[Subnet], offsets: Mapping[str, int] = _UNREAD
) -> list[tuple[FixedIp, ...]]:
    """Choose the addresses of each port, which has a MAC: the wanted ones first, so that none of them is given to a
    port that takes any. ``offsets``: subnet -> where its counter was read to stand. Raises Invalid, Conflict for one
    that is taken and with none left."""
    chosen: list[list[FixedIp | None]] = []
    mine: dict[str, set[str]] = {subnet.id: set() for subnet in known}
    free: dict[tuple[str, ...], list[tuple[int, int]]] = {}  # subnets to choose from -> (port, place) to fill
    for number, wanted in enumerate(new):
        asked = asked_addresses(wanted, known)
        chosen.append([None] * len(asked))
        router = wanted.device_owner.startswith("network:router_")
        for place, (subnet_id, address) in enumerate(asked):
            fitting = [subnet for subnet in known if subnet_id in (None, subnet.id)]
            if subnet_id is not None and not fitting:
                _raise_strange(c, subnet_id, wanted.network_id)
            if subnet_id is not None and is_automatic(fitting[0]) and not router:
                subnet, text = fitting[0], _automatic(fitting[0], wanted, address)
            elif address is not None:
                subnet = containing(fitting, address, router=wanted.device_owner.startswith("network:"))
                text = address
            else:
                fitting = _of_one_version(fitting)
                free.setdefault(tuple(subnet.id for subnet in fitting), []).append((number, place))
                continue
            if text in mine[subnet.id] or is_held(c, subnet.id, text):
                raise errors.Conflict(f"IP address {text} already allocated in subnet {subnet.id}.")
            mine[subnet.id].add(text)
            chosen[number][place] = fixed_ip(subnet, text)
    for subnet_ids, places in free.items():
        fitting = [subnet for subnet in known if subnet.id in subnet_ids]
        for (number, place), ip in zip(places, _any_addresses(c, fitting, len(places), mine, offsets), strict=True):
            chosen[number][place] = ip
    return [tuple(ip for ip in of_port if ip is not None) for of_port in chosen]


def take_addresses(
    c: Connection, subnet: Subnet, count: int, spoken_for: Collection[str] = (), offset: int | None = None
) -> list[str]:
    """Up to ``count`` free addresses, none of those spoken for. Another transaction waits here until this one ends.

    The subnet's counter stands where nothing was handed out yet, so an emptyish subnet costs three statements however
    large it is and however many are taken; two where the counter is still at the ``offset`` that was read of it.
    """
    pool = Pool(subnet)
    start = _count_on(c, subnet.id, count, offset)
    found: list[str] = []
    looked, window = 0, max(8, count)
    while looked < pool.size and len(found) < count:
        candidates = [pool[start + looked + i] for i in range(min(window, pool.size - looked))]
        taken = _held(c, subnet.id, candidates)
        for candidate in candidates:
            looked += 1
            if candidate not in taken and candidate not in spoken_for:
                found.append(candidate)
                if len(found) == count:
                    break
        window = min(window * 4, _MOST_AT_ONCE)
    if looked > count:
        c.execute(_COUNT_ON, {"subnet": subnet.id, "step": looked - count})
    return found


def _count_on(c: Connection, subnet_id: str, step: int, offset: int | None) -> int:
    """Move a subnet's counter on; returns where it stood."""
    mine = {"subnet": subnet_id, "step": step}
    if offset is not None and c.execute(_COUNT_FROM, mine | {"known_offset": offset}).rowcount:
        return offset
    c.execute(_COUNT_ON, mine)
    return int(c.execute(_COUNTER, {"subnet": subnet_id}).scalar_one()) - step


def is_held(c: Connection, subnet_id: str, address: str) -> bool:
    """Return whether a port has that address."""
    return bool(_held(c, subnet_id, [address]))


def _raise_strange(c: Connection, subnet_id: str, network_id: str) -> NoReturn:
    """Raise NotFound for a subnet that there is not, Invalid for another network's."""
    if c.execute(sa.select(subnets.c.id).where(subnets.c.id == subnet_id)).first() is None:
        raise errors.NotFound(f"Subnet {subnet_id[:64]} could not be found.")
    raise errors.Invalid(
        f"Invalid input for operation: Failed to create port on network {network_id}, because fixed_ips included "
        f"invalid subnet {subnet_id}."
    )


def _automatic(subnet: Subnet, wanted: NewPort, address: str | None) -> str:
    made = from_mac(subnet, wanted.mac_address or "")
    if address not in (None, made):
        raise errors.Invalid(
            f"IPv6 address {address} can not be directly assigned to a port on subnet {subnet.id} since the subnet is "
            "configured for automatic addresses"
        )
    return made


def _of_one_version(fitting: Sequence[Subnet]) -> list[Subnet]:
    """Leave those that any address may be taken of: IPv4 where there is some."""
    by_hand = [subnet for subnet in fitting if not is_automatic(subnet)] or list(fitting)
    return [subnet for subnet in by_hand if subnet.ip_version == 4] or by_hand


def _any_addresses(
    c: Connection, known: Sequence[Subnet], count: int, mine: dict[str, set[str]], offsets: Mapping[str, int]
) -> list[FixedIp]:
    """Choose that many addresses of any of the subnets; ``mine``, subnet -> addresses, are taken by this
    transaction."""
    found: list[FixedIp] = []
    for subnet in known:
        if len(found) < count:
            fresh = take_addresses(c, subnet, count - len(found), mine[subnet.id], offsets.get(subnet.id))
            mine[subnet.id].update(fresh)
            found += [fixed_ip(subnet, address) for address in fresh]
    if len(found) < count:
        network = known[0].network_id if known else ""
        raise errors.Conflict(f"No more IP addresses available on network {network}.")
    return found


def _held(c: Connection, subnet_id: str, candidates: Sequence[str]) -> set[str]:
    return set(c.execute(_HELD, {"subnet": subnet_id, "candidates": candidates}).scalars())
