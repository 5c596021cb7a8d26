"""Pages of 20 of the list of servers, by each of what people filter and sort by, with a full index: the first page, one
in the middle and the last one, of a member's project (a seventh of the servers) and of an administrator over all; and
10,000 servers in detail, in order, by pages of 1,000.

Readings are processor time, of the API's process and of the database's server together: others' work counts little.
Each stands beside a GET of one server in the same minute.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import sqlalchemy as sa

from benchmarks.figures import Figure, report
from cellcloud.db import migrate
from cellcloud.db.engine import Database
from cellcloud.db.top_schema import server_index
from cellcloud.launcher.database_servers import MariaDb, PostgreSql
from tests.api.world import DEMO, World
from tests.daemons import running_database
from tests.server_fleet import fill, host_of, image_of

KINDS = ("sqlite", "mariadb", "postgresql")
LATE = "2025-11-28T00:00:00Z"
FILTERS = {  # name -> query
    "nothing": "",
    "name": "name=web-42",
    "name, exact": "name=" + quote("^web-1-000$"),
    "name, pattern": "name=" + quote("^db-.*7-"),
    "name of none": "name=nowhere",
    "status ACTIVE": "status=ACTIVE",
    "status ERROR": "status=ERROR",
    "status REBOOT": "status=REBOOT",
    "host": f"host={host_of(7)}",
    "node": f"node={host_of(7)}",
    "node of none": "node=nowhere",
    "ip": "ip=10.0.77.7",
    "ip, part": "ip=10.0.7",
    "ip, pattern": "ip=" + quote(r"^10\.0\.77\."),
    "ip of none": "ip=192.0.2.1",
    "ip6 of none": "ip6=2001:db8::1",
    "flavor": "flavor=3",
    "image": f"image={image_of(1)}",
    "availability zone": "availability_zone=zone-1",
    "changes-since, few": f"changes-since={LATE}",
    "changes-since, many": "changes-since=2024-06-01T00:00:00Z",
    "changes-before": "changes-before=2024-02-01T00:00:00Z",
    "tags": "tags=team-40",
    "tags of many": "tags=prod",
    "tags of none": "tags=nowhere",
    "tags, two": "tags=prod,team-40",
    "tags-any": "tags-any=team-20,team-40",
    "not-tags": "not-tags=prod",
    "not-tags-any": "not-tags-any=prod,team-40",
    "hostname": "hostname=host-77",
    "hostname of none": "hostname=nowhere",
    "created_at": "created_at=2024-06-01T00:00:00Z",
    "launched_at": "launched_at=2024-06-01T00:00:00Z",
    "key_name": "key_name=key-000",
    "reservation_id": "reservation_id=r-77",
    "task_state": "task_state=rebooting",
    "vm_state": "vm_state=stopped",
    "power_state": "power_state=4",
    "locked": "locked=true",
    "not locked": "locked=false",
    "deleted": "deleted=true",
    "user_id": "user_id=user-000-1",
    "status and flavor": "status=ERROR&flavor=3",
    "name and status": "name=web&status=SHUTOFF",
    "status and power_state that none has": "status=ACTIVE&power_state=4",
    "image and changes-before that none has": f"image={image_of(29)}&changes-before=2024-06-01T00:00:00Z",
    "zone and flavor and tags": "availability_zone=zone-1&flavor=0&tags=prod",
    "tags and not locked": "tags=team-40&locked=false",
}
TOGETHER = (  # name of a filter, order
    ("status ACTIVE", "display_name"), ("status ERROR", "updated_at"), ("flavor", "launched_at"),
    ("image", "created_at"), ("image", "updated_at"), ("availability zone", "hostname"), ("not-tags", "updated_at"),
    ("tags of many", "display_name"), ("name", "launched_at"), ("power_state", "terminated_at"),
    ("not locked", "task_state"), ("zone and flavor and tags", "power_state"),
)  # fmt: skip
SORTS = ("created_at", "updated_at", "display_name", "vm_state", "host", "launched_at", "instance_type_id", "image_ref",
         "availability_zone", "key_name", "user_id", "power_state", "task_state", "uuid", "project_id", "hostname",
         "terminated_at")  # fmt: skip
WALK = "10,000 in detail by pages of 1,000"
COLUMNS = {"display_name": "name", "instance_type_id": "flavor_id", "image_ref": "image_id", "uuid": "id",
           "terminated_at": "deleted_at"}  # fmt: skip
OPERATORS = (
    "host",
    "node",
    "node of none",
    "deleted",
    "task_state",
    "user_id",
    "hostname",
    "hostname of none",
)  # a member may not, or only later


@contextmanager
def full_index(kind: str, count: int) -> Iterator[Database]:
    """Yield a database of that kind with so many servers."""
    with tempfile.TemporaryDirectory(prefix="cellcloud-bench-") as folder:
        if kind == "sqlite":
            yield filled(f"sqlite:///{folder}/top.db", count)
            return
        server = MariaDb if kind == "mariadb" else PostgreSql
        with running_database(server, Path(folder) / "data", ("top",)) as running:
            yield filled(running.url("top"), count)


def filled(url: str, count: int) -> Database:
    database = Database(url, timeout=600)
    migrate.upgrade(database, "top")
    fill(database, count, largest=DEMO)
    statement = {"postgresql": "VACUUM ANALYZE", "sqlite": "ANALYZE"}.get(
        database.dialect, "ANALYZE TABLE server_index"
    )
    raw = database.engine.raw_connection()
    raw.cursor().execute(statement)
    raw.close()
    return database


def middle_of(database: Database, key: str, project: str | None) -> str:
    """Return the server in the middle of an order."""
    row = server_index.c
    mine = [] if project is None else [row.project_id == project]
    with database.read() as connection:
        total = connection.execute(sa.select(sa.func.count()).select_from(server_index).where(*mine)).scalar_one()
        order = (row[COLUMNS.get(key, key)], row.created_at, row.id)
        query = sa.select(row.id).where(*mine).order_by(*order).limit(1).offset(total // 2)
        return str(connection.execute(query).scalar_one())


class Processor:
    """Processor time of this process and of the database's server, whose threads are few."""

    def __init__(self, database: Database) -> None:
        ask = {"postgresql": "SELECT pg_backend_pid()", "mysql": "SELECT @@pid_file"}.get(database.dialect)
        self._tasks: Path | None = None
        if ask is not None:  # the pool gives its last connection again
            with database.read() as connection:
                told = str(connection.exec_driver_sql(ask).scalar_one())
            pid = told if told.isdigit() else _pid_in_its_own_place(told)
            self._tasks = Path(f"/proc/{pid}/task")

    def milliseconds(self, ask: Callable[[], object]) -> float:
        began = self._spent()
        ask()
        return (self._spent() - began) / 1e6

    def _spent(self) -> int:
        tasks = () if self._tasks is None else self._tasks.glob("*/schedstat")
        return time.process_time_ns() + sum(int(task.read_text().split()[0]) for task in tasks)


