"""Why a server went where it went, or nowhere: what schedulers tell operators, and what else they would have done.

Hosts are named throughout: none of this is for tenants, but for what cellcloud.model.no_valid_host_message makes of it.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from cellcloud.model.decision import ClaimConflict, PolicyRecord, ShadowSummary
from cellcloud.model.host import Aggregate
from cellcloud.model.no_valid_host_message import Reason, RefusedGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """What one weigher gave a host: raw; between 0 and 1 among the hosts that passed; and times its multiplier."""

    weigher: str
    raw: float
    normalised: float
    weighted: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedHost:
    """A host that passed all filters. ``rank`` from 1; ``margin``: its lead on the next, None for the last."""

    rank: int
    host: str
    score: float
    margin: float | None = None
    weights: tuple[Weight, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """A host that was refused, by every filter that did so, in the order of asking: the first one decided.

    ``change``: the smallest change that would have made it fit, in plain words.
    """

    host: str
    reasons: tuple[Reason, ...]
    change: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why one server got its host, or none, on the figures that the decision was made from.

    ``policy``: its version. ``hosts``: how many there were; ``feasible``: how many passed, the best of them in
    ``best``. ``asked``: the host that was asked about, where it was refused; one that passed is in ``best``.
    ``conflicts``: races lost. ``gap``: why the figures could not be had any more; only what was stored is told then.
    """

    decision: str
    server_id: str
    at: dt.datetime
    cell: str = ""
    request_id: str = ""
    scheduler: str = ""
    sequence: int = 0
    policy: int = 0
    chosen: str | None = None
    offered: tuple[str, ...] = ()
    conflicts: tuple[ClaimConflict, ...] = ()
    malformed: str = ""
    hosts: int = 0
    feasible: int = 0
    refused: tuple[RefusedGroup, ...] = ()
    best: tuple[RankedHost, ...] = ()
    nearest: Miss | None = None
    asked: Miss | None = None
    gap: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """A decision made again. ``before`` and ``after``: the hosts, best first. ``policy``: the stored version, or None
    for the document that was given. ``same``: the choice is the same; ``identical``: so is all else that was answered
    to the whole batch, to the last bit (only asked where the policy is the stored one)."""

    decision: str
    server_id: str
    policy: int | None
    before: tuple[str, ...]
    after: tuple[str, ...]
    same: bool
    identical: bool | None = None
    malformed: str = ""
    cell: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCount:
    """``count`` servers on a host."""

    host: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fits:
    """Of ``wanted`` servers of a kind, ``fit`` have room: where, most first. ``refused`` and ``nearest``: why there is
    none for the next one, where not all fit."""

    wanted: int
    fit: int
    where: tuple[HostCount, ...] = ()
    refused: tuple[RefusedGroup, ...] = ()
    nearest: Miss | None = None
    malformed: str = ""
    cell: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedMove:
    """Where a server of a lost host would go. ``to`` None: nowhere, because of ``why``."""

    server_id: str
    host: str
    to: str | None = None
    flavor: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """What would become of the servers of some hosts, were these lost or emptied."""

    hosts: tuple[str, ...]
    moves: tuple[PlannedMove, ...] = ()
    stranded: int = 0
    cell: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellPolicy:
    """A policy that a cell has stored. Cells count their versions by themselves."""

    cell: str
    policy: PolicyRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class CellShadow:
    """How the shadow policy of a cell does."""

    cell: str
    summary: ShadowSummary


@dataclass(frozen=True, slots=True, kw_only=True)
class CellAggregate:
    """An aggregate as a cell's schedulers know it."""

    cell: str
    aggregate: Aggregate
