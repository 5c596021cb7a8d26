"""Which rebuilds the scheduler's filters allow: as Nova asks them, on the server's host, told as any decision is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cell.conductor.scheduling_store import SchedulingStoreService
from cell.scheduler.service import SchedulerService
from cellcloud import config, errors
from cellcloud.db import claims, decisions, host_aggregates, hosts, runs
from cellcloud.db.engine import Database
from cellcloud.model.host import Aggregate
from cellcloud.model.operations import Operation
from tests.contract.test_replay import Direct
from tests.workflows.test_every_step import SERVER
from tests.workflows.test_rebuild import watch
from tests.workflows.world import CONTEXT, CellUnderTest, make_report

NAMES = ("h1", "h2")
ISOLATION = {
    "filters": ["ImagePropertiesFilter", "IsolatedHostsFilter", "AggregateImagePropertiesIsolation", "TraitsFilter"],
    "options": {"filter_scheduler.isolated_images": ["apart"]},
}


def report(cell: CellUnderTest, **facts: object) -> None:
    """Let both hosts say of themselves what is given."""
    made = [make_report(name) for name in NAMES]
    with cell.database.write() as connection:
        hosts.report(connection, [replace(one, facts=replace(one.facts, **facts)) for one in made])  # type: ignore[arg-type]


@pytest.fixture
def cell(cell_database: Database) -> CellUnderTest:
    """A cell of two hosts with a scheduler that is none of paper, and a server."""
    world = CellUnderTest(cell_database, NAMES)
    store = SchedulingStoreService(cell_database)
    world.scheduler = SchedulerService(config.load(), Direct(SchedulingStore=store))  # type: ignore[arg-type,assignment]
    report(world, supported_instances=(("x86_64", "kvm", "hvm"),), traits=("HW_CPU_X86_AVX",))
    world.create(SERVER)
    world.run()
    return world


def set_policy(cell: CellUnderTest, document: dict[str, Any]) -> None:
    store = SchedulingStoreService(cell.database)
    store.set_policy_role(CONTEXT, "active", store.add_policy(CONTEXT, document, "").version)


def isolate(cell: CellUnderTest) -> None:
    set_policy(cell, ISOLATION)


def set_apart(cell: CellUnderTest) -> None:
    """All hosts are in an aggregate for one kind of image."""
    set_policy(cell, ISOLATION)
    with cell.database.write() as connection:
        made = Aggregate(id=1, name="a", hosts=NAMES, metadata={"os_distro": "debian"})
        host_aggregates.store(connection, [made], [], version=1)


def fill(cell: CellUnderTest) -> None:
    """No host has room, all are disabled, and nobody has heard of them lately."""
    with cell.database.write() as connection:
        hosts.report(connection, [make_report(name, vcpus=1, reserved_memory_mb=65_000) for name in NAMES])
        for name in NAMES:
            hosts.set_state(connection, name, enabled=False, disabled_reason="repair", forced_down=True)
    report(cell, supported_instances=(("x86_64", "kvm", "hvm"),), vcpus=1)


CASES: dict[str, tuple[Any, dict[str, Any], str]] = {
    "an image of the host's kind": (None, {"hw_architecture": "x86_64"}, ""),
    "another architecture": (None, {"hw_architecture": "aarch64"}, "ImagePropertiesFilter"),
    "a trait that the host has": (None, {"trait:HW_CPU_X86_AVX": "required"}, ""),
    "a trait that it has not": (None, {"trait:HW_CPU_X86_SGX": "required"}, "TraitsFilter"),
    "an image for isolated hosts": (isolate, {"id": "apart"}, "IsolatedHostsFilter"),
    "an aggregate for other images": (set_apart, {"os_distro": "fedora"}, "AggregateImagePropertiesIsolation"),
    "an aggregate for such images": (set_apart, {"os_distro": "debian"}, ""),
    "a host that takes no new server": (fill, {"hw_architecture": "x86_64"}, ""),
}


@pytest.mark.parametrize("case", CASES)
def test_only_what_an_image_asks_of_its_host_counts(
    cell: CellUnderTest, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    prepare, asks, refused_by = CASES[case]
    if prepare is not None:
        prepare(cell)
    before = cell.record(SERVER)
    seen = watch(cell, monkeypatch)
    given = dict(asks)
    image = {"id": given.pop("id", "other"), "properties": given}
    cell.begin(SERVER, Operation.REBUILD, spec_changes={"image": image, "name": "new"})
    cell.run()
    after = cell.assert_clean(SERVER)
    with cell.database.read() as connection:
        told = decisions.list_of(connection, SERVER)
        (claim,) = claims.list_of(connection, SERVER)
    assert (claim.id, claim.host, after.host, after.vm_state) == (SERVER, before.host, before.host, before.vm_state)
    assert len(told) == 2, "the server's placement, and this"
    if refused_by:
        assert (after.spec.image.id, after.spec.name, seen) == ("i", "s", [])
        assert [one.reason.filter for one in told[-1].reasons] == ["names", refused_by]
        assert last_message(cell).startswith("No valid host was found. No host fits: 1 ")
    else:
        assert (after.spec.image.id, after.spec.name) == ("other", "new")
        assert told[-1].chosen == before.host
    explain_and_replay(cell, told[-1].id, refused_by)


def last_message(cell: CellUnderTest) -> str:
    """What the record of the server's last operation says."""
    with cell.database.read() as connection:
        return runs.list_runs(connection, server_id=SERVER)[0].message


def explain_and_replay(cell: CellUnderTest, decision: str, refused_by: str) -> None:
    """Ask about it as an operator does: another scheduler, that has seen nothing of it."""
    other = SchedulerService(config.load(), Direct(SchedulingStore=SchedulingStoreService(cell.database)))  # type: ignore[arg-type]
    (told,) = other.explain(CONTEXT, decision, None, 5)
    assert (told.server_id, told.gap, told.malformed) == (SERVER, "", "")
    assert told.chosen == (None if refused_by else cell.record(SERVER).host)
    assert [one.reason.filter for one in told.refused] == ["names"] + [refused_by] * bool(refused_by)
    replayed = other.replay(CONTEXT, decision, None)
    assert (replayed.same, replayed.identical) == (True, True)


def test_the_scheduler_is_asked_only_about_another_image(cell: CellUnderTest) -> None:
    cell.begin(SERVER, Operation.REBUILD, spec_changes={"image": {"id": "i"}, "name": "new"})
    cell.run()
    assert cell.assert_clean(SERVER).spec.name == "new"
    with cell.database.read() as connection:
        assert len(decisions.list_of(connection, SERVER)) == 1


def test_a_scheduler_that_does_not_answer_leaves_the_server_what_it_was(cell: CellUnderTest) -> None:
    class Away:
        asked = 0

        def rank(self, *_: object) -> object:
            self.asked += 1
            raise errors.Unreachable("no scheduler answers")

    cell.scheduler = Away()  # type: ignore[assignment]
    cell.begin(SERVER, Operation.REBUILD, spec_changes={"image": {"id": "other"}})
    cell.run()
    assert cell.assert_clean(SERVER).spec.image.id == "i"
    assert 1 < cell.scheduler.asked < 20  # type: ignore[attr-defined]
