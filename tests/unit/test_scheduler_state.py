"""The scheduler's believed of its cell: followed by sequence, its own choices on top, loaded again in doubt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from cell.scheduler import change_log_tailer
from cell.scheduler.__main__ import build
from cell.scheduler.select import batches
from cell.scheduler.service import SchedulerService
from cell.scheduler.state.host_columns import Figure
from cell.scheduler.state.scheduler_state import PENDING_SECONDS, ChangeLogGap, Pending, SchedulerState
from cellcloud import clock, config, errors
from cellcloud.context import RequestContext
from cellcloud.model import scheduling_policy
from cellcloud.model.allocation import Allocation
from cellcloud.model.change_log import (
    AggregateChange,
    CellState,
    ChangeEntry,
    ChangePage,
    Changes,
    HostChange,
    PackedState,
    PolicyChange,
    PolicyVersion,
)
from cellcloud.model.decision import RankAnswer, RankBatch, Shape
from cellcloud.model.flavor import Flavor
from cellcloud.model.host import Aggregate, HostState
from cellcloud.rpc.conductor import Conductor
from cellcloud.rpc.scheduler import Scheduler
from cellcloud.rpc.scheduling_store import SchedulingStore
from cellcloud.rpc.transport import Transport
from tests.unit.cell_world import MemoryConductor, eventually, server_id

CONTEXT = RequestContext(budget=86_400)
BUILT_IN = PolicyVersion(document=scheduling_policy.to_plain(scheduling_policy.DEFAULT))
SMALL = Allocation(resources={"VCPU": 1, "MEMORY_MB": 1024, "DISK_GB": 10})


def host(name: str, **values: object) -> HostState:
    found = HostState(
        host=name,
        zone="nova",
        enabled=True,
        up=True,
        capacity={"VCPU": 8, "MEMORY_MB": 8192, "DISK_GB": 100},
        used={},
        generation=1,
    )
    return replace(found, **values)  # type: ignore[arg-type]  # fields of HostState, by name


def shape(**values: object) -> Shape:
    flavor = Flavor(id="f", name="f", vcpus=1, memory_mb=1024, root_gb=10)
    found = Shape(flavor=flavor, resources=flavor.resources(), image_id="i", alternates=1)
    return replace(found, **values)  # type: ignore[arg-type]  # fields of Shape, by name


def batch(*numbers: int, **values: object) -> RankBatch:
    shapes = (values.pop("shape", shape()),)
    servers = tuple((server_id(number), 0, number) for number in numbers)
    return RankBatch(shapes=shapes, servers=servers, **values)  # type: ignore[arg-type]  # fields of RankBatch, by name


def state_holding(*states: HostState, **values: object) -> SchedulerState:
    return SchedulerState(CellState(sequence=7, hosts=states or (host("a"), host("b")), policy=BUILT_IN, **values))  # type: ignore[arg-type]


def rank(believed: SchedulerState, asked: RankBatch, number: int = 1, now: float = 0.0) -> RankAnswer:
    return batches.answer_batch(believed, asked, number, now=now)


def hosts_of(answer: RankAnswer) -> list[tuple[str, ...]]:
    return [tuple(answer.hosts[place] for place in places) for places in answer.ranked]


def claimed(*pairs: tuple[int, str], holding: Allocation = SMALL) -> Changes:
    return Changes(holdings=(holding,), claimed=tuple((server_id(number), name, 0) for number, name in pairs))


def released(number: int, name: str) -> Changes:
    return Changes(holdings=(SMALL,), released=((server_id(number), name, 0),))


def entry(believed: SchedulerState, changes: Changes, step: int = 1) -> list[ChangeEntry]:
    return [ChangeEntry(sequence=believed.sequence + step, changes=changes)]


def host_of(believed: SchedulerState, server: str) -> str | None:
    """The host that a claim was noted on."""
    held = believed.table.claims.held.get(server)
    return None if held is None else believed.table.states[held.position].host


def figures(believed: SchedulerState) -> dict[str, tuple[int, ...]]:
    """All that choosing reads of each host's use."""
    found = believed.table
    return {
        state.host: (
            *(int(found.columns.free[row, place]) for row in sorted(found.columns.row_of.values())),
            *(int(found.columns.figure(figure)[place]) for figure in Figure),
            *sorted(map(hash, found.hosted[place])),
        )
        for place, state in enumerate(found.states)
    }


