"""Pages of the index's lists: as a plain reading of every server has them, by indexes, on every database."""

from __future__ import annotations

import datetime as dt
import functools
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from cellcloud.db import server_index, server_lists, server_terms
from cellcloud.db.engine import Database
from cellcloud.db.server_conditions import SORT_KEYS, ServerQuery
from cellcloud.db.top_schema import server_index as table
from cellcloud.db.top_schema import server_terms as terms_table
from cellcloud.model.server import ServerRecord
from cellcloud.server_states import TaskState, VmState
from tests import server_fleet

COUNT = 150
LARGEST = "d" * 32
TAGS = ("prod", "Prod", "a%", "a_")


@pytest.fixture
def records(top_database: Database, monkeypatch: pytest.MonkeyPatch) -> list[ServerRecord]:
    """Servers as those of a large cloud, some of them alike in all but their ids; few are only seven."""
    for name, number in {"FEW": 7, "LOOKED_AT": 6, "NAMED": 12, "MANY": 60}.items():
        monkeypatch.setattr(server_lists, name, number)
    chance = random.Random(5)
    found = []
    for record in server_fleet.records(COUNT, LARGEST):
        at = server_fleet.BEGAN + dt.timedelta(days=chance.randrange(9))
        vm_state = VmState.SOFT_DELETED if chance.random() < 0.1 else record.vm_state
        tags = tuple(tag for tag in TAGS if chance.random() < 0.3)
        spec = replace(record.spec, created_at=at, name=f"Web_{chance.randrange(30)}%", tags=tags)
        changes: dict[str, Any] = {"created_at": at, "updated_at": at + dt.timedelta(days=chance.randrange(5))}
        if not record.deleted:
            changes["vm_state"] = vm_state
        if chance.random() < 0.3:
            changes |= {"host": None, "launched_at": None}
        found.append(replace(record, spec=spec, **changes))
    with top_database.write() as connection:
        server_index.insert_records(connection, found)
    return found


def is_asked_for(query: ServerQuery, record: ServerRecord, row: dict[str, Any]) -> bool:
    soft = record.vm_state == VmState.SOFT_DELETED
    lives = {
        None: True,
        False: not record.deleted and (query.soft_deleted or not soft),
        True: record.deleted or (query.soft_deleted and soft),
    }[query.deleted]
    states = query.states is None or any(
        record.vm_state == vm
        and (record.task_state == task if task else record.task_state not in query.task_states_apart.get(vm, ()))
        for vm, task in query.states
    )
    return (
        lives
        and states
        and query.project_id in (None, record.spec.project_id)
        and (query.changed_since is None or row["updated_at"] >= query.changed_since)
        and (query.changed_before is None or row["updated_at"] <= query.changed_before)
        and all(row[name] in values for name, values in query.equal.items())
        and all(row[name] in times for name, times in query.seconds.items())
        and all(not server_terms.terms_of(record).isdisjoint(some) for some in query.terms)
        and all(not server_terms.terms_of(record).issuperset(every) for every in query.lacking)
        and all(text.lower() in row[name].lower() for name, texts in query.containing.items() for text in texts)
        and (query.keep is None or query.keep(record))
    )


def expected(query: ServerQuery, rows: Sequence[tuple[ServerRecord, dict[str, Any]]]) -> list[str]:
    """The whole list's ids. No value comes before every value; later on, no time is that of acceptance."""
    found = [(record, row) for record, row in rows if is_asked_for(query, record, row)]

    def rank(row: dict[str, Any], key: str, *, first: bool) -> tuple[bool, Any]:
        value = row["created_at"] if row[key] is None and not first and key.endswith("_at") else row[key]
        return value is not None, value

    for place, (key, descending) in reversed(list(enumerate(query.sort))):
        found.sort(
            key=functools.partial(lambda pair, **of: rank(pair[1], **of), key=key, first=not place), reverse=descending
        )
    return [record.id for record, _ in found]


