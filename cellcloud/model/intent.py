"""Intent: an accepted request that its cell has not yet taken."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from enum import StrEnum

from cellcloud.model.no_valid_host_message import RefusedGroup
from cellcloud.model.server import ServerRecord
from cellcloud.model.server_group import ServerGroup


class IntentKind(StrEnum):
    CREATE = "create"
    DELETE = "delete"
    SOFT_DELETE = "soft_delete"


class IntentState(StrEnum):
    """PENDING, then RECORDED in a cell (the commit point), then SETTLED by it; or CANCELLED by a delete; or FAILED."""

    PENDING = "pending"
    RECORDED = "recorded"
    SETTLED = "settled"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a cell did not take a server. ``outcome``: refused (for good) | gone | silent (it may later).

    "gone": it held the server, and the hold ended before it was confirmed.

    ``reasons``: the hosts it refused.
    """

    outcome: str
    reason: str = ""
    detail: str = ""
    reasons: tuple[RefusedGroup, ...] = ()

    @property
    def final(self) -> bool:
        return self.outcome == "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """A row of ``intents`` with the index's record of its server. ``late``: past its deadline. ``hold``: the version at
    which the cell holds the server. ``placement``: the number of its placement, higher with each."""

    id: str
    kind: str
    server_id: str
    state: str = IntentState.PENDING
    cell: str = ""
    request_id: str = ""
    context: dict[str, object] = field(default_factory=dict)
    refusals: dict[str, Refusal] = field(default_factory=dict)
    attempts: int = 0
    hold: int = 1
    placement: int = 0
    late: bool = False
    created_at: dt.datetime | None = None
    updated_at: dt.datetime | None = None
    record: ServerRecord | None = None

    @property
    def group(self) -> ServerGroup | None:
        """The group of its server."""
        return None if self.record is None else self.record.spec.group