def test_a_choice_counts_once_from_its_making_to_its_claim() -> None:
    believed = state_holding()
    before = figures(believed)
    answer = rank(believed, batch(1))
    chosen = hosts_of(answer)[0][0]
    pending = figures(believed)
    assert pending != before
    believed.follow(entry(believed, claimed((1, chosen), holding=answer.holdings[0])))
    assert figures(believed) == pending
    assert believed.pending == {}
    believed.follow(entry(believed, replace(released(1, chosen), holdings=answer.holdings)))
    assert figures(believed) == before


def test_a_claim_on_another_host_moves_the_choice() -> None:
    believed, other = state_holding(), state_holding()
    answer = rank(believed, batch(1))
    taken, left = hosts_of(answer)[0]
    made = claimed((1, left), holding=answer.holdings[0])
    believed.follow(entry(believed, made))
    other.follow(entry(other, made))
    assert figures(believed) == figures(other)
    assert host_of(believed, server_id(1)) == left != taken


def test_a_loss_frees_the_choice() -> None:
    believed = state_holding()
    before = figures(believed)
    rank(believed, batch(1, 2))
    believed.follow(entry(believed, Changes(dropped=(server_id(1), server_id(2), server_id(3)))))
    assert figures(believed) == before
    assert believed.basis().pending == ()


def test_choices_nobody_speaks_of_are_given_up() -> None:
    believed = state_holding()
    before = figures(believed)
    rank(believed, batch(1), now=0.0)
    rank(believed, batch(2), number=2, now=10.0)
    assert believed.expire(PENDING_SECONDS - 1) == 0
    assert believed.expire(PENDING_SECONDS) == 1
    assert list(believed.pending) == [server_id(2)]
    assert believed.expire(PENDING_SECONDS + 10) == 1
    assert figures(believed) == before


def test_a_second_question_for_a_server_replaces_the_first() -> None:
    believed = state_holding()
    rank(believed, batch(1))
    once = figures(believed)
    again = rank(believed, batch(1), number=2)
    assert figures(believed) == once
    assert again.basis.pending == ()


def test_a_server_that_has_its_claim_is_answered_with_its_host() -> None:
    believed = state_holding()
    believed.follow(entry(believed, claimed((1, "b"))))
    before = figures(believed)
    assert hosts_of(rank(believed, batch(1, 2)))[0] == ("b",)
    believed.drop(server_id(2))
    assert figures(believed) == before


def test_what_is_pending_is_on_record_by_batch_and_position() -> None:
    believed = state_holding()
    rank(believed, batch(1, 2), number=11)
    rank(believed, batch(3), number=12)
    believed.follow(entry(believed, Changes(dropped=(server_id(1),))))
    basis = rank(believed, batch(4), number=13).basis
    assert basis.pending == ((11, (1,)), (12, ()))
    assert (basis.sequence, basis.loaded) == (8, 7)


def test_a_gap_is_noticed_and_what_is_known_is_passed_over() -> None:
    believed = state_holding()
    believed.follow([ChangeEntry(sequence=7, changes=claimed((1, "a"))), *entry(believed, claimed((2, "a")))])
    assert host_of(believed, server_id(1)) is None
    with pytest.raises(ChangeLogGap):
        believed.follow(entry(believed, claimed((3, "a")), step=2))
    assert believed.sequence == 8


def test_a_build_is_under_way_until_it_ends_or_its_server_goes() -> None:
    believed = state_holding()
    at = [figures(believed)]
    ends = Changes(ended=(server_id(1), server_id(99)))  # the other is not known
    story = [claimed((1, "a"), (2, "a")), ends, released(2, "a"), released(1, "a")]
    entries = [entry(believed, changes, step)[0] for step, changes in enumerate(story, 1)]
    for one in entries:
        believed.follow([one])
        at.append(figures(believed))
    assert [int(found["a"][len(believed.table.columns.row_of) + Figure.num_io_ops]) for found in at] == [0, 2, 1, 0, 0]
    assert at[-1] == at[0]
    for one, before in zip(reversed(entries), reversed(at[:-1]), strict=True):
        believed.take_back(one)
        assert figures(believed) == before


