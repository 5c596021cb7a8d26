"""What is set of a server while an operation is under way stays set, however the operation ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cell.conductor import server_field_updates
from cell.conductor.workflow import Action, PassiveServices, Step, StepContext, StepResult, StepServices
from cell.conductor.workflows import REGISTRY
from cellcloud import errors
from cellcloud.db.engine import Database
from cellcloud.model.guest_commands import Arrive, Rebuild, Rescue, Spawn, Start, UploadSnapshot
from cellcloud.model.operations import Operation
from cellcloud.model.server_group import ANTI_AFFINITY, ServerGroup
from cellcloud.model.tag_metadata_changes import ItemChanges
from tests.workflows.test_every_step import SERVER, SPECS, arguments_of, assert_done, bring, first_start
from tests.workflows.world import CONTEXT, CellUnderTest

GROUP = ServerGroup(id="g", name="g", project_id="p", user_id="u", policy=ANTI_AFFINITY)
SETS = {"access_ip_v4": "192.0.2.1", "group": None}
CHANGING = [name for name, spec in SPECS.items() if not spec.preempts and spec.operation != Operation.CREATE]


@pytest.fixture
def cell(cell_database: Database) -> CellUnderTest:
    return CellUnderTest(cell_database)


def begin(cell: CellUnderTest, name: str) -> None:
    spec = SPECS[name]
    cell.create(SERVER, group=GROUP)
    cell.run()
    assert bring(cell, first_start(spec))
    cell.begin(SERVER, spec.operation, **arguments_of(spec))


def write_at_every_step(cell: CellUnderTest, monkeypatch: pytest.MonkeyPatch, name: str) -> list[str]:
    """Let a tag of its own be added between the reading of a record and the end of each step; returns the tags."""
    workflow, tags = REGISTRY[SPECS[name].operation], []

    def writing(action: Action, tag: str) -> Action:
        def act(context: StepContext, services: StepServices | PassiveServices) -> StepResult:
            tags.append(f"{tag}{len(tags)}")
            server_field_updates.change_items(cell.database, CONTEXT, SERVER, ItemChanges(add_tags=(tags[-1],)))
            server_field_updates.update_server(cell.database, CONTEXT, SERVER, SETS)
            return action(context, services)  # type: ignore[arg-type]

        return act

    def changed(step: Step) -> Step:
        return replace(
            step, do=writing(step.do, "do"), undo=writing(step.undo, "undo") if step.undo is not None else None
        )

    steps = tuple(changed(step) for step in workflow.steps)  # type: ignore[arg-type]
    monkeypatch.setitem(REGISTRY, workflow.operation, replace(workflow, steps=steps))
    return tags


def assert_kept(cell: CellUnderTest, tags: list[str]) -> None:
    record = cell.record(SERVER)
    assert set(record.spec.tags) == set(tags)
    assert tags
    assert (record.spec.access_ip_v4, record.spec.group) == ("192.0.2.1", None)


@pytest.mark.parametrize("operation", CHANGING)
def test_what_is_set_at_any_step_is_there_at_the_end(
    cell: CellUnderTest, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    begin(cell, operation)
    tags = write_at_every_step(cell, monkeypatch, operation)
    cell.run()
    assert_done(cell, SPECS[operation])
    assert_kept(cell, tags)
    if operation == "rebuild":
        assert (cell.record(SERVER).spec.name, cell.record(SERVER).spec.image.id) == ("rebuilt", "other")


@pytest.mark.parametrize(
    "operation", [name for name in CHANGING if any(s.undo for s in REGISTRY[SPECS[name].operation].steps)]
)
def test_what_is_set_of_a_server_whose_operation_is_undone_is_there(
    cell: CellUnderTest, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    begin(cell, operation)
    starts = (Start,) if operation == "unshelve" else ()
    kinds = (*starts, Spawn, UploadSnapshot, Arrive, Rebuild, Rescue)
    cell.fail |= {kind: [errors.GuestFailed("no")] for kind in kinds}
    tags = write_at_every_step(cell, monkeypatch, operation)
    cell.run()
    assert_kept(cell, tags)
