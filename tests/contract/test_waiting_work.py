"""The router's one look, on every database."""

from __future__ import annotations

import sqlalchemy as sa

from cellcloud.db import waiting_work
from cellcloud.db.engine import Database, utc_after, utc_now
from cellcloud.db.network_schema import security_groups
from cellcloud.db.volume_schema import volume_tasks
from tests.statements import counted


def test_what_waits_is_seen_by_one_statement(top_database: Database) -> None:
    def look() -> tuple[object, list[str]]:
        with top_database.read() as connection:
            return waiting_work.look(connection)

    with counted(top_database) as seen:
        nothing, cells = look()
    assert len([one for one in seen if not one.startswith("BEGIN")]) == 1
    assert cells == []
    with top_database.write() as connection:
        times = {"created_at": utc_now(), "updated_at": utc_now()}
        connection.execute(sa.insert(security_groups).values(id="1" * 36, project_id="p", **times))
        for number, (cell, free) in enumerate((("east", -5.0), ("east", -5.0), ("", -5.0), ("west", 60.0))):
            task = {"id": f"task-{number}", "volume_id": f"volume-{number}", "task": {}, "created_at": utc_now()}
            connection.execute(sa.insert(volume_tasks).values(cell=cell, host="", lease_until=utc_after(free), **task))
    added, cells = look()
    assert added != nothing
    assert sorted(cells) == ["", "east"]
    with top_database.write() as connection:
        connection.execute(sa.update(security_groups).values(name="b"))
    assert look()[0] == added
    with top_database.write() as connection:
        connection.execute(sa.update(security_groups).values(version=security_groups.c.version + 1))
    assert look()[0] != added
