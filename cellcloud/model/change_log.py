"""The change log of what schedulers read: what each transaction changed, with the old and the new values.

Following it forwards keeps a scheduler's columns true; following it backwards gives them as they were at an earlier
sequence, which is how a decision is replayed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cellcloud.model import codec
from cellcloud.model.allocation import Allocation
from cellcloud.model.host import Aggregate, HostState


@dataclass(frozen=True, slots=True, kw_only=True)
class HostChange:
    """A host before and after, without what claims say of it (``used``, ``servers``, ``hosted``); None: not there."""

    before: HostState | None = None
    after: HostState | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AggregateChange:
    """An aggregate before and after; None: not there."""

    before: Aggregate | None = None
    after: Aggregate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyVersion:
    """A policy document by its number; 0 is the one that is built in. See cellcloud.model.scheduling_policy."""

    version: int = 0
    document: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyChange:
    """``role``: active | shadow. None: no shadow."""

    role: str
    before: PolicyVersion | None = None
    after: PolicyVersion | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What one transaction changed.

    ``swapped``: (claim id, its host, another's id, its host), two claims of a server that stand for what the other did
    before, which is the first of the changes. ``claimed`` and ``released``: (claim id, host, number of what it takes,
    in ``holdings``). ``servers``: claim id -> server id, of those that are not the server's own. ``dropped``: claims
    that got no host in this transaction, so that what schedulers noted for them is free again. ``ended``: claims whose
    build is over, each told once.
    """

    holdings: tuple[Allocation, ...] = ()
    claimed: tuple[tuple[str, str, int], ...] = ()
    released: tuple[tuple[str, str, int], ...] = ()
    dropped: tuple[str, ...] = ()
    ended: tuple[str, ...] = ()
    hosts: tuple[HostChange, ...] = ()
    aggregates: tuple[AggregateChange, ...] = ()
    policies: tuple[PolicyChange, ...] = ()
    swapped: tuple[tuple[str, str, str, str], ...] = ()
    servers: dict[str, str] = field(default_factory=dict)

    def is_own(self, claim_id: str) -> bool:
        """Return whether a claim is its server's own, and no migration's."""
        return claim_id not in self.servers

    def server_of(self, claim_id: str) -> str:
        """Return the server whose claim it is."""
        return self.servers.get(claim_id, claim_id)


def to_plain(changes: Changes) -> dict[str, Any]:
    """Return the parts that say something."""
    return {name: codec.to_plain(part) for name in Changes.__slots__ if (part := getattr(changes, name))}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeEntry:
    """One transaction's changes. Sequences have no gaps, and an entry is seen only after all before it."""

    sequence: int
    changes: Changes


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangePage:
    """``oldest`` is the first sequence still kept: who is further behind must load the whole. ``newest``: the last."""

    entries: tuple[ChangeEntry, ...]
    oldest: int
    newest: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CellState:
    """All that schedulers read of a cell, as it is after the change ``sequence``."""

    sequence: int
    hosts: tuple[HostState, ...] = ()
    aggregates: tuple[Aggregate, ...] = ()
    policy: PolicyVersion = field(default_factory=PolicyVersion)
    shadow: PolicyVersion | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedState:
    """A CellState as it crosses the queue: thousands of hosts, most of them alike."""

    packed: bytes

    @classmethod
    def of(cls, state: CellState) -> PackedState:
        return cls(packed=codec.pack(state))

    def unpacked(self) -> CellState:
        """Return the state. Raises Invalid."""
        state: CellState = codec.unpack(self.packed, CellState)
        return state
