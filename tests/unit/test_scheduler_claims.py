"""Claims have ids: a server that moves holds several, counted each by itself, and is one server on each host."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

import pytest

from cell.scheduler.select.filter_and_weigh import named
from cell.scheduler.state.host_columns import Figure
from cell.scheduler.state.host_table import build
from cell.scheduler.state.scheduler_state import SchedulerState
from cell.scheduler.why import replay, what_if
from cell.scheduler.why.what_if import Resident
from cellcloud.model.allocation import Allocation
from cellcloud.model.change_log import CellState, ChangeEntry, Changes
from cellcloud.model.decision import Basis, DecisionBatch, Move, RankBatch
from cellcloud.model.host import HostedServer, HostState
from cellcloud.model.numa import GuestCell, GuestNuma, NumaCell, Placed
from cellcloud.model.placement_messages import PlacedGroup
from cellcloud.model.scheduling_policy import DEFAULT
from tests.unit.test_scheduler_state import entry, figures, host, hosts_of, rank, released, server_id, shape

OWN, MIGRATION, OTHER = server_id(1), server_id(1001), server_id(2)
NAMES = ("a", "b", "c")
Held = Mapping[str, tuple[str, str, Allocation]]  # claim id -> server id, host, what it takes


def pinned(cpu: int | None) -> Placed | None:
    if cpu is None:
        return None
    cell = GuestCell(id=0, pcpuset=(0,), memory=1, cpu_policy="dedicated", cpu_pinning=((0, cpu),))
    return Placed(guest=GuestNuma(cells=(cell,)))


def taken(vcpus: int, *, distro: str = "", cpu: int | None = None) -> Allocation:
    resources = {"VCPU": vcpus, "MEMORY_MB": 256 * vcpus}
    return Allocation(
        resources=resources,
        image_props={"os_distro": distro} if distro else {},
        placed=pinned(cpu),
        building=False,
    )


def states(held: Held) -> tuple[HostState, ...]:
    """The hosts as the cell's records have them."""
    found = []
    for name in NAMES:
        here = {one: (server, allocation) for one, (server, where, allocation) in held.items() if where == name}
        used: dict[str, int] = {}
        for _, allocation in here.values():
            for resource, amount in allocation.resources.items():
                used[resource] = used.get(resource, 0) + amount
        hosted = [
            HostedServer(
                uuid=server,
                image_props=allocation.image_props,
                placed=allocation.placed,
                claim_id="" if one == server else one,
            )
            for one, (server, allocation) in here.items()
        ]
        cells = (NumaCell(id=0, pcpuset=tuple(range(64)), memory=4096),)
        capacity = {"VCPU": 1000, "MEMORY_MB": 1 << 20, "DISK_GB": 100}
        given = host(name, capacity=capacity, used=used, servers=len(hosted), hosted=tuple(hosted), numa=cells)
        found.append(given)
    return tuple(found)


def holding(held: Held, sequence: int = 7) -> SchedulerState:
    return SchedulerState(CellState(sequence=sequence, hosts=states(held)))


def believed_of(state: SchedulerState) -> object:
    """All that choosing may read of servers and their use."""
    table = state.table
    properties = [table.servers_with(("os_distro", distro)).tolist() for distro in ("debian", "fedora")]
    free = {name: table.columns.free[row].tolist() for name, row in table.columns.row_of.items()}
    counted = [table.columns.figure(one).tolist() for one in Figure if one is not Figure.num_io_ops]
    placed = {server: sorted(positions) for server, positions in table.hosts_of.items()}
    hosted = [dict(servers) for servers in table.hosted]
    return hosted, placed, free, counted, properties, [table.topologies.at(place) for place in range(len(NAMES))]


