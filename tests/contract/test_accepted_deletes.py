"""Accepting deletes on every kind of database: those that come together share a transaction, and each counts once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from cellcloud import config as options
from cellcloud.context import RequestContext
from cellcloud.db import intents, quotas, server_index
from cellcloud.db.engine import Database
from cellcloud.model.flavor import Flavor
from cellcloud.model.image import Image
from cellcloud.model.intent import IntentKind, IntentState
from cellcloud.model.server import ServerSpec
from tests.statements import counted
from top_api.request_acceptance import Admission, CreateRequest

CONTEXT = RequestContext(user_id="u", project_id="p")
THREADS = 12


def accept(admission: Admission, count: int) -> tuple[list[str], list[str]]:
    """(server ids, ids of their creates)."""
    flavor = Flavor(id="1", name="m1.tiny", vcpus=1, memory_mb=128, root_gb=1)
    spec = ServerSpec(id="", name="s", project_id="p", user_id="u", flavor=flavor, image=Image(id="i"))
    accepted, made = admission.accept(CONTEXT, CreateRequest(spec=spec, min_count=count, max_count=count))
    return list(accepted.server_ids), [intent.id for intent in made]


def test_many_deletes_at_once(top_database: Database) -> None:
    admission = Admission(top_database, options.load(), "api")
    placed, creates = accept(admission, 20)
    waiting, _ = accept(admission, 5)
    with top_database.write() as connection:
        intents.record_placements(connection, creates, "east")
        intents.settle(connection, creates[:15], "east")
    with ThreadPoolExecutor(THREADS) as pool:
        carried = list(pool.map(lambda one: admission.delete(CONTEXT, one), [*placed, *waiting] * 3))
    assert {one.server_id for one in carried if one is not None} == set(placed)
    with top_database.read() as connection:
        for server_id in placed:
            wanted = intents.find_intent(connection, server_id, IntentKind.DELETE)
            assert wanted is not None
            assert (wanted.state, wanted.cell) == (IntentState.PENDING, "east")
            record = server_index.find_record(connection, server_id)
            assert record is not None
            assert record.task_state == "deleting"
            assert {one.id for one in carried if one and one.server_id == server_id} == {wanted.id}
        for server_id in waiting:
            assert server_index.find_record(connection, server_id) is None
            assert intents.find_intent(connection, server_id, IntentKind.DELETE) is None
        assert quotas.recount(connection) == []
        assert quotas.list_usages(connection, "p")["instances"] == len(placed)


@pytest.mark.parametrize("end", ["deleted", "lost"])
def test_the_end_of_many_takes_as_many_statements_as_that_of_one(top_database: Database, end: str) -> None:
    admission = Admission(top_database, options.load(), "api")
    counts = []
    for number in (1, 40):
        ids, creates = accept(admission, number)
        with top_database.write() as connection:
            intents.record_placements(connection, creates, "east")
        with counted(top_database) as statements, top_database.write() as connection:
            server_index.mark_deleted(connection, ids) if end == "deleted" else server_index.mark_lost(
                connection, ids, "east"
            )
        counts.append(len(statements))
        with top_database.read() as connection:
            ended = [server_index.find_record(connection, one, deleted=None) for one in ids]
        assert {one.vm_state for one in ended if one} == {"deleted" if end == "deleted" else "error"}
    assert counts[0] == counts[1]


def test_deletes_of_one_server_whose_create_is_long_forgotten(top_database: Database) -> None:
    acceptances = [Admission(top_database, options.load(), f"api-{number}") for number in range(4)]
    for _ in range(5):
        (server_id,), creates = accept(acceptances[0], 1)
        with top_database.write() as connection:
            intents.record_placements(connection, creates, "east")
            connection.exec_driver_sql("DELETE FROM intents")
        with ThreadPoolExecutor(THREADS) as pool:
            found = list(pool.map(lambda one, which=server_id: one.delete(CONTEXT, which), acceptances * 3))
        assert {one.id for one in found if one is not None} == {
            one.id for one in [_intent_of(top_database, server_id)] if one is not None
        }


def _intent_of(database: Database, server_id: str) -> intents.Intent | None:
    with database.read() as connection:
        return intents.find_intent(connection, server_id, IntentKind.DELETE)


def test_a_repeated_delete_is_carried_again_with_the_cell_that_has_the_server_now(top_database: Database) -> None:
    admission = Admission(top_database, options.load(), "api")
    (server_id,), creates = accept(admission, 1)
    with top_database.write() as connection:
        intents.record_placements(connection, creates, "west")
    first = admission.delete(CONTEXT, server_id)
    assert first is not None
    with top_database.write() as connection:
        intents.settle(connection, [first.id])
    again = admission.delete(replace(CONTEXT, request_id="req-again"), server_id)
    assert again is not None
    assert (again.id, again.cell, again.state) == (first.id, "west", IntentState.PENDING)
