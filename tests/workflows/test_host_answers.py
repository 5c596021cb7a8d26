"""What follows a host's answer: every error it can give, to every command. It is asked again, another host is, the cell
gives the server up, or the run ends with the host's reason; nothing is left behind on the way, whoever dies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from cell.conductor.runs import executor as executor_module
from cell.conductor.runs import guest_events
from cell.conductor.runs.step_runner import RunState, take_step
from cell.conductor.steps.guests import LATER_TRIES
from cell.conductor.workflow import Action, StepContext, StepResult, StepServices
from cell.conductor.workflows import REGISTRY
from cellcloud import errors
from cellcloud.db import decisions, runs, servers
from cellcloud.db.engine import Database
from cellcloud.model.guest_commands import Destroy, GuestCommand, GuestEvent, RebootSoft, Spawn, Start, Stop
from cellcloud.model.operations import Operation
from cellcloud.model.run import RunRecord
from cellcloud.model.server import ServerChanges, ServerRecord
from cellcloud.model.server_group import ANTI_AFFINITY, ServerGroup
from cellcloud.server_states import PowerState
from tests.statements import counted
from tests.workflows.test_every_step import killed_after_call, twice
from tests.workflows.test_leases import end_leases, take
from tests.workflows.world import CellUnderTest

SERVER = "11111111-0000-4000-8000-000000000001"
COMMANDS = {
    "create": Spawn,
    "start": Start,
    "stop": Stop,
    "reboot": RebootSoft,
    "delete": Destroy,
}


def all_errors(cls: type[errors.CellcloudError] = errors.CellcloudError) -> Iterator[type[errors.CellcloudError]]:
    yield cls
    for each in cls.__subclasses__():
        if each.__module__ == errors.__name__:
            yield from all_errors(each)


ERRORS = list(all_errors())


class Recorded(CellUnderTest):
    """``sent``: the commands and the hosts they were for."""

    def __init__(self, database: Database, hosts: tuple[str, ...] = ("h1", "h2", "h3", "h4")) -> None:
        self.sent: list[tuple[type[GuestCommand], str]] = []
        super().__init__(database, hosts, vcpus=64)

    def send(self, command: GuestCommand) -> None:
        self.sent.append((type(command), command.host))
        super().send(command)

    def hosts_of(self, kind: type[GuestCommand]) -> list[str]:
        return [host for sent, host in self.sent if sent is kind]

    def last_run(self, server_id: str = SERVER) -> RunRecord:
        with self.database.read() as connection:
            return runs.list_runs(connection, server_id=server_id)[0]


@pytest.fixture(params=[False, True], ids=["stored", "moved"])
def cell(cell_database: Database, request: pytest.FixtureRequest) -> Recorded:
    """A host's result is stored and its run moved later, or both at once."""
    world = Recorded(cell_database)
    world.moves_on_results = request.param
    return world


def begin(cell: Recorded, operation: str, server_id: str = SERVER) -> None:
    cell.create(server_id)
    if operation != "create":
        cell.run()
        if operation == "start":
            cell.begin(server_id, Operation.STOP)
            cell.run()
        cell.begin(server_id, Operation(operation))
    cell.sent.clear()


def what_follows(error: type[errors.CellcloudError], operation: str) -> str:
    """again: the same host is asked; elsewhere: another host is; back: the run ends with the reason."""
    if operation == "delete" or issubclass(error, errors.TryLater):
        return "again"
    its_own = issubclass(error, errors.TryElsewhere) or error is errors.CellcloudError
    return "elsewhere" if operation == "create" and its_own else "back"


@pytest.mark.parametrize("operation", sorted(COMMANDS))
def test_what_follows_an_error(cell_database: Database, operation: str) -> None:
    cell = Recorded(cell_database)
    found = {}
    for number, error in enumerate(ERRORS):
        server_id = f"{SERVER[:-2]}{number:02}"
        begin(cell, operation, server_id)
        before = cell.record(server_id)
        cell.fail[COMMANDS[operation]] = [error("This is why.")]
        cell.run()
        found[error.__name__] = _what_followed(cell, operation, server_id, before, error)
    assert found == {error.__name__: what_follows(error, operation) for error in ERRORS}


