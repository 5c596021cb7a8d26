"""A database is copied while it is in use, and put back as it was at that moment, as another incarnation."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from cell.conductor.placement import reservation_batching
from cellcloud import errors
from cellcloud.context import RequestContext
from cellcloud.db import backups, cell_schema, database_incarnations, migrate, runs, servers, top_schema
from cellcloud.db.engine import Database
from cellcloud.launcher import database_commands as commands
from cellcloud.model.operations import Operation
from cellcloud.server_states import VmState
from tests.contract.test_database import IDS
from tests.contract.test_intents import accept
from tests.workflows.world import CellUnderTest


def told(lines: list[str]) -> backups.Tell:
    return lines.append


def known(database: Database) -> set[str]:
    with database.read() as connection:
        return set(connection.execute(sa.select(top_schema.server_index.c.id)).scalars())


def incarnation(database: Database) -> str:
    with database.read() as connection:
        found = database_incarnations.find(connection)
    return found.id if found else ""


def test_a_top_is_put_back_as_it_was(top_database: Database, database_url: str, tmp_path: Path) -> None:
    url = database_url.replace("/cell", "/top")
    migrate.upgrade(top_database, "top")  # an incarnation of its own
    before, _ = accept(top_database, 20)
    kept, lines = tmp_path / "kept", list[str]()
    stop = threading.Event()
    later: list[str] = []

    def go_on() -> None:
        while not stop.is_set():
            later.extend(accept(top_database, 1)[0])

    writer = threading.Thread(target=go_on)
    writer.start()
    try:
        about = backups.take(url, "top", kept, told(lines))
    finally:
        stop.set()
        writer.join()
    assert about.incarnation == incarnation(top_database)
    assert sorted(path.name for path in kept.iterdir()) == ["about.json", "data"]
    assert (kept / "data").stat().st_mode & 0o077 == 0 or kept.stat().st_mode & 0o077 == 0
    with pytest.raises(errors.Conflict):
        backups.take(url, "top", kept, told(lines))

    with pytest.raises(errors.Conflict, match="in use"):
        backups.put_back(url, "top", kept, told(lines))
    after, _ = accept(top_database, 3)
    first = incarnation(top_database)
    top_database.close()
    with pytest.raises(errors.Conflict, match="backup of top"):
        backups.put_back(url, "east", kept, told(lines))
    begun = backups.put_back(url, "top", kept, told(lines))
    assert lines
    assert begun.id not in ("", first)
    assert begun.number == 2
    found = known(top_database)
    assert set(before) <= found <= {*before, *later}
    assert not found & set(after)
    assert incarnation(top_database) == begun.id
    top_database.close()
    assert list(tmp_path.glob("kept.replaced-*/*"))


def test_a_cell_is_put_back_and_its_versions_leap(cell_database: Database, database_url: str, tmp_path: Path) -> None:
    migrate.upgrade(cell_database, "cell")
    cell = CellUnderTest(cell_database)
    cell.create(IDS[2])
    cell.run()
    cell.begin(IDS[2], Operation.REBUILD)
    cell.create(IDS[0])
    kept = tmp_path / "kept"
    backups.take(database_url, "east", kept, told([]))
    cell.create(IDS[1])
    before = cell.record(IDS[0])
    with pytest.raises(errors.Conflict):
        backups.put_back(database_url, "west", kept, told([]))
    cell_database.close()
    backups.put_back(database_url, "east", kept, told([]))
    with cell_database.read() as connection:
        (found,) = servers.list_by_id(connection, IDS[:2])
        assert runs.list_operations(connection, IDS[:3]) == {IDS[0]: Operation.CREATE}
        outputs = connection.execute(sa.select(cell_schema.runs.c.outputs).where(cell_schema.runs.c.active == 1))
        assert outputs.scalars().all() == [{"put_back": True}]
    rebuilt = cell.record(IDS[2])
    assert rebuilt.fault is not None
    assert (rebuilt.vm_state, rebuilt.task_state, rebuilt.fault.message) == (
        VmState.ERROR,
        None,
        database_incarnations.PUT_BACK,
    )
    assert found.id == IDS[0]
    assert found.version > before.version + 1_000_000
    answer = reservation_batching.reserve(
        cell_database, cell.scheduler, RequestContext(), [found.spec], hold_seconds=60
    )[0]
    assert answer.outcome == "settled"
    cell_database.close()


def test_what_is_no_backup_and_no_database_is_refused(tmp_path: Path) -> None:
    missing = f"sqlite:///{tmp_path}/none.sqlite"
    with pytest.raises(errors.NotFound):
        backups.take(missing, "top", tmp_path / "kept", told([]))
    assert not (tmp_path / "none.sqlite").exists()
    (tmp_path / "other").mkdir()
    with pytest.raises(errors.Invalid):
        backups.put_back(missing, "top", tmp_path / "other", told([]))
    cell = Database(f"sqlite:///{tmp_path}/cell.sqlite")
    migrate.upgrade(cell, "cell")
    with pytest.raises(errors.Misconfigured):
        backups.take(f"sqlite:///{tmp_path}/cell.sqlite", "top", tmp_path / "kept", told([]))
    assert not (tmp_path / "kept").exists()
    cell.close()


def test_the_commands(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/cell.sqlite")
    migrate.upgrade(database, "cell")
    first = incarnation(database)
    file = tmp_path / "cellcloud.conf"
    file.write_text(f"[cell]\nname = east\nconnection = sqlite:///{tmp_path}/cell.sqlite\n")

    def run(command: object, *words: str) -> tuple[int, str]:
        done = CliRunner().invoke(command, [*words, "--config", str(file)])  # type: ignore[arg-type]
        return done.exit_code, done.output

    assert run(commands.backup, "east", str(tmp_path / "kept"))[0] == 0
    code, said = run(commands.restore, "east", str(tmp_path / "kept"))
    assert (code, "in use" in said) == (1, True)
    assert run(commands.promoted, "east", "--reason", "a test")[0] == 0
    second = incarnation(database)
    assert second != first
    database.close()
    assert run(commands.restore, "east", str(tmp_path / "kept"))[0] == 0
    assert incarnation(database) not in (first, second)
    database.close()
    assert run(commands.backup, "west", str(tmp_path / "more"))[0] == 1
