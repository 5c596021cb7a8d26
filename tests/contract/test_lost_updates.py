"""Ten writers at once, each with an item of its own, on everything that is a set, a map or a document: all ten stay."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from cell.conductor import server_field_updates
from cell.conductor.scheduling_store import SchedulingStoreService
from cellcloud import errors
from cellcloud.context import RequestContext
from cellcloud.db import (
    aggregates,
    flavors,
    hosts,
    identity,
    identity_assignments,
    image_cachings,
    images,
    quotas,
    servers,
    user_quotas,
)
from cellcloud.db.engine import Database, transact
from cellcloud.embedded.identity import EmbeddedIdentity
from cellcloud.embedded.images import EmbeddedImages
from cellcloud.model import scheduling_policy
from cellcloud.model.flavor import Flavor
from cellcloud.model.host import Aggregate
from cellcloud.model.identity import Grant, IdentityRole, Project, User
from cellcloud.model.image import Image
from cellcloud.model.tag_metadata_changes import ItemChanges
from tests.workflows.world import make_report, make_spec

WRITERS = 10
CONTEXT = RequestContext(user_id="u", project_id="p", budget=86_400)
SERVER = str(uuid.UUID(int=1))
IMAGE = str(uuid.UUID(int=2))
Writer = Callable[[int], object]
# What writes the item of a number, and what finds the numbers of all items there are.
Case = Callable[[Database, Path], tuple[Writer, Callable[[], Sequence[object]]]]


def all_at_once(write: Writer) -> None:
    start = Barrier(WRITERS)

    def one(number: int) -> None:
        start.wait(60)
        write(number)

    with ThreadPoolExecutor(WRITERS) as threads:
        for done in [threads.submit(one, number) for number in range(WRITERS)]:
            done.result()


# ---- in a cell -----------------------------------------------------------------------------------------------------
def a_server(database: Database, **changes: object) -> Callable[[], object]:
    with database.write() as connection:
        servers.insert_held(connection, [(make_spec(SERVER, **changes), "h1", "nova")], hold_seconds=60)

    def spec() -> object:
        with database.read() as connection:
            return servers.get(connection, SERVER).spec

    return spec


def server_tags_added(database: Database, _: Path) -> tuple[Writer, Callable[[], Sequence[object]]]:
    spec = a_server(database)
    return (
        lambda n: server_field_updates.change_items(database, CONTEXT, SERVER, ItemChanges(add_tags=(f"t{n}",))),
        lambda: spec().tags,
    )


def server_tags_removed(database: Database, _: Path) -> tuple[Writer, Callable[[], Sequence[object]]]:
    spec = a_server(database, tags=tuple(f"t{n}" for n in range(WRITERS)))
    return (
        lambda n: server_field_updates.change_items(database, CONTEXT, SERVER, ItemChanges(remove_tags=(f"t{n}",))),
        lambda: [f"t{n}" for n in range(WRITERS) if f"t{n}" not in spec().tags],
    )


def server_metadata_set(database: Database, _: Path) -> tuple[Writer, Callable[[], Sequence[object]]]:
    spec = a_server(database)
    return (
        lambda n: server_field_updates.change_items(
            database, CONTEXT, SERVER, ItemChanges(set_metadata={f"k{n}": "v"})
        ),
        lambda: list(spec().metadata),
    )


def server_metadata_removed(database: Database, _: Path) -> tuple[Writer, Callable[[], Sequence[object]]]:
    spec = a_server(database, metadata={f"k{n}": "v" for n in range(WRITERS)})
    return (
        lambda n: server_field_updates.change_items(database, CONTEXT, SERVER, ItemChanges(remove_metadata=(f"k{n}",))),
        lambda: [f"k{n}" for n in range(WRITERS) if f"k{n}" not in spec().metadata],
    )


def aggregates_of_one_host(database: Database, _: Path) -> tuple[Writer, Callable[[], Sequence[object]]]:
    """Each names a zone; the host is in that of the first aggregate, whoever came last."""
    store = SchedulingStoreService(database)
    with database.write() as connection:
        hosts.report(connection, [make_report("h1")])

    def write(number: int) -> None:
        zone = {"availability_zone": f"z{number}"}
        store.set_aggregates(CONTEXT, [Aggregate(id=number, name=f"a{number}", hosts=("h1",), metadata=zone)], [], 0)

    def found() -> Sequence[object]:
        with database.read() as connection:
            assert [state.zone for state in hosts.list_states(connection)] == ["z0"]
        return [aggregate.name for aggregate in store.list_aggregates(CONTEXT)]

    return write, found


def policies_added(database: Database, _: Path) -> tuple[Writer, Callable[[], Sequence[object]]]:
    store = SchedulingStoreService(database)
    document = scheduling_policy.to_plain(scheduling_policy.DEFAULT)
    return (
        lambda n: store.add_policy(CONTEXT, document, f"c{n}"),
        lambda: [one.comment for one in store.list_policies(CONTEXT) if one.version],
    )


def images_to_fetch(database: Database, _: Path) -> tuple[Writer, Callable[[], Sequence[object]]]:
    with database.write() as connection:
        hosts.report(connection, [make_report("h1")])

    def found() -> Sequence[object]:
        with database.write() as connection:
            (asked,), _ = image_cachings.begin_some(connection, 1)
        return [image.id for image in asked.images]

    return lambda n: transact(database, lambda c: image_cachings.ask(c, ["h1"], [Image(id=f"i{n}")], "r")), found


IN_A_CELL: list[tuple[Case, str]] = [
    (server_tags_added, "t"),
    (server_tags_removed, "t"),
    (server_metadata_set, "k"),
    (server_metadata_removed, "k"),
    (aggregates_of_one_host, "a"),
    (policies_added, "c"),
    (images_to_fetch, "i"),
]


# ---- at the top ----------------------------------------------------------------------------------------------------
def an_image(database: Database, folder: Path, **fields: object) -> tuple[EmbeddedImages, Callable[[], Image]]:
    service = EmbeddedImages(database, folder, max_bytes=1)
    with database.write() as connection:
        images.insert_image(connection, Image(id=IMAGE, status="queued", owner="p", **fields))
    return service, lambda: service.get_image(IMAGE, project_id="p", is_admin=False)


def image_tags(database: Database, folder: Path) -> tuple[Writer, Callable[[], Sequence[object]]]:
    service, image = an_image(database, folder)
    return (
        lambda n: service.change_image(
            IMAGE, lambda i: replace(i, tags=(*i.tags, f"t{n}")), project_id="p", is_admin=False
        ),
        lambda: image().tags,
    )


def image_properties(database: Database, folder: Path) -> tuple[Writer, Callable[[], Sequence[object]]]:
    service, image = an_image(database, folder)
    return (
        lambda n: service.change_image(
            IMAGE, lambda i: replace(i, properties=i.properties | {f"k{n}": "v"}), project_id="p", is_admin=False
        ),
        lambda: list(image().properties),
    )


def a_flavor(database: Database, **fields: object) -> Callable[[], Flavor]:
    flavor = Flavor(id="f", name="f", vcpus=1, memory_mb=1, root_gb=1, **fields)
    transact(database, lambda connection: flavors.create_flavor(connection, flavor))

    def found() -> Flavor:
        with database.read() as connection:
            return flavors.get_flavor(connection, "f", project_id=None)

    return found


def extra_specs_set(database: Database, _: Path) -> tuple[Writer, Callable[[], Sequence[object]]]:
    flavor = a_flavor(database)
    return (
        lambda n: transact(database, lambda connection: flavors.set_extra_specs(connection, "f", {f"k{n}": "v"})),
        lambda: list(flavor().extra_specs),
    )


def extra_specs_removed(database: Database, _: Path) -> tuple[Writer, Callable[[], Sequence[object]]]:
    flavor = a_flavor(database, extra_specs={f"k{n}": "v" for n in range(WRITERS)})
    return (
        lambda n: transact(database, lambda connection: flavors.delete_extra_spec(connection, "f", f"k{n}")),
        lambda: [f"k{n}" for n in range(WRITERS) if f"k{n}" not in flavor().extra_specs],
    )


def flavor_access(database: Database, _: Path) -> tuple[Writer, Callable[[], Sequence[object]]]:
    a_flavor(database, is_public=False)

    def found() -> Sequence[object]:
        with database.read() as connection:
            return flavors.list_projects(connection, "f")

    return lambda n: transact(database, lambda connection: flavors.add_project(connection, "f", f"p{n}")), found


def quota_sets(database: Database, _: Path) -> tuple[Writer, Callable[[], Sequence[object]]]:
    """Each sets a limit of its own, and one that all of them set for the first time."""

    def found() -> Sequence[object]:
        with database.read() as connection:
            return [name for name in quotas.list_limits(connection, "p", {}) if name != "cores"]

    return (
        lambda n: transact(database, lambda connection: quotas.set_limits(connection, "p", {f"r{n}": n, "cores": n})),
        found,
    )


def an_identity(database: Database) -> EmbeddedIdentity:
    with database.write() as connection:
        identity.USERS.insert(connection, User(id="u", name="u"), password_hash="")
        identity.PROJECTS.insert(connection, Project(id="p", name="p"))
        for number in range(WRITERS):
            identity_assignments.ROLES.insert(connection, IdentityRole(id=f"r{number}", name=f"r{number}"))
    return EmbeddedIdentity(database)


def grants(database: Database, _: Path) -> tuple[Writer, Callable[[], Sequence[object]]]:
    """Each gives a role of its own, and one that all of them give."""
    service = an_identity(database)

    def write(number: int) -> None:
        for role in (f"r{number}", "r0"):
            service.assignments.add_grant(Grant(actor_id="u", scope_id="p", role_id=role))

    return write, lambda: [grant.role_id for grant in service.assignments.list_grants(actor_id="u")]


def user_attributes(database: Database, _: Path) -> tuple[Writer, Callable[[], Sequence[object]]]:
    service = an_identity(database)

    def extra() -> Any:
        return service.accounts.users.get("u").extra

    return (
        lambda n: service.accounts.update_user("u", {"extra": {f"k{n}": n, "options": {f"o{n}": False}}}),
        lambda: [name for name in extra() if f"o{name[1:]}" in extra()["options"]],
    )


def an_aggregate(database: Database) -> tuple[int, Callable[[], Aggregate]]:
    number = transact(database, lambda connection: aggregates.create(connection, "a", None)).id

    def found() -> Aggregate:
        with database.read() as connection:
            return aggregates.get(connection, number)

    return number, found


def aggregate_metadata(database: Database, _: Path) -> tuple[Writer, Callable[[], Sequence[object]]]:
    number, aggregate = an_aggregate(database)
    return (
        lambda n: transact(database, lambda c: aggregates.set_metadata(c, number, {f"k{n}": "v"})),
        lambda: list(aggregate().metadata),
    )


def aggregate_hosts(database: Database, _: Path) -> tuple[Writer, Callable[[], Sequence[object]]]:
    number, aggregate = an_aggregate(database)
    return (
        lambda n: transact(database, lambda c: aggregates.add_host(c, number, f"h{n}", "east")),
        lambda: aggregate().hosts,
    )


def limits_of_a_user(database: Database, _: Path) -> tuple[Writer, Callable[[], Sequence[object]]]:
    def found() -> Sequence[object]:
        with database.read() as connection:
            return [name for name in user_quotas.list_limits(connection, "p", "u") if name != "cores"]

    return (
        lambda n: transact(database, lambda c: user_quotas.set_limits(c, "p", "u", {f"r{n}": n, "cores": n})),
        found,
    )


AT_THE_TOP: list[tuple[Case, str]] = [
    (image_tags, "t"),
    (image_properties, "k"),
    (extra_specs_set, "k"),
    (extra_specs_removed, "k"),
    (flavor_access, "p"),
    (quota_sets, "r"),
    (grants, "r"),
    (user_attributes, "k"),
    (aggregate_metadata, "k"),
    (aggregate_hosts, "h"),
    (limits_of_a_user, "r"),
]


def _check(case: Case, letter: str, database: Database, folder: Path) -> None:
    write, found = case(database, folder)
    all_at_once(write)
    assert sorted(map(str, found())) == [f"{letter}{number}" for number in range(WRITERS)]


@pytest.mark.parametrize(("case", "letter"), IN_A_CELL, ids=lambda value: getattr(value, "__name__", ""))
def test_ten_writers_in_a_cell(case: Case, letter: str, cell_database: Database, tmp_path: Path) -> None:
    _check(case, letter, cell_database, tmp_path)


@pytest.mark.parametrize(("case", "letter"), AT_THE_TOP, ids=lambda value: getattr(value, "__name__", ""))
def test_ten_writers_at_the_top(case: Case, letter: str, top_database: Database, tmp_path: Path) -> None:
    _check(case, letter, top_database, tmp_path)


def test_a_bound_holds_for_ten_writers_at_once(cell_database: Database) -> None:
    spec = a_server(cell_database)
    refused: list[errors.CellcloudError] = []

    def write(number: int) -> None:
        changes = ItemChanges(add_tags=(f"t{number}",), set_metadata={f"k{number}": "v"}, most_tags=4, most_metadata=4)
        try:
            server_field_updates.change_items(cell_database, CONTEXT, SERVER, changes)
        except errors.Invalid as error:
            refused.append(error)

    all_at_once(write)
    assert (len(spec().tags), len(spec().metadata), len(refused)) == (4, 4, WRITERS - 4)
