"""What each operation tells the databases and the hosts: statements, of which one for many rows counts once, and
commands. In one process, on SQLite: the figures are exact, whatever else the machine does."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cellcloud.db import cell_schema, server_index, top_schema
from cellcloud.db.engine import Database
from cellcloud.model.guest_commands import GuestCommand
from cellcloud.model.server import ServerRecord
from tests.api.world import IMAGE, World
from tests.server_fleet import records
from tests.statements import counted
from tests.workflows.test_every_step import SPECS, begin_alone
from tests.workflows.world import CellUnderTest

TIMES = 3
TRANSACTIONS = ("BEGIN", "SAVEPOINT", "RELEASE", "ROLLBACK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """``writes``: transactions that write. ``commands``: to hosts."""

    statements: int
    writes: int
    commands: int = 0

    @classmethod
    def of(cls, seen: list[str], commands: int = 0) -> Cost:
        said = [each for each in seen if not each.startswith(TRANSACTIONS)]
        return cls(statements=len(said), writes=seen.count("BEGIN IMMEDIATE"), commands=commands)


class CountedCell(CellUnderTest):
    """Counts the commands that it sends to its hosts."""

    moves_on_results = True
    sent = 0

    def send(self, command: GuestCommand) -> None:
        self.sent += 1
        super().send(command)


def in_a_cell(database: Database) -> Iterator[tuple[str, Cost]]:
    """Yield what each operation costs a cell from its acceptance until it is done."""
    for name in SPECS:
        cell = CountedCell(database)
        with counted(database) as brought:
            begin_alone(cell, name)
        accepted = brought[len(brought) - brought[::-1].index("BEGIN IMMEDIATE") - 1 :]
        sent = cell.sent
        with counted(database) as seen:
            cell.run()
        yield name, Cost.of([*accepted, *seen], cell.sent - sent)
        with database.write() as connection:
            for table in reversed(cell_schema.metadata.sorted_tables):
                connection.execute(table.delete())


def at_the_top(database: Database, folder: Path) -> Iterator[tuple[str, Cost]]:
    """Yield what requests cost the top, and what it costs to take in what a cell tells: the least of three, as what is
    kept for some seconds may have to be read anew by one of them."""
    world = World(database, folder)
    spec = {"name": "a", "flavorRef": "1", "imageRef": IMAGE}
    many = {**spec, "min_count": 100, "max_count": 100, "return_reservation_id": True}
    asked = [("create", "/servers", {"server": spec}), ("create of 100", "/servers", {"server": many})]
    one = f"/servers/{world.create('one')}"
    asked += [(name, f"{one}/action", {name: None}) for name in ("os-stop", "os-start", "lock")]
    read = [("show", one), ("list in detail", "/servers/detail"), ("limits", "/limits")]
    costs: dict[str, list[Cost]] = {}
    for _ in range(TIMES):
        for name, path, body in asked:
            with counted(database, here=True) as seen:  # another thread delivers it meanwhile, or the one before
                world.post(path, body)
            costs.setdefault(name, []).append(Cost.of(seen))
    for name, path in read * TIMES:
        with counted(database) as seen:
            world.get(path)
        costs.setdefault(name, []).append(Cost.of(seen))
    for name, found in costs.items():
        yield name, min(found, key=lambda cost: cost.statements)
    copies = list(records(100, "p"))
    with database.write() as connection:
        server_index.insert_records(connection, copies)
    for name, tags in (("100 copies of a cell", None), ("100 copies with other tags", ("new",))):
        copies = [_next(record, tags) for record in copies]
        with counted(database) as seen, database.write() as connection:
            server_index.upsert(connection, copies)
        yield name, Cost.of(seen)
    world.close()


def _next(record: ServerRecord, tags: tuple[str, ...] | None) -> ServerRecord:
    spec = record.spec if tags is None else replace(record.spec, tags=tags)
    return replace(record, spec=spec, version=record.version + 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cellcloud-bench-") as folder:
        place = Path(folder)
        cell, top = (Database(f"sqlite:///{place}/{name}.db") for name in ("cell", "top"))
        for database, metadata in ((cell, cell_schema.metadata), (top, top_schema.metadata)):
            with database.write() as connection:
                metadata.create_all(connection)
        found = [("cell", *row) for row in in_a_cell(cell)] + [("top", *row) for row in at_the_top(top, place)]
        for database in (cell, top):
            database.close()
    for where, name, cost in found:
        if given.json:
            print(json.dumps({"where": where, "name": name, **asdict(cost)}))
        else:
            print(f"| {where} | {name} | {cost.statements} | {cost.writes} | {cost.commands} |")


if __name__ == "__main__":
    main()
