"""Every stored decision can be made again, bit for bit, whatever happened in the cell before and since."""

from __future__ import annotations

import random
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from cell.conductor.placement import claiming, reservation_confirmation
from cell.conductor.placement.claiming import PlacementRequest
from cell.conductor.placement.relocation import place_move
from cell.conductor.scheduling_store import SchedulingStoreService
from cell.scheduler.service import SchedulerService
from cell.scheduler.state.host_columns import Figure
from cell.scheduler.state.scheduler_state import NotUndoable, SchedulerState
from cell.scheduler.why import operator_queries, replay
from cellcloud import config, errors
from cellcloud.context import RequestContext
from cellcloud.db import claims, decisions, hosts, scheduler_change_log
from cellcloud.db.engine import Database
from cellcloud.model.change_log import ChangeEntry, Changes, HostChange, PackedState
from cellcloud.model.decision import Decision
from cellcloud.model.flavor import Flavor
from cellcloud.model.host import Aggregate, HostReport
from cellcloud.model.image import Image
from cellcloud.model.numa import NumaCell
from cellcloud.model.pci import PciPool
from cellcloud.model.server import ServerSpec
from cellcloud.model.server_group import AFFINITY, ANTI_AFFINITY, SOFT_AFFINITY, SOFT_ANTI_AFFINITY, ServerGroup
from tests.workflows.world import make_report

CONTEXT = RequestContext(budget=86_400)
ALIAS = '{"vendor_id": "8086", "product_id": "10ed", "name": "nic"}'
CPUS = tuple(range(8))
FLAVORS = (
    Flavor(id="1", name="small", vcpus=1, memory_mb=512, root_gb=5),
    Flavor(id="2", name="wide", vcpus=4, memory_mb=8192, root_gb=40, swap_mb=600),
    Flavor(id="3", name="pinned", vcpus=2, memory_mb=256, root_gb=1, extra_specs={"hw:cpu_policy": "dedicated"}),
    Flavor(id="4", name="nic", vcpus=1, memory_mb=256, root_gb=1, extra_specs={"pci_passthrough:alias": "nic:1"}),
    Flavor(id="5", name="huge", vcpus=40, memory_mb=8192, root_gb=40),
)
POLICIES: tuple[dict[str, object], ...] = (
    {"options": {"filter_scheduler.ram_weight_multiplier": -2.0, "pci.alias": [ALIAS]}},
    {"options": {"filter_scheduler.host_subset_size": 3, "pci.alias": [ALIAS]}},
    {"options": {"filter_scheduler.shuffle_best_same_weighed_hosts": True, "filter_scheduler.max_io_ops_per_host": 4}},
)
GROUPS = (
    *[None] * 4,
    *(
        ServerGroup(
            id=str(uuid.UUID(int=number)),
            name="g",
            project_id="p",
            user_id="u",
            policy=policy,
            max_server_per_host=most,
        )
        for number, (policy, most) in enumerate(
            [(AFFINITY, None), (ANTI_AFFINITY, 4), (SOFT_AFFINITY, None), (SOFT_ANTI_AFFINITY, None)]
        )
    ),
)


class Direct:
    """Stands for the queue: verbs are called where they are."""

    def __init__(self, **served: object) -> None:
        self.served = served

    def client(self, interface: type[object]) -> object:
        return self.served.get(interface.__name__)


class CountedSchedulingStore(SchedulingStoreService):
    """Counts how often the whole cell is read."""

    reads = 0

    def get_state(self, context: RequestContext) -> PackedState:
        self.reads += 1
        return super().get_state(context)