def _pid_in_its_own_place(path: str) -> str:
    """Return the process that has written its number there, as it sees its files."""
    for process in Path("/proc").glob("[0-9]*"):
        mine = process / "root" / path.lstrip("/")
        if (process / "comm").read_text().strip() == "mariadbd" and mine.read_text().strip() == process.name:
            return process.name
    raise LookupError(path)


class Asker:
    """An administrator of all projects, or a member of the largest."""

    def __init__(self, world: World, database: Database, role: str) -> None:
        self.world, self.database, self.token = world, database, role
        self.all = "&all_tenants=1" if role == "admin" else ""
        self.project = None if role == "admin" else DEMO

    def page(self, query: str) -> list[str]:
        answer = self.world.get(f"/v2.1/servers/detail?limit=20{self.all}&{query}", token=self.token, version="2.53")
        assert answer.status_code == 200, answer.get_data(as_text=True)
        return [server["id"] for server in answer.get_json()["servers"]]

    def walk(self) -> None:
        """Read 10,000 servers, which come in order and once each."""
        seen: list[tuple[str, str]] = []
        while len(seen) < 10_000:
            behind = f"&marker={seen[-1][1]}" if seen else ""
            answer = self.world.get(f"/servers/detail?limit=1000{self.all}{behind}", token=self.token)
            seen += [(server["created"], server["id"]) for server in answer.get_json()["servers"]]
        assert len(set(seen)) == 10_000
        assert [at for at, _ in seen] == sorted((at for at, _ in seen), reverse=True)

    def pages(self, query: str, key: str, way: str) -> dict[str, str]:
        """Page -> its query."""
        sorted_by = f"{query}&sort_key={key}&sort_dir={way}"
        back = self.page(f"{query}&sort_key={key}&sort_dir={'asc' if way == 'desc' else 'desc'}")
        found = {"first": sorted_by, "middle": f"{sorted_by}&marker={middle_of(self.database, key, self.project)}"}
        return {**found, "last": f"{sorted_by}&marker={back[-1]}"} if len(back) == 20 else found


def measure(kind: str, count: int, repeats: int, only: str) -> Iterator[Figure]:
    with full_index(kind, count) as database, tempfile.TemporaryDirectory() as folder:
        world = World(database, Path(folder))
        world.app.after_request_funcs[None].pop()  # what tests check of each answer
        with database.read() as connection:
            one = (
                connection.execute(sa.select(server_index.c.id).where(server_index.c.project_id == DEMO))
                .scalars()
                .first()
            )
        processor = Processor(database)

        def figure(name: str, ask: Callable[[], object], times: int) -> Figure:
            ask()
            pairs = [
                (processor.milliseconds(ask), processor.milliseconds(lambda: world.get(f"/servers/{one}")))
                for _ in range(times)
            ]
            readings, references = zip(*pairs, strict=True)
            return Figure(
                name=f"{kind}, {name}",
                unit="ms",
                readings=readings,
                reference="GET of one server, ms",
                reference_reading=statistics.median(references),
            )

        for token in ("member", "admin"):
            asker = Asker(world, database, token)
            cases = [(f"by {name}", query, "created_at", "desc") for name, query in FILTERS.items()
                     if asker.project is None or name not in OPERATORS]  # fmt: skip
            cases += [(f"in order of {key} {way}", "", key, way) for key in SORTS for way in ("asc", "desc")
                      if asker.project is None or key != "host"]  # fmt: skip
            cases += [(f"by {name} in order of {key} asc", FILTERS[name], key, "asc") for name, key in TOGETHER]
            for name, query, key, way in cases:
                if only not in name:
                    continue
                for page, asked in asker.pages(query, key, way).items():
                    yield figure(f"{token}, {name}, {page} page", functools.partial(asker.page, asked), repeats)
            if only in WALK:
                yield figure(f"{token}, {WALK}", asker.walk, repeats)
        world.close()
        database.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--servers", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--databases", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--only", default="", help="cases with this text in their names")
    given = parser.parse_args()
    for kind in given.databases:
        report(list(measure(kind, given.servers, given.repeats, given.only)), as_json=given.json)


if __name__ == "__main__":
    main()
