"""Where each host is in the table, by its name, its node and its identity."""

from __future__ import annotations

from cell.scheduler.state.claims_by_host import take_out

HostName = tuple[str, str]
"""A host, and the node of it."""


class HostPositions:
    """Positions from 0, given in order and never again. A host has one for each of its nodes."""

    def __init__(self) -> None:
        self._given = 0
        self._by_name: dict[HostName, int] = {}
        # Tuples, so that copies may share them.
        self._by_host: dict[str, tuple[int, ...]] = {}
        self._by_lowered: dict[str, tuple[int, ...]] = {}
        self._by_node: dict[str, tuple[int, ...]] = {}
        self._name_by_uuid: dict[str, HostName] = {}

    def __contains__(self, host: str) -> bool:
        return host in self._by_host

    def find(self, name: HostName) -> int | None:
        """Return the position of a node of a host; None when it has none."""
        return self._by_name.get(name)

    def of(self, host: str) -> tuple[int, ...]:
        """Return the positions of a host; () when there is none of this name."""
        return self._by_host.get(host, ())

    def like(self, host: str) -> tuple[int, ...]:
        """Return the positions of the hosts of this name, whatever the case."""
        return self._by_lowered.get(host.lower(), ())

    def of_node(self, node: str) -> tuple[int, ...]:
        """Return the positions of the nodes of this name."""
        return self._by_node.get(node, ())

    def names(self) -> tuple[str, ...]:
        """Return the names of the hosts that are there, those that came first before others."""
        return tuple(self._by_host)

    def add(self, name: HostName) -> int:
        """Give a node of a host the next position."""
        position, self._given = self._given, self._given + 1
        self._by_name[name] = position
        for places, key in ((self._by_host, name[0]), (self._by_lowered, name[0].lower()), (self._by_node, name[1])):
            places[key] = (*places.get(key, ()), position)
        return position

    def remove(self, name: HostName, uuid: str) -> None:
        """Forget a node of a host, and that the identity is its."""
        position = self._by_name.pop(name)
        take_out(self._by_host, name[0], position)
        take_out(self._by_lowered, name[0].lower(), position)
        take_out(self._by_node, name[1], position)
        if self._name_by_uuid.get(uuid) == name:
            del self._name_by_uuid[uuid]

    def identify(self, name: HostName, uuid: str) -> None:
        """Note the identity that a host reports, if it reports one."""
        if uuid:
            self._name_by_uuid[uuid] = name

    def find_identity_defect(self, name: HostName, uuid: str) -> str | None:
        """Return what is wrong with an identity that another host has already; None when nothing is."""
        other = self._name_by_uuid.get(uuid, name) if uuid else name
        return None if other == name else f"reports the identity {uuid} of host {other[0]}"

    def copy(self) -> HostPositions:
        """Copy them: what changes in one does not in the other."""
        found = HostPositions()
        found._given, found._by_name, found._by_host = self._given, self._by_name.copy(), self._by_host.copy()
        found._by_lowered, found._by_node = self._by_lowered.copy(), self._by_node.copy()
        found._name_by_uuid = self._name_by_uuid.copy()
        return found
