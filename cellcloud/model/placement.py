"""Placing: the question to a cell or scheduler and its answers."""

from __future__ import annotations

from dataclasses import dataclass, field

from cellcloud.model.server import ServerRecord, ServerSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class ReserveAnswer:
    """A cell's answer for one server.

    ``outcome``: "held" (record it, then confirm), "settled" (already confirmed earlier), "refused" (try another
    cell; ``reason`` says why, ``detail`` for administrators), "gone" (was here and is not any more).
    """

    server_id: str
    outcome: str
    record: ServerRecord | None = None
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmAnswer:
    """``outcome``: "settled" with the record, or "gone" (the hold expired: choose a cell again)."""

    server_id: str
    outcome: str
    record: ServerRecord | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectRequest:
    """Ask for up to ``alternates`` + 1 hosts for one server, best first.

    ``spec`` may leave out user data. ``exclude``: hosts that just lost a claim. ``seed`` makes ties repeatable.
    """

    server_id: str
    resources: dict[str, int]
    spec: ServerSpec
    alternates: int = 2
    exclude: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectAnswer:
    """``hosts`` best first; empty means none fits and ``refused`` says how many hosts each filter refused."""

    server_id: str
    hosts: tuple[str, ...] = ()
    refused: dict[str, int] = field(default_factory=dict)


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
