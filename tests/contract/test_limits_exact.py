"""Fifty or two hundred at once with room for ten: exactly ten get it, and nobody is refused while there is room."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import pytest
import sqlalchemy as sa

from cell.conductor import server_field_updates
from cellcloud import config as options
from cellcloud import errors
from cellcloud.context import RequestContext
from cellcloud.db import keypairs, quotas, server_groups, server_index, servers, top_schema, user_quotas
from cellcloud.db.engine import Connection, Database, transact
from cellcloud.embedded.image_contents import ImageLimits
from cellcloud.embedded.images import EmbeddedImages
from cellcloud.model.flavor import Flavor
from cellcloud.model.image import Image
from cellcloud.model.keypair import Keypair
from cellcloud.model.server import ServerSpec
from cellcloud.model.server_group import SOFT_AFFINITY, ServerGroup
from cellcloud.model.tag_metadata_changes import ItemChanges
from tests.workflows.world import make_spec
from top_api.request_acceptance import Admission, CreateRequest

TOGETHER, MANY, MOST = 50, 200, 10
CONTEXT = RequestContext(user_id="u", project_id="p", budget=86_400)
SERVER = str(uuid.UUID(int=1))


def together(ask: Callable[[int], object], refused: type[errors.CellcloudError], count: int = TOGETHER) -> int:
    """How many got what they asked for; the others are refused by name."""
    start = Barrier(count)

    def one(number: int) -> bool:
        start.wait(60)
        for _ in range(5):
            try:
                ask(number)
            except refused:
                return False
            except errors.Busy:  # asked again, as its answer says
                continue
            return True
        pytest.fail("nobody may be busy for ever")

    with ThreadPoolExecutor(count) as threads:
        return sum(threads.map(one, range(count)))


def test_keypairs_of_a_user(top_database: Database) -> None:
    def ask(number: int) -> None:
        keypair = Keypair(name=f"k{number}", user_id="u", public_key="p", fingerprint="f")
        transact(top_database, lambda c: keypairs.create_keypair(c, keypair, most=MOST))

    assert together(ask, errors.QuotaExceeded) == MOST
    with top_database.write() as connection:
        assert len(keypairs.list_keypairs(connection, "u")) == MOST
        for pair in keypairs.list_keypairs(connection, "u")[:3]:
            keypairs.delete_keypair(connection, "u", pair.name)
    assert together(lambda number: ask(number + TOGETHER), errors.QuotaExceeded) == 3


@pytest.mark.parametrize("resource", ["instances", "cores", "ram"])
def test_servers_of_a_user(top_database: Database, resource: str) -> None:
    flavor = Flavor(id="1", name="f", vcpus=2, memory_mb=64, root_gb=1)
    limit = MOST * quotas.cost_of(flavor)[resource]
    acceptances = [Admission(top_database, options.load(), f"api-{number}") for number in range(4)]
    made: list[str] = []

    def create(number: int, user_id: str = "u") -> None:
        context = RequestContext(user_id=user_id, project_id="p")
        spec = ServerSpec(id="", name="s", project_id="p", user_id=user_id, flavor=flavor, image=Image(id="i"))
        wanted = CreateRequest(spec=spec, min_count=1, max_count=1)
        made.extend(acceptances[number % 4].accept(context, wanted)[0].server_ids)

    def give(most: int) -> None:
        transact(top_database, lambda c: user_quotas.set_limits(c, "p", "u", {resource: most}))

    transact(top_database, lambda c: quotas.set_limits(c, "p", {"instances": -1, "cores": -1, "ram": -1}))
    give(limit)
    assert together(create, errors.QuotaExceeded) == MOST
    create(0, "another")
    for server_id in made[:3]:
        acceptances[0].delete(CONTEXT, server_id)
    # a limit that is given while servers are made counts those that were made before, and then each of the others
    transact(top_database, lambda c: user_quotas.delete_limits(c, "p", "u"))
    assert together(lambda number: give(limit) if number == 7 else create(number), errors.QuotaExceeded) >= 3
    with top_database.read() as connection:
        assert quotas.recount(connection) == []
        used = quotas.list_usages(connection, "p")[resource]
        ((most, counted),) = user_quotas.list_counted(connection, "p", "u").values()
        assert (most, counted) == (limit, used - quotas.cost_of(flavor)[resource])


def test_servers_of_a_project_and_of_a_group(top_database: Database) -> None:
    """By each resource in turn; then of the servers of a group, whose project has room for all."""
    flavor = Flavor(id="1", name="f", vcpus=2, memory_mb=64, root_gb=1)
    acceptances = [Admission(top_database, options.load(), f"api-{number}") for number in range(4)]
    group = ServerGroup(id=SERVER, name="g", project_id="p", user_id="u", policy=SOFT_AFFINITY)

    def create(number: int, **more: object) -> None:
        spec = ServerSpec(id="", name="s", project_id="p", user_id="u", flavor=flavor, image=Image(id="i"), **more)  # type: ignore[arg-type]
        acceptances[number % 4].accept(CONTEXT, CreateRequest(spec=spec, min_count=1, max_count=1))

    boundless = {"instances": -1, "cores": -1, "ram": -1}
    for before, resource in enumerate(boundless):
        limit = (before + 1) * MOST * quotas.cost_of(flavor)[resource]
        limits = boundless | {resource: limit}
        transact(top_database, lambda c, limits=limits: quotas.set_limits(c, "p", limits))
        assert together(create, errors.QuotaExceeded, MANY) == MOST
    transact(top_database, lambda c: quotas.set_limits(c, "p", boundless))
    transact(top_database, lambda c: server_groups.create(c, group, most=-1, most_of_user=-1))
    assert together(lambda number: create(number, group=group), errors.QuotaExceeded, MANY) == MOST
    with top_database.read() as connection:
        assert quotas.list_usages(connection, "p")["instances"] == 4 * MOST
        assert len(server_groups.list_members(connection, [group.id])[group.id]) == MOST
        assert quotas.recount(connection) == []


@pytest.mark.parametrize("way", ["restore", "resize"])
def test_servers_that_come_back_or_grow(top_database: Database, way: str) -> None:
    flavor, larger = (Flavor(id=f"{n}", name="f", vcpus=n, memory_mb=64 * n, root_gb=1) for n in (2, 4))
    acceptance = Admission(top_database, options.load(), "api")
    unlimited = {"instances": -1, "cores": -1, "ram": -1}
    transact(top_database, lambda c: quotas.set_limits(c, "p", unlimited))
    spec = ServerSpec(id="", name="s", project_id="p", user_id="u", flavor=flavor, image=Image(id="i"))
    wanted = CreateRequest(spec=spec, min_count=TOGETHER, max_count=TOGETHER)
    ids = acceptance.accept(CONTEXT, wanted)[0].server_ids
    if way == "restore":
        with top_database.write() as connection:  # as soft deletes leave them
            connection.execute(sa.update(top_schema.server_index).values(quota_held=False))
            quotas.mend(connection, "p")
    room = MOST * 2 + (0 if way == "restore" else TOGETHER * 2)
    limits = unlimited | {"cores": room}

    def ask(number: int) -> None:
        def count(connection: Connection) -> None:
            record = server_index.lock_records(connection, [ids[number]])[ids[number]]
            if way == "restore":
                fits = server_index.hold_quota(connection, record, limits)
            else:
                fits = server_index.count_as(connection, record, quotas.cost_of(larger), limits)
            if not fits:
                raise errors.QuotaExceeded("no room")

        transact(top_database, count)

    assert together(ask, errors.QuotaExceeded) == MOST
    with top_database.read() as connection:
        assert quotas.list_usages(connection, "p")["cores"] == room
        if way == "restore":  # a resize is counted before its cell has begun it
            assert quotas.recount(connection) == []


@pytest.mark.parametrize("of_user", [False, True])
def test_server_groups(top_database: Database, *, of_user: bool) -> None:
    def ask(number: int) -> None:
        group_id = str(uuid.UUID(int=number + 1))
        group = ServerGroup(id=group_id, name="g", project_id="p", user_id="u", policy=SOFT_AFFINITY)
        most, most_of_user = (-1, MOST) if of_user else (MOST, -1)
        transact(top_database, lambda c: server_groups.create(c, group, most=most, most_of_user=most_of_user))

    assert together(ask, errors.QuotaExceeded) == MOST
    with top_database.write() as connection:
        for group in server_groups.list_page(connection, "p", limit=3, offset=1):
            server_groups.delete(connection, group.id)
    assert together(lambda number: ask(number + TOGETHER), errors.QuotaExceeded) == 3


def test_metadata_items_of_a_server(cell_database: Database) -> None:
    with cell_database.write() as connection:
        servers.insert_held(connection, [(make_spec(SERVER), "h1", "nova")], hold_seconds=60)

    def ask(number: int) -> None:
        changes = ItemChanges(set_metadata={f"k{number}": "v"}, most_metadata=MOST)
        server_field_updates.change_items(cell_database, CONTEXT, SERVER, changes)

    assert together(ask, errors.QuotaExceeded) == MOST
    with cell_database.read() as connection:
        assert len(servers.get(connection, SERVER).spec.metadata) == MOST


def test_images_of_a_project_and_their_bytes(top_database: Database, tmp_path: Path) -> None:
    size = 1 << 16
    limits = ImageLimits(count=MOST, size=4 * size)
    service = EmbeddedImages(top_database, tmp_path / "images", max_bytes=1 << 20, limits=limits)
    ids: list[str] = []

    def create(_: int) -> None:
        image = Image(id="", name="i", owner="p", disk_format="raw", visibility="private")
        ids.append(service.create_image(image).id)

    assert together(create, errors.TooLarge) == MOST

    def upload(number: int) -> None:
        if number < MOST:
            service.upload(ids[number], [b"\0" * size], project_id="p", is_admin=False)
        else:
            raise errors.TooLarge("no image")

    assert together(upload, errors.TooLarge) == 4
    active = [one for one in ids if service.get_image(one, project_id="p", is_admin=False).status == "active"]
    service.delete_image(active[0], project_id="p", is_admin=False)
    waiting = next(one for one in ids if one not in active)
    service.upload(waiting, [b"\0" * size], project_id="p", is_admin=False)
    another = next(one for one in ids if one not in (*active, waiting))
    with pytest.raises(errors.TooLarge):
        service.upload(another, [b"\0"], project_id="p", is_admin=False)
    other = Image(id="", name="i", owner="q", disk_format="raw", visibility="private")
    service.create_image(other)  # another project has room of its own


def test_bytes_that_are_staged_imported_and_given_away(top_database: Database, tmp_path: Path) -> None:
    size = 1 << 16
    limits = ImageLimits(count=-1, size=4 * size)
    service = EmbeddedImages(top_database, tmp_path / "images", max_bytes=1 << 20, limits=limits)
    service.imports.start = lambda _, work: work()

    def new(owner: str) -> str:
        return service.create_image(Image(id="", name="i", owner=owner, disk_format="raw", visibility="private")).id

    staged: list[str] = []

    def stage(number: int) -> None:
        mine = new("p")
        service.stage(mine, [bytes(size)], project_id="p", is_admin=False)
        staged.append(mine)

    assert together(stage, errors.TooLarge) == 4

    def bring_in(number: int) -> None:
        if number >= len(staged):
            raise errors.TooLarge("nothing staged")
        service.imports.begin_import(
            staged[number], {"method": {"name": "glance-direct"}}, project_id="p", is_admin=False
        )

    assert together(bring_in, errors.TooLarge) == 4
    assert {service.get_image(one, project_id="p", is_admin=False).status for one in staged} == {"active"}
    foreign = [new("q") for _ in range(4)]
    for one in foreign[:2]:
        service.upload(one, [bytes(size)], project_id="q", is_admin=False)

    def give(number: int) -> None:
        if number >= len(staged):
            raise errors.TooLarge("nothing to give")
        service.change_image(staged[number], lambda image: replace(image, owner="q"), project_id="", is_admin=True)

    assert together(give, errors.TooLarge) == 2
    usage = service.get_usage("q")
    assert usage["image_size_total"]["usage"] == 1  # MiB, begun ones count: 4 of 64 KiB
    with pytest.raises(errors.TooLarge):
        service.upload(foreign[2], [b"\0"], project_id="q", is_admin=False)