class Churn:
    """A cell in which things happen by chance, with several schedulers that know more or less of it."""

    groups: Sequence[ServerGroup | None] = (None,)

    def __init__(self, database: Database, seed: int, *, machines: int = 6, moves: int = 6) -> None:
        self.database, self.chance = database, random.Random(seed)
        self.store = CountedSchedulingStore(database)
        transport = Direct(SchedulingStore=self.store)
        self.schedulers = [SchedulerService(config.load(), transport) for _ in range(3)]  # type: ignore[arg-type]
        self.reports = {f"h{number:02}": self.machine(number) for number in range(machines)}
        self.report(*self.reports.values())
        self.placed: list[str] = []
        self.building: list[str] = []
        self.specs: dict[str, ServerSpec] = {}
        self.weight_of_moves = moves
        self.moving: dict[str, str] = {}  # server id -> its migration
        self.moves: Counter[str] = Counter()
        self.policies = 0
        for document in POLICIES:
            self.policies = self.store.add_policy(CONTEXT, dict(document), "tried").version

    def machine(self, number: int) -> HostReport:
        made = make_report(f"h{number:02}", vcpus=8 + 8 * (number % 3), cpu_ratio=1.0 + (number % 2) / 3)
        if number % 4:
            return made
        cells = (NumaCell(id=0, cpuset=CPUS, pcpuset=CPUS, memory=8192),)
        pools = (PciPool(vendor_id="8086", product_id="10ed", count=2, numa_node=0),)
        return replace(made, cpu_ratio=1.0, facts=replace(made.facts, numa=cells, pci_pools=pools))

    def report(self, *reports: HostReport) -> None:
        with self.database.write() as connection:
            hosts.report(connection, reports)

    def turn(self) -> None:
        """One thing happens."""
        action = self.chance.choices(
            (
                *(self.create, self.finish, self.delete, self.change_host, self.switch),
                *(self.set_policy, self.set_aggregate, self.read, self.move),
            ),
            (10, 4, 2, 2, 1, 1, 1, 1, self.weight_of_moves),
        )[0]
        action()

    def create(self) -> None:
        asked: list[PlacementRequest] = []
        for _ in range(self.chance.randint(1, 4)):
            flavor, request_id = self.chance.choice(FLAVORS), f"req-{uuid.UUID(int=self.chance.getrandbits(128))}"
            zone = self.chance.choice((None, None, "nova", "z1"))
            asked += [
                PlacementRequest(spec=self.spec(flavor, zone), request_id=request_id)
                for _ in range(self.chance.choice((1, 1, 3)))
            ]
        scheduler = self.chance.choice(self.schedulers)
        answers = claiming.place(self.database, scheduler, CONTEXT, asked, store=reservation_confirmation.hold(3600.0))
        held = [server_id for server_id, answer in answers.items() if answer.outcome == "held"]
        self.placed += held
        self.building += held
        self.specs |= {one.spec.id: one.spec for one in asked}

    def spec(self, flavor: Flavor, zone: str | None) -> ServerSpec:
        server_id = str(uuid.UUID(int=self.chance.getrandbits(128), version=4))
        return ServerSpec(
            id=server_id,
            name="vm",
            project_id=self.chance.choice("pq"),
            user_id="u",
            flavor=flavor,
            image=Image(id="i", properties={"os_distro": self.chance.choice(("debian", "fedora"))}),
            availability_zone=zone,
            group=random.Random(server_id).choice(self.groups),
        )

    def finish(self) -> None:
        """Builds end, each once, of servers that may be gone already."""
        self.chance.shuffle(self.building)
        built, self.building = self.building[:8], self.building[8:]
        with self.database.write() as connection:
            scheduler_change_log.append(connection, Changes(ended=tuple(built)))

    def move(self) -> None:
        """A server is resized or migrated, to its own host or another, and what was begun goes on or back."""
        if not self.placed:
            return
        again = self.moving and self.chance.random() < 0.6
        server_id = self.chance.choice(list(self.moving) if again else self.placed)
        migration_id = self.moving.get(server_id)
        if migration_id is None:
            self.begin_move(server_id, str(uuid.UUID(int=self.chance.getrandbits(128), version=4)))
            return
        ending = self.chance.choice(("asked again", "swapped", "confirmed", "reverted"))
        self.moves[ending] += 1
        if ending == "asked again":
            self.begin_move(server_id, migration_id)
            return
        if ending != "swapped":
            del self.moving[server_id]
        with self.database.write() as connection:
            if ending == "reverted":
                claims.release(connection, [migration_id])
            else:
                {"swapped": claims.swap, "confirmed": claims.confirm}[ending](connection, server_id, migration_id)

    def begin_move(self, server_id: str, migration_id: str) -> None:
        spec, same_host = replace(self.specs[server_id], flavor=self.chance.choice(FLAVORS)), self.chance.random() < 0.4
        asked = {"request_id": f"req-{migration_id}", "same_host": same_host}
        try:
            claim = place_move(self.database, self.chance.choice(self.schedulers), spec, migration_id, **asked)  # type: ignore[arg-type]
        except (errors.NoValidHost, errors.TryLater):
            self.moves["refused"] += 1
            return
        assert claim.server_id == server_id
        assert self.moving.setdefault(server_id, migration_id) == claim.id == migration_id
        self.building.append(migration_id)
        self.moves["begun"] += 1

    def delete(self) -> None:
        gone = self.chance.sample(self.placed, min(len(self.placed), self.chance.randint(1, 5)))
        self.placed = [one for one in self.placed if one not in gone]
        self.moving = {one: migration_id for one, migration_id in self.moving.items() if one not in gone}
        reservation_confirmation.release(self.database, gone)

    def change_host(self) -> None:
        name = self.chance.choice([*self.reports, f"h{len(self.reports):02}"])
        known = self.reports.get(name) or self.machine(len(self.reports))
        stats: dict[str, str | None] = {
            "failed_builds": str(self.chance.randint(0, 2)),
            "io_workload": str(self.chance.randint(0, 3)),
        }
        made = replace(known, facts=replace(known.facts, stats=stats), reserved_memory_mb=self.chance.randint(0, 999))
        self.reports[name] = made
        self.report(made)

    def switch(self) -> None:
        with self.database.write() as connection:
            hosts.set_state(
                connection,
                self.chance.choice(list(self.reports)),
                enabled=self.chance.random() < 0.7,
                disabled_reason="by chance",
                forced_down=self.chance.random() < 0.2,
            )

    def set_policy(self) -> None:
        role = self.chance.choice(("active", "shadow"))
        self.store.set_policy_role(CONTEXT, role, self.chance.randint(0, self.policies))

    def set_aggregate(self) -> None:
        number = self.chance.randint(1, 3)
        metadata = {"availability_zone": "z1"} if number == 1 else {"ram_weight_multiplier": str(self.chance.random())}
        members = tuple(sorted(self.chance.sample(list(self.reports), 4)))
        made = Aggregate(
            id=number, uuid=str(uuid.UUID(int=number)), name=f"a{number}", metadata=metadata, hosts=members
        )
        gone = [4 - number] if number != 2 else []
        self.store.set_aggregates(CONTEXT, [made], gone, 0)

    def read(self) -> None:
        tailer = self.chance.choice(self.schedulers).tailer
        tailer.catch_up(CONTEXT) if self.chance.random() < 0.8 else tailer.forget()

    # ---- what is stored ---------------------------------------------------------------------------------------------
    def decisions(self) -> list[Decision]:
        with self.database.read() as connection:
            return decisions.list_recent(connection, 10_000)