def queries(records: Sequence[ServerRecord], count: int) -> Iterator[ServerQuery]:
    """What may be asked, by chance: filters and orders of every kind, together."""
    chance = random.Random(11)
    texts = [("name", [text]) for text in ("WEB_1", "_2", "%", "none")]
    texts += [("name", ["Web", "3"]), ("hostname", ["OST-1"]), ("addresses", ["0.0.1"]), ("addresses", ["10.0.0.1"])]
    columns = [key for key in sorted(SORT_KEYS) if key in table.c and key != "id"]
    for _ in range(count):
        some = chance.choice(records)
        equal: dict[str, list[Any]] = {}
        for name in chance.sample(
            ["flavor_id", "host", "image_id", "user_id", "reservation_id", "node", "power_state", "availability_zone"],
            chance.choice([0, 0, 0, 1, 2]),
        ):
            values = [server_index._row_of(each)[name] for each in chance.choices(records, k=chance.choice([1, 3]))]
            equal[name] = [value for value in values if value is not None]
        keys = chance.sample(columns, chance.choice([0, 1, 1, 2]))
        sort = [(key, chance.random() < 0.5) for key in keys]
        way = chance.random() < 0.5
        sort += [(key, way) for key in ("created_at", "id") if key not in keys]
        yield ServerQuery(
            project_id=chance.choice([None, None, some.spec.project_id]),
            equal=equal,
            containing=dict(chance.sample(texts, 1)) if chance.random() < 0.3 else {},
            seconds={"created_at": [some.created_at]} if some.created_at and chance.random() < 0.1 else {},
            terms=[some_terms(chance)] if chance.random() < 0.2 else [],
            lacking=[some_terms(chance)] if chance.random() < 0.2 else [],
            states=chance.choice([None, None, [(VmState.ACTIVE, None)], [(some.vm_state, None), ("x", "y")],
                                  [(VmState.ACTIVE, TaskState.REBOOTING)], []]),
            task_states_apart={VmState.ACTIVE: [TaskState.REBOOTING]},
            changed_since=some.updated_at if chance.random() < 0.2 else None,
            changed_before=some.updated_at if chance.random() < 0.2 else None,
            deleted=chance.choice([None, False, False, True]),
            soft_deleted=chance.random() < 0.5,
            keep=(lambda record: record.spec.id < "8") if chance.random() < 0.2 else None,
            sort=tuple(sort),
            limit=chance.choice([2, 5, 40]),
        )  # fmt: skip


def some_terms(chance: random.Random) -> list[str]:
    terms = [*map(server_terms.tag, TAGS), server_terms.LOCKED, server_terms.tag("none")]
    return chance.sample(terms, chance.choice([1, 1, 2]))


def test_pages_are_those_of_the_whole_list(top_database: Database, records: list[ServerRecord]) -> None:
    rows = [(record, server_index._row_of(record)) for record in records]
    full = 0
    with top_database.read() as connection:
        for query in queries(records, 90):
            wanted = expected(query, rows)
            full += len(wanted) > query.limit
            met: list[str] = []
            while True:
                page = server_lists.list_records(connection, replace(query, marker=met[-1] if met else None))
                met += [record.id for record in page]
                if len(page) < query.limit:
                    break
            assert met == wanted, query
            ids = server_lists.list_ids(connection, replace(query, keep=None), COUNT)
            assert ids == expected(replace(query, keep=None), rows), query
    assert full >= 8


def test_a_statement_that_is_kept_answers_each_project(top_database: Database, records: list[ServerRecord]) -> None:
    """What is asked for again and again is built once, whoever asks."""
    rows = [(record, server_index._row_of(record)) for record in records]
    projects = sorted({record.spec.project_id for record in records})[:5]
    shapes: list[dict[str, Any]] = [
        {},
        {"states": [(VmState.ACTIVE, None)]},
        {"states": [(VmState.ACTIVE, None)], "task_states_apart": {VmState.ACTIVE: [TaskState.REBOOTING]}},
        {"states": [(VmState.STOPPED, None), (VmState.ERROR, None)], "sort": (("name", False), ("id", False))},
        {"deleted": True},
        {"deleted": None, "soft_deleted": True},
    ]
    with top_database.read() as connection:
        for shape in shapes:
            for project_id in [*projects, None, *projects]:
                query = ServerQuery(**{"project_id": project_id, "limit": 40, **shape})
                found = [record.id for record in server_lists.list_records(connection, query)]
                assert found == expected(query, rows)[:40], query


