"""What a workflow is made of. The executor runs it; this page has no behaviour of its own.

A step is idempotent and takes its identity from the run. It returns ``StepResult``, raises ``Wait`` to be called again
later, or raises an error of the tree, which turns the run round. It never sleeps and never starts a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from cellcloud import errors
from cellcloud.clients.image import ImageClient
from cellcloud.clients.network import NetworkClient
from cellcloud.clients.volume import Connector, VolumeClient
from cellcloud.model.guest_commands import GuestCommand
from cellcloud.model.operations import Operation, OperationSpec
from cellcloud.model.run import GuestResult, LeasedRun
from cellcloud.model.server import NO_CHANGES, ServerChanges, ServerRecord, ServerSpec
from cellcloud.server_states import TaskState


class Wait(Exception):
    """Call this step again after ``seconds``, or when the host's result arrives.

    ``forget``: drop the results that did arrive: they asked for another try, the ``put_off``-th if given. ``command``,
    ``changes``: as in ``StepResult``. ``answer_to``: whose result is waited for, if not the step's own: one called
    as the step, a slash, and more.
    """

    def __init__(
        self,
        seconds: float,
        *,
        forget: bool = False,
        put_off: int | None = None,
        command: GuestCommand | None = None,
        changes: ServerChanges = NO_CHANGES,
        answer_to: str = "",
    ) -> None:
        super().__init__(seconds)
        self.seconds = seconds
        self.forget = forget
        self.put_off = put_off
        self.command = command
        self.changes = changes
        self.answer_to = answer_to


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """A step's end, and what changes in the server's record with it.

    ``moved``: the record as it is now, where the step gave the server another host and so another generation.
    ``command`` is sent to the server's host once the step is saved: it may get lost, so a step that waits for the
    answer sends it again. ``swap_claims``: the migration whose claim changes places with the server's own;
    ``release_claim``: the one whose claim is given back.
    """

    changes: ServerChanges = NO_CHANGES
    release_claims: bool = False
    swap_claims: str = ""
    release_claim: str = ""
    command: GuestCommand | None = None
    moved: ServerRecord | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepContext:
    """A step's view of its run. ``event`` is the host's result for this step, if it has arrived. ``may_move``: whether
    another host may do what this one cannot."""

    run: LeasedRun
    record: ServerRecord
    step: str
    event: GuestResult | None
    may_move: bool = False

    @property
    def spec(self) -> OperationSpec:
        """The operation's row of the table."""
        return self.run.spec

    @property
    def failure(self) -> errors.CellcloudError | None:
        """The error of the host's result."""
        if self.event is None or not self.event.error:
            return None
        return errors.nearest([self.event.error])(self.event.message, detail=self.event.detail)


class PassiveServices(Protocol):
    """What a passive step may use: nothing that opens a connection, waits, or changes anything. Inside a transaction
    they answer from it."""

    resend_after: float
    max_attempts: int

    def is_up(self, host: str) -> bool:
        """Return whether the host has reported lately, or nobody can say."""
        ...

    def is_fenced(self, host: str) -> bool:
        """Return whether an operator has said that nothing runs on the host any more."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundHost:
    """A host with room for a server that is to be moved. ``address``: of its hypervisor."""

    host: str
    zone: str
    address: str


class StepServices(PassiveServices, Protocol):
    """What other steps may use of the world: networks, images, volumes, and the other hosts of the
    ``cell``."""

    networks: NetworkClient
    cell: str

    @property
    def images(self) -> ImageClient:
        """The image service. Raises Misconfigured where the cell knows none."""
        ...

    @property
    def volumes(self) -> VolumeClient:
        """The volume service. Raises Misconfigured where the cell knows none."""
        ...

    def connector(self, host: str) -> Connector:
        """Return what the volume service is told of a host. Raises NotFound."""
        ...

    def find_host(self, run: LeasedRun, spec: ServerSpec, exclude: Sequence[str]) -> ServerRecord:
        """Claim another host for the run's server, which holds none. Raises NoValidHost, TryLater, and Stale when the
        run's lease went to another."""
        ...

    def find_move(self, run: LeasedRun, spec: ServerSpec, migration_id: str, *, may_stay: bool) -> FoundHost:
        """Claim a host for a server that is to be moved, beside the one it has; asked again, the same. ``may_stay``:
        its own will do, where that is allowed. Raises NoValidHost, TryLater, and Stale when the run's lease went to
        another."""
        ...

    def check_rebuild(self, run: LeasedRun, spec: ServerSpec, host: str) -> None:
        """Ask the scheduler whether the run's server may be rebuilt to ``spec`` on its host. Raises NoValidHost,
        TryLater, and Stale when the run's lease went to another."""
        ...


Action = Callable[[StepContext, StepServices], StepResult]
PassiveAction = Callable[[StepContext, PassiveServices], StepResult]
Ending = Callable[[LeasedRun, ServerRecord], StepResult]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """``stays``: what it made goes with the server to another host. ``commit``: from it on only forward is possible.
    ``task_state``: shown to users while the step is under way."""

    name: str
    do: Action
    undo: Action | None = None
    stays: bool = False
    commit: bool = False
    task_state: TaskState | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PassiveStep:
    """A step that changes nothing outside, so that it may be taken inside a transaction: its end is saved together with
    the step before it, or with the result it waited for."""

    name: str
    do: PassiveAction
    undo: PassiveAction | None = None
    stays: bool = False
    commit: bool = False
    task_state: TaskState | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """The program of an operation. ``deadline`` in seconds; ``on_failure`` is the record of a run that was undone.

    ``elsewhere``: finds another host when one cannot do it; what was done on the first is undone before, and all
    steps are taken again after. None: the operation belongs to the host that has the guest. ``removed``: names of steps
    that earlier releases had: a run that is found at one goes on without it.
    """

    operation: Operation
    steps: tuple[Step | PassiveStep, ...]
    deadline: float
    on_failure: Ending
    elsewhere: Action | None = None
    removed: frozenset[str] = frozenset()

    def trail(self, index: int) -> str:
        """Return the names of the steps up to ``index``, that one last: which step a run is at in any release."""
        return " ".join(step.name for step in self.steps[: index + 1])

    def is_committed(self, index: int) -> bool:
        """Return whether only forward is possible from step ``index`` on."""
        return any(step.commit for step in self.steps[: index + 1])


def minutes(count: float) -> float:
    """Seconds in that many minutes."""
    return count * 60.0
