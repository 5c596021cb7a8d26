"""Placing: the question to a cell or scheduler and its answers."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from cellcloud.model.pci import PciRequest
from cellcloud.model.refusal import RefusedGroup
from cellcloud.model.server import ServerRecord, ServerSpec


class ReserveAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A cell's answer for one server. Many are made at once, a Struct in a tenth of a dataclass's time.

    ``outcome``: "held" (record it, then confirm), "settled" (already confirmed earlier), "refused" (try another
    cell; ``reason`` says why, ``detail`` for administrators, ``reasons`` the hosts it refused), "later" (as refused,
    but only because hosts are silent just now), "gone" (was here and is not any more).
    """

    server_id: str
    outcome: str
    record: ServerRecord | None = None
    reason: str = ""
    detail: str = ""
    reasons: tuple[RefusedGroup, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmAnswer:
    """``outcome``: "settled" with the record, or "gone" (choose a cell again: the hold expired, or the cell has given
    the server up, for ``reason``; with a record: it was confirmed before, and is deleted)."""

    server_id: str
    outcome: str
    record: ServerRecord | None = None
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteRequest:
    """A server to delete, and who asked for it."""

    server_id: str
    request_id: str
    user_id: str
    project_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteAnswer:
    """The server's record once its delete has begun; None: the cell has no such server, or not any more."""

    server_id: str
    record: ServerRecord | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedGroup:
    """A server group as choosing sees it. ``members`` are server ids, ``hosts`` where members are.

    ``max_server_per_host`` counts for anti-affinity only.
    """

    policy: str
    uuid: str = ""
    members: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    max_server_per_host: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where a server was asked to go. Filters still apply.

    ``cell`` with ``allow_cross_cell_move`` is preferred, without it the only one.
    """

    host: str | None = None
    node: str | None = None
    cell: str | None = None
    allow_cross_cell_move: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectRequest:
    """Ask for up to ``alternates`` + 1 hosts for one server, best first.

    ``spec`` may leave out user data. ``exclude``: hosts that just lost a claim. ``seed`` makes chance repeatable.
    ``resources`` are what the claim will take; empty: what follows from flavor and image. ``force_hosts`` and
    ``force_nodes`` skip the filters, as for zone:host:node in the API. ``volume_backed``: the root disk is a volume.
    ``rebuild``: the server stays where it is, so that only rules about its image and its tenant are asked.
    ``checks_forced``: filters are asked even of forced hosts. No tenant's words set any of these.
    """

    server_id: str
    resources: dict[str, int]
    spec: ServerSpec
    alternates: int = 2
    exclude: tuple[str, ...] = ()
    seed: int = 0
    group: PlacedGroup | None = None
    ignore_hosts: tuple[str, ...] = ()
    force_hosts: tuple[str, ...] = ()
    force_nodes: tuple[str, ...] = ()
    destination: Destination | None = None
    pci_requests: tuple[PciRequest, ...] = ()
    volume_backed: bool = False
    rebuild: bool = False
    checks_forced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectAnswer:
    """``hosts`` best first; empty means none fits and ``refused`` says how many hosts each filter refused.

    ``malformed`` says what is wrong with the request itself.
    """

    server_id: str
    hosts: tuple[str, ...] = ()
    refused: dict[str, int] = field(default_factory=dict)
    malformed: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellDigest:
    """What a cell can still take, small enough to publish: free room per host, joint over the classes.

    ``buckets``: (free vcpus, free memory MiB, free disk GiB, number of hosts), each figure rounded down to a power
    of two, so that a request fits a host of the bucket if it fits the bucket.
    """

    cell: str
    hosts_total: int
    hosts_up: int
    buckets: tuple[tuple[int, int, int, int], ...] = ()
    zones: tuple[str, ...] = ()
    servers: int = 0
    running_runs: int = 0
