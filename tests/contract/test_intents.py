"""The outbox on every kind of database: each step is won by one, whatever races."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from cellcloud.context import RequestContext
from cellcloud.db import intents, server_index
from cellcloud.db.engine import Database, retried
from cellcloud.model.flavor import Flavor
from cellcloud.model.image import Image
from cellcloud.model.intent import IntentKind, IntentState, Refusal
from cellcloud.model.server import ServerRecord, ServerSpec
from cellcloud.server_states import VmState

CONTEXT = RequestContext(user_id="u", project_id="p")
GONE = Refusal(outcome="gone", reason="expired")


def accept(database: Database, count: int = 1, *, lease: float = 30.0) -> tuple[list[str], list[str]]:
    """(server ids, intent ids) of accepted creates."""
    flavor = Flavor(id="1", name="m1.tiny", vcpus=1, memory_mb=128, root_gb=1)
    specs = [
        ServerSpec(id=str(uuid.uuid4()), name="s", project_id="p", user_id="u", flavor=flavor, image=Image(id="i"))
        for _ in range(count)
    ]
    records = [ServerRecord(spec=spec, version=0, generation=0, vm_state=VmState.BUILDING) for spec in specs]
    ids = [spec.id for spec in specs]
    with database.write() as connection:
        server_index.insert_records(connection, records)
        made = [intents.make_intent(IntentKind.CREATE, server_id, CONTEXT) for server_id in ids]
        intents.add_intents(connection, made, owner="api", lease=lease, deadline=300.0)
    return ids, [intent.id for intent in made]


def state_of(database: Database, server_id: str) -> str:
    with database.read() as connection:
        found = intents.find_intent(connection, server_id, IntentKind.CREATE)
    assert found is not None
    return found.state


def cell_of(database: Database, server_id: str) -> str:
    with database.read() as connection:
        found = server_index.find_record(connection, server_id)
    return "" if found is None else found.cell


@retried
def record(database: Database, ids: list[str], cell: str) -> set[str]:
    with database.write() as connection:
        return set(intents.record_placements(connection, ids, cell))


@retried
def delete(database: Database, server_id: str) -> str | None:
    """What the API's delete does."""
    with database.write() as connection:
        state = intents.stop_creates(connection, [server_id]).get(server_id)
        found = server_index.find_record(connection, server_id)
        if found is not None and not found.cell and state != IntentState.RECORDED:
            server_index.mark_deleted(connection, [server_id])
        elif found is not None:
            wanted = intents.make_intent(IntentKind.DELETE, server_id, CONTEXT, cell=found.cell)
            intents.ensure_deletes(connection, [wanted], owner="api", lease=30.0, deadline=300.0)
    return state


@retried
def reopen(database: Database, intent_id: str) -> bool:
    with database.write() as connection:
        found = intents.list_intents(connection, [intent_id])
        return bool(found) and intents.reopen(connection, found[0], GONE)


def race(*works: Callable[[], object]) -> None:
    """Do all at the same moment; what one raises is raised."""
    barrier = threading.Barrier(len(works))

    def go(work: Callable[[], object]) -> object:
        barrier.wait()
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        for future in [pool.submit(go, work) for work in works]:
            future.result()


def test_the_path_of_an_intent(top_database: Database) -> None:
    servers, ids = accept(top_database, 3)
    assert record(top_database, ids, "east") == set(ids)
    assert record(top_database, ids, "west") == set()
    assert [cell_of(top_database, one) for one in servers] == ["east"] * 3
    assert reopen(top_database, ids[0])
    assert (state_of(top_database, servers[0]), cell_of(top_database, servers[0])) == ("pending", "")
    assert record(top_database, ids, "west") == {ids[0]}
    with top_database.write() as connection:
        intents.settle(connection, ids)
        assert intents.list_intents(connection, ids) == []
    assert [cell_of(top_database, one) for one in servers] == ["west", "east", "east"]


def test_leases_run_out_by_the_databases_clock(top_database: Database) -> None:
    _, ids = accept(top_database, 3, lease=-1.0)
    accept(top_database, 2, lease=30.0)
    with top_database.write() as connection:
        assert sorted(intents.list_free(connection, 10)) == sorted(ids)
        assert sorted(intents.begin_leases(connection, ids, "a", seconds=30.0)) == sorted(ids)
        assert intents.begin_leases(connection, ids, "b", seconds=30.0) == []
        intents.postpone(connection, ids[:1], -1.0)
        assert intents.list_free(connection, 10) == ids[:1]


