"""Migrations of servers, listed and shown at each microversion, to whom may see them."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import pytest

from cellcloud.model.flavor import Flavor
from cellcloud.model.migration import Migration, MigrationStatus, MigrationType
from tests.api.test_server_operations import take_in
from tests.api.world import DEMO, OTHER, World

AT = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
SMALL = Flavor(id="1", name="m1.tiny", vcpus=1, memory_mb=512, root_gb=1)
LARGE = Flavor(id="2", name="m1.small", vcpus=2, memory_mb=1024, root_gb=2)
FIELDS = {
    *("id", "instance_uuid", "status", "source_compute", "source_node", "dest_compute", "dest_node", "dest_host"),
    *("old_instance_type_id", "new_instance_type_id", "created_at", "updated_at"),
}


def make_migration(number: int, **changes: Any) -> Migration:
    values: dict[str, Any] = {
        "id": str(uuid.UUID(int=number)),
        "type": MigrationType.RESIZE,
        "status": MigrationStatus.CONFIRMED,
        "source": "east-1",
        "source_zone": "nova",
        "destination": f"east-{number}",
        "destination_address": "192.0.2.1",
        "old_flavor": SMALL,
        "new_flavor": SMALL,
        "vm_state": "active",
        "power_state": 1,
        "user_id": "mover",
        "project_id": DEMO,
        "created_at": AT + dt.timedelta(days=number),
    }
    return Migration(**values | changes)


@pytest.fixture
def moved(world: World) -> World:
    """A world with three moves of two servers, the newest of another project."""
    first, second = world.create(), world.create(token="other")
    mine = (
        make_migration(2),
        make_migration(3, type=MigrationType.MIGRATION, status=MigrationStatus.ERROR, updated_at=AT, new_flavor=LARGE),
    )
    take_in(world, world.cell_of(first).change(first, migrations=mine))
    other = make_migration(4, project_id=OTHER, user_id="other")
    take_in(world, world.cell_of(second).change(second, migrations=(other,)))
    return world


def listed(world: World, query: str = "", *, version: str = "2.80", token: str = "admin") -> list[int]:
    """The numbers in the ids of what is listed."""
    answer = world.get(f"/os-migrations{query}", version=version, token=token)
    assert answer.status_code == 200, answer.get_json()
    return [uuid.UUID(one["uuid"]).int for one in answer.get_json()["migrations"]]


@pytest.mark.parametrize(
    ("version", "fields"),
    [
        ("2.1", FIELDS),
        ("2.22", FIELDS),
        ("2.23", FIELDS | {"migration_type"}),
        ("2.58", FIELDS | {"migration_type"}),
        ("2.59", FIELDS | {"migration_type", "uuid"}),
        ("2.79", FIELDS | {"migration_type", "uuid"}),
        ("2.80", FIELDS | {"migration_type", "uuid", "user_id", "project_id"}),
    ],
)
def test_each_microversion_shows_its_fields(moved: World, version: str, fields: set[str]) -> None:
    shown = moved.get("/os-migrations", version=version, token="admin").get_json()
    assert shown.keys() == {"migrations"}
    assert [one.keys() for one in shown["migrations"]] == [fields] * 3
    newest = shown["migrations"][1]
    assert (newest["source_compute"], newest["dest_compute"], newest["dest_host"]) == ("east-1", "east-3", "192.0.2.1")
    assert (newest["status"], newest["old_instance_type_id"], newest["new_instance_type_id"]) == ("error", 1, 2)
    assert newest["created_at"] == "2026-01-04T00:00:00.000000"


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", [4, 3, 2]),
        ("?status=error", [3]),
        ("?migration_type=resize", [4, 2]),
        ("?host=east-3", [3]),
        ("?host=east-1", [4, 3, 2]),
        ("?source_compute=east-3", []),
        ("?hidden=true", []),
        ("?user_id=other", [4]),
        (f"?project_id={DEMO}", [3, 2]),
        ("?changes-since=2026-01-03T00:00:00Z", [4, 2]),
        ("?changes-before=2026-01-02T00:00:00Z", [3]),
        ("?limit=2", [4, 3]),
        (f"?limit=2&marker={uuid.UUID(int=3)}", [2]),
    ],
)
def test_what_is_asked_for_is_listed(moved: World, query: str, found: list[int]) -> None:
    assert listed(moved, query) == found


def test_the_link_leads_to_the_next_page(moved: World) -> None:
    page = moved.get("/os-migrations?limit=2", version="2.59", token="admin").get_json()
    (link,) = page["migrations_links"]
    assert link["href"].endswith(f"/os-migrations?limit=2&marker={uuid.UUID(int=3)}")
    assert moved.get("/os-migrations?marker=none", version="2.59", token="admin").status_code == 400


def test_managers_see_their_own_projects_without_hosts(moved: World) -> None:
    assert moved.get("/os-migrations", version="2.80").status_code == 403
    manager = "manager"
    assert moved.get("/os-migrations", version="2.80", token=manager).status_code == 403
    assert listed(moved, f"?project_id={DEMO}", token=manager) == [3, 2]
    shown = moved.get(f"/os-migrations?project_id={DEMO}", version="2.80", token=manager).get_json()["migrations"]
    assert {one[name] for one in shown for name in one if name.startswith(("source_", "dest_"))} == {None}
    assert moved.get(f"/os-migrations?project_id={OTHER}", version="2.80", token=manager).status_code == 403


def test_a_later_copy_changes_its_migration_and_an_older_one_does_not(world: World) -> None:
    server_id = world.create()
    cell = world.cell_of(server_id)
    before = cell.change(server_id, migrations=(make_migration(1, status=MigrationStatus.MIGRATING),))
    take_in(world, before)
    take_in(world, cell.change(server_id, migrations=(make_migration(1, status=MigrationStatus.FINISHED),)))
    take_in(world, before)
    (shown,) = world.get("/os-migrations", token="admin").get_json()["migrations"]
    assert shown["status"] == "finished"


@pytest.mark.parametrize(
    ("was", "ended"),
    [("finished", "confirmed"), ("confirming", "confirmed"), ("migrating", "error"), ("reverted", "reverted")],
)
def test_a_move_is_over_with_its_server(world: World, was: str, ended: str) -> None:
    """A server whose host is away is shown as deleted before its cell has settled its move."""
    server_id = world.create()
    take_in(world, world.cell_of(server_id).change(server_id, migrations=(make_migration(1, status=was),)))
    take_in(world, world.cell_of(server_id).change(server_id, deleted=True))
    (shown,) = world.get("/os-migrations", token="admin").get_json()["migrations"]
    assert (shown["instance_uuid"], shown["status"]) == (server_id, ended)


def test_a_server_lists_its_live_migrations_and_there_are_none(moved: World) -> None:
    shown = moved.get("/os-migrations", version="2.59", token="admin").get_json()["migrations"][-1]
    path = f"/servers/{shown['instance_uuid']}/migrations"
    assert moved.get(path, version="2.23", token="admin").get_json() == {"migrations": []}
    for number, text in ((shown["id"], "is not live-migration."), (9999, "is not found for server")):
        answer = moved.get(f"{path}/{number}", version="2.23", token="admin")
        assert answer.status_code == 404
        assert text in answer.get_json()["itemNotFound"]["message"]
    refused = moved.call("DELETE", f"{path}/1", version="2.24", token="admin")
    assert (refused.status_code, "while it is in task_state None" in refused.get_data(as_text=True)) == (409, True)