def _what_followed(
    cell: Recorded, operation: str, server_id: str, before: ServerRecord, error: type[errors.CellcloudError]
) -> str:
    record, hosts = cell.assert_clean(server_id), cell.hosts_of(COMMANDS[operation])
    run = cell.last_run(server_id)
    if run.state == "done":
        done = {"create": "active", "start": "active", "stop": "stopped", "reboot": "active", "delete": "deleted"}
        assert record.vm_state == done[operation]
        return {("h1", "h1"): "again", ("h1", "h2"): "elsewhere"}[hosts[0], hosts[-1]]
    assert (hosts, run.state, run.error) == (["h1"], "undone", error.__name__)
    if operation == "create":
        assert (record.vm_state, record.fault and record.fault.message) == ("error", "This is why.")
    else:
        assert (record.vm_state, record.host) == (before.vm_state, "h1")
    return "back"


@pytest.mark.parametrize("error", [errors.Unreachable, errors.Busy, errors.TryLater, errors.DeadlineExceeded])
def test_a_host_that_puts_off_a_build_for_too_long_is_left_for_another(
    cell: Recorded, error: type[errors.CellcloudError]
) -> None:
    begin(cell, "create")
    cell.fail[Spawn] = [error("Later.")] * LATER_TRIES
    cell.run()
    assert cell.assert_clean(SERVER).host == "h2"
    hosts = cell.hosts_of(Spawn)
    assert (hosts.count("h1"), set(hosts[LATER_TRIES:])) == (LATER_TRIES, {"h2"})


@pytest.mark.parametrize("operation", ["start", "stop", "reboot"])
def test_a_guests_own_host_is_asked_until_the_deadline(cell: Recorded, operation: str) -> None:
    begin(cell, operation)
    cell.fail[COMMANDS[operation]] = [errors.Busy("Later.")] * (2 * LATER_TRIES)
    cell.run()
    assert cell.assert_clean(SERVER).task_state is None
    assert cell.last_run().state == "done"
    assert len(cell.hosts_of(COMMANDS[operation])) == 2 * LATER_TRIES + 1


def test_the_server_moves_with_its_ports_and_its_claim(cell: Recorded) -> None:
    begin(cell, "create")
    first = cell.record(SERVER)
    cell.fail[Spawn] = [errors.HostRefused("No room on the disk."), errors.HostRefused("Nor here.")]
    cell.run()
    record = cell.assert_clean(SERVER)
    assert (record.host, record.generation, record.vm_state) == ("h3", first.generation + 4, "active")
    assert cell.networks.made == 1
    assert {port.host_id for port in record.ports} == {"h3"}
    assert list(dict.fromkeys(cell.hosts_of(Destroy))) == ["h1", "h2"]
    with cell.database.read() as connection:
        assert [one.chosen for one in decisions.list_of(connection, SERVER)] == ["h1", "h2", "h3"]
        steps = runs.get(connection, cell.last_run().id).steps
    told = {step.step: step.message for step in steps if step.step.startswith("try")}
    assert told == {"try 1": "h1: No room on the disk.", "try 2": "h2: Nor here."}


def test_the_next_host_is_one_that_the_server_s_group_allows(cell: Recorded) -> None:
    group = ServerGroup(id="g", name="g", project_id="p", user_id="u", policy=ANTI_AFFINITY)
    cell.create(SERVER.replace("1", "2"), group=group)
    cell.run()
    cell.create(SERVER, group=group)
    assert cell.record(SERVER).host == "h2", "the scheduler's first host has the other server"
    cell.fail[Spawn] = [errors.HostRefused("No room on the disk.")]
    cell.run()
    assert cell.assert_clean(SERVER).host == "h3"


@pytest.mark.parametrize(("attempts", "hosts"), [(1, 4), (2, 4), (3, 4), (10, 4), (3, 2)])
def test_a_cell_gives_a_server_up_when_its_hosts_have_refused(
    cell_database: Database, attempts: int, hosts: int
) -> None:
    cell = Recorded(cell_database, tuple(f"h{n}" for n in range(1, hosts + 1)))
    cell.max_attempts = attempts
    begin(cell, "create")
    cell.fail[Spawn] = [errors.HostRefused(f"No {n}.") for n in range(9)]
    cell.run()
    record = cell.assert_clean(SERVER)
    tried = min(attempts, hosts)
    assert cell.hosts_of(Spawn) == [f"h{n}" for n in range(1, tried + 1)]
    assert record.given_up
    assert record.fault is not None
    assert record.fault.message.startswith("No valid host was found.")
    assert f"No {tried - 1}." in record.fault.message
    assert all(f"h{n}: No {n - 1}." in record.fault.details for n in range(1, tried + 1))


