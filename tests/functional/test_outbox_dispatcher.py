"""Placing servers in cells: whatever is lost, repeated or killed, a server starts once, or ends in ERROR."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from cellcloud import clock
from cellcloud.context import service_context
from cellcloud.db import cells as cells_table
from cellcloud.db import intents, top_schema
from cellcloud.db.engine import utc_after
from cellcloud.model.intent import IntentKind, IntentState
from cellcloud.rpc.conductor import Conductor
from cellcloud.server_states import VmState
from tests.functional.router_world import (
    Fault,
    World,
    die_after,
    die_before,
    lose_answer,
    lose_message,
    twice,
)
from top_api.dispatch.outbox_dispatcher import CellBackoff
from top_api.router.cell_health import CellHealthWatch
from top_api.router.outbox_sweep import Sweep


def only(world: World, name: str) -> None:
    """Leave one cell of two."""
    for other in [one for one in world.lines if one != name]:
        world.cell(other).room = 0


def test_accepted_servers_are_placed_and_the_index_says_where(world: World) -> None:
    ids = world.accept(3)
    world.deliver()
    world.assert_started_once(ids)
    assert world.unfinished() == []
    assert {world.shown(server_id).version for server_id in ids} == {2}
    assert world.used() == 3


def test_what_was_just_accepted_is_carried_as_it_was_written(world: World) -> None:
    ids = world.accept(4)
    with world.database.read() as connection:
        written = [found for one in ids if (found := intents.find_intent(connection, one, IntentKind.CREATE))]
    world.delete(ids[0])  # before anybody has carried it: what is written decides, not what is carried
    dispatcher = world.new_deliverer()
    dispatcher.dispatch(written)
    dispatcher.dispatch(written)
    assert dispatcher.wait_idle(60.0)
    world.assert_started_once(ids[1:])
    assert world.unfinished() == []
    assert world.used() == 3
    assert not world.cell("east").held() + world.cell("west").held()


def test_many_servers_share_one_message(world: World) -> None:
    ids = world.accept(60)
    world.deliver()
    world.assert_started_once(ids)
    for line in world.lines.values():
        assert line.cell.messages["reserve"] <= 5


def test_a_refusal_means_the_next_cell(world: World) -> None:
    only(world, "west")
    ids = world.accept(8)
    world.deliver()
    world.assert_started_once(ids)
    assert {world.shown(server_id).cell for server_id in ids} == {"west"}


def test_no_cell_left_ends_in_error_with_every_reason(world: World) -> None:
    world.cell("east").room = world.cell("west").room = 0
    (server_id,) = world.accept()
    world.deliver()
    shown = world.shown(server_id)
    assert shown.vm_state == VmState.ERROR
    assert shown.fault is not None
    assert (shown.fault.code, shown.fault.message) == (500, "No valid host was found.")
    assert shown.fault.details.splitlines() == [
        "east: No valid host was found. (full)",
        "west: No valid host was found. (full)",
    ]
    assert world.intent(server_id).state == IntentState.FAILED
    assert world.used() == 1
    world.delete(server_id)
    assert world.record(server_id) is None
    assert world.used() == 0


def test_one_bad_request_fails_alone(world: World) -> None:
    good, bad = world.accept(6), world.accept(1, name="poison")
    world.deliver()
    world.assert_started_once(good)
    assert world.shown(bad[0]).vm_state == VmState.ERROR


@pytest.mark.parametrize("fault", [lose_answer, lose_message])
def test_a_cell_silent_at_reserve_is_passed_over_and_only_one_starts(world: World, fault: Fault) -> None:
    world.lines["east"].on["reserve"] = fault
    ids = world.accept(5)
    world.deliver()
    world.assert_started_once(ids)
    assert {world.shown(server_id).cell for server_id in ids} == {"west"}
    for server_id in world.cell("east").held():
        world.cell("east").expire(server_id)
    world.lines["east"].on.clear()
    world.sweep()
    assert not world.cell("east").started
    assert world.used() == 5


@pytest.mark.parametrize("fault", [lose_answer, lose_message])
def test_confirm_is_repeated_at_the_same_cell_until_answered(world: World, fault: Fault) -> None:
    world.lines["east"].on["confirm"] = world.lines["west"].on["confirm"] = fault
    ids = world.accept(4)
    world.deliver()
    places = {server_id: world.intent(server_id).cell for server_id in ids}
    recorded = [server_id for server_id in ids if world.intent(server_id).state == IntentState.RECORDED]
    assert recorded
    for line in world.lines.values():
        line.on.clear()
    world.sweep_until_settled()
    world.assert_started_once(ids)
    assert all(world.shown(server_id).cell == places[server_id] for server_id in recorded)


@pytest.mark.parametrize("verb", ["reserve", "confirm"])
def test_a_message_that_arrives_twice_changes_nothing(world: World, verb: str) -> None:
    for line in world.lines.values():
        line.on[verb] = twice
    ids = world.accept(4)
    world.deliver()
    world.assert_started_once(ids)


def test_two_deliverers_with_the_same_intents_start_each_server_once(world: World) -> None:
    ids = world.accept(20)
    first, second = world.new_deliverer(), world.new_deliverer(world.new_cells())
    waiting = world.unfinished()
    together = threading.Barrier(2)

    def go(dispatcher: Any) -> None:
        together.wait()
        dispatcher.deliver(waiting)
        dispatcher.deliver(waiting)

    threads = [threading.Thread(target=go, args=(one,)) for one in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert first.wait_idle(60.0)
    assert second.wait_idle(60.0)
    world.sweep()
    world.assert_started_once(ids)
    assert not world.cell("east").held() + world.cell("west").held()


@pytest.mark.parametrize("verb", ["reserve", "confirm"])
@pytest.mark.parametrize("death", [die_before, die_after])
def test_whoever_sweeps_finishes_what_a_dead_process_began(
    world: World, verb: str, death: Callable[[Callable[[], Any]], Any]
) -> None:
    for line in world.lines.values():
        line.on[verb] = death
    ids = world.accept(6)
    world.deliver()
    assert len(world.unfinished()) == 6
    for line in world.lines.values():
        line.on.clear()
    world.sweep_until_settled()
    world.assert_started_once(ids)
    assert world.used() == 6


@pytest.mark.parametrize("death", [die_before, die_after])
def test_a_delete_survives_its_process(world: World, death: Callable[[Callable[[], Any]], Any]) -> None:
    (server_id,) = world.accept()
    world.deliver()
    for line in world.lines.values():
        line.on["begin_deletes"] = death
    world.delete(server_id)
    world.deliver()
    assert len(world.unfinished()) == 1
    for line in world.lines.values():
        line.on.clear()
    world.sweep_until_settled()
    assert world.record(server_id) is None
    assert world.used() == 0


def test_many_deletes_share_one_message_and_a_lost_answer_harms_none(world: World) -> None:
    ids = world.accept(30)
    world.deliver()
    for line in world.lines.values():
        line.on["begin_deletes"] = lose_answer
    for server_id in ids:
        world.delete(server_id)
    world.deliver()
    assert len(world.unfinished()) == 30
    for line in world.lines.values():
        line.on.clear()
    world.sweep_until_settled()
    assert not any(world.record(server_id) for server_id in ids)
    assert world.used() == 0
    assert all(line.cell.messages["deletes"] <= 8 for line in world.lines.values())


def test_one_delete_that_a_cell_chokes_on_hinders_no_other(world: World) -> None:
    ids = world.accept(6)
    world.deliver()
    bad = ids[0]
    cell = world.cell(world.shown(bad).cell)
    cell.chokes_on = bad
    for server_id in ids:
        world.delete(server_id)
    world.sweep()
    assert [each for each in ids if world.record(each)] == [bad]
    cell.chokes_on = ""
    world.sweep_until_settled()
    assert world.used() == 0


def test_a_delete_before_the_record_wins_and_the_cell_gets_its_room_back(world: World) -> None:
    (server_id,) = world.accept()

    def delete_meanwhile(deliver: Callable[[], Any]) -> Any:
        answer = deliver()
        world.delete(server_id)
        return answer

    for line in world.lines.values():
        line.on["reserve"] = delete_meanwhile
    world.deliver()
    assert world.record(server_id) is None
    assert world.starts([server_id]) == {server_id: 0}
    assert not world.cell("east").held() + world.cell("west").held()
    assert world.intent(server_id).state == IntentState.CANCELLED
    assert world.used() == 0


def test_a_delete_between_record_and_confirm_leaves_nothing(world: World) -> None:
    (server_id,) = world.accept()
    for line in world.lines.values():
        line.on["confirm"] = die_before
    world.deliver()
    world.delete(server_id)
    for line in world.lines.values():
        line.on.clear()
    world.sweep_until_settled()
    assert world.record(server_id) is None
    assert not world.cell("east").held() + world.cell("west").held()
    assert world.used() == 0


def test_a_hold_that_expired_sends_the_server_to_another_cell(world: World) -> None:
    (server_id,) = world.accept()
    for line in world.lines.values():
        line.on["confirm"] = die_before
    world.deliver()
    first = world.shown(server_id).cell
    world.cell(first).expire(server_id)
    for line in world.lines.values():
        line.on.clear()
    world.sweep_until_settled()
    world.assert_started_once([server_id])
    assert world.shown(server_id).cell != first
    assert world.intent(server_id).refusals[first].outcome == "gone"


def test_a_hold_that_expired_in_the_only_cell_is_held_there_again(world: World) -> None:
    only(world, "west")
    (server_id,) = world.accept()
    world.lines["west"].on["confirm"] = die_before
    world.deliver()
    world.cell("west").expire(server_id)
    world.lines["west"].on.clear()
    world.sweep_until_settled()
    world.assert_started_once([server_id])
    assert world.shown(server_id).cell == "west"
    assert world.used() == 1


def test_a_confirm_for_an_earlier_hold_starts_nothing(world: World) -> None:
    only(world, "west")
    (server_id,) = world.accept()
    early: list[Callable[[], Any]] = []

    def keep(deliver: Callable[[], Any]) -> Any:
        early.append(deliver)
        raise ConnectionResetError("it is still on its way")

    world.lines["west"].on["confirm"] = keep
    world.deliver()
    world.cell("west").expire(server_id)
    cell = world.cell("west")
    answer = cell.reserve(service_context(1.0), [world.shown(server_id).spec])[0]
    assert answer.outcome == "held"
    early[0]()
    assert cell.held() == [server_id]
    assert not cell.started


def test_a_silent_cell_is_asked_by_one_message_and_left_alone_longer_each_time(world: World) -> None:
    asked: Counter[str] = Counter()

    def count(name: str) -> Fault:
        def lose(deliver: Callable[[], Any]) -> Any:
            asked[name] += 1
            raise ConnectionResetError("the message is lost")

        return lose

    for name, line in world.lines.items():
        line.on["reserve"] = count(name)
    ids = world.accept(250)
    dispatcher = world.new_deliverer()
    with clock.using(clock.ManualClock()) as hands:
        for _ in range(6):
            dispatcher.deliver(world.unfinished())
            assert dispatcher.wait_idle(60.0)
            hands.sleep(0.11)  # longer than the breaker stays open
    assert asked["east"] <= 3, asked  # batches gather while the first is under way
    assert asked["west"] <= 3, asked
    assert len(world.unfinished()) == 250
    for line in world.lines.values():
        line.on.clear()
    world.sweep_until_settled()
    world.assert_started_once(ids)


def test_a_rest_grows_and_ends_with_the_next_digest() -> None:
    with clock.using(clock.ManualClock()) as hand:
        assert isinstance(hand, clock.ManualClock)
        rest = CellBackoff()
        seen = []
        for _ in range(8):
            rest.note("digest", silent=True)
            seen.append(rest.left("digest"))
        assert all(0.75 * bound <= got <= bound for got, bound in zip(seen, (1, 2, 4, 8, 16, 30, 30, 30), strict=True))
        hand.advance(2.0)
        assert rest.left("digest") > 20
        assert rest.left("another") == 0
        rest.note("digest", silent=False)
        assert rest.left("digest") == 0


def test_what_waits_for_a_cell_is_free_once_it_is_back(world: World) -> None:
    world.accept()
    with world.database.write() as connection:
        intents.postpone(connection, world.unfinished(), 500.0)
        cells_table.set_health(connection, "east", health="down", reason="unreachable")
    CellHealthWatch(world.database, "east", world.lines["east"].transport.client(Conductor)).look()
    with world.database.read() as connection:
        assert len(intents.list_free(connection, 10)) == 1


def test_a_server_deleted_meanwhile_is_not_placed_again_after_its_hold_expired(world: World) -> None:
    (server_id,) = world.accept()
    for line in world.lines.values():
        line.on["confirm"] = die_before
        line.on["begin_deletes"] = die_before
    world.deliver()
    world.delete(server_id)
    world.cell(world.shown(server_id).cell).expire(server_id)
    for line in world.lines.values():
        line.on.clear()
    world.sweep_until_settled()
    assert world.record(server_id) is None
    assert world.starts([server_id]) == {server_id: 0}
    assert world.used() == 0


def test_with_every_cell_away_a_server_waits_until_one_is_back(world: World) -> None:
    for line in world.lines.values():
        line.cut = True
    (server_id,) = world.accept()
    world.deliver()
    assert world.intent(server_id).state == IntentState.PENDING
    assert world.shown(server_id).vm_state == VmState.BUILDING
    world.lines["west"].cut = False
    world.sweep_until_settled()
    world.assert_started_once([server_id])
    assert world.shown(server_id).cell == "west"


def test_a_server_nobody_answers_for_ends_in_error_at_its_deadline(world: World) -> None:
    for line in world.lines.values():
        line.cut = True
    (server_id,) = world.accept(late=True)
    world.deliver()
    shown = world.shown(server_id)
    assert shown.vm_state == VmState.ERROR
    assert shown.fault is not None
    assert "did not answer" in shown.fault.details or "cannot be reached" in shown.fault.details


AWAY: dict[str, Callable[[World, bool], None]] = {
    "silent": lambda world, away: setattr(world.lines["west"], "cut", away),
    "its hosts are": lambda world, away: (
        setattr(world.cell("west"), "room", 0 if away else 1000),
        setattr(world.cell("west"), "deaf", away),
    )[0],
}


@pytest.mark.parametrize("how", AWAY)
def test_what_one_cell_refuses_waits_for_the_other_that_is_away(world: World, how: str) -> None:
    world.cell("east").room = 0
    AWAY[how](world, True)
    ids = world.accept(3)
    for _ in range(3):
        world.sweep()
    assert {world.shown(server_id).vm_state for server_id in ids} == {VmState.BUILDING}
    AWAY[how](world, False)
    world.sweep_until_settled()
    world.assert_started_once(ids)


@pytest.mark.parametrize("how", AWAY)
def test_at_its_deadline_a_server_tells_of_the_cell_that_refused_and_of_that_which_was_away(
    world: World, how: str
) -> None:
    world.cell("east").room = 0
    AWAY[how](world, True)
    (server_id,) = world.accept(late=True)
    world.sweep_until_settled()
    shown = world.shown(server_id)
    assert shown.vm_state == VmState.ERROR
    assert shown.fault is not None
    assert {line.split(":")[0] for line in shown.fault.details.splitlines()} == {"east", "west"}


def test_a_cell_that_is_disabled_or_of_another_zone_is_not_waited_for(world: World) -> None:
    world.cell("east").room = 0
    world.lines["west"].cut = True
    (server_id,) = world.accept(zone="zone-east")
    world.sweep()
    assert world.shown(server_id).vm_state == VmState.ERROR


def test_a_sick_cell_delays_no_other(world: World) -> None:
    gate = threading.Event()

    def hang(deliver: Callable[[], Any]) -> Any:
        gate.wait(10.0)
        return deliver()

    world.lines["east"].on["reserve"] = hang
    world.accept(zone="zone-east")
    (quick,) = world.accept(zone="zone-west")
    dispatcher = world.new_deliverer()
    dispatcher.deliver(world.unfinished())
    end = time.monotonic() + 1.5
    while world.intent(quick).state != IntentState.SETTLED:
        assert time.monotonic() < end
        time.sleep(0.02)
    gate.set()
    assert dispatcher.wait_idle(60.0)


def test_a_lease_keeps_others_away_until_it_ends(world: World) -> None:
    world.accept(3)
    dispatcher = world.new_deliverer()
    sweep = Sweep(world.database, dispatcher, lease=30.0)
    sweep.take_over()
    assert len(world.unfinished()) == 3
    with world.database.write() as connection:
        connection.execute(sa.update(top_schema.intents).values(lease_until=utc_after(-1.0)))
        won = intents.begin_leases(connection, intents.list_free(connection, 2), "other", seconds=30.0)
        assert len(won) == 2
        assert intents.begin_leases(connection, won, "third", seconds=30.0) == []
    sweep.take_over()
    assert dispatcher.wait_idle(60.0)
    assert sorted(world.unfinished()) == sorted(won)


def test_finished_intents_are_forgotten_after_a_day(world: World) -> None:
    ids = world.accept(2)
    world.deliver()
    (waiting,) = world.accept()
    sweep = Sweep(world.database, world.new_deliverer(), lease=30.0)
    assert not sweep.prune()
    with world.database.write() as connection:
        connection.execute(sa.update(top_schema.intents).values(updated_at=utc_after(-90000.0)))
    sweep.prune()
    with world.database.read() as connection:
        assert [intents.find_intent(connection, server_id, IntentKind.CREATE) for server_id in ids] == [None, None]
        assert intents.find_intent(connection, waiting, IntentKind.CREATE) is not None


def test_deleting_again_asks_the_cell_again(world: World) -> None:
    (server_id,) = world.accept()
    world.deliver()
    cell = world.shown(server_id).cell
    world.lines[cell].on["begin_deletes"] = lose_message
    world.delete(server_id)
    world.deliver()
    assert world.intent(server_id, IntentKind.DELETE).state == IntentState.PENDING
    world.lines[cell].on.clear()
    world.delete(server_id)
    world.sweep_until_settled()
    assert world.record(server_id) is None
    assert world.used() == 0
