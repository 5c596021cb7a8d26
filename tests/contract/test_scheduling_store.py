"""What schedulers follow and decisions leave, on every database: the change log, claims under real races, policies,
aggregates, hosts that say what cannot be."""

from __future__ import annotations

import itertools
import math
import random
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace

import pytest

from cell.conductor import audit
from cell.conductor.placement import claiming, reservation_batching, reservation_confirmation
from cell.conductor.placement.relocation import place_move
from cell.conductor.scheduling_store import SchedulingStoreService
from cell.scheduler.change_log_tailer import ChangeLogTailer
from cell.scheduler.select import batches
from cell.scheduler.state.scheduler_state import SchedulerState
from cell.scheduler.why import replay
from cellcloud import clock, errors
from cellcloud.context import RequestContext
from cellcloud.db import claims, decisions, hosts, scheduler_change_log, servers
from cellcloud.db.engine import Connection, Database, retried
from cellcloud.model.change_log import CellState, ChangeEntry, HostChange
from cellcloud.model.decision import RankAnswer, RankBatch
from cellcloud.model.host import Aggregate, HostReport
from tests.cloud import until
from tests.workflows.world import CONTEXT, CellUnderTest, make_report, make_spec

IDS = [f"00000000-0000-4000-8000-{n:012d}" for n in range(400)]


class LocalScheduler:
    """A scheduler that asks the store without a queue between. ``lag``: it reads the log only when it must."""

    numbers = itertools.count(1)

    def __init__(self, database: Database, seed: int = 1) -> None:
        self.tailer = ChangeLogTailer(SchedulingStoreService(database), scheduler=f"s{seed}", order_seed=seed)

    def rank(self, context: RequestContext, batch: RankBatch) -> RankAnswer:
        answer = self._rank(context, batch)
        if all(answer.ranked):
            return answer
        self.tailer.catch_up(context)
        with self.tailer.state(context) as believed:
            if believed.sequence == answer.basis.sequence:
                return answer
            batches.undo(believed, batch)
        return self._rank(context, batch)

    def _rank(self, context: RequestContext, batch: RankBatch) -> RankAnswer:
        with self.tailer.state(context, at_least=batch.at_least) as believed:
            return batches.answer_batch(believed, batch, next(self.numbers), now=clock.monotonic())


def report(database: Database, reports: Sequence[HostReport]) -> bool:
    with database.write() as connection:
        return hosts.report(connection, reports)


def state_of(database: Database) -> CellState:
    return SchedulingStoreService(database).get_state(CONTEXT).unpacked()


def entries_after(database: Database, sequence: int) -> list[ChangeEntry]:
    return list(SchedulingStoreService(database).list_changes(CONTEXT, sequence, 10_000).entries)


def used_of(believed: SchedulerState, host: str) -> dict[str, int]:
    """What is used of a host, as the columns have it."""
    found = believed.table
    place = found.positions.of(host)[0]
    return {
        name: amount - int(found.columns.free[found.columns.row_of[name], place])
        for name, amount in found.states[place].capacity.items()
    }


def asked(ids: Iterable[str], **changes: object) -> list[claiming.PlacementRequest]:
    return [claiming.PlacementRequest(spec=make_spec(one, **changes), request_id="req-1") for one in ids]


def use_of(state: CellState) -> dict[str, object]:
    return {host.host: (host.used, sorted(server.uuid for server in host.hosted), host.up) for host in state.hosts}


def assert_within_limits(state: CellState, entries: Sequence[ChangeEntry]) -> None:
    """An entry is a transaction: at the end of each, no host has given more than it has."""
    capacity = {host.host: host.capacity for host in state.hosts}
    used = {host.host: Counter(host.used) for host in state.hosts}
    expected = state.sequence
    for entry in entries:
        expected += 1
        assert entry.sequence == expected
        made = entry.changes
        for _, host, number in made.released:
            used[host].subtract(made.holdings[number].resources)
        for _, host, number in made.claimed:
            used[host].update(made.holdings[number].resources)
        for host in {host for _, host, _ in (*made.claimed, *made.released)}:
            assert all(0 <= amount <= capacity[host].get(name, 0) for name, amount in used[host].items()), entry


