"""Decisions: the question to a scheduler for many servers at once, its answer, and what is kept of both.

Servers of one kind share a Shape, so that a message holds little more than an id for each. What is kept of a batch is
enough to choose again, bit for bit: the change log walked back to ``sequence`` gives the columns, ``pending`` the
scheduler's own earlier choices that were not in the log yet.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field

from cellcloud.model.allocation import Allocation
from cellcloud.model.flavor import Flavor
from cellcloud.model.no_valid_host_message import RefusedGroup
from cellcloud.model.pci import PciRequest
from cellcloud.model.placement_messages import PlacedGroup
from cellcloud.model.server import ServerSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What servers of one request have in common, as far as it decides where they go.

    ``resources``: resource class -> amount that each takes. ``alternates``: how many hosts to name beside the best.
    ``host``: the one asked for, or None. ``rebuild``: another image for a server that is on that host and stays there:
    only the filters that Nova asks for rebuilds are asked, and nothing is taken.
    """

    flavor: Flavor
    resources: dict[str, int]
    project_id: str = ""
    image_id: str | None = None
    disk_format: str = ""
    image_properties: dict[str, str] = field(default_factory=dict)
    zone: str | None = None
    host: str | None = None
    hints: dict[str, object] = field(default_factory=dict)
    pci_requests: tuple[PciRequest, ...] = ()
    group: PlacedGroup | None = None
    alternates: int = 2
    rebuild: bool = False