def world_of(database: Database, decision: Decision) -> SchedulerState:
    """The believed that a decision was made from, by what the database has."""
    basis = decision.batch.answer.basis
    store = SchedulingStoreService(database)
    state = store.get_state(CONTEXT).unpacked()
    with database.read() as connection:
        entries = scheduler_change_log.list_after(connection, basis.loaded, 100_000).entries
        found = decisions.list_batches(connection, [number for number, _ in basis.pending])
    walked = replay.walk(basis, state, entries)
    return replay.state_from(walked, basis, (), {one.answer.batch: one for one in found})


def one_of_each_batch(found: Sequence[Decision]) -> list[Decision]:
    return list({one.batch.answer.batch: one for one in found}.values())


@pytest.mark.parametrize("seed", range(3))
def test_every_decision_is_made_again_to_the_same_answer(cell_database: Database, seed: int) -> None:
    churn = Churn(cell_database, seed, moves=0)
    for _ in range(80):
        churn.turn()
    made = one_of_each_batch(churn.decisions())
    assert len(made) > 10
    for decision in made:
        assert replay.again(world_of(cell_database, decision), decision.batch) == decision.batch.answer
    assert any(one.answer.basis.pending for one in (decision.batch for decision in made))
    assert any(outcome.conflicts for decision in made for outcome in decision.batch.outcomes.values())


def test_so_is_every_decision_about_servers_in_groups(cell_database: Database) -> None:
    churn = Churn(cell_database, 1)
    churn.groups = GROUPS
    for _ in range(60):
        churn.turn()
    made = one_of_each_batch(churn.decisions())
    shapes = [shape for decision in made for shape in decision.batch.asked.shapes]
    assert {shape.group.policy for shape in shapes if shape.group is not None} == {one.policy for one in GROUPS if one}
    for decision in made:
        assert replay.again(world_of(cell_database, decision), decision.batch) == decision.batch.answer


