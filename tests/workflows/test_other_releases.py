"""Runs that another release stored, whose workflows have other steps: they go on at the step that they were at."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from cell.conductor.runs.present_step import NUMBERED, find_present_step
from cell.conductor.workflow import PassiveStep, Step, StepContext, StepResult, Wait, Workflow
from cell.conductor.workflows import REGISTRY
from cellcloud import errors
from cellcloud.db import cell_schema, runs
from cellcloud.db.engine import Database
from cellcloud.model.guest_commands import GuestEvent
from cellcloud.model.operations import Operation
from cellcloud.model.run import NewRun, OperationRequest
from cellcloud.server_states import PowerState
from tests.workflows.world import CellUnderTest

SERVER = "11111111-0000-4000-8000-000000000001"
GOLDEN = Path(__file__).with_name("steps.json")
CREATE = [step.name for step in REGISTRY["create"].steps]
OTHER = "other.step"


@pytest.fixture
def cell(cell_database: Database) -> CellUnderTest:
    return CellUnderTest(cell_database)


def other(taken: list[str]) -> Step:
    def do(context: StepContext, services: object) -> StepResult:
        taken.append(OTHER)
        return StepResult()

    return Step(name=OTHER, do=do, undo=do)


def changed(workflow: Workflow, change: str, place: int, taken: list[str]) -> Workflow:
    """The workflow of a later release: with another step, or without one."""
    steps = workflow.steps
    if change == "removed":
        return replace(workflow, steps=(*steps[:place], *steps[place + 1 :]), removed=frozenset({steps[place].name}))
    after = place + (change == "after")
    return replace(workflow, steps=(*steps[:after], other(taken), *steps[after:]))


def watched(workflow: Workflow, taken: list[str], place: int, backwards: bool, then: Callable[[], None]) -> Workflow:
    """The workflow with its steps noted as they are taken; at one of them, in one direction, the run waits once, and
    another release takes over. One that goes backwards fails at its last step."""
    waits = [True]

    def note(step: Step | PassiveStep, number: int, action: Any, undoing: bool) -> Any:
        def act(context: StepContext, services: Any) -> StepResult:
            if waits and number == place and undoing == backwards:
                waits.pop()
                then()
                raise Wait(0)
            taken.append(step.name)
            if backwards and not undoing and number == len(workflow.steps) - 1:
                raise errors.Conflict("no")
            done: StepResult = action(context, services) if action else StepResult()
            return done

        return act

    steps = tuple(
        replace(step, do=note(step, number, step.do, False), undo=note(step, number, step.undo, True))
        for number, step in enumerate(workflow.steps)
    )
    return replace(workflow, steps=steps)


EXPECTED = {
    ("before", False): lambda names, place: names[place:],
    ("after", False): lambda names, place: [names[place], OTHER, *names[place + 1 :]],
    ("removed", False): lambda names, place: names[place + 1 :] or names[-2:-1],  # the one before ends the run
    ("before", True): lambda names, place: [names[place], OTHER, *names[:place][::-1]],
    ("after", True): lambda names, place: names[: place + 1][::-1],
    ("removed", True): lambda names, place: names[:place][::-1] or names[1:2],
}


@pytest.mark.parametrize("place", range(len(CREATE)))
@pytest.mark.parametrize(("change", "backwards"), EXPECTED)
def test_a_run_goes_on_where_it_was(
    cell: CellUnderTest, monkeypatch: pytest.MonkeyPatch, change: str, backwards: bool, place: int
) -> None:
    taken: list[str] = []

    def upgrade() -> None:
        taken.clear()
        monkeypatch.setitem(REGISTRY, "create", changed(REGISTRY["create"], change, place, taken))

    monkeypatch.setitem(REGISTRY, "create", watched(REGISTRY["create"], taken, place, backwards, upgrade))
    cell.create(SERVER)
    cell.run()
    once = list(dict.fromkeys(taken))  # a step that waits for its host is taken again
    assert once == EXPECTED[change, backwards](CREATE, place)
    if change != "removed":
        assert cell.assert_clean(SERVER).vm_state == ("error" if backwards else "active")


def hold_at(cell: CellUnderTest, begun: Operation, **stored: Any) -> None:
    """Begin an operation, its run as another release stored it."""
    cell.create(SERVER)
    if begun is not Operation.CREATE:
        cell.run()
        cell.begin(SERVER, begun)
    with cell.database.write() as connection:
        connection.execute(sa.update(cell_schema.runs).where(cell_schema.runs.c.active == 1).values(**stored))


def stays(cell: CellUnderTest, limit: int = 3) -> bool:
    """Whether this release takes no step of it."""
    before = active(cell)
    with pytest.raises(AssertionError, match="never ended"):
        cell.run(limit=limit)
    after = active(cell)
    return (before.step, before.trail, before.direction) == (after.step, after.trail, after.direction)


def active(cell: CellUnderTest) -> Any:
    with cell.database.read() as connection:
        mine = (cell_schema.runs.c.active == 1, cell_schema.runs.c.server_id == SERVER)
        return connection.execute(sa.select(cell_schema.runs).where(*mine)).one()


def test_a_newer_releases_step_is_left_to_it_while_there_is_time(cell: CellUnderTest) -> None:
    hold_at(cell, Operation.CREATE, step=1, trail=f"{CREATE[0]} {OTHER}")
    assert stays(cell)
    with cell.database.write() as connection:
        runs.expire(connection, SERVER)
    cell.run()
    record = cell.assert_clean(SERVER)
    assert record.vm_state == "error"
    assert record.fault is not None
    assert "longer" in record.fault.message
    assert OTHER not in record.fault.message  # no user's matter


def test_what_only_goes_forward_goes_on_without_a_step_that_nobody_knows(cell: CellUnderTest) -> None:
    first = REGISTRY["delete"].steps[0].name
    hold_at(cell, Operation.DELETE, step=1, trail=f"{first} {OTHER}")
    assert stays(cell)
    with cell.database.write() as connection:
        runs.expire(connection, SERVER)
    cell.taps.clear()
    cell.guests.clear()  # the newer release had its host destroy it
    cell.run()
    assert cell.assert_clean(SERVER).deleted


def test_an_operation_of_a_newer_release_is_left_to_it(cell: CellUnderTest) -> None:
    """Nor does it keep back what else its hosts report."""
    cell.moves_on_results = True
    hold_at(cell, Operation.STOP, operation="fly", trail=OTHER)
    of_run = {"run_id": active(cell).id, "generation": active(cell).generation, "step": OTHER}
    cell.inbox.append(GuestEvent(host="h1", server_id=SERVER, power_state=PowerState.SHUTDOWN, **of_run))
    second = SERVER.replace("1111", "3333")
    cell.create(second)
    assert stays(cell, limit=20)
    assert cell.assert_clean(second).vm_state == "active"


@pytest.mark.parametrize("trail", ["", CREATE[0]], ids=["no names", "names of another step"])
def test_a_number_without_its_names_is_read_in_the_old_order(
    cell: CellUnderTest, monkeypatch: pytest.MonkeyPatch, trail: str
) -> None:
    taken: list[str] = []
    create = watched(REGISTRY["create"], taken, -1, False, lambda: None)
    monkeypatch.setitem(REGISTRY, "create", replace(create, steps=(other(taken), *create.steps)))
    hold_at(cell, Operation.CREATE, step=1, trail=trail)
    cell.run()
    assert list(dict.fromkeys(taken)) == CREATE[1:]


@pytest.mark.parametrize("operation", REGISTRY)
def test_every_step_is_found_again(operation: str) -> None:
    """By its names, by its number from a release that stored that alone."""
    workflow = REGISTRY[operation]
    new = NewRun(server_id=SERVER, operation=operation, generation=1, asked=OperationRequest(), deadline=1.0)
    run = runs._begun(new)
    names = [step.name for step in workflow.steps]
    numbered = NUMBERED.get(operation, "").split() or names
    stored = [(number, workflow.trail(number), name) for number, name in enumerate(names)]
    for number, trail, name in (*stored, *((number, "", name) for number, name in enumerate(numbered))):
        found = find_present_step(replace(run, step=number, trail=trail))
        assert found is not None
        assert (found.step, found.trail) == (names.index(name), workflow.trail(names.index(name)))


def test_no_step_goes_without_a_word() -> None:
    """A step that some release has is in its workflow, or in ``removed``: runs may be at it. To add one: write the new
    dump with the failure's text."""
    steps = {str(name): [step.name for step in workflow.steps] for name, workflow in REGISTRY.items()}
    golden = json.loads(GOLDEN.read_text())
    known = {name: {*steps[name], *REGISTRY[name].removed} for name in steps}
    assert set(golden) <= set(steps)
    for operation, names in [*golden.items(), *((name, text.split()) for name, text in NUMBERED.items())]:
        assert set(names) <= known[operation], operation
    grown = {
        name: golden.get(name, []) + [one for one in steps[name] if one not in golden.get(name, [])] for name in steps
    }
    assert golden == grown, json.dumps(grown, indent=1)
    assert all(len(workflow.trail(len(workflow.steps))) <= 1024 for workflow in REGISTRY.values())
    assert all(len(step.name.split()) == 1 for workflow in REGISTRY.values() for step in workflow.steps)