def refuse_then(cell: Recorded, monkeypatch: pytest.MonkeyPatch, wrap: Callable[[Action], Action], where: str) -> None:
    """``wrap`` round the search for another host, or round the undo of a step on the way to it."""
    workflow = REGISTRY["create"]
    assert workflow.elsewhere is not None
    if where == "find":
        changed = replace(workflow, elsewhere=wrap(workflow.elsewhere))
    else:
        steps = tuple(replace(s, undo=wrap(s.undo)) if s.name == where and s.undo else s for s in workflow.steps)
        changed = replace(workflow, steps=steps)
    monkeypatch.setitem(REGISTRY, "create", changed)
    begin(cell, "create")
    cell.fail[Spawn] = [errors.HostRefused("No.")]


def failing_once(action: Action) -> Action:
    failures = [errors.Unreachable("The scheduler is away.")]

    def act(context: StepContext, services: StepServices) -> StepResult:
        if failures:
            raise failures.pop()
        return action(context, services)

    return act


@pytest.mark.parametrize(
    ("where", "wrap"),
    [
        ("find", killed_after_call),
        ("find", failing_once),
        ("guests.spawn", twice),
        ("guests.spawn", killed_after_call),
        ("guests.spawn", failing_once),
    ],
)
def test_the_way_to_another_host_may_be_interrupted(
    cell: Recorded, monkeypatch: pytest.MonkeyPatch, wrap: Callable[[Action], Action], where: str
) -> None:
    refuse_then(cell, monkeypatch, wrap, where)
    cell.run()
    record = cell.assert_clean(SERVER)
    assert (record.vm_state, record.host) == ("active", "h2")


@pytest.mark.parametrize("deaths", range(1, 6))
def test_every_command_on_the_way_may_be_lost(cell: Recorded, deaths: int) -> None:
    begin(cell, "create")
    cell.fail[Spawn] = [errors.HostRefused("No.")]
    cell.lost = deaths
    cell.run()
    assert cell.assert_clean(SERVER).host == "h2"


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("where", ["find", "guests.spawn"])
def test_delete_preempts_on_the_way_to_another_host(
    cell_database: Database, monkeypatch: pytest.MonkeyPatch, where: str, after: bool
) -> None:
    cell = Recorded(cell_database)

    def deleting(action: Action) -> Action:
        def act(context: StepContext, services: StepServices) -> StepResult:
            done = action(context, services) if after else None
            cell.begin(SERVER, Operation.DELETE)
            return done or action(context, services)

        return act

    refuse_then(cell, monkeypatch, deleting, where)
    cell.run()
    record = cell.assert_clean(SERVER)
    assert record.vm_state == "deleted"
    assert not record.given_up


def test_a_search_whose_lease_was_lost_claims_nothing(cell_database: Database) -> None:
    """Two workers are at it, the older one finds a host after the newer, or after the run has ended."""
    cell = Recorded(cell_database)
    begin(cell, "create")
    cell.fail[Spawn] = [errors.HostRefused("No.")]
    searching = _bring_to_the_search(cell)
    end_leases(cell_database)
    newer = take(cell_database)
    take_step(newer, cell)
    found = cell.record(SERVER)
    late = _try(cell, searching)
    assert (found.host, late) == ("h2", "Stale")
    end_leases(cell_database)
    cell.begin(SERVER, Operation.DELETE)
    cell.run()
    assert _try(cell, searching) == "Stale"
    cell.assert_clean(SERVER)


def _bring_to_the_search(cell: Recorded) -> RunState:
    for _ in range(20):
        end_leases(cell.database)
        cell._apply_events()
        for run, record in executor_module._lease_batch(cell.database, cell.executor._terms, 1):
            if run.direction == "move":
                return RunState(run=run, record=record)
            state = RunState(run=run, record=record)
            take_step(state, cell)
            state = cell.executor._checkpointer.save(state)
            cell.executor.send(state.commands)
    raise AssertionError("no search for another host")


def _try(cell: Recorded, state: RunState) -> str:
    try:
        cell.find_host(state.run, state.record.spec, ["h1"])
    except errors.CellcloudError as error:
        return type(error).__name__
    return "claimed"


def test_late_words_of_the_host_that_was_left_change_nothing(cell_database: Database) -> None:
    cell = Recorded(cell_database)
    begin(cell, "create")
    run = cell.last_run()
    cell.fail[Spawn] = [errors.HostRefused("No.")]
    cell.run()
    old: dict[str, Any] = {"host": "h1", "server_id": SERVER, "generation": run.generation, "run_id": run.id}
    results = [
        GuestEvent(power_state=0, step="guests.wait", error="HostRefused", **old),
        GuestEvent(power_state=4, step="", **(old | {"run_id": ""})),
    ]
    guest_events.apply(cell_database, cell, results)
    assert cell.assert_clean(SERVER).vm_state == "active"


