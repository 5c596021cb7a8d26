"""Who holds what: each claim's host and what it takes there, and which servers that puts on which hosts.

A claim has the id of its server, or that of the migration that made it: a server that moves has several, maybe on one
host, and is one server there. Hosts are positions from 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from cell.scheduler.state.array_types import Amounts
from cellcloud import errors
from cellcloud.model import image_properties
from cellcloud.model.allocation import Allocation

ENDED = -1  # instead of a report: nothing is under way for the server
PROPERTIES_KEPT = 64
Properties = Mapping[str, str]


@dataclass(slots=True)
class Held:
    """A claim on a host. ``allocation`` None: part of what the host reported. ``report``: which report it came after,
    or ENDED."""

    position: int
    allocation: Allocation | None
    report: int


class Placing(NamedTuple):
    """Where a claim puts its server, and what it brings of its image."""

    position: int
    image_props: Properties


class ClaimMap:
    """``held``: claim id -> what it takes, of claims made since the hosts last reported their use. ``hosted``: the
    servers on each host, with their images' properties. ``hosts_of``: server id -> where it is."""

    def __init__(self) -> None:
        self.held: dict[str, Held] = {}
        self.hosted: list[dict[str, Properties]] = []
        self.hosts_of: dict[str, tuple[int, ...]] = {}  # tuples, so that copies may share them
        # Few servers have claims of migrations: theirs are here, all others have but their own.
        self._several: dict[str, dict[str, Placing]] = {}
        self._server_of: dict[str, str] = {}
        self._with: dict[tuple[str, str], Amounts] = {}

    def server_of(self, claim_id: str) -> str:
        """Return the server whose claim it is, if it is placed."""
        return self._server_of.get(claim_id, claim_id)

    def positions_of(self, claim_id: str) -> tuple[int, ...]:
        """Return where a claim is placed: one host, unless hosts contradict each other; () where it is not."""
        server_id = self.server_of(claim_id)
        claims = self._several.get(server_id)
        if claims is None:
            return self.hosts_of.get(claim_id, ())
        return (claims[claim_id].position,) if claim_id in claims else ()

    def claims_at(self, position: int) -> Iterator[tuple[str, str]]:
        """(claim id, server id) of the claims placed on a host."""
        for server_id in self.hosted[position]:
            claims = self._several.get(server_id)
            if claims is None:
                yield server_id, server_id
            else:
                yield from ((one, server_id) for one, placing in claims.items() if placing.position == position)

    def place(self, claim_id: str, server_id: str, position: int, image_props: Properties) -> None:
        """Count a server among those of a host: what groups, hints and the image's weigher see."""
        here, there = self.hosted[position], self.hosts_of.get(server_id, ())
        if claim_id != server_id or server_id in self._several:
            claims = self._claims_of(server_id)
            claims[claim_id] = Placing(position, image_props)
            self._keep(server_id, claims)
            image_props = _shown(claims, server_id, position)
        if server_id in here:
            self._unplace(server_id, position)
        here[server_id] = image_props
        if self._with:
            self._count_props(position, image_props, 1)
        if position not in there:
            self.hosts_of[server_id] = (*there, position)

    def leave(self, claim_id: str) -> tuple[Placing, ...]:
        """Forget where a claim puts its server, which stays where it has another; returns where it was."""
        server_id = self._server_of.get(claim_id, claim_id)
        claims = self._several.get(server_id)
        if claims is None:
            places = self.hosts_of.pop(server_id, ())
            return tuple([Placing(position, self._unplace(server_id, position)) for position in places])
        placing = claims.get(claim_id)
        if placing is None:
            return ()
        self._leave(claim_id, server_id, placing.position)
        return (placing,)

    def clear(self, position: int) -> list[str]:
        """Forget all that is placed on a host; returns the claims."""
        gone = list(self.claims_at(position))
        for claim_id, server_id in gone:
            self._leave(claim_id, server_id, position)
        return [claim_id for claim_id, _ in gone]

    def swap(self, claim_id: str, other_id: str, server_id: str) -> None:
        """Let two claims of a server stand for what the other did."""
        claims = self._claims_of(server_id)
        _exchange(self.held, claim_id, other_id)
        _exchange(claims, claim_id, other_id)
        for one in {claim_id, other_id} - claims.keys():
            self._server_of.pop(one, None)
        self._keep(server_id, claims)
        for position in {placing.position for placing in claims.values()}:
            self._show(server_id, position, claims)

    def servers_with(self, prop: tuple[str, str], room: int) -> Amounts:
        """How many servers on each host have an image with this property (name, value as text). ``room``: for how many
        hosts there is to be room."""
        counts = self._with.get(prop)
        if counts is None:
            if len(self._with) >= PROPERTIES_KEPT:
                del self._with[next(iter(self._with))]
            counts = self._with[prop] = np.zeros(room, dtype=np.int64)
            for position, servers in enumerate(self.hosted):
                counts[position] = sum(prop in known_props(props) for props in servers.values())
        return counts

    def grow(self, more: int) -> None:
        """Make room for more hosts in what is counted."""
        self._with = {prop: np.pad(counts, (0, more)) for prop, counts in self._with.items()}

    def copy(self) -> ClaimMap:
        """Return the same claims; what changes in one does not in the other."""
        found = ClaimMap()
        found.held, found.hosts_of = self.held.copy(), self.hosts_of.copy()
        found.hosted = [servers.copy() for servers in self.hosted]
        found._several = {server_id: claims.copy() for server_id, claims in self._several.items()}
        found._server_of = self._server_of.copy()
        return found

    # ---- inside ----------------------------------------------------------------------------------------------------
    def _claims_of(self, server_id: str) -> dict[str, Placing]:
        """Return a server's claims by id, its own alone included."""
        if server_id in self._several:
            return self._several[server_id]
        places = self.hosts_of.get(server_id, ())
        return {server_id: Placing(places[0], self.hosted[places[0]][server_id])} if places else {}

    def _keep(self, server_id: str, claims: dict[str, Placing]) -> None:
        others = claims.keys() - {server_id}
        if others:
            self._several[server_id] = claims
            self._server_of |= dict.fromkeys(others, server_id)
        else:
            self._several.pop(server_id, None)

    def _leave(self, claim_id: str, server_id: str, position: int) -> None:
        """Forget that a claim puts its server on a host."""
        claims = self._several.get(server_id, {})
        claims.pop(claim_id, None)
        self._server_of.pop(claim_id, None)
        self._keep(server_id, claims)
        self._show(server_id, position, claims)

    def _show(self, server_id: str, position: int, claims: Mapping[str, Placing]) -> None:
        """Count a server on a host by the claims it has left."""
        self._unplace(server_id, position)
        if any(placing.position == position for placing in claims.values()):
            image_props = self.hosted[position][server_id] = _shown(claims, server_id, position)
            self._count_props(position, image_props, 1)
        else:
            take_out(self.hosts_of, server_id, position)

    def _unplace(self, server_id: str, position: int) -> Properties:
        image_props = self.hosted[position].pop(server_id, {})
        if self._with:
            self._count_props(position, image_props, -1)
        return image_props

    def _count_props(self, position: int, image_props: Properties, sign: int) -> None:
        if self._with and image_props:
            props = known_props(image_props)
            for prop, counts in self._with.items():
                if prop in props:
                    counts[position] += sign