def shape_of(spec: ServerSpec) -> Shape:
    """Return what a server's request asks of a host. Raises ValueError where something of it is not there."""
    if spec.hints_id or spec.large_fields_id:
        raise ValueError(f"the hints or other fields of server {spec.id} are kept apart")
    return Shape(
        flavor=spec.flavor,
        resources=spec.flavor.resources(),
        project_id=spec.project_id,
        image_id=spec.image.id or None,
        disk_format=spec.image.disk_format,
        image_properties=spec.image.properties,
        zone=spec.availability_zone,
        host=spec.host,
        hints=spec.scheduler_hints,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A migration's claim is for this server, which keeps what it has until the move is confirmed: both count. What a
    rebuild asks has the id of its run, and no claim comes of it.

    ``same_host``: the hosts it has claims on will do as well; else they are ruled out.
    """

    server_id: str
    same_host: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RankBatch:
    """``servers``: (claim id, number of its shape, seed), each seeing the room the ones before it take. A claim that
    is made already is answered with its own host.

    ``together``: how many of them, in their order, one request made together; () when each stands alone, as each move
    does. ``exclude``: claim id -> hosts it does not go to. ``at_least``: the change that must have been read.
    ``moves``: claim id -> the move it is for; the others are their servers' own, and have their ids.
    """

    shapes: tuple[Shape, ...]
    servers: tuple[tuple[str, int, int], ...]
    together: tuple[int, ...] = ()
    exclude: dict[str, tuple[str, ...]] = field(default_factory=dict)
    at_least: int = 0
    moves: dict[str, Move] = field(default_factory=dict)

    def server_of(self, claim_id: str) -> str:
        """Return the server that a claim is for."""
        move = self.moves.get(claim_id)
        return claim_id if move is None else move.server_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """What a batch was chosen from.

    ``loaded``: the sequence at which the scheduler last read the whole cell; it followed the log from there, and the
    order of its hosts is that of their names, shuffled by ``order_seed``, then of their coming. ``pending``: its own
    earlier batches that were not in the log at ``sequence``, in their order, each with the positions that still
    counted, () for all. ``policy`` and ``shadow``: versions; None: no shadow.
    """

    scheduler: str
    sequence: int
    loaded: int = 0
    pending: tuple[tuple[int, tuple[int, ...]], ...] = ()
    order_seed: int = 0
    policy: int = 0
    shadow: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RankAnswer:
    """``ranked``: places in ``hosts`` for each server asked for, best first; () means none fits.

    ``refused``: filter -> how many hosts it refused; ``why``: the number of each server's, -1 where nobody counted.
    ``reasons``: as many as ``refused``, the same hosts by reason.
    ``zones``: of ``hosts``. ``shadowed``: position -> the host that the shadow policy would have chosen ("": none),
    where it is another one. ``malformed``: position -> what is wrong with the request. ``holdings``: what servers
    take of their host; ``takes``: the number of each server's, -1 where none fits.
    """

    batch: int
    basis: Basis
    hosts: tuple[str, ...] = ()
    zones: tuple[str, ...] = ()
    ranked: tuple[tuple[int, ...], ...] = ()
    refused: tuple[dict[str, int], ...] = ()
    why: tuple[int, ...] = ()
    reasons: tuple[tuple[RefusedGroup, ...], ...] = ()
    shadowed: dict[int, str] = field(default_factory=dict)
    malformed: dict[int, str] = field(default_factory=dict)
    holdings: tuple[Allocation, ...] = ()
    takes: tuple[int, ...] = ()

    def reasons_of(self, position: int) -> tuple[RefusedGroup, ...]:
        """Why no host fits the server at that position."""
        number = self.why[position] if self.why else -1
        return self.reasons[number] if 0 <= number < len(self.reasons) else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimConflict:
    """A claim that lost: what the host had when its rows were locked, and what was wanted of it."""

    host: str
    resource_class: str
    capacity: int
    used: int
    wanted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one server of a batch. ``host`` None: none took it."""

    host: str | None = None
    conflicts: tuple[ClaimConflict, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionBatch:
    """All that is kept of a batch. ``outcomes``: position -> what came of it, where that is not simply the first
    host. ``requests``: the request ids it was for, ``request_of``: the number of each server's."""

    asked: RankBatch
    answer: RankAnswer
    requests: tuple[str, ...] = ()
    request_of: tuple[int, ...] = ()
    outcomes: dict[int, Outcome] = field(default_factory=dict)

    def chosen(self, position: int) -> str | None:
        """Return the host that the server at that position got."""
        if position in self.outcomes:
            return self.outcomes[position].host
        ranked = self.answer.ranked[position]
        return self.answer.hosts[ranked[0]] if ranked else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One server's part of a batch, by its position. ``id`` is "batch-position", the batch in hexadecimal digits.

    ``server_id``: the server that was placed, or moved.
    """

    id: str
    server_id: str
    position: int
    at: dt.datetime
    batch: DecisionBatch

    @property
    def claim_id(self) -> str:
        """The claim that was to be made: the server's own, or a migration's."""
        return self.batch.asked.servers[self.position][0]

    @property
    def request_id(self) -> str:
        """The request that asked for the server."""
        batch = self.batch
        return batch.requests[batch.request_of[self.position]] if batch.request_of else ""

    @property
    def chosen(self) -> str | None:
        """The host that was claimed for it."""
        return self.batch.chosen(self.position)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts that were offered, best first."""
        answer = self.batch.answer
        return tuple(answer.hosts[place] for place in answer.ranked[self.position])

    @property
    def refused(self) -> dict[str, int]:
        """Filter -> how many hosts it refused."""
        answer = self.batch.answer
        number = answer.why[self.position] if answer.why else -1
        return answer.refused[number] if number >= 0 else {}

    @property
    def reasons(self) -> tuple[RefusedGroup, ...]:
        """The hosts that were refused, by reason."""
        return self.batch.answer.reasons_of(self.position)

    @property
    def conflicts(self) -> tuple[ClaimConflict, ...]:
        """The races it lost."""
        outcome = self.batch.outcomes.get(self.position)
        return outcome.conflicts if outcome else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRecord:
    """A stored policy. ``role``: active, shadow or ""."""

    version: int
    document: dict[str, object]
    comment: str = ""
    role: str = ""
    created_at: dt.datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowSummary:
    """How a shadow policy would have chosen since it was set. ``examples``: ids of decisions that would differ."""

    version: int
    decisions: int = 0
    differing: int = 0
    examples: tuple[str, ...] = ()