def test_a_build_that_ends_after_its_host_has_spoken_is_counted_no_less() -> None:
    believed = state_holding()
    said = HostChange(before=host("a"), after=host("a", stats={"io_workload": "3"}))
    story = [claimed((1, "a")), Changes(hosts=(said,)), Changes(ended=(server_id(1),)), released(1, "a")]
    entries = [entry(believed, changes, step)[0] for step, changes in enumerate(story, 1)]
    under_way = []
    for one in entries:
        believed.follow([one])
        under_way.append(int(believed.table.columns.figure(Figure.num_io_ops)[believed.table.positions.of("a")[0]]))
    assert under_way == [1, 3, 3, 3]
    before = [state_holding()]
    for one in entries[:3]:
        again = state_holding()
        again.follow(entries[: one.sequence - again.sequence])
        before.append(again)
    for one, there in zip(reversed(entries), reversed(before), strict=True):
        believed.take_back(one)
        assert figures(believed) == figures(there)


def test_what_a_host_says_keeps_what_is_pending_there() -> None:
    believed, other = state_holding(host("a")), state_holding(host("a"))
    answer = rank(believed, batch(1))
    told = Changes(hosts=(HostChange(before=host("a"), after=host("a", capacity={"VCPU": 4, "MEMORY_MB": 2048})),))
    for each in (believed, other):
        each.follow(entry(each, told))
    assert figures(believed) != figures(other)
    for each in (believed, other):
        each.follow(entry(each, claimed((1, "a"), holding=answer.holdings[0])))
    assert figures(believed) == figures(other)
    for each in (believed, other):
        each.follow(entry(each, replace(released(1, "a"), holdings=answer.holdings)))
    assert figures(believed) == figures(other)


def test_hosts_come_and_go_by_the_log() -> None:
    believed = state_holding(host("a"))
    believed.follow(
        entry(
            believed,
            Changes(hosts=(HostChange(after=host("new", capacity={"VCPU": 64, "MEMORY_MB": 65536, "DISK_GB": 900})),)),
        )
    )
    assert hosts_of(rank(believed, batch(1)))[0] == ("new", "a")
    believed.follow(entry(believed, Changes(hosts=(HostChange(before=host("new")),))))
    assert hosts_of(rank(believed, batch(2), number=2))[0] == ("a",)
    down = Changes(hosts=(HostChange(before=host("a"), after=host("a", up=False)),))
    believed.follow(entry(believed, down))
    refused = rank(believed, batch(3), number=3)
    assert refused.ranked == ((),)
    assert refused.refused[refused.why[0]] == {"ComputeFilter": 1}


def test_aggregates_and_policies_come_by_the_log() -> None:
    believed = state_holding()
    zone = Aggregate(id=1, name="z", metadata={"availability_zone": "z"}, hosts=("a",))
    moved = HostChange(before=host("a"), after=host("a", zone="z"))
    believed.follow(entry(believed, Changes(aggregates=(AggregateChange(after=zone),), hosts=(moved,))))
    assert hosts_of(rank(believed, batch(1, shape=shape(zone="z"))))[0] == ("a",)
    strict = PolicyVersion(
        version=2,
        document={"filters": ["NumInstancesFilter"], "options": {"filter_scheduler.max_instances_per_host": 1}},
    )
    believed.follow(entry(believed, Changes(policies=(PolicyChange(role="active", before=BUILT_IN, after=strict),))))
    answer = rank(believed, batch(2, 3), number=2)
    assert [len(ranked) for ranked in answer.ranked] == [1, 0]
    assert answer.basis.policy == 2


def test_a_shadow_chooses_too_and_takes_nothing() -> None:
    packing = PolicyVersion(version=3, document={"options": {"filter_scheduler.ram_weight_multiplier": -5.0}})
    states = (host("empty"), host("fuller", used={"MEMORY_MB": 4096}))
    believed, alone = state_holding(*states, shadow=packing), state_holding(*states)
    answer, plain = rank(believed, batch(1)), rank(alone, batch(1))
    assert answer.ranked == plain.ranked
    assert figures(believed) == figures(alone)
    assert answer.shadowed == {0: "fuller"}
    assert (answer.basis.shadow, plain.basis.shadow) == (3, None)