def test_conductors_and_schedulers_race_and_no_committed_state_is_above_a_limit(cell_database: Database) -> None:
    names = [f"h{n}" for n in range(6)]
    report(cell_database, [make_report(name, vcpus=8) for name in names])
    before = state_of(cell_database)
    schedulers = [LocalScheduler(cell_database, seed) for seed in (1, 2)]
    conductors = [
        reservation_batching.Placer(cell_database, one, store=reservation_confirmation.hold(60))
        for one in (*schedulers, *schedulers)
    ]
    stopping, faults = threading.Event(), []

    def look() -> None:
        while not stopping.is_set():
            with cell_database.read() as connection:
                faults.extend(claims.list_mismatches(connection))

    @retried
    def release(database: Database, ids: Sequence[str]) -> None:
        with database.write() as connection:
            claims.release(connection, ids)

    def work(number: int) -> list[str]:
        held = []
        for first in range(number * 40, number * 40 + 40, 4):
            specs = [make_spec(one) for one in IDS[first : first + 4]]
            answers = conductors[number % 4].reserve(CONTEXT, specs)
            held += [answer.server_id for answer in answers if answer.outcome == "held"]
            if number % 2 and len(held) > 4:
                release(cell_database, held[:2])
                held = held[2:]
        return held

    watching = threading.Thread(target=look)
    watching.start()
    with ThreadPoolExecutor(8) as pool:
        held = [one for some in pool.map(work, range(8)) for one in some]
        rest = pool.map(
            lambda n: conductors[n].reserve(CONTEXT, [make_spec(one) for one in IDS[320 + n :: 4]]), range(4)
        )
        held += [answer.server_id for some in rest for answer in some if answer.outcome == "held"]
    stopping.set()
    watching.join()
    assert faults == []
    after = state_of(cell_database)
    assert sorted(held) == sorted(server.uuid for host in after.hosts for server in host.hosted)
    assert all(host.used["VCPU"] == host.capacity["VCPU"] for host in after.hosts), "somebody was refused in vain"
    entries = entries_after(cell_database, before.sequence)
    assert_within_limits(before, entries)
    for one in schedulers:
        one.tailer.catch_up(CONTEXT)
        with one.tailer.state(CONTEXT) as believed:
            assert believed.sequence == after.sequence
            assert believed.pending == {}
            assert {state.host: used_of(believed, state.host) for state in after.hosts} == {
                state.host: state.used for state in after.hosts
            }


class Killed(Exception):
    """Stands for the end of a process in the middle of a transaction."""


def test_moves_race_and_are_killed_and_every_committed_state_adds_up(cell_database: Database) -> None:
    names = [f"h{n}" for n in range(4)]
    report(cell_database, [make_report(name, vcpus=12) for name in names])
    before = state_of(cell_database)
    schedulers = [LocalScheduler(cell_database, seed) for seed in (1, 2)]
    held = [
        answer.server_id
        for answer in reservation_batching.Placer(
            cell_database, schedulers[0], store=reservation_confirmation.hold(600)
        ).reserve(CONTEXT, [make_spec(one) for one in IDS[:12]])
        if answer.outcome == "held"
    ]
    stopping, faults = threading.Event(), []
    counted: Counter[str] = Counter()

    def look() -> None:
        while not stopping.is_set():
            with cell_database.read() as connection:
                faults.extend(claims.list_mismatches(connection))

    @retried
    def end(database: Database, server_id: str, migration_id: str, ending: str) -> None:
        with database.write() as connection:
            if ending == "reverted":
                claims.release(connection, [migration_id])
            elif ending == "confirmed":
                claims.confirm(connection, server_id, migration_id)
            elif ending == "deleted":
                claims.release_all(connection, [server_id])
            else:
                claims.swap(connection, server_id, migration_id)
                raise Killed

    def work(number: int) -> None:
        chance = random.Random(number)
        for step in range(10):
            server_id, migration_id = chance.choice(held[: 6 + number]), IDS[100 + 10 * number + step]

            def store(connection: Connection, won: claiming.Won) -> None:
                if chance.random() < 0.2:
                    raise Killed

            with suppress(errors.TryElsewhere, errors.TryLater, errors.Conflict, Killed):
                place_move(
                    cell_database,
                    schedulers[number % 2],
                    make_spec(server_id),
                    migration_id,
                    request_id="req-2",
                    same_host=chance.random() < 0.3,
                    store=store,
                )
                counted["moved"] += 1
                ending = chance.choice(("reverted", "confirmed", "confirmed", "killed", "left", "deleted"))
                if ending != "left":
                    end(cell_database, server_id, migration_id, ending)
                counted[ending] += 1

    watching = threading.Thread(target=look)
    watching.start()
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    stopping.set()
    watching.join()
    assert faults == []
    assert counted["moved"] > 10
    after = state_of(cell_database)
    entries = entries_after(cell_database, before.sequence)
    assert_within_limits(before, entries)
    assert use_of(replay.rewind(after, entries, before.sequence)) == use_of(before)
    with cell_database.read() as connection:
        owners = claims.list_owners(connection)
        for server_id in owners:
            assert server_id in {one.id for one in claims.list_of(connection, server_id)}, "it lost its own claim"
    for one in schedulers:
        one.tailer.catch_up(CONTEXT)
        with one.tailer.state(CONTEXT) as believed:
            for claim_id in list(believed.pending):
                believed.drop(claim_id)
            table = believed.table
            assert {state.host: used_of(believed, state.host) for state in after.hosts} == {
                state.host: state.used for state in after.hosts
            }
            assert {state.host: set(table.hosted[table.positions.of(state.host)[0]]) for state in after.hosts} == {
                state.host: {server.uuid for server in state.hosted} for state in after.hosts
            }


