"""Reaching and choosing cells: breakers, bounds, and the choice by digest."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cellcloud import clock, errors
from cellcloud import config as options
from cellcloud.clock import ManualClock
from cellcloud.context import RequestContext
from cellcloud.db import cells as cells_table
from cellcloud.db import top_schema
from cellcloud.db.engine import Database
from cellcloud.model.flavor import Flavor
from cellcloud.model.image import Image
from cellcloud.model.placement_messages import CellDigest
from cellcloud.model.server import ServerSpec
from top_api.cell_clients import Breaker, CellRoom, Cells

SMALL = Flavor(id="1", name="small", vcpus=1, memory_mb=512, root_gb=1)
BIG = Flavor(id="2", name="big", vcpus=64, memory_mb=1 << 17, root_gb=100)


def spec(flavor: Flavor = SMALL, **more: Any) -> ServerSpec:
    return ServerSpec(id="s", name="s", project_id="p", user_id="u", flavor=flavor, image=Image(id="i"), **more)


def digest(name: str, *buckets: tuple[int, int, int, int], zone: str = "nova") -> CellDigest:
    return CellDigest(cell=name, hosts_total=1, hosts_up=1, buckets=buckets, zones=(zone,))


@pytest.fixture
def database(tmp_path: Path) -> Database:
    made = Database(f"sqlite:///{tmp_path}/top.db")
    with made.write() as connection:
        top_schema.metadata.create_all(connection)
    return made


def cells_with(database: Database, *digests: CellDigest, **health: str) -> Cells:
    with database.write() as connection:
        for one in digests:
            cells_table.register_cell(connection, one.cell, "kombu+memory://")
            cells_table.set_health(connection, one.cell, health=health.get(one.cell, "up"), digest=one)
    return Cells(database, options.load().top)


# ---- the breaker -----------------------------------------------------------------------------------------------------
class Calls:
    """A verb that fails while told to, and remembers the budgets it was given."""

    def __init__(self) -> None:
        self.error: errors.CellcloudError | None = None
        self.budgets: list[float] = []

    def __call__(self, context: RequestContext) -> str:
        self.budgets.append(context.budget)
        if self.error is not None:
            raise self.error
        return "answer"


def a_breaker(most: int = 8) -> Breaker:
    return Breaker("east", seconds=3.0, most=most)


def test_a_failure_opens_it_and_one_brief_trial_closes_it() -> None:
    with clock.using(ManualClock()) as hand:
        assert isinstance(hand, ManualClock)
        breaker, verb = a_breaker(), Calls()
        verb.error = errors.Unreachable("silent")
        with pytest.raises(errors.Unreachable):
            breaker.call(verb, RequestContext())
        assert breaker.is_open
        with pytest.raises(errors.Unreachable):
            breaker.call(verb, RequestContext())
        assert len(verb.budgets) == 1
        hand.advance(3.1)
        assert not breaker.is_open
        with pytest.raises(errors.Unreachable):
            breaker.call(verb, RequestContext())
        assert verb.budgets == [60.0, 1.0]
        hand.advance(3.1)
        verb.error = None
        assert breaker.call(verb, RequestContext()) == "answer"
        assert breaker.call(verb, RequestContext()) == "answer"
        assert verb.budgets[-1] == 60.0


def test_only_silence_opens_it() -> None:
    breaker, verb = a_breaker(), Calls()
    for error in (errors.Conflict("no"), errors.NotFound("none"), errors.CallHuman("broken"), errors.NotYet("old")):
        verb.error = error
        with pytest.raises(type(error)):
            breaker.call(verb, RequestContext())
    assert not breaker.is_open


def test_the_routers_judgement_counts() -> None:
    with clock.using(ManualClock()) as hand:
        assert isinstance(hand, ManualClock)
        breaker, verb = a_breaker(), Calls()
        breaker.trip()
        with pytest.raises(errors.Unreachable):
            breaker.call(verb, RequestContext())
        assert verb.budgets == []
        hand.advance(3.1)
        assert breaker.call(verb, RequestContext()) == "answer"
        assert verb.budgets == [1.0]


def test_a_slow_cell_takes_up_a_bounded_number_of_callers() -> None:
    breaker, gate, inside = a_breaker(most=2), threading.Event(), threading.Semaphore(0)

    def slow(context: RequestContext) -> None:
        inside.release()
        gate.wait(10)

    threads = [threading.Thread(target=breaker.call, args=(slow, RequestContext())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert inside.acquire(timeout=10)
    with pytest.raises(errors.Busy):
        breaker.call(slow, RequestContext())
    gate.set()
    for thread in threads:
        thread.join()
    assert breaker.call(lambda context: "free", RequestContext()) == "free"


def test_callers_wait_for_a_place_as_long_as_the_cell_answers() -> None:
    breaker = a_breaker(most=2)
    inside, most_inside = [0], [0]
    lock = threading.Lock()

    def slow(context: RequestContext) -> str:
        with lock:
            inside[0] += 1
            most_inside[0] = max(most_inside[0], inside[0])
        time.sleep(0.05)
        with lock:
            inside[0] -= 1
        return "answer"

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: breaker.call(slow, RequestContext()), range(16)))
    assert answers == ["answer"] * 16
    assert most_inside == [2]


def test_waiting_ends_with_the_budget_and_when_it_opens() -> None:
    breaker, gate, inside = a_breaker(most=1), threading.Event(), threading.Event()

    def hang(context: RequestContext) -> None:
        inside.set()
        gate.wait(10)
        raise errors.Unreachable("silent")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(breaker.call, hang, RequestContext())
        assert inside.wait(60)
        with pytest.raises(errors.TryLater):
            breaker.call(hang, RequestContext(budget=0.1))
        waiting = pool.submit(breaker.call, hang, RequestContext())
        gate.set()
        for future in (first, waiting):
            with pytest.raises(errors.Unreachable):
                future.result(60)
    assert breaker.is_open


def test_one_call_without_an_answer_among_many_with_one_says_nothing() -> None:
    breaker = a_breaker()

    def silent(context: RequestContext) -> None:
        assert breaker.call(lambda _: "answer", context) == "answer"
        raise errors.Unreachable("this host does not answer")

    with pytest.raises(errors.Unreachable):
        breaker.call(silent, RequestContext())
    assert not breaker.is_open


def test_it_closes_when_anybody_hears_of_the_cell() -> None:
    with clock.using(ManualClock()) as hand:
        assert isinstance(hand, ManualClock)
        breaker, verb = a_breaker(), Calls()
        verb.error = errors.Unreachable("silent")
        with pytest.raises(errors.Unreachable):
            breaker.call(verb, RequestContext())
        verb.error = None
        breaker.hear(clock.monotonic() - 1.0, certain=True)  # that was before it fell silent
        assert breaker.is_open
        hand.advance(0.5)
        breaker.hear(clock.monotonic() - 0.1, certain=False)
        assert breaker.call(verb, RequestContext()) == "answer"
        assert verb.budgets[-1] == 1.0
        breaker.trip()  # by what the router saw before that answer
        assert breaker.call(verb, RequestContext()) == "answer"
        assert verb.budgets[-1] == 60.0


# ---- the choice ------------------------------------------------------------------------------------------------------
def test_a_server_goes_where_the_digest_has_room(database: Database) -> None:
    cells = cells_with(database, digest("east", (1, 512, 1, 1)), digest("west", (64, 1 << 17, 128, 4)))
    assert {cells.choose(spec(BIG), ()) for _ in range(4)} == {"west"}


def test_room_is_counted_jointly() -> None:
    room = CellRoom(digest_at=None, buckets=[(64, 512, 1, 3), (1, 1 << 17, 100, 3)])
    assert room.fits((64, 1 << 17, 100)) == 0
    assert room.fits((1, 512, 1)) == 6


def test_each_routed_server_takes_its_room(database: Database) -> None:
    room = CellRoom(digest_at=None, buckets=[(2, 1024, 2, 1)])
    for left in (2, 1, 0):
        assert room.fits((1, 512, 1)) == left
        room.take((1, 512, 1))


def test_servers_are_spread_by_room(database: Database) -> None:
    cells = cells_with(database, digest("east", (256, 1 << 20, 256, 10)), digest("west", (256, 1 << 20, 256, 10)))
    counts = Counter(cells.choose(spec(), ()) for _ in range(400))
    assert min(counts["east"], counts["west"]) > 120


def test_full_cells_are_asked_when_no_other_is_left(database: Database) -> None:
    cells = cells_with(database, digest("east", (1, 1, 1, 1)), digest("west", (1, 1, 1, 1)))
    assert cells.choose(spec(), ("west",)) == "east"
    assert cells.choose(spec(), ("west", "east")) is None


def test_mute_and_foreign_cells_drop_out(database: Database) -> None:
    cells = cells_with(
        database,
        digest("east", (64, 1 << 17, 64, 1), zone="a"),
        digest("west", (64, 1 << 17, 64, 1), zone="b"),
        digest("south", (64, 1 << 17, 64, 1), zone="a"),
        south="down",
    )
    assert {cells.choose(spec(), ()) for _ in range(30)} == {"east", "west"}
    assert {cells.choose(spec(availability_zone="a"), ()) for _ in range(10)} == {"east"}
    assert cells.choose(spec(availability_zone="c"), ()) is None
    assert cells.zones() == {"a": True, "b": True}
    assert cells.unreachable_cells() == {"south"}