def test_a_malformed_request_harms_no_other() -> None:
    believed = state_holding()
    shapes = (shape(), shape(hints={"query": "{"}))
    asked = RankBatch(shapes=shapes, servers=((server_id(1), 1, 0), (server_id(2), 0, 0)))
    answer = rank(believed, asked)
    assert "JSON" in answer.malformed[0]
    assert [bool(ranked) for ranked in answer.ranked] == [False, True]


def test_of_servers_asked_for_together_as_many_are_placed_as_fit() -> None:
    believed = state_holding(host("a", capacity={"VCPU": 2, "MEMORY_MB": 8192, "DISK_GB": 100}))
    answer = rank(believed, batch(1, 2, 3, together=(3,)))
    assert [bool(ranked) for ranked in answer.ranked] == [True, True, False]
    assert answer.refused[answer.why[2]]


def test_another_view_takes_over_what_is_pending() -> None:
    believed = state_holding()
    answer = rank(believed, batch(1, 2))
    first, second = (ranked[0] for ranked in hosts_of(answer))
    hosted = claimed((1, first), holding=answer.holdings[0])
    fresh = state_holding()
    fresh.follow(entry(fresh, hosted))
    fresh.take_over(believed)
    assert fresh.pending == {server_id(2): Pending(second, answer.holdings[0])}
    believed.follow(entry(believed, hosted))
    assert figures(fresh) == figures(believed)


class MemorySchedulingStore:
    """A log in memory. ``away``: nobody answers."""

    def __init__(self) -> None:
        self.begin(host("a"))
        self.away = False
        self.state_reads = 0
        self.change_reads = 0

    def begin(self, *states: HostState, sequence: int = 0) -> None:
        self.states = states
        self.newest = sequence
        self.entries: list[ChangeEntry] = []

    def add(self, *made: Changes) -> None:
        for changes in made:
            self.newest += 1
            self.entries.append(ChangeEntry(sequence=self.newest, changes=changes))

    def get_state(self, context: RequestContext) -> PackedState:
        self._meet()
        self.state_reads += 1
        return PackedState.of(CellState(sequence=self.newest, hosts=self.states, policy=BUILT_IN))

    def list_changes(self, context: RequestContext, after: int, limit: int) -> ChangePage:
        self._meet()
        self.change_reads += 1
        found = tuple(one for one in self.entries if one.sequence > after)[:limit]
        oldest = self.entries[0].sequence if self.entries else self.newest + 1
        return ChangePage(entries=found, oldest=oldest, newest=self.newest)

    def _meet(self) -> None:
        if self.away:
            raise errors.Unreachable("No conductor answers.")

    def __getattr__(self, verb: str) -> object:
        """The other verbs are not asked for."""
        return None


@dataclass
class Cell:
    store: MemorySchedulingStore
    conductor: MemoryConductor
    service: SchedulerService
    client: Scheduler


@pytest.fixture(scope="module")
def running() -> Iterator[Cell]:
    options = config.load()
    options = replace(options, host="s1", cell=replace(options.cell, name="unit", report_interval=0.1))
    transport = Transport("unit", "kombu+memory://")
    store, conductor = MemorySchedulingStore(), MemoryConductor()
    servers = [
        transport.serve(SchedulingStore, store, server="c1"),  # type: ignore[arg-type]  # what schedulers ask
        transport.serve(Conductor, conductor, server="c1"),  # type: ignore[arg-type]  # likewise
    ]
    service = build(options, transport=transport)
    service.start()
    eventually(lambda: service.tailer.origin)  # its own first reading is none of the tests'
    yield Cell(store, conductor, service, transport.client(Scheduler))
    service.stop()
    for server in servers:
        server.stop()
    transport.close()


@pytest.fixture
def cell(running: Cell) -> Cell:
    """A scheduler that knows nothing yet of one host."""
    running.store.away = False
    running.store.begin(host("a"))
    running.store.state_reads = 0
    running.service.tailer.forget()
    return running


