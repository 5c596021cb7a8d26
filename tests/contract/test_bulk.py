"""Rows and statements written out for speed hold what they were given, and nothing in a text is taken for SQL."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from cellcloud.db import bulk
from cellcloud.db.cell_schema import decision_requests
from cellcloud.db.engine import Database

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
def test_a_statement_is_about_its_texts_only(cell_database: Database, text: str) -> None:
    with cell_database.write() as connection:
        bulk.insert(connection, decision_requests, NAMES, [(each, "1") for each in TEXTS])
        mark = "?" if connection.dialect.name == "sqlite" else "%s"
        statement = f"UPDATE decision_requests SET batch = 2 WHERE request_id IN ({mark}, {mark})"  # noqa: S608 -- marks
        assert bulk.execute(connection, statement, [text, "nobody's"]).rowcount == 1
    with cell_database.write() as connection:
        assert bulk.execute(connection, statement.replace("2", "3"), [text, "nobody"]).rowcount == 1
    assert stored(cell_database) == dict.fromkeys(TEXTS, 1) | {text: 3}
