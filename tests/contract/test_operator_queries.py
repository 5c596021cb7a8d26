"""What operators ask of a scheduler, with a cell's database behind it."""

from __future__ import annotations

import uuid
from dataclasses import replace

import pytest

from cell.conductor.placement import reservation_batching
from cell.conductor.scheduling_store import SchedulingStoreService
from cell.scheduler.service import SchedulerService
from cell.scheduler.why.operator_queries import OperatorQueries
from cellcloud import config, errors
from cellcloud.context import RequestContext
from cellcloud.db import hosts, scheduler_change_log, servers
from cellcloud.db.engine import Database
from cellcloud.model.decision import Shape, shape_of
from cellcloud.model.flavor import Flavor
from cellcloud.model.server import ServerRecord
from cellcloud.model.server_group import AFFINITY, ANTI_AFFINITY, ServerGroup
from tests.contract.test_replay import CONTEXT, FLAVORS, Churn, Direct
from tests.unit.cell_world import make_spec
from tests.workflows.world import make_report

SMALL, WIDE, *_ = FLAVORS
HUGE = Flavor(id="x", name="x", vcpus=6, memory_mb=70_000, root_gb=1)
PACKING: dict[str, object] = {
    "options": {"filter_scheduler.ram_weight_multiplier": -9.0, "filter_scheduler.cpu_weight_multiplier": -9.0}
}


