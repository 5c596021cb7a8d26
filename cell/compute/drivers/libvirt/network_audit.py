"""What a host has of guest networks beside what it should have: told, not mended."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from cell.compute.drivers.libvirt.namespace_exec import Namespace
from cell.compute.drivers.libvirt.network_device_names import (
    ROUTER_NAMESPACE_PREFIX,
    TAP_PREFIX,
    bridge_name,
    link_name,
    namespace_name,
    router_namespace_name,
    tap_name,
    tunnel_name,
)
from cell.compute.drivers.libvirt.network_namespace import Present
from cell.compute.drivers.libvirt.network_tunnels import Tunnel, list_neighbours, list_stations
from cell.compute.drivers.libvirt.nft_tables import Table
from cell.compute.drivers.libvirt.router_namespaces import Routing
from cellcloud.model.network import Port

# Loaded where nothing else is, rules are listed in the form in which the kernel lists those of the host.
LISTED = 'nft -f - && for table in "$@"; do nft --json list table $table; done'


def audit_devices(
    host: Namespace, present: Present, networks: Collection[str], tunnels: Collection[str], routers: Collection[str]
) -> Iterator[str]:
    """Tell what lacks, and what is there that nobody needs. ``tunnels``: networks that lead to other hosts."""
    needed = {make(one) for one in networks for make in (bridge_name, link_name)} | {
        tunnel_name(one) for one in tunnels
    }
    yield from _compare("device", needed, present.devices)
    yield from _compare("namespace", {namespace_name(one) for one in networks}, present.namespaces)
    there = host.list_networks(ROUTER_NAMESPACE_PREFIX)
    yield from _compare("namespace", {router_namespace_name(one) for one in routers}, there)


def audit_taps(host: Namespace, ports: Iterable[Port]) -> Iterator[str]:
    """Tell of taps that are no guest's here, or not on their network's bridge."""
    bridges = {tap_name(port.id): bridge_name(port.network_id) for port in ports}
    for link in json.loads(host.run(["ip", "-json", "link", "show"]) or "[]"):
        tap = str(link["ifname"])
        if tap.startswith(TAP_PREFIX) and tap not in bridges:
            yield f"the device {tap} is no guest's here: ip link delete {tap}"
        elif tap in bridges and link.get("master") != bridges[tap]:
            yield f"the device {tap} is not on its bridge {bridges[tap]}"


def audit_tunnel(host: Namespace, network_id: str, wanted: Tunnel) -> Iterator[str]:
    """Tell which other hosts a tunnel knows wrongly, or not at all."""
    device, bridge = tunnel_name(network_id), bridge_name(network_id)
    ways, _ = list_stations(host, device)
    for mac, peer in sorted(wanted.ways - ways):
        yield f"{device} does not know that {mac} is at {peer}"
    for mac, peer in sorted(ways - wanted.ways):
        yield f"{device} has {mac} at {peer}, which the plan has not"
    known = list_neighbours(host, bridge)
    for address, mac in sorted(wanted.neighbours - known):
        yield f"{bridge} does not know that {address} is {mac}"
    for address, mac in sorted(known - wanted.neighbours):
        yield f"{bridge} has {address} as {mac}, which the plan has not"


def audit_router(host: Namespace, router_id: str, wanted: Routing) -> Iterator[str]:
    """Tell which legs of a router lack, and whether its rules are others; of one that lacks itself, nothing more."""
    name = router_namespace_name(router_id)
    if name not in host.list_networks(ROUTER_NAMESPACE_PREFIX):
        return
    inside = host.enter(name)
    shown = json.loads(inside.run(["ip", "-json", "link", "show"], check=False) or "[]")
    there = {str(link["ifname"]) for link in shown} - {"lo"}
    yield from (f"in {name}: {said}" for said in _compare("device", {leg.device for leg in wanted.legs}, there))
    yield from audit_rules(inside, ("inet cellcloud",), wanted.rules)


def audit_tables(host: Namespace, tables: Collection[Table]) -> Iterator[str]:
    """Tell where the host's rules of guests are not what they should be."""
    return audit_rules(host, [table.name for table in tables], "".join(table.render() for table in tables))


def audit_rules(where: Namespace, names: Collection[str], commands: str) -> Iterator[str]:
    """Tell what differs in tables from those that the commands make."""
    made = where.run(["unshare", "--net", "sh", "-c", LISTED, "sh", *names], text=commands)
    wanted = _parts(made)
    for name in names:
        found = _parts(where.run(["nft", "--json", "list", "table", *name.split()], check=False))
        mine = {key: part for key, part in wanted.items() if key[0] == name}
        for _, kind, part in sorted(mine.keys() - found.keys()):
            yield f"the {kind} {part} lacks in table {name}"
        for key in sorted(mine.keys() & found.keys()):
            if mine[key] != found[key]:
                yield f"the {key[1]} {key[2]} of table {name} is another one"
        for _, kind, part in sorted(found.keys() - mine.keys()):
            yield f"the {kind} {part} is too much in table {name}"


def _parts(listed: str) -> dict[tuple[str, str, str], Any]:
    """Return what nft lists of tables, by (table, kind, name): of chains their rules, of sets their elements."""
    found: dict[tuple[str, str, str], Any] = {}
    for line in listed.splitlines():
        for entry in json.loads(line)["nftables"]:
            ((kind, told),) = entry.items()
            if kind in ("metainfo", "table"):
                continue
            table = f"{told['family']} {told['table']}"
            if kind == "rule":
                found.setdefault((table, "chain", told["chain"]), []).append(_orderless(told["expr"]))
            elif kind == "chain":
                found.setdefault((table, "chain", told["name"]), [])
            else:
                found[table, kind, told["name"]] = _orderless(sorted(told.get("elem", ()), key=json.dumps))
    return found


def _orderless(told: Any) -> Any:
    """Return what is the same for sets with the same elements, in whatever order they are listed."""
    if isinstance(told, dict):
        return {
            name: sorted(_orderless(one), key=json.dumps)
            if name == "set" and isinstance(one, list)
            else _orderless(one)
            for name, one in told.items()
        }
    return [_orderless(one) for one in told] if isinstance(told, list) else told


def _compare(kind: str, needed: Collection[str], there: Collection[str]) -> Iterator[str]:
    yield from (f"the {kind} {name} lacks" for name in sorted(set(needed) - set(there)))
    yield from (f"the {kind} {name} is there, and nobody needs it" for name in sorted(set(there) - set(needed)))