def test_a_late_intent_says_so(top_database: Database) -> None:
    _, ids = accept(top_database)
    with top_database.write() as connection:
        assert [one.late for one in intents.list_intents(connection, ids)] == [False]
        assert intents.list_late(connection, 10) == []
        connection.exec_driver_sql("UPDATE intents SET deadline = created_at")
        assert [one.late for one in intents.list_intents(connection, ids)] == [True]
        assert [one.id for one in intents.list_late(connection, 10)] == ids


def test_a_repeated_delete_is_one_intent(top_database: Database) -> None:
    (server,), ids = accept(top_database)
    record(top_database, ids, "east")
    with top_database.write() as connection:
        intents.settle(connection, ids)
    delete(top_database, server)
    with top_database.write() as connection:
        first = intents.find_intent(connection, server, IntentKind.DELETE)
        assert first is not None
        intents.settle(connection, [first.id])
    delete(top_database, server)
    with top_database.read() as connection:
        again = intents.find_intent(connection, server, IntentKind.DELETE)
    assert again is not None
    assert (again.id, again.state, again.cell) == (first.id, IntentState.PENDING, "east")


def test_two_cells_racing_for_the_same_servers_never_both_win(top_database: Database) -> None:
    for _ in range(5):
        servers, ids = accept(top_database, 8)
        won: dict[str, set[str]] = {}
        race(
            lambda ids=ids, won=won: won.update(east=record(top_database, ids, "east")),
            lambda ids=ids, won=won: won.update(west=record(top_database, ids[::-1], "west")),
        )
        assert won["east"] | won["west"] == set(ids)
        assert not won["east"] & won["west"]
        for server, intent_id in zip(servers, ids, strict=True):
            assert cell_of(top_database, server) == ("east" if intent_id in won["east"] else "west")


def test_a_delete_racing_with_the_record_is_cancelled_or_delivered(top_database: Database) -> None:
    for _ in range(8):
        (server,), ids = accept(top_database)
        told: list[str | None] = []
        race(
            lambda ids=ids: record(top_database, ids, "east"),
            lambda server=server, told=told: told.append(delete(top_database, server)),
        )
        with top_database.read() as connection:
            wanted = intents.find_intent(connection, server, IntentKind.DELETE)
        state = state_of(top_database, server)
        assert told == [state]
        if state == IntentState.CANCELLED:
            assert wanted is None
        else:
            assert state == IntentState.RECORDED
            assert wanted is not None
            assert wanted.cell == "east"


@pytest.mark.parametrize("turns", [8])
def test_a_delete_racing_with_a_reopened_placement_never_leaves_it_pending(top_database: Database, turns: int) -> None:
    for _ in range(turns):
        (server,), ids = accept(top_database)
        record(top_database, ids, "east")
        race(lambda ids=ids: reopen(top_database, ids[0]), lambda server=server: delete(top_database, server))
        with top_database.read() as connection:
            wanted = intents.find_intent(connection, server, IntentKind.DELETE)
        if state_of(top_database, server) == IntentState.RECORDED:  # the delete was first and keeps it there
            assert wanted is not None
            reopen(top_database, ids[0])
        assert state_of(top_database, server) == IntentState.CANCELLED
        assert wanted is not None or cell_of(top_database, server) == ""


def test_a_delete_racing_with_a_server_given_up_leaves_it_to_no_cell(top_database: Database) -> None:
    for _ in range(8):
        (server,), ids = accept(top_database)
        record(top_database, ids, "east")
        with top_database.write() as connection:
            intents.settle(connection, ids, "east")
            found = server_index.find_record(connection, server)
        assert found is not None
        given_up = replace(found, cell="east", version=5, generation=1, deleted=True)
        assert given_up.given_up
        race(
            lambda given_up=given_up: take_back(top_database, given_up),
            lambda server=server: delete(top_database, server),
        )
        take_back(top_database, given_up)
        with top_database.read() as connection:
            wanted = intents.find_intent(connection, server, IntentKind.DELETE)
        assert state_of(top_database, server) == IntentState.CANCELLED
        assert wanted is not None or cell_of(top_database, server) == ""
        assert record(top_database, ids, "west") == set()


@retried
def take_back(database: Database, given_up: ServerRecord) -> None:
    with database.write() as connection:
        intents.take_back(connection, given_up, deadline=300.0)