def test_a_lost_race_takes_the_next_host_and_is_on_record(cell_database: Database) -> None:
    report(cell_database, [make_report(name, vcpus=2) for name in ("h1", "h2")])
    late = LocalScheduler(cell_database)
    late.tailer.catch_up(CONTEXT)
    with late.tailer.state(CONTEXT) as believed:
        first = believed.table.states[0].host
    other = LocalScheduler(cell_database, 1)
    store = reservation_confirmation.hold(60)
    taken = claiming.place(cell_database, other, CONTEXT, asked(IDS[:1]), store=store)
    assert taken[IDS[0]].record is not None
    assert taken[IDS[0]].record.host == first
    claiming.place(cell_database, other, CONTEXT, asked(IDS[1:3]), store=store)
    answers = claiming.place(cell_database, late, CONTEXT, asked(IDS[3:5]), store=store)
    assert Counter(answer.outcome for answer in answers.values()) == {"held": 1, "refused": 1}
    with cell_database.read() as connection:
        made = [one for server_id in IDS[3:5] for one in decisions.find(connection, server_id)]
    conflicts = [conflict for one in made for conflict in one.conflicts]
    assert {conflict.resource_class for conflict in conflicts} == {"VCPU"}
    assert all(conflict.used + conflict.wanted > conflict.capacity for conflict in conflicts)
    assert (
        [one.chosen for one in made if one.chosen] == [answers[IDS[3]].record.host] if answers[IDS[3]].record else True
    )


def test_walking_the_log_back_gives_the_state_that_was(cell_database: Database) -> None:
    CellUnderTest(cell_database, ("h1", "h2", "h3"))
    scheduler = LocalScheduler(cell_database)
    store = reservation_confirmation.hold(60)
    claiming.place(cell_database, scheduler, CONTEXT, asked(IDS[:5]), store=store)
    first = state_of(cell_database)
    claiming.place(cell_database, scheduler, CONTEXT, asked(IDS[5:9]), store=store)
    with cell_database.write() as connection:
        claims.release(connection, [IDS[0], IDS[6], "unknown"])
        hosts.set_state(connection, "h1", enabled=False, disabled_reason="x", forced_down=True)
    report(cell_database, [make_report("h2", vcpus=16), make_report("h4")])
    last = state_of(cell_database)
    entries = entries_after(cell_database, first.sequence)
    assert [entry.sequence for entry in entries] == list(range(first.sequence + 1, last.sequence + 1))
    forward = SchedulerState(first)
    forward.follow(entries)
    assert {state.host: used_of(forward, state.host) for state in last.hosts} == {
        state.host: state.used for state in last.hosts
    }
    back = replay.rewind(last, entries, first.sequence)
    assert use_of(back) == use_of(first)
    assert [replace(one, used={}, servers=0, hosted=()) for one in back.hosts] == [
        replace(one, used={}, servers=0, hosted=()) for one in first.hosts
    ]