@pytest.mark.parametrize("seed", range(2))
def test_so_is_every_move_whatever_its_server_holds(cell_database: Database, seed: int) -> None:
    churn = Churn(cell_database, seed, moves=20)
    for _ in range(80):
        churn.turn()
    moved = [one for one in churn.decisions() if one.claim_id != one.server_id]
    assert len(moved) > 5
    for decision in one_of_each_batch(churn.decisions()):
        assert replay.again(world_of(cell_database, decision), decision.batch) == decision.batch.answer
    for decision in moved[::3]:
        told = churn.schedulers[0].explain(CONTEXT, decision.id, None, 3)
        assert [(one.server_id, one.chosen) for one in told] == [(decision.server_id, decision.chosen)]
        assert churn.schedulers[0].replay(CONTEXT, decision.id, None).identical
    assert churn.moves["confirmed"] + churn.moves["reverted"] > 1
    with cell_database.read() as connection:
        assert claims.list_mismatches(connection) == []


def test_what_a_server_was_chosen_from_is_as_if_those_before_it_were_chosen_again(cell_database: Database) -> None:
    churn = Churn(cell_database, 5)
    for _ in range(60):
        churn.turn()
    several = [one for one in churn.decisions() if one.position > 1]
    assert len(several) > 10
    for decision in several[::4]:
        told, chosen = world_of(cell_database, decision), world_of(cell_database, decision)
        replay.before(told, decision.batch, decision.position)
        replay.again(chosen, decision.batch)
        for server_id, _, _ in decision.batch.asked.servers[decision.position :]:
            chosen.drop(server_id)
        assert told.pending == chosen.pending
        mine, theirs = told.table, chosen.table
        assert mine.columns.free.tolist() == theirs.columns.free.tolist()
        assert [mine.columns.figure(one).tolist() for one in Figure] == [
            theirs.columns.figure(one).tolist() for one in Figure
        ]
        assert mine.hosts_of == theirs.hosts_of


def test_the_same_policy_as_a_file_chooses_the_same_and_another_what_it_says(cell_database: Database) -> None:
    churn = Churn(cell_database, 7)
    for _ in range(25):
        churn.turn()
    same = 0
    for decision in churn.decisions()[::5]:
        version = decision.batch.answer.basis.policy
        document = churn.store.get_policy(CONTEXT, version).document
        found, _ = replay.with_policy(world_of(cell_database, decision), decision.batch, decision.position, document)
        assert found == decision.hosts
        none, _ = replay.with_policy(
            world_of(cell_database, decision),
            decision.batch,
            decision.position,
            {"filters": ["NumInstancesFilter", "JsonFilter"], "options": {"filter_scheduler.max_io_ops_per_host": 0}},
        )
        same += none == decision.hosts
    assert same < len(churn.decisions()[::5])


def test_a_log_that_does_not_reach_back_is_said(cell_database: Database) -> None:
    churn = Churn(cell_database, 3)
    for _ in range(30):
        churn.turn()
    oldest = min(churn.decisions(), key=lambda one: one.batch.answer.basis.loaded)
    with cell_database.write() as connection:
        scheduler_change_log.prune(connection, 0.0)
    with pytest.raises(errors.Conflict, match="no longer reaches back"):
        world_of(cell_database, oldest)


def undone(database: Database, now: SchedulerState, decision: Decision) -> SchedulerState:
    """The believed that a decision was made from, by what its scheduler believes now."""
    basis = decision.batch.answer.basis
    with database.read() as connection:
        entries = scheduler_change_log.list_after(connection, basis.sequence, 100_000).entries
        found = decisions.list_batches(connection, [number for number, _ in basis.pending])
    return replay.state_from(now.copy(), basis, entries, {one.answer.batch: one for one in found})


