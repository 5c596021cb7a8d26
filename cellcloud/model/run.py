"""Run: one operation under way, and the action record that users see of it."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """A row of ``run_steps``: what a step did, once per direction."""

    step: str
    direction: str
    outcome: str
    attempt: int = 1
    started_at: dt.datetime | None = None
    finished_at: dt.datetime | None = None
    message: str = ""
    outputs: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """A row of ``runs`` for operators. ``state``: running | done | failed | undone. ``direction``: do | undo."""

    id: str
    server_id: str
    operation: str
    state: str
    step: str
    direction: str
    attempt: int
    request_id: str
    user_id: str
    project_id: str
    generation: int
    cancel_requested: bool = False
    error: str = ""
    message: str = ""
    lease_owner: str | None = None
    run_at: dt.datetime | None = None
    deadline: dt.datetime | None = None
    created_at: dt.datetime | None = None
    finished_at: dt.datetime | None = None
    steps: tuple[StepRecord, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEntry:
    """One line of ``cellctl server timeline``: when, what kind of record, and what it says."""

    at: dt.datetime
    kind: str
    text: str
    request_id: str = ""