def test_the_cell_is_loaded_once_and_then_followed(cell: Cell) -> None:
    assert hosts_of(cell.client.rank(CONTEXT, batch(1)))[0] == ("a",)
    cell.store.add(Changes(hosts=(HostChange(after=host("b")),)))
    eventually(lambda: len(hosts_of(cell.client.rank(CONTEXT, batch(2)))[0]) == 2)
    assert cell.store.state_reads == 1


def test_nobody_is_refused_on_old_figures(cell: Cell) -> None:
    cell.store.begin(host("a", capacity={"VCPU": 1, "MEMORY_MB": 1024, "DISK_GB": 10}))
    assert hosts_of(cell.client.rank(CONTEXT, batch(1)))[0] == ("a",)
    cell.store.add(Changes(hosts=(HostChange(after=host("b")),)))
    assert hosts_of(cell.client.rank(CONTEXT, batch(2)))[0] == ("b",)


def test_the_change_a_race_was_lost_to_is_read_first(cell: Cell) -> None:
    cell.client.rank(CONTEXT, batch(1))
    cell.store.add(Changes(hosts=(HostChange(before=host("a")),)), Changes(hosts=(HostChange(after=host("b")),)))
    answer = cell.client.rank(CONTEXT, batch(2, at_least=2))
    assert hosts_of(answer)[0] == ("b",)
    assert answer.basis.sequence == 2


def test_a_log_that_does_not_go_on_is_loaded_again(cell: Cell) -> None:
    cell.client.rank(CONTEXT, batch(1))
    cell.store.begin(host("b"), sequence=50)  # all before is pruned
    answer = cell.client.rank(CONTEXT, batch(2, at_least=50))
    assert hosts_of(answer)[0] == ("b",)
    cell.store.begin(host("c"), sequence=3)  # the database is an older one
    eventually(lambda: hosts_of(cell.client.rank(CONTEXT, batch(3)))[0] == ("c",))
    assert cell.store.state_reads == 3


def test_after_long_following_the_whole_is_read_again_and_what_is_pending_stays(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell.client.rank(CONTEXT, batch(1))
    monkeypatch.setattr(change_log_tailer, "LONGEST_LOG", 2)
    cell.store.add(*(Changes(dropped=(server_id(90 + number),)) for number in range(4)))
    eventually(lambda: cell.client.rank(CONTEXT, batch(2)).basis.loaded == 4)
    answer = cell.client.rank(CONTEXT, batch(2))
    assert answer.basis.sequence == 4
    assert len(answer.basis.pending) == 1
    assert cell.store.state_reads == 2


def test_without_a_conductor_known_hosts_are_chosen_from(cell: Cell) -> None:
    cell.store.away = True
    with pytest.raises(errors.Unreachable):
        cell.client.rank(CONTEXT, batch(1))
    cell.store.away = False
    assert cell.client.rank(CONTEXT, batch(1)).ranked[0]
    cell.store.away = True
    assert cell.client.rank(CONTEXT, batch(2)).ranked[0]
    with pytest.raises(errors.Unreachable):
        cell.client.rank(CONTEXT, batch(3, at_least=1))


def test_a_question_reads_nothing_by_itself(cell: Cell) -> None:
    cell.client.rank(CONTEXT, batch(1))
    before = cell.store.change_reads
    for number in range(2, 32):
        cell.client.rank(CONTEXT, batch(number % 5))
    assert cell.store.change_reads - before < 10


def test_it_says_that_it_lives(cell: Cell) -> None:
    eventually(lambda: ("nova-scheduler", "s1") in cell.conductor.heartbeats)
    cell.client.rank(CONTEXT, batch(1))
    assert cell.service.check() == {"follow": "ok"}


def test_an_idle_scheduler_reads_when_it_is_told(cell: Cell) -> None:
    cell.client.rank(CONTEXT, batch(1))
    tailer = cell.service.tailer
    tailer._asked_at = float("-inf")  # nobody has asked for long
    tailer._read_at = clock.monotonic()
    cell.store.add(Changes(hosts=(HostChange(after=host("b")),)))
    cell.client.log_grew(CONTEXT, cell.store.newest)
    eventually(lambda: tailer._current().sequence == cell.store.newest)
