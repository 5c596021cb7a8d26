"""Which plans of networks the hosts of one cell need, kept up to date by what has another version than before."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Set
from typing import TypeVar

from cellcloud.db import network_hosts, routers
from cellcloud.db.engine import Connection
from cellcloud.db.network_hosts import Places
from cellcloud.db.network_versions import Versions
from cellcloud.model.network_plan import GROUP, NETWORK, ROUTER, key_of
from top_api.network_plans import Needs, Stamp

T = TypeVar("T")
MOST = 500  # networks or groups that are read again by their ids; of more all are read
_NOTHING = Stamp(
    versions=Versions(networks={}, security_groups={}, routers={}), places=Places(endpoints={}, cells={}, routers={})
)


class PlanNeeds:
    """The needs of one cell: a change costs what the networks, groups and routers that changed have, whatever there is
    besides."""

    def __init__(self, cell: str) -> None:
        self._cell = cell
        self._forget()

    def _forget(self) -> None:
        self._stamp: Stamp | None = None
        self._ports: dict[str, dict[str, set[str]]] = {}  # network -> host -> groups of its ports there
        self._members: dict[str, Counter[str]] = {}  # group -> host -> on how many networks it has ports there
        self._named: dict[str, set[str]] = {}  # group -> those that its rules name as remote
        self._naming: dict[str, set[str]] = {}  # group -> those whose rules name it
        self._legs: dict[str, set[str]] = {}  # router -> its networks
        self._routed: dict[str, set[str]] = {}  # network -> its routers
        self._needs: Needs = {}

    def read(self, c: Connection, stamp: Stamp, *, anew: bool = False) -> Needs:
        """Return for each document that hosts of the cell need its version and those hosts, as the connection's
        transaction sees them, of which ``stamp`` is. ``anew``: by nothing that was read before."""
        before, self._stamp = self._stamp, None  # until all is read
        if anew or before is None or self._hosts(before) != self._hosts(stamp):
            self._forget()
            before = _NOTHING
        here = self._routers(stamp)
        networks = _changed(before.versions.networks, stamp.versions.networks)
        groups = _changed(before.versions.security_groups, stamp.versions.security_groups)
        turned = _changed(before.versions.routers, stamp.versions.routers) | _changed(self._routers(before), here)
        joined = self._read_ports(c, networks)
        others = self._read_rules(c, groups)
        networks |= self._read_legs(c, turned, here)
        for group in joined:
            others |= self._named.get(group, set())
        self._set(NETWORK, networks, stamp.versions.networks, lambda one: self._hosts_of_network(one, here))
        self._set(GROUP, groups | joined | others, stamp.versions.security_groups, self._hosts_of_group)
        self._set(ROUTER, turned, stamp.versions.routers, lambda one: {here[one]} if one in here else set())
        self._stamp = stamp
        return dict(self._needs)

    def _hosts(self, stamp: Stamp) -> frozenset[str]:
        return stamp.places.cells.get(self._cell, frozenset())

    def _routers(self, stamp: Stamp) -> dict[str, str]:
        """Router -> its host, of those that hosts of the cell have."""
        mine = self._hosts(stamp)
        return {router: host for router, host in stamp.places.routers.items() if host in mine}

    def _hosts_of_network(self, network: str, here: Mapping[str, str]) -> set[str]:
        return {*self._ports.get(network, ()), *(here[one] for one in self._routed.get(network, ()))}

    def _hosts_of_group(self, group: str) -> set[str]:
        members = (self._members.get(one, ()) for one in (group, *self._naming.get(group, ())))
        return set().union(*members)

    def _set(
        self, kind: str, ids: Iterable[str], versions: Mapping[str, int], hosts_of: Callable[[str], Set[str]]
    ) -> None:
        for one in ids:
            hosts = hosts_of(one) if one in versions else None
            if hosts:
                self._needs[key_of(kind, one)] = (versions[one], tuple(sorted(hosts)))
            else:
                self._needs.pop(key_of(kind, one), None)

    def _read_ports(self, c: Connection, networks: Collection[str]) -> set[str]:
        """Read who has ports on these networks; return the groups that have ports on other hosts than before."""
        ports: dict[str, dict[str, set[str]]] = {}
        for network, host, groups in _read(c, networks, functools.partial(network_hosts.list_bound_ports, self._cell)):
            ports.setdefault(network, {}).setdefault(host, set()).update(groups)
        joined: Counter[tuple[str, str]] = Counter()
        for network in networks:
            joined.update(_pairs(ports.get(network, {})))
            joined.subtract(_pairs(self._ports.pop(network, {})))
            if network in ports:
                self._ports[network] = ports[network]
        changed = {pair: more for pair, more in joined.items() if more}
        for (group, host), more in changed.items():
            members = self._members.setdefault(group, Counter())
            members[host] += more
            if not members[host]:
                del members[host]
            if not members:
                del self._members[group]
        return {group for group, _ in changed}

    def _read_rules(self, c: Connection, groups: Collection[str]) -> set[str]:
        """Read which groups the rules of these name; return those that they named or name now."""
        named: dict[str, set[str]] = {}
        for group, remote in _read(c, groups, network_hosts.list_named_groups):
            named.setdefault(group, set()).add(remote)
        return {one for group in groups for one in _link(self._named, self._naming, group, named.get(group, set()))}

    def _read_legs(self, c: Connection, turned: Set[str], here: Mapping[str, str]) -> set[str]:
        """Read where these routers have interfaces, those that are here; return those networks, and those before."""
        legs: dict[str, set[str]] = {}
        wanted = turned & here.keys()
        for one in routers.list_interfaces(c, routers=wanted) if wanted else ():
            legs.setdefault(one.router_id, set()).add(one.network_id)
        return {one for router in turned for one in _link(self._legs, self._routed, router, legs.get(router, set()))}


def _changed(before: Mapping[str, object], now: Mapping[str, object]) -> set[str]:
    return {one for one, _ in before.items() ^ now.items()}


def _read(
    c: Connection, ids: Collection[str], read: Callable[[Connection, Collection[str] | None], list[T]]
) -> list[T]:
    if not ids:
        return []
    return read(c, ids if len(ids) <= MOST else None)


def _pairs(hosts: Mapping[str, Set[str]]) -> Iterator[tuple[str, str]]:
    return ((group, host) for host, groups in hosts.items() for group in groups)


def _link(there: dict[str, set[str]], back: dict[str, set[str]], one: str, others: set[str]) -> set[str]:
    """Let one be linked with these and no others, both ways; return those and the ones before."""
    before = there.pop(one, set())
    if others:
        there[one] = others
    for other in before - others:
        back[other].discard(one)
        if not back[other]:
            del back[other]
    for other in others - before:
        back.setdefault(other, set()).add(one)
    return before | others