@pytest.mark.parametrize("seed", range(3))
def test_undoing_what_happened_since_gives_the_same_answer(cell_database: Database, seed: int) -> None:
    churn = Churn(cell_database, seed)
    for _ in range(15):
        churn.turn()
    for scheduler in churn.schedulers:
        scheduler.tailer.catch_up(CONTEXT)
    lively = (
        *[churn.create] * 8,
        *[churn.move] * 6,
        churn.delete,
        churn.change_host,
        churn.switch,
        churn.set_policy,
        churn.set_aggregate,
    )
    for _ in range(60):
        churn.chance.choice(lively)()
    with cell_database.read() as connection:
        newest = scheduler_change_log.get_newest(connection)
    tried = 0
    for scheduler in churn.schedulers:
        scheduler.tailer.catch_up(CONTEXT)
        with scheduler.tailer.state(CONTEXT) as now:
            assert now.sequence == newest
            for decision in one_of_each_batch(churn.decisions()):
                if replay.is_of(now, decision.batch.answer.basis):
                    believed = undone(cell_database, now, decision)
                    assert replay.again(believed, decision.batch) == decision.batch.answer
                    tried += 1
            assert now.sequence == newest, "what was undone was undone in copies"
    assert tried > 20


@pytest.mark.parametrize("seed", range(2))
def test_one_scheduler_answers_for_all_in_any_order(cell_database: Database, seed: int) -> None:
    churn = Churn(cell_database, seed)
    for _ in range(60):
        churn.turn()
    made = one_of_each_batch(churn.decisions())
    churn.store.reads = 0
    for decision in churn.chance.sample(made, len(made)):
        answer = churn.schedulers[0].replay(CONTEXT, decision.id, None)
        assert answer.same
        assert answer.identical
    assert len({one.batch.answer.basis.scheduler for one in made}) == 3
    assert churn.store.reads < len(made)
    churn.store.reads = 0
    some = [one for one in made if one.batch.answer.basis.scheduler != made[-1].batch.answer.basis.scheduler]
    for decision in (*some[-1:], made[-1]) * 4:  # of two schedulers in turns
        assert churn.schedulers[0].replay(CONTEXT, decision.id, None).same
    assert churn.store.reads <= 3


def test_who_has_prepared_reads_the_whole_cell_for_no_question(cell_database: Database) -> None:
    churn = Churn(cell_database, 13)
    churn.schedulers = churn.schedulers[: operator_queries.MOST_WALKED_STATES]
    for _ in range(40):
        churn.turn()
    asked = SchedulerService(config.load(), Direct(SchedulingStore=churn.store))  # type: ignore[arg-type]
    churn.store.reads = 0
    asked.queries.prepare(CONTEXT)
    assert not churn.store.reads, "nothing is prepared before the cell is loaded"
    asked.tailer.catch_up(CONTEXT)
    asked.queries.prepare(CONTEXT)
    churn.store.reads = 0
    seen = set()
    for _ in range(4):
        for decision in churn.decisions()[-4:]:
            answer = asked.replay(CONTEXT, decision.id, None)
            assert answer.same
            assert answer.identical
            seen.add(decision.batch.answer.basis.scheduler)
        for _ in range(3):
            churn.turn()
        asked.queries.prepare(CONTEXT)
    assert len(seen) == operator_queries.MOST_WALKED_STATES
    assert not churn.store.reads


def test_a_walk_that_the_log_has_left_behind_is_told_as_any_other(cell_database: Database) -> None:
    churn = Churn(cell_database, 4)
    one, other, _ = churn.schedulers
    churn.schedulers = [one]
    churn.create()
    first = churn.decisions()[0]
    assert other.replay(CONTEXT, first.id, None).same
    for _ in range(3):
        churn.create()
        one.tailer.catch_up(CONTEXT)
    with cell_database.write() as connection:
        scheduler_change_log.prune(connection, 0.0)
    churn.create()
    churn.create()
    one.tailer.catch_up(CONTEXT)
    churn.create()
    last = churn.decisions()[-1]
    with pytest.raises(errors.Conflict, match="no longer reaches back"):
        other.replay(CONTEXT, last.id, None)
    assert one.replay(CONTEXT, last.id, None).same


def test_what_cannot_be_undone_is_said(cell_database: Database) -> None:
    churn = Churn(cell_database, 1)
    churn.create()
    scheduler = churn.schedulers[0]
    scheduler.tailer.catch_up(CONTEXT)
    with scheduler.tailer.state(CONTEXT) as now:
        host = now.table.states[0]
        absurd = replace(host, vcpus=-1)
        for said in ((None,), (absurd,), (absurd, host)):
            believed, before = now.copy(), host
            for after in said:
                change = HostChange(before=before, after=after)
                last = ChangeEntry(sequence=believed.sequence + 1, changes=Changes(hosts=(change,)))
                believed.follow([last])
                before = after or before
            with pytest.raises(NotUndoable):
                believed.take_back(last)