def test_an_image_no_host_can_run_is_no_matter_of_hosts(cell: Recorded) -> None:
    begin(cell, "create")
    cell.fail[Spawn] = [errors.Invalid("The image is empty.")]
    cell.run()
    assert cell.hosts_of(Spawn) == ["h1"]
    assert not cell.assert_clean(SERVER).given_up


def test_guests_that_go_off_together_are_followed_together(cell_database: Database) -> None:
    """Whatever is under way at one of them, and with one look at the records of all."""
    ids = [f"11111111-0000-4000-8000-0000000000{number:02}" for number in range(12)]
    cell = CellUnderTest(cell_database, vcpus=64)
    for server_id in ids:
        cell.create(server_id)
    cell.run()
    cell.begin(ids[-1], Operation.REBOOT, type="HARD")
    off = [
        GuestEvent(host=cell.record(each).host or "", server_id=each, generation=1, power_state=PowerState.SHUTDOWN)
        for each in ids
    ]
    looks = []
    for some, changed in ((off[:1], 1), (off[1:], 10)):
        with counted(cell_database) as statements:
            assert guest_events.apply(cell_database, cell, [*some, *some]).changed
        looks.append(sum(statement.startswith("SELECT") for statement in statements) - changed)
    assert looks[0] == looks[1]
    assert [cell.record(each).vm_state for each in ids] == ["stopped"] * 11 + ["active"]


@pytest.mark.parametrize(
    ("shown", "power", "found", "then"),
    [
        ("active", PowerState.RUNNING, PowerState.SHUTDOWN, "stopped"),
        ("active", PowerState.RUNNING, PowerState.PAUSED, "paused"),
        ("paused", PowerState.PAUSED, PowerState.RUNNING, "active"),
        ("paused", PowerState.PAUSED, PowerState.SHUTDOWN, "stopped"),
        ("paused", PowerState.PAUSED, PowerState.CRASHED, "stopped"),
        ("stopped", PowerState.SHUTDOWN, PowerState.RUNNING, "active"),
        ("stopped", PowerState.SHUTDOWN, PowerState.PAUSED, "paused"),
        ("active", PowerState.RUNNING, PowerState.SUSPENDED, "suspended"),
        ("suspended", PowerState.SUSPENDED, PowerState.RUNNING, "active"),
        ("suspended", PowerState.SUSPENDED, PowerState.SHUTDOWN, "stopped"),
        ("error", PowerState.SHUTDOWN, PowerState.RUNNING, "error"),
    ],
)
def test_a_record_follows_what_its_guest_became_by_itself(
    cell: Recorded, shown: str, power: PowerState, found: PowerState, then: str
) -> None:
    cell.create(SERVER)
    cell.run()
    with cell.database.write() as connection:
        servers.change(connection, SERVER, ServerChanges(vm_state=shown, power_state=power))
    record = cell.record(SERVER)
    event = GuestEvent(host=str(record.host), server_id=SERVER, generation=record.generation, power_state=found)
    assert guest_events.apply(cell.database, cell, [event]).changed
    assert (cell.record(SERVER).vm_state, cell.record(SERVER).power_state) == (then, found)


@pytest.mark.parametrize("outputs", [{}, {"a": "o" * 100_000}])
def test_what_a_host_says_is_kept_in_part(
    cell: Recorded, monkeypatch: pytest.MonkeyPatch, outputs: dict[str, str]
) -> None:
    send, cell.fail[Spawn] = cell.send, [errors.GuestFailed("m" * 100_000)] * 9

    def tell_much(command: GuestCommand) -> None:
        send(command)
        if isinstance(command, Spawn):
            cell.inbox[-1] = replace(cell.inbox[-1], detail="d" * 100_000, outputs=outputs)

    monkeypatch.setattr(cell, "send", tell_much)
    cell.create(SERVER)
    cell.run()
    assert cell.record(SERVER).vm_state != "active"
    with cell.database.read() as connection:
        for name in ("runs", "run_steps", "servers", "feed"):
            for row in connection.exec_driver_sql(f"SELECT * FROM {name}"):  # noqa: S608
                assert len(str(row)) < 40_000, name