class Records:
    """What is asked of conductors beside the log."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def get_servers(self, context: RequestContext, server_ids: list[str], partly: bool = False) -> list[ServerRecord]:
        with self.database.read() as connection:
            return servers.list_by_id(connection, server_ids)


class Cell:
    """A scheduler over three hosts: one small, one large, one disabled."""

    def __init__(self, database: Database) -> None:
        self.database, self.store = database, SchedulingStoreService(database)
        served = Direct(SchedulingStore=self.store, Conductor=Records(database))
        self.service = SchedulerService(config.load(), served)  # type: ignore[arg-type]  # stands for the queue
        with database.write() as connection:
            hosts.report(connection, [make_report("h1", vcpus=4), make_report("h2", vcpus=8), make_report("h3")])
            hosts.set_state(connection, "h3", enabled=False, disabled_reason="repair", forced_down=None)
        self.last = 0

    def place(self, flavor: Flavor = SMALL, count: int = 1, **values: object) -> list[str]:
        """Server ids, whatever became of them."""
        specs = [make_spec(self.last + number + 1, flavor=flavor, **values) for number in range(count)]
        self.last += count
        reservation_batching.reserve(self.database, self.service, CONTEXT, specs, hold_seconds=3600.0)
        return [spec.id for spec in specs]


@pytest.fixture
def cell(cell_database: Database) -> Cell:
    return Cell(cell_database)


def test_why_a_server_is_where_it_is(cell: Cell) -> None:
    (server_id,) = cell.place()
    (told,) = cell.service.explain(CONTEXT, server_id, None, 10)
    assert told.server_id == server_id
    assert (told.hosts, told.feasible, told.chosen) == (3, 2, told.offered[0])
    assert [one.host for one in told.best] == list(told.offered)
    assert told.best[0].margin == pytest.approx(told.best[0].score - told.best[1].score)
    assert sum(one.weighted for one in told.best[0].weights) == pytest.approx(told.best[0].score)
    assert [(one.count, one.reason.text) for one in told.refused] == [(1, "is disabled")]


def test_why_not_another_host(cell: Cell) -> None:
    (server_id,) = cell.place(WIDE)
    chosen = cell.service.explain(CONTEXT, server_id, None, 1)[0].chosen
    other = "h1" if chosen == "h2" else "h2"
    (told,) = cell.service.explain(CONTEXT, server_id, other, 0)
    assert told.asked is None
    assert [one.host for one in told.best] == [other]
    (told,) = cell.service.explain(CONTEXT, server_id, "h3", 0)
    assert told.asked is not None
    assert told.asked.change == "h3 is disabled; enabled, it would fit"
    (told,) = cell.service.explain(CONTEXT, server_id, "nowhere", 0)
    assert told.asked is not None
    assert told.asked.reasons[0].text == "is not a host of this cell"


def test_why_nowhere(cell: Cell) -> None:
    (server_id,) = cell.place(HUGE)
    (told,) = cell.service.explain(CONTEXT, server_id, None, 10)
    assert told.chosen is None
    assert told.feasible == 0
    assert [(one.count, one.reason.what, one.reason.lack) for one in told.refused] == [
        (2, "MEMORY_MB", 4976),
        (1, "VCPU", 2),
    ]
    assert told.nearest is not None
    assert told.nearest.change.startswith("h2 lacks 4976 MEMORY_MB: ")
    assert told.nearest.change.endswith("; with 4976 MEMORY_MB more, it would fit")


def test_an_explanation_is_of_then_not_of_now(cell: Cell) -> None:
    first = cell.place(WIDE)[0]
    (before,) = cell.service.explain(CONTEXT, first, None, 10)
    cell.place(WIDE, 2)
    with cell.database.write() as connection:
        hosts.set_state(connection, "h2", enabled=False, disabled_reason="", forced_down=None)
    assert cell.service.explain(CONTEXT, first, None, 10) == [before]


def test_servers_of_one_request_are_told_one_by_one(cell: Cell) -> None:
    request_id = f"req-{uuid.uuid4()}"
    ids = cell.place(SMALL, 4, request_id=request_id)
    told = cell.service.explain(CONTEXT, request_id, None, 3)
    assert [one.server_id for one in told] == ids
    assert [one.best[0].host for one in told] == [one.chosen for one in told]


def test_what_is_unknown_and_what_is_past(cell: Cell) -> None:
    assert cell.service.explain(CONTEXT, "nobody", None, 1) == []
    with pytest.raises(errors.NotFound):
        cell.service.replay(CONTEXT, "ab-1", None)
    (server_id,) = cell.place()
    decision = cell.service.explain(CONTEXT, server_id, None, 1)[0].decision
    cell.place()
    with cell.database.write() as connection:
        scheduler_change_log.prune(connection, 0.0)
    (told,) = cell.service.explain(CONTEXT, server_id, None, 1)
    assert not told.gap, "the scheduler still knows what it chose from"
    cell.service.tailer.forget()
    (told,) = cell.service.explain(CONTEXT, server_id, None, 1)
    assert "no longer reaches back" in told.gap
    assert told.chosen
    with pytest.raises(errors.Conflict, match="no longer reaches back"):
        cell.service.replay(CONTEXT, decision, None)


def test_replays(cell: Cell) -> None:
    cell.place(WIDE)
    (server_id,) = cell.place(SMALL)
    decision = cell.service.explain(CONTEXT, server_id, None, 1)[0].decision
    found = cell.service.replay(CONTEXT, decision, None)
    assert (found.same, found.identical, found.policy) == (True, True, 0)
    other = cell.service.replay(CONTEXT, decision, PACKING)
    assert (other.same, other.policy) == (False, None)
    assert other.after[0] != other.before[0]
    with pytest.raises(errors.Invalid, match="did you mean"):
        cell.service.replay(CONTEXT, decision, {"filters": ["ComputeFilte"]})


def test_how_many_fit(cell: Cell) -> None:
    shape = shape_of(make_spec(flavor=WIDE))
    found = cell.service.plan_fits(CONTEXT, shape, 10)
    assert found.fit == 3
    assert {(one.host, one.count) for one in found.where} == {("h2", 2), ("h1", 1)}
    assert found.nearest is not None
    assert found.refused
    assert cell.service.plan_fits(CONTEXT, shape, 2).fit == 2
    assert cell.service.plan_fits(CONTEXT, shape, 10) == found, "a plan takes nothing"
    wrong = Shape(flavor=WIDE, resources=WIDE.resources(), hints={"query": "{"})
    assert "JSON" in cell.service.plan_fits(CONTEXT, wrong, 1).malformed


@pytest.mark.parametrize("drain", [False, True])
def test_where_servers_of_lost_hosts_would_go(cell: Cell, drain: bool) -> None:
    ids = cell.place(WIDE, 3)
    small = cell.place(SMALL, 1)
    assert small
    with cell.database.write() as connection:
        hosts.set_state(connection, "h3", enabled=True, disabled_reason=None, forced_down=None)
    found = cell.service.plan_loss(CONTEXT, ["h2"], drain)
    assert found.hosts == ("h2",)
    assert {one.server_id for one in found.moves} <= {*ids, *small}
    assert {one.to for one in found.moves} <= {"h1", "h3"}
    assert (found.stranded, len(found.moves)) == (0, 2)
    both = cell.service.plan_loss(CONTEXT, ["h2", "h1"], drain)
    assert both.stranded == 1
    stranded = next(one for one in both.moves if one.to is None)
    assert " more, it would fit" in stranded.why
    assert cell.service.plan_loss(CONTEXT, ["h2"], drain) == found
    with pytest.raises(errors.NotFound):
        cell.service.plan_loss(CONTEXT, ["h9"], drain)


@pytest.mark.parametrize("drain", [False, True])
def test_a_plan_keeps_to_server_groups(cell: Cell, drain: bool) -> None:
    group = ServerGroup(id="g", name="g", project_id="p", user_id="u", policy=ANTI_AFFINITY)
    first, second = cell.place(count=2, group=group)
    (alone,) = cell.place(group=replace(group, id="h", policy=AFFINITY))
    where = {
        told.server_id: told.chosen
        for one in (first, second, alone)
        for told in cell.service.explain(CONTEXT, one, None, 1)
    }
    assert {where[first], where[second]} == {"h1", "h2"}
    moves = {move.server_id: move for move in cell.service.plan_loss(CONTEXT, ["h1"], drain).moves}
    stuck = first if where[first] == "h1" else second
    assert moves[stuck].to is None
    assert moves[stuck].why
    assert alone not in moves or moves[alone].to == "h2"
    with cell.database.write() as connection:
        hosts.set_state(connection, "h3", enabled=True, disabled_reason=None, forced_down=None)
    moves = {move.server_id: move for move in cell.service.plan_loss(CONTEXT, ["h1"], drain).moves}
    assert moves[stuck].to == "h3"


def test_every_decision_of_a_busy_cell_is_explained_as_it_was_made(cell_database: Database) -> None:
    churn = Churn(cell_database, 11)
    for _ in range(50):
        churn.turn()
    store = SchedulingStoreService(cell_database)
    inquiry = OperatorQueries(churn.schedulers[0].tailer, store, Records(cell_database))  # type: ignore[arg-type]
    for decision in churn.decisions()[::4]:
        (told,) = inquiry.explain(CONTEXT, decision.id, None, 3)
        if told.malformed or decision.batch.answer.basis.policy in (2, 3):  # chance has its part
            continue
        assert told.gap == ""
        assert [one.host for one in told.best][:1] == list(decision.hosts[:1])
        assert bool(told.refused) or told.feasible == told.hosts
        if not decision.hosts:
            assert told.refused == decision.reasons
