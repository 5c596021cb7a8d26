"""Security groups as chains and sets of nftables.

A packet is judged by what began its connection, as conntrack knows it, and by the rules of now: so a rule that goes
takes the connections with it that it let in, and answers need no rule. Ports with the same groups share a chain, and
rules that differ in one thing only become one with a set.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Mapping, Sequence

from cell.compute.drivers.libvirt.nft_tables import Elements
from cellcloud.model.network_plan import GroupPlan, GroupRule

ICMP = {1, 58}
LAST_PORT = 65535
Ranges = tuple[tuple[int, int], ...]


def combination(groups: Sequence[str]) -> str:
    """Return a word for a port's groups, the same for ports with the same ones."""
    return hashlib.sha256(" ".join(sorted(groups)).encode()).hexdigest()[:16]


def make_chains(
    combinations: Iterable[Sequence[str]], groups: Mapping[str, GroupPlan]
) -> tuple[dict[str, Sequence[str]], dict[str, Elements]]:
    """Return the chains ``sends-`` and ``takes-`` of each combination of groups, with those of the groups and the sets
    of members that they need. What no rule lets through is dropped; a group that is not known lets nothing through."""
    chains: dict[str, Sequence[str]] = {}
    sets: dict[str, Elements] = {}
    used: set[str] = set()
    for names in combinations:
        for word in ("sends", "takes"):
            chains[f"{word}-{combination(names)}"] = (
                *(f"jump {word}-{name};" for name in sorted(names) if name in groups),
                "drop;",
            )
        used.update(name for name in names if name in groups)
    for name in sorted(used):
        for word, ingress in (("sends", False), ("takes", True)):
            rules = [rule for rule in groups[name].rules if rule.ingress == ingress]
            chains[f"{word}-{name}"] = tuple(_lines(rules, groups, ingress=ingress))
            for remote in {rule.remote_group for rule in rules if rule.remote_group}:
                sets |= _members(remote, groups.get(remote))
    return chains, sets


def _members(name: str, group: GroupPlan | None) -> dict[str, Elements]:
    """Return the sets of a group's single addresses; its ranges stand in the rules."""
    single: dict[int, set[str]] = {4: set(), 6: set()}
    for member in group.members if group else ():
        network = ipaddress.ip_network(member, strict=False)
        if network.num_addresses == 1:
            single[network.version].add(str(network.network_address))
    return {
        f"members{version}-{name}": Elements(kind=f"type ipv{version}_addr", elements=frozenset(addresses))
        for version, addresses in single.items()
    }


def _lines(rules: Sequence[GroupRule], groups: Mapping[str, GroupPlan], *, ingress: bool) -> Iterable[str]:
    """Return the rules as nft reads them: by what is left out, then by ports, then by remotes."""
    by_remote: dict[tuple[bool, int | None, str], list[tuple[int, int]]] = {}
    for rule in rules:
        for remote in _remotes(rule, groups):
            by_remote.setdefault((rule.ipv6, rule.protocol, remote), []).append(_ports(rule))
    by_ports: dict[tuple[bool, int | None, Ranges], list[str]] = {}
    for (ipv6, protocol, remote), ports in by_remote.items():
        by_ports.setdefault((ipv6, protocol, _collapse(ports)), []).append(remote)
    side = "saddr" if ingress else "daddr"
    for (ipv6, protocol, ranges), remotes in by_ports.items():
        begin = f"meta nfproto {'ipv6' if ipv6 else 'ipv4'}"
        if protocol is not None:
            begin += f" meta l4proto {protocol}"
        if ranges != ((0, LAST_PORT),):
            shown = ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in ranges)
            begin += f" ct original proto-dst {{ {shown} }}"
        address = f"ct original {'ip6' if ipv6 else 'ip'} {side}"
        sets = sorted(remote for remote in remotes if remote.startswith("@"))
        if "" in remotes:
            yield f"{begin} accept;"
            continue
        yield from (f"{begin} {address} {one} accept;" for one in sets)
        cidrs = [ipaddress.ip_network(remote) for remote in remotes if not remote.startswith("@")]
        if cidrs:
            shown = ", ".join(str(one) for one in ipaddress.collapse_addresses(cidrs))  # type: ignore[type-var]
            yield f"{begin} {address} {{ {shown} }} accept;"


def _remotes(rule: GroupRule, groups: Mapping[str, GroupPlan]) -> Iterable[str]:
    """Return where a rule lets from or to: "" for anywhere, a range, "@" with a set's name."""
    version = 6 if rule.ipv6 else 4
    if rule.remote_group:
        yield f"@members{version}-{rule.remote_group}"
        group = groups.get(rule.remote_group)
        for member in group.members if group else ():
            network = ipaddress.ip_network(member, strict=False)
            if network.version == version and network.num_addresses > 1:
                yield str(network)
    elif not rule.remote:
        yield ""
    else:
        network = ipaddress.ip_network(rule.remote, strict=False)
        if network.version == version:
            yield str(network) if network.prefixlen else ""


def _ports(rule: GroupRule) -> tuple[int, int]:
    """Return the range of what conntrack keeps as a connection's destination: a port, or ICMP's type and code."""
    if rule.first is None:
        return 0, LAST_PORT
    if rule.protocol in ICMP:
        low = rule.first << 8
        return (low, low | 255) if rule.last is None else (low | rule.last, low | rule.last)
    return rule.first, rule.first if rule.last is None else rule.last


def _collapse(ranges: Iterable[tuple[int, int]]) -> Ranges:
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return tuple(merged)
