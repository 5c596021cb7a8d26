"""Rows and statements written out for speed hold what they were given, and nothing in a text is taken for SQL."""

from __future__ import annotations

import datetime as dt

import pytest
import sqlalchemy as sa

from cellcloud.db import bulk, claims, hosts
from cellcloud.db.cell_schema import decision_requests, inventories, servers, user_data
from cellcloud.db.claims import Claim
from cellcloud.db.engine import Database, utc_now
from cellcloud.model.allocation import Allocation
from tests.workflows.world import make_report

NAMES = ("request_id", "batch")
TEXTS = (
    "plain",
    "it's",
    "'),('x',1",
    "'; DROP TABLE hosts; -- ",
    "back\\slash",
    "\\'",
    "100 % of %s and %(name)s",
    'a "quoted" word',
    "line\nand\ttab",
    "ŝerĉo 検索 🙂",
    "",
)


def stored(database: Database) -> dict[str, int]:
    with database.read() as connection:
        return {row.request_id: row.batch for row in connection.execute(sa.select(decision_requests))}


@pytest.mark.parametrize("number", ["7", 7], ids=["all texts", "numbers too"])
def test_rows_are_stored_as_they_were_given(cell_database: Database, number: str | int) -> None:
    with cell_database.write() as connection:
        bulk.insert(connection, decision_requests, NAMES, [(text, number) for text in TEXTS])
    assert stored(cell_database) == dict.fromkeys(TEXTS, 7)


@pytest.mark.parametrize("text", TEXTS)
def test_each_alone_and_known_the_second_time(cell_database: Database, text: str) -> None:
    with cell_database.write() as connection:
        bulk.insert(connection, decision_requests, NAMES, [(text, "1")])
    with pytest.raises(bulk.Exists), cell_database.write() as connection:
        bulk.insert(connection, decision_requests, NAMES, [(text, "1")])
    assert stored(cell_database) == {text: 1}


@pytest.mark.parametrize("text", TEXTS)
def test_what_is_replaced_gets_what_is_given_and_the_time(cell_database: Database, text: str) -> None:
    for word in ("first", text):
        with cell_database.write() as connection:
            before = connection.execute(sa.select(utc_now())).scalar_one()
            rows = [("it's", word), (f"{text}2", text)]
            bulk.insert(connection, user_data, ("id", "text"), rows, at=("used_at",), replace=True)
            found = {row.id: row for row in connection.execute(sa.select(user_data))}
        assert {one: row.text for one, row in found.items()} == {"it's": word, f"{text}2": text}
        assert all(before <= row.used_at for row in found.values())


def test_nothing_times_and_yes_or_no_are_stored_as_they_are(cell_database: Database) -> None:
    names = ("id", "project_id", "user_id", "vm_state", "spec", "ports", "created_at", "updated_at", "held", "deleted")
    names += ("version", "generation", "power_state", "delete_requested", "locked", "host")
    at = dt.datetime(2026, 2, 3, 4, 5, 6, 789000)  # noqa: DTZ001 -- as it is stored
    rows = [
        (one, "p", "u", "active", '{"a": "it\'s"}', "[]", at, at, True, False, 1 << 40, 0, 4, False, True, host)
        for one, host in (("one", None), ("two", "null"))
    ]
    with cell_database.write() as connection:
        bulk.insert(connection, servers, names, rows)
        found = connection.execute(sa.select(servers).order_by(servers.c.id)).all()
    assert [(row.host, row.held, row.deleted, row.locked, row.version) for row in found] == [
        (None, True, False, True, 1 << 40),
        ("null", True, False, True, 1 << 40),
    ]
    assert [(row.spec, row.created_at.replace(tzinfo=None)) for row in found] == [({"a": "it's"}, at)] * 2


@pytest.mark.parametrize("text", TEXTS)
def test_figures_of_a_host_are_changed_whatever_it_is_called(cell_database: Database, text: str) -> None:
    name, taken = text or "-", Allocation(resources={"VCPU": 2, "CUSTOM_X": 1})
    given = ((name, "VCPU"), (name, "CUSTOM_X"), ("other", "VCPU"), ("other", "CUSTOM_X"))
    with cell_database.write() as connection:
        for host in (name, "other"):
            hosts.report(connection, [make_report(host)])
        connection.execute(sa.delete(inventories))
        columns = ("host", "resource_class", "total", "reserved", "ratio", "capacity", "used")
        bulk.insert(connection, inventories, columns, [(*one, 4, 0, 1.0, 4, 0) for one in given])
        claims.claim_all(connection, [Claim("c", "c", name, taken), Claim("d", "d", name, taken)])
        used = {(row.host, row.resource_class): row.used for row in connection.execute(sa.select(inventories))}
    assert used == dict.fromkeys(given, 0) | {(name, "VCPU"): 4, (name, "CUSTOM_X"): 2}
    with pytest.raises(claims.Lost), cell_database.write() as connection:
        claims.claim_all(connection, [Claim("e", "e", name, taken), Claim("f", "f", "other", taken)])