class Story:
    """Claims of few servers that come, move and go by chance, as the log tells it."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.held: dict[str, tuple[str, str, Allocation]] = {}
        self.cpus = 0

    def next(self) -> Changes:
        server, migration = self._pair()
        own, moved = server in self.held, migration in self.held
        options = [self.claim(server, server)] if not own else []
        options += [self.claim(migration, server)] if own and not moved else []
        options += [self.release(one) for one in (server, migration) if one in self.held]
        options += [lambda: self.swap(server, migration, confirm=self.chance.random() < 0.5)] * (2 * (own and moved))
        return self.chance.choice(options)()

    def _pair(self) -> tuple[str, str]:
        number = self.chance.randint(1, 4)
        return server_id(number), server_id(1000 + number)

    def claim(self, claim_id: str, server: str):  # type: ignore[no-untyped-def]
        def made() -> Changes:
            self.cpus += 1
            cpu = self.cpus % 64 if self.chance.random() < 0.5 else None
            distro = self.chance.choice(("debian", "fedora", ""))
            allocation = taken(self.chance.randint(1, 4), distro=distro, cpu=cpu)
            if cpu is not None and any(one[2].placed == allocation.placed for one in self.held.values()):
                allocation = replace(allocation, placed=None)
            where = self.chance.choice(NAMES)
            self.held[claim_id] = (server, where, allocation)
            servers = {} if claim_id == server else {claim_id: server}
            return Changes(holdings=(allocation,), claimed=((claim_id, where, 0),), servers=servers)

        return made

    def release(self, claim_id: str):  # type: ignore[no-untyped-def]
        def made() -> Changes:
            server, where, allocation = self.held.pop(claim_id)
            servers = {} if claim_id == server else {claim_id: server}
            return Changes(holdings=(allocation,), released=((claim_id, where, 0),), servers=servers)

        return made

    def swap(self, server: str, migration: str, *, confirm: bool) -> Changes:
        own, moved = self.held[server], self.held[migration]
        self.held[server], self.held[migration] = moved, own
        made = Changes(swapped=((server, own[1], migration, moved[1]),), servers={migration: server})
        if not confirm:
            return made
        given = self.release(migration)()
        return replace(made, holdings=given.holdings, released=given.released)


@pytest.mark.parametrize("seed", range(25))
def test_what_is_followed_is_what_is_stored_and_can_be_undone(seed: int) -> None:
    story = Story(seed)
    for _ in range(6):
        story.next()
    state = holding(story.held)
    at, entries = [believed_of(state)], []
    for _ in range(60):
        (made,) = entry(state, story.next())
        entries.append(made)
        state.follow([made])
        at.append(believed_of(state))
        assert at[-1] == believed_of(holding(story.held))
    now = CellState(sequence=state.sequence, hosts=states(story.held))
    for step in range(0, len(entries), 7):
        past = replay.rewind(now, entries, 7 + step)
        assert believed_of(SchedulerState(past)) == at[step]
    for one, before in zip(reversed(entries), reversed(at[:-1]), strict=True):
        state.take_back(one)
        assert believed_of(state) == before


def moving(*, same_host: bool = False, **values: object) -> RankBatch:
    batch = RankBatch(
        shapes=(shape(),),
        servers=((MIGRATION, 0, 1),),
        moves={MIGRATION: Move(server_id=OWN, same_host=same_host)},
    )
    return replace(batch, **values)  # type: ignore[arg-type]  # fields of RankBatch, by name


def small_cell(**at: str) -> SchedulerState:
    """Hosts a and b, and what servers hold there."""
    state = SchedulerState(CellState(sequence=7, hosts=(host("a"), host("b"))))
    for claim_id, where in at.items():
        made = Changes(holdings=(taken(1),), claimed=((claim_id, where, 0),))
        state.follow(entry(state, made))
    return state


def test_a_move_goes_to_another_host_or_may_stay_and_takes_room_there_too() -> None:
    away, stays = small_cell(**{OWN: "a"}), small_cell(**{OWN: "a"})
    before = figures(away)
    answer = rank(away, moving())
    assert hosts_of(answer) == [("b",)]
    assert figures(away)["a"] == before["a"], "what the source holds is counted once"
    assert figures(away)["b"] != before["b"], "and what the destination takes is counted"
    assert hosts_of(rank(stays, moving(same_host=True, exclude={MIGRATION: ("b",)}))) == [("a",)]
    place = stays.table.positions.of("a")[0]
    assert int(stays.table.columns.free[stays.table.columns.row_of["VCPU"], place]) == 8 - 2
    assert stays.table.hosted[place].keys() == {OWN}, "one server, with two claims"
    assert hosts_of(rank(away, moving(exclude={MIGRATION: ("b",)}), number=2)) == [()]


def test_the_log_settles_a_move_and_what_is_asked_again_is_answered_with_its_host() -> None:
    state = small_cell(**{OWN: "a"})
    answer = rank(state, moving())
    pending = figures(state)
    claimed = Changes(holdings=answer.holdings, claimed=((MIGRATION, "b", 0),), servers={MIGRATION: OWN})
    state.follow(entry(state, claimed))
    assert (figures(state), dict(state.pending)) == (pending, {})
    for asked in (moving(), moving(same_host=True)):
        assert hosts_of(rank(state, asked, number=2)) == [("b",)]
    own = RankBatch(shapes=(shape(),), servers=((OWN, 0, 1),))
    assert hosts_of(rank(state, own, number=3)) == [("a",)]
    second = RankBatch(shapes=(shape(),), servers=((OTHER, 0, 1),), moves={OTHER: Move(server_id=OWN)})
    assert hosts_of(rank(state, second, number=4)) == [()], "it has claims on both"
    assert figures(state) == pending
    state.follow(entry(state, Changes(dropped=(MIGRATION,))))
    assert figures(state) == pending, "what is claimed is not dropped"


def test_a_move_that_is_given_up_or_lost_leaves_nothing() -> None:
    state = small_cell(**{OWN: "a"})
    before = figures(state)
    rank(state, moving())
    state.follow(entry(state, Changes(dropped=(MIGRATION,))))
    assert figures(state) == before
    rank(state, moving(), number=2)
    state.expire(1e9)
    assert (figures(state), dict(state.pending)) == (before, {})
    rank(state, moving(), number=3)
    fresh = small_cell(**{OWN: "a"})
    fresh.take_over(state)
    assert figures(fresh) == figures(state)
    assert {one: pending.server_id for one, pending in fresh.pending.items()} == {MIGRATION: OWN}


def test_confirmed_and_reverted_moves_are_as_if_the_server_had_been_placed_there() -> None:
    confirmed, reverted = small_cell(**{OWN: "a"}), small_cell(**{OWN: "a"})
    made = Changes(holdings=(taken(2),), claimed=((MIGRATION, "b", 0),), servers={MIGRATION: OWN})
    confirm = Changes(
        swapped=((OWN, "a", MIGRATION, "b"),),
        holdings=(taken(1),),
        released=((MIGRATION, "a", 0),),
        servers={MIGRATION: OWN},
    )
    confirmed.follow([ChangeEntry(sequence=9, changes=made), ChangeEntry(sequence=10, changes=confirm)])
    placed = SchedulerState(CellState(sequence=7, hosts=(host("a"), host("b"))))
    placed.follow(entry(placed, Changes(holdings=(taken(2),), claimed=((OWN, "b", 0),))))
    assert figures(confirmed) == figures(placed)
    assert confirmed.table.allocation_of(OWN) == taken(2)
    reverted.follow([ChangeEntry(sequence=9, changes=made)])
    given = Changes(holdings=(taken(2),), released=((MIGRATION, "b", 0),), servers={MIGRATION: OWN})
    reverted.follow(entry(reverted, given))
    assert figures(reverted) == figures(small_cell(**{OWN: "a"}))
    confirmed.follow(entry(confirmed, replace(released(1, "b"), holdings=(taken(2),))))
    assert figures(confirmed) == figures(SchedulerState(CellState(sequence=7, hosts=(host("a"), host("b")))))


def test_a_move_in_a_batch_is_explained_and_made_again() -> None:
    state = small_cell(**{OWN: "a"})
    asked = moving(servers=((OTHER, 0, 1), (MIGRATION, 0, 2)), together=(2,))
    fresh = state.copy()
    answer = rank(state, asked, number=5)
    assert [bool(ranked) for ranked in answer.ranked] == [True, True]
    assert hosts_of(answer)[1] == ("b",)
    decided = DecisionBatch(asked=asked, answer=answer)
    again = replay.again(fresh.copy(), replace(decided, answer=replace(answer, basis=Basis(scheduler="", sequence=8))))
    assert replace(again, basis=answer.basis) == answer
    replay.before(fresh, decided, 1)
    request = replay.request_at(fresh, decided, 1)
    assert (request.moving, request.servers) == (OWN, (MIGRATION,))
    assert named(fresh.table, request).tolist() == [False, True]


def test_a_plan_finds_a_place_for_every_claim_on_a_lost_host() -> None:
    held = {OWN: (OWN, "a", taken(1)), MIGRATION: (OWN, "b", taken(1)), OTHER: (OTHER, "b", taken(1))}
    table = build(states(held))
    there = what_if.residents(table, ["b"])
    assert sorted(there) == sorted([(MIGRATION, OWN, "b"), (OTHER, OTHER, "b")])
    going = [
        Resident(claim_id=claim_id, server_id=server, host=where, shape=shape()) for claim_id, server, where in there
    ]
    loss = what_if.lose(table, ["b"], going, DEFAULT, drain=False)
    assert (len(loss.moves), loss.stranded) == (2, 0)
    assert {move.to for move in loss.moves} <= {"a", "c"}


def test_a_server_that_moves_is_no_rival_of_itself() -> None:
    apart = PlacedGroup(policy="anti-affinity", members=(OWN, OTHER))
    for same_host, expected in ((True, ("a",)), (False, ())):
        state = small_cell(**{OWN: "a", OTHER: "b"})
        asked = moving(same_host=same_host, shapes=(shape(group=apart),))
        assert hosts_of(rank(state, asked)) == [expected]
