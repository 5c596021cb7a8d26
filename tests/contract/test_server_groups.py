"""Server groups in a cell, on every database: whoever races, no committed state breaks a group's policy, nobody is
refused who would fit, and a move keeps to it."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from cell.conductor import audit
from cell.conductor.placement import reservation_batching, reservation_confirmation
from cell.conductor.placement.relocation import place_move
from cell.conductor.server_field_updates import update_server
from cellcloud import errors
from cellcloud.db import claims, group_members, retention, servers
from cellcloud.db.claims import Claim
from cellcloud.db.engine import Database
from cellcloud.model.allocation import Allocation
from cellcloud.model.change_log import ChangeEntry
from cellcloud.model.placement_messages import ReserveAnswer
from cellcloud.model.server import ServerSpec
from cellcloud.model.server_group import (
    AFFINITY,
    ANTI_AFFINITY,
    SOFT_AFFINITY,
    SOFT_ANTI_AFFINITY,
    STRICT,
    ServerGroup,
)
from tests.contract.test_scheduling_store import LocalScheduler, entries_after, report, state_of
from tests.workflows.world import CONTEXT, make_report, make_spec

MEMBERS = 10
WAYS: list[tuple[str, int | None]] = [(ANTI_AFFINITY, None), (ANTI_AFFINITY, 2), (AFFINITY, None)]


def make_group(number: int, policy: str, most: int | None = None) -> ServerGroup:
    group_id = f"10000000-0000-4000-8000-{number:012d}"
    return ServerGroup(id=group_id, name="g", project_id="p", user_id="u", policy=policy, max_server_per_host=most)


def server(number: int) -> str:
    """An id whose digits give the scheduler another seed each."""
    return f"{number:08x}-0000-4000-8000-{number:012d}"


class Cell:
    """Conductors and schedulers of one cell."""

    def __init__(self, database: Database, hosts: int, *, vcpus: int = 64, conductors: int = 1) -> None:
        self.database = database
        self.names = [f"h{number}" for number in range(hosts)]
        report(database, [make_report(name, vcpus=vcpus) for name in self.names])
        self.begun = state_of(database).sequence
        self.schedulers = [LocalScheduler(database, seed) for seed in (1, 2)]
        self.conductors = [
            reservation_batching.Placer(database, self.schedulers[number % 2], store=reservation_confirmation.hold(60))
            for number in range(conductors)
        ]

    def reserve(self, specs: Sequence[ServerSpec], conductor: int = 0) -> list[ReserveAnswer]:
        """As the top asks: again where the answer is "later"."""
        answers: dict[str, ReserveAnswer] = {}
        left = list(specs)
        for _ in range(50):
            told = self.conductors[conductor % len(self.conductors)].reserve(CONTEXT, left)
            answers |= {answer.server_id: answer for answer in told}
            left = [spec for spec in left if answers[spec.id].outcome == "later"]
            if not left:
                break
        return [answers[spec.id] for spec in specs]

    def place(self, group: ServerGroup, numbers: Iterable[int]) -> list[str]:
        """The hosts that servers get, one after the other; "" for none."""
        found = []
        for number in numbers:
            (answer,) = self.reserve([make_spec(server(number), group=group)])
            found.append(answer.record.host or "" if answer.record is not None else "")
        return found

    def confirm(self, numbers: Iterable[int]) -> None:
        reservation_confirmation.confirm(self.database, CONTEXT, [server(number) for number in numbers])

    def move(self, spec: ServerSpec, migration: int, **more: object) -> str:
        claim = place_move(self.database, self.schedulers[0], spec, server(migration), request_id="r", **more)  # type: ignore[arg-type]
        return claim.host

    def end_move(self, number: int, migration: int, *, keep: bool) -> None:
        with self.database.write() as connection:
            if keep:
                claims.confirm(connection, server(number), server(migration))
            else:
                claims.release(connection, [server(migration)])


@pytest.fixture
def open_cell(cell_database: Database) -> Callable[..., Cell]:
    return lambda hosts, **more: Cell(cell_database, hosts, **more)


def broken(entries: Sequence[ChangeEntry], group_of: Mapping[str, ServerGroup]) -> list[str]:
    """What breaks a policy in any committed state: an entry of the change log is a transaction. A server that moves is
    on both its hosts; one that is alone in its group breaks nothing there."""
    owners: dict[str, str] = {}
    places: dict[str, Counter[str]] = defaultdict(Counter)
    members: dict[str, set[str]] = defaultdict(set)
    for server_id, group in group_of.items():
        members[group.id].add(server_id)
    found = []
    for entry in entries:
        made = entry.changes
        owners |= made.servers
        for claim_id, host, _ in made.released:
            places[owners.get(claim_id, claim_id)][host] -= 1
        gained = {owners.get(claim_id, claim_id) for claim_id, _, _ in made.claimed}
        for claim_id, host, _ in made.claimed:
            places[owners.get(claim_id, claim_id)][host] += 1
        for group in {group_of[one].id: group_of[one] for one in gained if one in group_of}.values():
            hosts: dict[str, set[str]] = defaultdict(set)
            for one in members[group.id]:
                for host in +places[one]:
                    hosts[host].add(one)
            most = group.max_server_per_host or 1
            apart = len(hosts) > 1 and len(set().union(*hosts.values())) > 1
            if apart if group.policy == AFFINITY else max(map(len, hosts.values())) > most:
                found.append(f"{entry.sequence}: {group.policy} {dict(hosts)}")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("together", [1, 3])
def test_racing_creates_break_no_group(open_cell: Callable[..., Cell], *, together: int, long: bool) -> None:
    """Of every group ten servers race, each asked for alone or with others of its group, through four conductors."""
    groups = [make_group(number, *WAYS[number % len(WAYS)]) for number in range(99 if long else 6)]
    cell = open_cell(MEMBERS, vcpus=2000, conductors=4)
    group_of = {server(1 + number): groups[number % len(groups)] for number in range(MEMBERS * len(groups))}
    asked: list[list[ServerSpec]] = []
    for group in groups:
        mine = [make_spec(server_id, group=group) for server_id, theirs in group_of.items() if theirs is group]
        asked += [mine[first : first + together] for first in range(0, len(mine), together)]
    random.Random(7).shuffle(asked)
    with ThreadPoolExecutor(24) as pool:
        answers = [one for some in pool.map(cell.reserve, asked, range(len(asked))) for one in some]
    assert [one for one in answers if one.outcome != "held"] == []
    assert broken(entries_after(cell.database, cell.begun), group_of) == []
    with cell.database.read() as connection:
        hosts = group_members.list_hosts(connection, {group.id for group in groups})
        assert {len(theirs) for theirs in hosts.values()} == {MEMBERS}
        assert claims.list_mismatches(connection) == []


def test_a_group_that_is_full_refuses_and_a_deleted_member_gives_its_place_back(open_cell: Callable[..., Cell]) -> None:
    apart = make_group(1, ANTI_AFFINITY)
    cell = open_cell(3)
    assert set(cell.place(apart, [1, 2, 3])) == set(cell.names)
    cell.confirm([1, 3])
    late = [make_spec(server(4), group=apart)]
    assert cell.conductors[0].reserve(CONTEXT, late)[0].outcome == "later", "one is held, maybe in vain"
    reservation_confirmation.release(cell.database, [server(2)])
    assert cell.reserve(late)[0].outcome == "held"
    cell.confirm([4])
    (refused,) = cell.reserve([make_spec(server(5), group=apart)])
    assert refused.outcome == "refused"
    assert cell.place(make_group(2, ANTI_AFFINITY, 2), range(6, 13)).count("") == 1
    narrow = make_group(3, AFFINITY)
    (first,) = cell.place(narrow, [20])
    assert set(cell.place(narrow, [21, 22])) == {first}


def test_soft_groups_are_kept_while_there_is_room(open_cell: Callable[..., Cell]) -> None:
    cell = open_cell(3)
    apart = cell.place(make_group(1, SOFT_ANTI_AFFINITY), range(1, 5))
    assert set(apart[:3]) == set(cell.names)
    assert apart[3] in cell.names
    assert len(set(cell.place(make_group(2, SOFT_AFFINITY), range(10, 14)))) == 1
    assert not {SOFT_AFFINITY, SOFT_ANTI_AFFINITY} & STRICT


def test_servers_of_one_request_know_of_each_other(open_cell: Callable[..., Cell]) -> None:
    cell = open_cell(4)
    for number, (policy, hosts) in enumerate([(ANTI_AFFINITY, 4), (AFFINITY, 1), (SOFT_ANTI_AFFINITY, 4)]):
        specs = [make_spec(server(10 * number + one), group=make_group(number, policy)) for one in range(1, 5)]
        found = cell.reserve(specs)
        assert {one.outcome for one in found} == {"held"}
        assert len({one.record.host for one in found if one.record is not None}) == hosts


def test_a_move_keeps_to_its_group(open_cell: Callable[..., Cell]) -> None:
    cell = open_cell(3)
    apart = make_group(1, ANTI_AFFINITY)
    first, second = cell.place(apart, [1, 2])
    cell.confirm([1, 2])
    free = ({*cell.names} - {first, second}).pop()
    mover = make_spec(server(1), group=apart)
    assert cell.move(mover, 91) == free
    assert cell.place(apart, [3]) == [""], "both hosts of a server that moves are taken"
    cell.end_move(1, 91, keep=True)
    assert cell.place(apart, [3]) == [first]
    cell.confirm([3])
    with pytest.raises(errors.NoValidHost):
        cell.move(make_spec(server(2), group=apart), 92)
    assert cell.move(make_spec(server(2), group=apart), 93, same_host=True) == second


@pytest.mark.parametrize(("policy", "most"), WAYS)
def test_members_whose_moves_race_keep_to_their_group(
    open_cell: Callable[..., Cell], policy: str, most: int | None
) -> None:
    """Four groups of three move at once, thrice; half of the moves are reverted, and others are made meanwhile."""
    groups = [make_group(number, policy, most) for number in range(4)]
    cell = open_cell(5, vcpus=200, conductors=2)
    group_of = {server(1 + number): groups[number % 4] for number in range(16)}
    specs = [make_spec(server_id, group=group) for server_id, group in group_of.items()]
    assert {one.outcome for one in cell.reserve(specs[:12])} == {"held"}
    cell.confirm(range(1, 13))

    def go(number: int) -> str:
        if number > 12:
            return cell.reserve([specs[number - 1]])[0].outcome
        migration = 100 * (1 + number) + len(moved)
        try:
            cell.move(specs[number - 1], migration)
        except (errors.NoValidHost, errors.TryLater):
            return "stays"
        cell.end_move(number, migration, keep=number % 2 == 0)
        with cell.database.write() as connection:
            claims.release(connection, [server(migration)])
        return "moved"

    moved: list[str] = []
    with ThreadPoolExecutor(8) as pool:
        for numbers in (range(1, 13), range(1, 15), range(1, 17)):
            moved += list(pool.map(go, numbers))
    assert ("moved" in moved) is (policy != AFFINITY)
    assert broken(entries_after(cell.database, cell.begun), group_of) == []
    with cell.database.read() as connection:
        assert claims.list_mismatches(connection) == []


def test_a_server_that_is_alone_may_move_and_takes_its_group_with_it(open_cell: Callable[..., Cell]) -> None:
    cell = open_cell(2)
    near = make_group(1, AFFINITY)
    (home,) = cell.place(near, [1])
    cell.confirm([1])
    away = ({*cell.names} - {home}).pop()
    mover = make_spec(server(1), group=near)
    assert cell.move(mover, 91) == away
    (between,) = cell.conductors[0].reserve(CONTEXT, [make_spec(server(2), group=near)])
    assert between.outcome == "later", "nobody knows yet where the group is going to be"
    cell.end_move(1, 91, keep=True)
    assert cell.place(near, [2]) == [away]
    cell.confirm([2])
    with pytest.raises(errors.NoValidHost):
        cell.move(mover, 92)
    update_server(cell.database, CONTEXT, server(1), {"group": None})
    assert cell.move(make_spec(server(1)), 93) == home
    with pytest.raises(errors.Invalid):
        update_server(cell.database, CONTEXT, server(2), {"group": {"id": near.id}})


@pytest.mark.parametrize(
    ("policy", "most", "hosts", "kept"),
    [
        (ANTI_AFFINITY, None, ("h0", "h1"), True),
        (ANTI_AFFINITY, None, ("h0", "h0"), False),
        (ANTI_AFFINITY, 2, ("h0", "h0"), True),
        (AFFINITY, None, ("h0", "h0"), True),
        (AFFINITY, None, ("h0", "h1"), False),
        (SOFT_AFFINITY, None, ("h0", "h1"), True),
        (SOFT_ANTI_AFFINITY, None, ("h0", "h0"), True),
    ],
)
def test_a_group_that_is_not_kept_is_told(
    open_cell: Callable[..., Cell], policy: str, most: int | None, hosts: tuple[str, str], kept: bool
) -> None:
    """As where guests are adopted: what is there counts for more than what was to be."""
    cell = open_cell(2)
    group = make_group(1, policy, most)
    placed = [(make_spec(server(number), group=group), host) for number, host in enumerate(hosts)]
    with cell.database.write() as connection:
        servers.insert_held(connection, [(spec, host, "nova") for spec, host in placed], hold_seconds=60)
        taken = Allocation(resources=placed[0][0].flavor.resources())
        claims.claim_all(connection, [Claim(spec.id, spec.id, host, taken) for spec, host in placed])
    (found,) = (one for one in audit.check(cell.database, down_time=60) if one.check == "groups")
    assert (found.severity, found.subject) == (("ok", "-") if kept else ("warning", group.id))
    assert kept or all(spec.id in found.text for spec, _ in placed)


def test_groups_without_servers_are_forgotten(open_cell: Callable[..., Cell]) -> None:
    cell = open_cell(2)
    cell.place(make_group(1, ANTI_AFFINITY), [1])
    cell.place(make_group(2, ANTI_AFFINITY), [2])
    reservation_confirmation.release(cell.database, [server(2)])
    with cell.database.write() as connection:
        servers.forget_expired(connection, [server(2)])
    assert retention.purge_cell(cell.database, deleted_days=1, runs_days=1)["server_groups"] == 1
    assert cell.place(make_group(2, ANTI_AFFINITY), [3]) != [""]
