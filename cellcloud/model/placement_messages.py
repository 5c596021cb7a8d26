"""Placing: the question to a cell or scheduler and its answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from cellcloud.model.no_valid_host_message import RefusedGroup
from cellcloud.model.server import ServerRecord
from cellcloud.model.server_group import ServerGroup


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

    @classmethod
    def of(cls, group: ServerGroup, members: Iterable[str]) -> PlacedGroup:
        """Return the group with those members."""
        most = group.max_server_per_host or 1
        return cls(policy=group.policy, uuid=group.id, members=tuple(sorted(members)), max_server_per_host=most)


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
