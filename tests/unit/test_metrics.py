"""What processes count: each figure is made to change, and looked for in what operators read."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from cell.compute.report_queue import ReportQueue
from cellcloud import errors, metrics
from cellcloud.batching import Batcher
from cellcloud.context import RequestContext, service_context
from cellcloud.db import cell_schema, intents, runs, top_schema
from cellcloud.db.engine import Database, LostRace, transact
from cellcloud.model.guest_commands import GuestEvent
from cellcloud.model.intent import IntentKind
from cellcloud.rpc.feed_notification import Router
from cellcloud.rpc.transport import Transport
from tests.workflows.world import CellUnderTest
from top_api.cell_clients import Breaker


def read(name: str, **labels: str) -> float:
    """The figure as it is served; 0 where it was never counted."""
    for line in metrics.render().decode().splitlines():
        match = re.fullmatch(rf"{name}(?:{{(.*)}})? (\S+)", line)
        if match and dict(re.findall(r'(\w+)="([^"]*)"', match[1] or "")) == labels:
            return float(match[2])
    return 0.0


def grew(name: str, act: Callable[[], object], **labels: str) -> float:
    before = read(name, **labels)
    act()
    return read(name, **labels) - before


def test_batches() -> None:
    under_way, go = threading.Event(), threading.Event()

    def work(items: object) -> list[int]:
        under_way.set()
        assert go.wait(60)
        return [0]

    batcher: Batcher[int, int] = Batcher(work, name="tried", linger=0.0)
    first, second = (threading.Thread(target=batcher, args=(n,)) for n in (1, 2))
    first.start()
    assert under_way.wait(60)
    second.start()
    for _ in range(500):
        if read("cellcloud_batch_waiting", batch="tried") == 1:
            break
        threading.Event().wait(0.01)
    assert read("cellcloud_batch_waiting", batch="tried") == 1
    go.set()
    first.join()
    second.join()
    assert read("cellcloud_batch_waiting", batch="tried") == 0
    assert read("cellcloud_batch_items_count", batch="tried") == 2


def test_breakers() -> None:
    breaker = Breaker("east", "Tried", seconds=60.0, most=1)
    assert read("cellcloud_breaker_open", cell="east", interface="Tried") == 0

    def silent(_: RequestContext) -> None:
        raise errors.Unreachable("nobody")

    with pytest.raises(errors.Unreachable):
        breaker.call(silent, service_context())
    assert read("cellcloud_breaker_open", cell="east", interface="Tried") == 1


def test_calls() -> None:
    transport = Transport("metered", "kombu+memory://")

    class Taken:
        def feed_grew(self, context: RequestContext, newest: int) -> None: ...

    server = transport.serve(Router, Taken(), server="r")
    try:
        router = transport.client(Router)
        call = {"cell": "metered", "method": "Router.feed_grew", "outcome": "ok"}
        assert grew("cellcloud_rpc_seconds_count", lambda: router.feed_grew(service_context(), 1), **call) == 1
        assert read("cellcloud_rpc_calls_under_way", cell="metered") == 0
    finally:
        server.stop()
        transport.close()


def test_databases(tmp_path: Path) -> None:
    path = str(tmp_path / "top.db")
    database = Database(f"sqlite:///{path}", pool_size=3)
    assert read("cellcloud_database_connections_most", database=path) == 3
    with database.read():
        assert read("cellcloud_database_connections", database=path) == 1
    assert read("cellcloud_database_connections", database=path) == 0
    lost = [True]

    def work(_: sa.Connection) -> None:
        if lost.pop() if lost else False:
            raise LostRace("another one won")

    assert grew("cellcloud_database_races_total", lambda: transact(database, work)) == 1
    database.close()


def test_intents(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/top.db")
    with database.write() as connection:
        top_schema.metadata.create_all(connection)
        made = intents.make_intent(IntentKind.DELETE, "0" * 36, RequestContext())
        intents.add_intents(connection, [made], owner="x", lease=1.0, deadline=10.0)
    with database.read() as connection:
        found = intents.measure(connection)
    assert found["delete"][0] == 1
    assert 0.0 <= found["delete"][1] < 60.0
    assert found["create"] == (0, 0.0)
    database.close()


def test_runs(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/cell.db")
    with database.write() as connection:
        cell_schema.metadata.create_all(connection)
    cell = CellUnderTest(database)
    cell.create("11111111-0000-4000-8000-000000000001")
    with database.read() as connection:
        ((operation, (count, age)),) = runs.measure(connection).items()
    assert (operation, count) == ("create", 1)
    assert 0.0 <= age < 60.0
    cell.run()
    with database.read() as connection:
        assert runs.measure(connection) == {}
    database.close()


def test_reports_that_wait() -> None:
    class Away:
        def report_events(self, context: RequestContext, events: list[GuestEvent]) -> None:
            raise errors.Unreachable("nobody")

    queue = ReportQueue(Away(), "h-metered")  # type: ignore[arg-type]
    queue.post(GuestEvent(server_id="s", generation=1, host="h", power_state=1))
    assert read("cellcloud_reports_waiting", host="h-metered") == 1