def test_decisions_are_found_by_server_request_and_id_and_forgotten_in_time(cell_database: Database) -> None:
    report(cell_database, [make_report("h1", vcpus=2)])
    scheduler = LocalScheduler(cell_database)
    answers = claiming.place(cell_database, scheduler, CONTEXT, asked(IDS[:3]), store=reservation_confirmation.hold(60))
    refused = next(one for one in IDS[:3] if answers[one].outcome == "refused")
    store = SchedulingStoreService(cell_database)
    for server_id in IDS[:3]:
        (made,) = store.find_decisions(CONTEXT, server_id)
        assert made.server_id == server_id
        assert made.chosen == (None if server_id == refused else "h1")
        assert store.find_decisions(CONTEXT, made.id) == [made]
        assert made.request_id == "req-1"
    assert made.batch.answer.basis.policy == 0
    assert [one.server_id for one in store.find_decisions(CONTEXT, "req-1")] == IDS[:3]
    assert store.find_decisions(CONTEXT, refused)[0].refused
    assert store.find_decisions(CONTEXT, "req-2") == store.find_decisions(CONTEXT, "ff-0") == []
    assert len(store.list_decisions(CONTEXT, 5)) == 3
    with cell_database.write() as connection:
        assert decisions.prune(connection, 3600) == 0
        assert decisions.prune(connection, -1) == 1
        assert scheduler_change_log.prune(connection, -1) > 0
        assert (
            scheduler_change_log.list_after(connection, 0, 5).oldest == scheduler_change_log.get_newest(connection) + 1
        )
    assert store.find_decisions(CONTEXT, refused) == []


def test_reserving_twice_is_reserving_once(cell_database: Database) -> None:
    report(cell_database, [make_report("h1")])
    scheduler = LocalScheduler(cell_database)
    placer = reservation_batching.Placer(cell_database, scheduler, store=reservation_confirmation.hold(60))
    specs = [make_spec(one) for one in IDS[:3]]
    first = placer.reserve(CONTEXT, specs)
    again = placer.reserve(CONTEXT, [specs[0], *specs, make_spec(IDS[4])])
    assert [answer.record for answer in again[1:4]] == [answer.record for answer in first]
    assert {answer.outcome for answer in again} == {"held"}
    with cell_database.write() as connection:
        servers.drop_held(connection, IDS[:1])
        claims.release(connection, IDS[:1])
    assert placer.reserve(CONTEXT, specs[:1])[0].outcome == "held"  # nobody confirmed it meanwhile
    scheduler.tailer.catch_up(CONTEXT)
    with scheduler.tailer.state(CONTEXT) as believed:
        assert believed.pending == {}
        assert used_of(believed, "h1") == state_of(cell_database).hosts[0].used