def plan_of(database: Database, statement: sa.Select[Any], *, behind: bool) -> tuple[str, bool]:
    """How the database would answer, and whether it reads an index in its order, with nothing to sort. ``behind``: from
    a position on, which MariaDB otherwise reads up to."""
    text = str(statement.compile(database.engine, compile_kwargs={"literal_binds": True})).replace("%%", "%")
    with database.write() as connection:
        if database.dialect == "sqlite":
            steps = [row.detail for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")]
            return str(steps), all(" INDEX " in step for step in steps)
        if database.dialect == "postgresql":
            for way in ("seqscan", "bitmapscan", "sort"):  # taken with few rows, though there is an index
                connection.exec_driver_sql(f"SET LOCAL enable_{way} = off")
            plan = "\n".join(row[0] for row in connection.exec_driver_sql(f"EXPLAIN {text}"))
            return plan, "Seq Scan" not in plan and "Sort" not in plan
        rows = [row._mapping for row in connection.exec_driver_sql(f"EXPLAIN {text}")]
        few = [int(row["rows"]) < 20 for row in rows]
        good = all(row["key"] and (some or "filesort" not in row["Extra"]) for row, some in zip(rows, few, strict=True))
        begins = not behind or all(row["type"] == "range" or some for row, some in zip(rows, few, strict=True))
        return str(rows), good and begins


FOLLOWED = {
    None: ("availability_zone", "created_at", "deleted_at", "flavor_id", "host", "hostname", "image_id", "key_name",
           "launched_at", "name", "node", "power_state", "project_id", "reservation_id", "task_state", "updated_at",
           "user_id", "vm_state"),
    LARGEST: ("created_at", "key_name", "name", "updated_at", "user_id"),
}  # fmt: skip


def test_orders_are_read_from_indexes(top_database: Database) -> None:
    server_fleet.fill(top_database, 1000, largest=LARGEST)
    analyze = "ANALYZE TABLE server_index" if top_database.dialect in ("mysql", "mariadb") else "ANALYZE"
    with top_database.write() as connection:
        connection.exec_driver_sql(analyze)
    sorts = [(project, key) for project, keys in FOLLOWED.items() for key in keys]
    equals: dict[str, Any] = {"host": server_fleet.host_of(3), "vm_state": VmState.ACTIVE, "flavor_id": "1"}
    cases = [
        ServerQuery(project_id=project, sort=tuple({key: down, "created_at": down, "id": down}.items()))
        for project, key in sorts
        for down in (False, True)
    ]
    cases += [ServerQuery(project_id=None, equal={name: [value]}) for name, value in equals.items()]
    cases += [ServerQuery(project_id=None, deleted=True, soft_deleted=True)]
    for query in cases:
        with top_database.read() as connection:
            assert query.equal or query.project_id or server_lists.find_few(connection, query, 1) is None
            row = server_lists.rows_of(connection, query, None, None, 20)[-1]
        for after in (None, server_lists.position_of(row)):
            for part in server_lists.parts_of(query, None, after, 20):
                plan, good = plan_of(top_database, part, behind=after is not None and not query.equal)
                assert good, f"{query.sort} {query.equal} of {query.project_id}: {plan}"


def terms_in(connection: sa.Connection) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for row in connection.execute(sa.select(terms_table)):
        found.setdefault(row.server_id, set()).add(row.term)
    return found


def terms_of(records: Sequence[ServerRecord]) -> dict[str, set[str]]:
    return {record.id: set(terms) for record in records if (terms := server_terms.terms_of(record))}


def test_terms_are_those_of_the_record_that_the_index_has(top_database: Database) -> None:
    """Newer copies change them, copies that are not taken do not, and they go with their server."""
    records = list(server_fleet.records(40, LARGEST))
    with top_database.write() as connection:
        server_index.insert_records(connection, records)
        assert terms_in(connection) == terms_of(records)
    newer = [
        replace(
            one, version=one.version + 1, locked=not one.locked, ports=(), spec=replace(one.spec, tags=("new", "n%"))
        )
        for one in records[:20]
    ]
    older = [replace(one, version=one.version - 1, spec=replace(one.spec, tags=("old",))) for one in records[20:30]]
    foreign = [replace(one, version=99, cell="other", locked=True) for one in records[30:]]
    with top_database.write() as connection:
        assert server_index.upsert(connection, newer + older + foreign) == len(newer)
        assert terms_in(connection) == terms_of(newer + records[20:])
        assert not server_index.are_terms_stale(connection)
        gone = [record.id for record in records[:20]]
        connection.execute(sa.delete(table).where(table.c.id.in_(gone)))
        assert terms_in(connection) == terms_of(records[20:])


def test_servers_that_an_older_service_has_written_are_found(top_database: Database) -> None:
    """It knows no terms: what it has added or changed is found as it is, and then brought up to date."""
    plain, tagged = list(server_fleet.records(2, LARGEST))
    plain, tagged = (replace(one, deleted=False, vm_state=VmState.ACTIVE) for one in (plain, tagged))
    plain, tagged = (
        replace(plain, spec=replace(plain.spec, tags=())),
        replace(tagged, spec=replace(tagged.spec, tags=("t",))),
    )
    with top_database.write() as connection:
        server_index.insert_records(connection, [plain, tagged])
        for one, tags in ((plain, ("t",)), (tagged, ())):
            written = replace(one, version=one.version + 1, spec=replace(one.spec, tags=tags))
            values = {"version": written.version, "record": written}
            connection.execute(sa.update(table).where(table.c.id == one.id).values(**values))
    with_tag = [server_terms.tag("t")]

    def found(connection: sa.Connection, **asked: Any) -> set[str]:
        """What the database leaves for the records to be asked about."""
        return {one.id for one in server_lists.list_records(connection, ServerQuery(project_id=None, **asked))}

    with top_database.read() as connection:
        assert found(connection, terms=[with_tag]) == {plain.id, tagged.id}
        assert found(connection, lacking=[with_tag]) == {plain.id, tagged.id}
    with top_database.write() as connection:
        assert server_index.renew_terms(connection) == 2
        assert server_index.renew_terms(connection) == 0
    with top_database.read() as connection:
        assert found(connection, terms=[with_tag]) == {plain.id}
        assert found(connection, lacking=[with_tag]) == {tagged.id}