def _shown(claims: Mapping[str, Placing], server_id: str, position: int) -> Properties:
    """Return the image's properties of a server on a host, by its own claim before another's."""
    there = {one: placing for one, placing in claims.items() if placing.position == position}
    return there.get(server_id, there[min(there)]).image_props


def _exchange(table: dict[str, Any], one: str, other: str) -> None:
    mine, its = table.pop(one, None), table.pop(other, None)
    if its is not None:
        table[one] = its
    if mine is not None:
        table[other] = mine


def take_out(places: dict[str, tuple[int, ...]], name: str, position: int) -> None:
    """Forget a position of a name."""
    left = tuple(place for place in places.get(name, ()) if place != position)
    if left:
        places[name] = left
    else:
        places.pop(name, None)


def known_props(image_props: Properties) -> frozenset[tuple[str, str]]:
    """Return an image's properties as the weigher compares them: those that Nova knows, as text."""
    return _known_props(tuple(image_props.items()))


@lru_cache(maxsize=4096)
def _known_props(pairs: tuple[tuple[str, str], ...]) -> frozenset[tuple[str, str]]:
    try:
        props = image_properties.read(dict(pairs))
    except errors.Invalid:
        return frozenset()
    return frozenset((name, image_properties.text_of(value)) for name, value in props.items())