class GatedScheduler(LocalScheduler):
    """Answers once the gate is open; notes how many servers each question is about."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.gate, self.sizes = threading.Event(), list[int]()

    def rank(self, context: RequestContext, batch: RankBatch) -> RankAnswer:
        self.sizes.append(len(batch.servers))
        assert self.gate.wait(30)
        return super().rank(context, batch)


@pytest.mark.parametrize(
    ("extra_specs", "most"),
    [
        ({}, reservation_batching.TOGETHER),
        ({"hw:numa_nodes": "2"}, reservation_batching.TOGETHER // reservation_batching.LONG),
    ],
)
def test_what_waits_shares_a_question_that_can_be_answered_in_time(
    cell_database: Database, extra_specs: dict[str, str], most: int
) -> None:
    report(cell_database, [make_report("h1")])
    scheduler = GatedScheduler(cell_database)
    placer = reservation_batching.Placer(cell_database, scheduler, store=reservation_confirmation.hold(60))
    flavor = replace(make_spec(IDS[0]).flavor, extra_specs=extra_specs)
    with ThreadPoolExecutor(10) as pool, ExitStack() as at_last:
        at_last.callback(scheduler.gate.set)
        first = [pool.submit(placer.reserve, CONTEXT, [make_spec(one)]) for one in IDS[: reservation_batching.AT_ONCE]]
        until(lambda: len(scheduler.sizes) == reservation_batching.AT_ONCE, 20.0)
        groups = [IDS[begin : begin + 40] for begin in range(80, 400, 40)]
        rest = [
            pool.submit(placer.reserve, CONTEXT, [make_spec(one, flavor=flavor) for one in group]) for group in groups
        ]

        def come() -> int:
            """Servers of the others that wait, or that one more asks for since there are so many."""
            waiting = sum(len(call.item[1]) for call in list(placer._place._waiting.values()))
            return waiting + sum(scheduler.sizes[reservation_batching.AT_ONCE :])

        until(lambda: come() == sum(map(len, groups)), 20.0)
        scheduler.gate.set()
        answers = [answer for each in (*first, *rest) for answer in each.result(60)]
    assert {answer.server_id for answer in answers} == set(IDS[: reservation_batching.AT_ONCE] + IDS[80:])
    asked_at_once = scheduler.sizes[reservation_batching.AT_ONCE :]
    assert max(asked_at_once) <= most
    assert len(asked_at_once) == -(-320 // most)  # however many had come when one more led
    assert not placer._place._waiting


def test_policies_are_versions_and_reach_the_log(cell_database: Database) -> None:
    store = SchedulingStoreService(cell_database)
    assert [(one.version, one.role) for one in store.list_policies(CONTEXT)] == [(0, "active")]
    packing = {"options": {"filter_scheduler.ram_weight_multiplier": -1.0}}
    first = store.add_policy(CONTEXT, packing, "pack")
    second = store.add_policy(CONTEXT, {"weighers": ["RAMWeigher"]}, "")
    assert (first.version, second.version) == (1, 2)
    with pytest.raises(errors.Invalid, match="did you mean"):
        store.add_policy(CONTEXT, {"filters": ["CompuetFilter"]}, "")
    with pytest.raises(errors.NotFound):
        store.set_policy_role(CONTEXT, "active", 7)
    for role, version in (("king", 1), ("active", None)):
        with pytest.raises(errors.Invalid):
            store.set_policy_role(CONTEXT, role, version)
    with pytest.raises(errors.NotFound):
        store.summarise_shadow(CONTEXT)
    before = state_of(cell_database)
    store.set_policy_role(CONTEXT, "active", 1)
    store.set_policy_role(CONTEXT, "active", 1)
    store.set_policy_role(CONTEXT, "shadow", 2)
    believed = SchedulerState(before)
    believed.follow(entries_after(cell_database, before.sequence))
    assert (believed.active.version, believed.policy.options.ram_weight_multiplier) == (1, -1.0)
    assert believed.shadow is not None
    assert believed.shadow.version == 2
    assert state_of(cell_database).policy.version == 1
    assert {one.version: one.role for one in store.list_policies(CONTEXT)} == {0: "", 1: "active", 2: "shadow"}
    assert store.set_policy_role(CONTEXT, "shadow", None)[2].role == ""


def test_a_shadow_reports_which_decisions_would_differ(cell_database: Database) -> None:
    report(cell_database, [make_report("big", vcpus=64), make_report("small", vcpus=2)])
    store = SchedulingStoreService(cell_database)
    turned = {"weighers": ["CPUWeigher"], "options": {"filter_scheduler.cpu_weight_multiplier": -1.0}}
    for role, document in (("active", {"weighers": ["CPUWeigher"]}), ("shadow", turned)):
        store.set_policy_role(CONTEXT, role, store.add_policy(CONTEXT, document, role).version)
    answers = claiming.place(
        cell_database, LocalScheduler(cell_database), CONTEXT, asked(IDS[:2]), store=reservation_confirmation.hold(60)
    )
    assert {answer.record.host for answer in answers.values() if answer.record} == {"big"}
    summary = store.summarise_shadow(CONTEXT)
    assert (summary.version, summary.decisions, summary.differing) == (2, 2, 2)
    (one,) = store.find_decisions(CONTEXT, summary.examples[0])
    assert one.batch.answer.shadowed[one.position] == "small"


def test_aggregates_are_versioned_and_give_hosts_their_zone(cell_database: Database) -> None:
    report(cell_database, [make_report("h1"), make_report("h2")])
    store = SchedulingStoreService(cell_database)
    zone = Aggregate(id=2, name="z", metadata={"availability_zone": "z"}, hosts=("h1", "not-yet"))
    other = Aggregate(id=1, name="y", metadata={"availability_zone": "y"}, hosts=())

    def zones() -> dict[str, str]:
        return {state.host: state.zone for state in state_of(cell_database).hosts}

    before = state_of(cell_database)
    assert store.set_aggregates(CONTEXT, [zone, other], [], 5) == [other, zone]
    assert zones() == {"h1": "z", "h2": "nova"}
    store.set_aggregates(CONTEXT, [replace(zone, hosts=()), Aggregate(id=3, hosts=("h2",))], [1], 4)
    assert store.list_aggregates(CONTEXT) == [other, zone]
    assert zones()["h1"] == "z", "an older version changed something"
    store.set_aggregates(CONTEXT, [replace(other, hosts=("h1",))], [], 0)
    assert zones()["h1"] == "y", "the first aggregate that names a zone says it"
    report(cell_database, [make_report("not-yet"), make_report("h1", zone="own")])
    assert zones() == {"h1": "y", "h2": "nova", "not-yet": "z"}
    store.set_aggregates(CONTEXT, [], [1, 2, 9], 0)
    assert zones() == {"h1": "own", "h2": "nova", "not-yet": "nova"}
    believed = SchedulerState(before)
    believed.follow(entries_after(cell_database, before.sequence))
    assert believed.table.host_classes.aggregates == ()
    assert {state.host: state.zone for state in believed.table.states} == zones()


BROKEN = {
    "NaN": {"cpu_ratio": math.nan},
    "infinite": {"memory_ratio": math.inf},
    "negative": {"reserved_memory_mb": -5},
    "no ratio": {"disk_ratio": 0.0},
}


def test_bad_reports_put_their_host_into_quarantine_and_harm_no_other(cell_database: Database) -> None:
    assert report(cell_database, [make_report("good"), make_report("turns")])
    facts = make_report("x").facts
    bad = [make_report(f"bad {name}", **changes) for name, changes in BROKEN.items()]
    bad += [make_report("absurd", facts=replace(facts, hypervisor_hostname="y", memory_mb=1 << 50))]
    bad += [make_report("less", facts=replace(facts, hypervisor_hostname="z", vcpus=-1))]
    bad += [make_report("turns", cpu_ratio=-1.0), make_report("good", vcpus=9)]
    assert report(cell_database, bad)
    assert not report(cell_database, bad), "nothing new was said"
    with cell_database.read() as connection:
        found = {host.host: host for host in hosts.list_hosts(connection, down_time=15)}
        enabled = {state.host for state in hosts.list_states(connection) if state.enabled}
    assert enabled == {"good"}
    assert (found["good"].total["VCPU"], found["turns"].total["VCPU"]) == (9, 8)
    assert "cpu_ratio is nan" in str(found["bad NaN"].disabled_reason)
    findings = audit.check(cell_database, down_time=15)
    assert {one.subject for one in findings if one.check == "hosts"} == {one.host for one in bad} - {"good"}
    assert report(cell_database, [make_report("turns")])
    with cell_database.read() as connection:
        assert "turns" not in dict(hosts.list_troubles(connection))


def test_a_machine_has_one_name(cell_database: Database) -> None:
    first = make_report("first")
    report(cell_database, [first])
    second = replace(first, host="second")
    report(cell_database, [second, make_report("other")])
    with cell_database.read() as connection:
        troubles = dict(hosts.list_troubles(connection))
        enabled = {state.host for state in hosts.list_states(connection) if state.enabled}
    assert enabled == {"first", "other"}
    assert list(troubles) == ["second"]
    assert "known as host first" in troubles["second"]
    with cell_database.write() as connection:
        hosts.judge(connection, down_time=-1)
    report(cell_database, [second])
    with cell_database.read() as connection:
        assert hosts.list_troubles(connection) == [], "nothing is left of the first name"


def test_a_report_that_says_nothing_new_leaves_the_log_alone(cell_database: Database) -> None:
    one = make_report("h1")
    assert report(cell_database, [one])
    before = state_of(cell_database).sequence
    assert not report(cell_database, [replace(one, facts=replace(one.facts, uptime="later"))])
    assert state_of(cell_database).sequence == before
    assert report(cell_database, [replace(one, facts=replace(one.facts, traits=("T",)))])
    (entry,) = entries_after(cell_database, before)
    (change,) = entry.changes.hosts
    assert isinstance(change, HostChange)
    assert change.before is not None
    assert change.after is not None
    assert (change.before.traits, change.after.traits) == ((), ("T",))
