"""What a workflow is made of. The engine runs it; this page has no behaviour of its own.

A step is idempotent and takes its identity from the run. It returns ``Done``, raises ``Wait`` to be called again
later, or raises an error of the tree, which turns the run round. It never sleeps and never starts a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from cellcloud import errors
from cellcloud.clients.network import NetworkClient
from cellcloud.db.runs import LeasedRun
from cellcloud.lifecycle import Operation, TaskState
from cellcloud.model.guest import GuestCommand
from cellcloud.model.server import ServerRecord


class Wait(Exception):
    """Call this step again after ``seconds``, or when the host's word arrives.

    ``forget``: drop the word that did arrive, because it asked for another try. ``command``: as in ``Done``.
    """

    def __init__(self, seconds: float, *, forget: bool = False, command: GuestCommand | None = None) -> None:
        super().__init__(seconds)
        self.seconds = seconds
        self.forget = forget
        self.command = command


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A step's end: what to remember for later steps, and what changes in the server's record with it.

    ``command`` is sent to the server's host once the step is saved: it may get lost, so a step that waits for the
    answer sends it again.
    """

    outputs: Mapping[str, Any] = field(default_factory=dict)
    changes: Mapping[str, Any] = field(default_factory=dict)
    release_claims: bool = False
    command: GuestCommand | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A step's view of its run. ``event`` is the host's word for this step, if it has arrived."""

    run: LeasedRun
    record: ServerRecord
    step: str
    event: Mapping[str, Any] | None

    @property
    def failure(self) -> errors.CellcloudError | None:
        """The error of the host's word."""
        if self.event is None or not self.event.get("error"):
            return None
        return errors.by_name(self.event["error"])(self.event.get("message", ""), detail=self.event.get("detail", ""))


class World(Protocol):
    """The outside as steps reach it."""

    networks: NetworkClient
    resend_after: float

    def send(self, command: GuestCommand) -> None:
        """Cast a command to the host it names; it may get lost. Raises Unreachable with the broker away."""
        ...

    def is_up(self, host: str) -> bool:
        """Whether the host has reported lately."""
        ...


Action = Callable[[Turn, World], Done]
Ending = Callable[[LeasedRun, ServerRecord], Done]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """``passive``: changes nothing outside, so its end is saved together with the step before it, or with the word
    it waited for.
    ``task_state``: shown to users while the step is under way."""

    name: str
    do: Action
    undo: Action | None = None
    passive: bool = False
    commit: bool = False
    task_state: TaskState | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """The program of an operation. ``deadline`` in seconds; ``on_failure`` is the record of a run that was undone."""

    operation: Operation
    steps: tuple[Step, ...]
    deadline: float
    on_failure: Ending

    def is_committed(self, index: int) -> bool:
        """Whether only forward is possible from step ``index`` on."""
        return any(step.commit for step in self.steps[: index + 1])


def minutes(count: float) -> float:
    """Seconds in that many minutes."""
    return count * 60.0
