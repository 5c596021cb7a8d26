"""What one request can make the databases and queues hold: its large texts once, however many servers it is for."""

from __future__ import annotations

import base64
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
import sqlalchemy as sa

from cell.conductor import audit
from cell.conductor.placement.claiming import PlacementRequest, place
from cell.conductor.runs.command_completion import complete
from cellcloud import errors
from cellcloud.batching import MOST_BYTES, portions
from cellcloud.context import RequestContext, service_context
from cellcloud.db import cell_schema, feed, intents, migrate, servers, top_schema, user_data
from cellcloud.db.engine import Database
from cellcloud.model import codec, large_fields
from cellcloud.model.decision import RankAnswer, RankBatch, shape_of
from cellcloud.model.guest_commands import Spawn
from cellcloud.model.image import Image
from cellcloud.model.intent import Intent
from cellcloud.model.keypair import Keypair
from cellcloud.model.network import RequestedNetwork
from cellcloud.model.server import ServerChanges, ServerSpec
from cellcloud.rpc.scheduler import Scheduler
from tests.api.world import IMAGE, NETWORK, World
from tests.functional.measured_cell import Measured, confirm, reserve
from tests.workflows.world import make_spec
from top_api.router.feed_follower import FeedFollower

TEXT = base64.b64encode(os.urandom(49_000)).decode()  # 65,336 characters
SERVERS = 60
OWN = 8_000  # bytes of a server in each of its rows
TAGS, TERM = 50, 64  # of a server, and bytes of each where servers are found by it: an id and a digest, not the tag
PORTS, PORT = 32, 450  # of a server, and bytes of each: they are things of their own, with a quota
HINTS = {"query": '["or", ' + ", ".join(['["=", "$host", "h"]'] * 150) + "]"}


def test_a_request_for_many_servers_writes_its_texts_once(top_database: Database, tmp_path: Path) -> None:
    world = World(top_database, tmp_path)
    world.holding = True
    before = _bytes_in(top_database)
    body = {"name": "a", "flavorRef": "1", "imageRef": IMAGE, "min_count": SERVERS, "user_data": TEXT}
    answer = world.post("/servers", {"server": body, "os:scheduler_hints": HINTS})
    assert answer.status_code == 202, answer.text
    assert _bytes_in(top_database) - before < len(TEXT) + len(HINTS["query"]) + SERVERS * 12_000
    server_id = answer.get_json()["server"]["id"]
    for path in (f"/servers/{server_id}", "/servers/detail?limit=1&sort_dir=asc"):
        shown = world.get(path, version="2.100").get_json()
        assert (shown["server"] if "server" in shown else shown["servers"][0])["scheduler_hints"] == HINTS
    world.close()


METADATA = {f"{number:03}{'k' * 252}": "😀" * 255 for number in range(128)}
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBWnAC7H3vj3qBqUUvXfKZQ1dG8Q4kVQwQ8rZ4uVb0pS"
NAMED: dict[str, Any] = {  # all that a request says of its servers, each as large as it may be
    "name": "😀" * 255,
    "description": "😀" * 255,
    "metadata": METADATA,
    "tags": [f"{number:02}" + "😀" * 58 for number in range(TAGS)],
    "user_data": TEXT,
    "security_groups": [{"name": "default"}] * 64,
    "networks": [{"uuid": NETWORK, "tag": f"{number:02}" + "t" * 58} for number in range(PORTS)],
    "key_name": "k" * 255,
}
PROPERTIES = {f"trait:CUSTOM_{number:02}{'T' * 230}": "required" for number in range(64)}
LONG_HINTS = {"query": '["=", "$host", "' + "h" * 16_000 + '"]'}


def test_everything_at_its_limit_at_once_is_kept_once(top_database: Database, tmp_path: Path) -> None:
    """What a request brings is kept once in the top and once in the cell; beside it each server has some kilobytes in
    each of its rows and a short row for each of its tags, and no message and no page is larger than a mebibyte."""
    world, cell = World(top_database, tmp_path), Measured(tmp_path)
    world.holding = True
    world.images.images[IMAGE] = replace(world.images.images[IMAGE], properties=PROPERTIES)
    key = {"name": NAMED["key_name"], "public_key": KEY + " " + "c" * 16_000}
    assert world.post("/os-keypairs", {"keypair": key}).status_code == 200
    before = _bytes_in(top_database)
    body = {"server": {"flavorRef": "1", "imageRef": IMAGE, "min_count": SERVERS, **NAMED}}
    answer = world.post("/servers", {**body, "os:scheduler_hints": LONG_HINTS}, version="2.96")
    assert answer.status_code == 202, answer.text
    brought = len(msgspec.json.encode([body, LONG_HINTS, PROPERTIES, key]))
    assert brought > 290_000
    assert _bytes_in(top_database) - before < brought + SERVERS * (OWN + TAGS * TERM)

    written = _intents(top_database)
    with top_database.write() as connection:
        specs = [intent.record.spec for intent in written if intent.record is not None]
        specs = user_data.attach(connection, user_data.TOP, specs)
        intents.record_placements(connection, [intent.id for intent in written], "east")
    messages = [codec.wire_size(some) for some in portions(specs, codec.wire_size)]
    ids = reserve(cell.conductor, specs)
    assert len(ids) == len(confirm(cell.conductor, ids)) == SERVERS
    for server_id in ids:
        cell.conductor.update_server(service_context(), server_id, {"access_ip_v4": "192.0.2.7"})
    assert _bytes_in(cell.database) < brought + SERVERS * 4 * (OWN + PORTS * PORT)

    with top_database.write() as connection:  # as after a fall-back of the top
        connection.execute(sa.delete(top_schema.user_data))
    follower = FeedFollower(top_database, "east", cell.conductor)
    while follower.read():
        continue
    assert _bytes_in(top_database) - before < brought + SERVERS * (OWN + TAGS * TERM + PORTS * PORT)
    largest = max(*messages, *(size for sizes in cell.sizes.values() for size in sizes))
    assert largest < MOST_BYTES + 1000
    shown = world.get(f"/servers/{ids[-1]}", version="2.100", token="admin").get_json()["server"]
    assert shown["OS-EXT-SRV-ATTR:host"] == "h1"
    assert shown["accessIPv4"] == "192.0.2.7"
    assert {name: shown[name] for name in ("metadata", "key_name")} == {n: NAMED[n] for n in ("metadata", "key_name")}
    assert sorted(shown["tags"]) == sorted(NAMED["tags"])
    assert shown["OS-EXT-SRV-ATTR:user_data"] == TEXT
    assert shown["scheduler_hints"] == LONG_HINTS
    assert PROPERTIES.items() <= shown["image"]["properties"].items()
    world.close()
    cell.close()


def _intents(database: Database) -> list[Intent]:
    with database.read() as connection:
        ids = connection.execute(sa.select(top_schema.intents.c.id)).scalars().all()
        return intents.list_intents(connection, ids)


def _bytes_in(database: Database) -> int:
    """Of all texts in all rows."""
    found = 0
    with database.read() as connection:
        for name in sa.inspect(connection).get_table_names():
            for row in connection.execute(sa.text(f'SELECT * FROM "{name}"')):  # noqa: S608
                found += sum(len(str(value).encode()) for value in row if isinstance(value, str | bytes))
    return found


def test_the_cell_gets_the_text_and_administrators_see_it(world_: World) -> None:
    body = {"name": "a", "flavorRef": "1", "imageRef": IMAGE, "user_data": TEXT}
    answer = world_.post("/servers", {"server": body, "os:scheduler_hints": HINTS})
    server_id = answer.get_json()["server"]["id"]
    world_.settle()
    assert world_.cell_of(server_id).servers[server_id].spec.user_data == TEXT
    assert world_.cell_of(server_id).servers[server_id].spec.scheduler_hints == HINTS
    assert "OS-EXT-SRV-ATTR:user_data" not in world_.get(f"/servers/{server_id}", version="2.90").get_json()["server"]
    for path in (f"/servers/{server_id}", "/servers/detail?all_tenants=1"):
        shown = world_.get(path, version="2.90", token="admin").get_json()
        one = shown["server"] if "server" in shown else shown["servers"][0]
        assert one["OS-EXT-SRV-ATTR:user_data"] == TEXT


@pytest.fixture
def world_(top_database: Database, tmp_path: Path) -> World:
    return World(top_database, tmp_path)


@pytest.fixture
def top_database(tmp_path: Path) -> Database:
    database = Database(f"sqlite:///{tmp_path}/top.db")
    migrate.upgrade(database, "top")
    return database


@pytest.fixture
def cell_database(tmp_path: Path) -> Database:
    database = Database(f"sqlite:///{tmp_path}/cell.db")
    with database.write() as connection:
        cell_schema.metadata.create_all(connection)
    return database


def specs() -> list[ServerSpec]:
    return [make_spec(f"11111111-0000-4000-8000-{number:012}", user_data=TEXT) for number in range(SERVERS)]


@pytest.mark.parametrize(
    "large", [{"user_data": TEXT}, {"scheduler_hints": {**HINTS, "group": "g"}}], ids=["user data", "hints"]
)
def test_a_cell_writes_its_texts_once(cell_database: Database, large: dict[str, Any]) -> None:
    asked = [replace(make_spec(spec.id), **large) for spec in specs()]
    with cell_database.write() as connection:
        records = servers.insert_held(connection, [(spec, "h", "nova") for spec in asked], hold_seconds=60)
        for _ in range(3):
            feed.append(connection, records)
        again = user_data.attach(connection, user_data.CELL, [record.spec for record in records])
        ids = {one for record in records for one in (record.spec.user_data_id, record.spec.hints_id)} - {""}
        told = user_data.find_of_servers(connection, ids)
    size = len(msgspec.json.encode(large))
    assert _bytes_in(cell_database) < size + SERVERS * 4 * 4_000
    assert [getattr(spec, name) for spec in again for name in large] == [*large.values()] * SERVERS
    assert set(told) == ids
    assert len(ids) == 1
    with cell_database.write() as connection:
        assert user_data.prune(connection, user_data.CELL, seconds=-1) == 0
        connection.execute(sa.delete(cell_schema.servers))
        assert user_data.prune(connection, user_data.CELL, seconds=-1) == 1


def test_hints_that_are_kept_apart_are_obeyed_and_the_group_stays(cell_database: Database) -> None:
    spec = make_spec(specs()[0].id, scheduler_hints={**HINTS, "group": "g"})
    small = make_spec(specs()[1].id, scheduler_hints={"group": "g"})
    with cell_database.write() as connection:
        kept, as_it_was = user_data.keep(connection, user_data.CELL, [spec, small])
    assert kept.scheduler_hints == as_it_was.scheduler_hints == {"group": "g"}
    assert not as_it_was.hints_id
    with pytest.raises(ValueError, match="kept apart"):
        shape_of(kept)
    seen = []

    class Listening(Scheduler):
        def rank(self, context: RequestContext, batch: RankBatch) -> RankAnswer:
            seen.extend(batch.shapes)
            raise errors.TryLater("later")

    with pytest.raises(errors.TryLater):
        place(
            cell_database,
            cast(Any, Listening()),
            RequestContext(budget=9.0),
            [PlacementRequest(spec=kept, request_id="r")],
            store=lambda connection, won, decision: (),
        )
    assert [shape.hints for shape in seen] == [spec.scheduler_hints]


def test_a_cell_keeps_it_out_of_records_and_feed_and_gives_it_to_hosts(cell_database: Database) -> None:
    with cell_database.write() as connection:
        records = servers.insert_held(connection, [(spec, "h", "nova") for spec in specs()], hold_seconds=60)
        for _ in range(3):
            feed.append(connection, records)
    assert _bytes_in(cell_database) < len(TEXT) + SERVERS * 4 * 4_000
    command = Spawn(run_id="r", step="s", server_id=records[0].id, generation=1, spec=records[0].spec)
    (sent,) = complete(cell_database, [command])
    assert sent.spec is not None
    assert sent.spec.user_data == TEXT
    with cell_database.write() as connection:
        assert user_data.prune(connection, user_data.CELL, seconds=-1) == 0
        connection.execute(sa.delete(cell_schema.servers))
        assert user_data.prune(connection, user_data.CELL, seconds=60) == 0
        assert user_data.prune(connection, user_data.CELL, seconds=-1) == 1


def test_a_password_reaches_the_host_alone_and_is_forgotten(cell_database: Database) -> None:
    spec = replace(specs()[0], admin_pass="a-secret-word", config_drive=True)
    assert "a-secret-word" not in repr(spec)
    with cell_database.write() as connection:
        (record,) = servers.insert_held(connection, [(spec, "h", "nova")], hold_seconds=60)
        feed.append(connection, [record])
        page = feed.list_after(connection, 0, 10)
        shown = user_data.attach(connection, user_data.CELL, [record.spec])
        stored = connection.execute(sa.select(sa.cast(cell_schema.servers.c.spec, sa.Text))).scalar_one()
    for told in (msgspec.json.encode(page).decode(), msgspec.json.encode(shown).decode(), stored):
        assert "a-secret-word" not in told
    command = Spawn(run_id="r", step="s", server_id=record.id, generation=1, spec=record.spec)
    (sent,) = complete(cell_database, [command])
    assert sent.spec is not None
    assert (sent.spec.admin_pass, sent.spec.user_data) == ("a-secret-word", TEXT)
    with cell_database.write() as connection:
        assert user_data.prune(connection, user_data.CELL, seconds=-1) == 1  # used still, the user data stays
    (sent,) = complete(cell_database, [command])
    assert sent.spec is not None
    assert (sent.spec.admin_pass, sent.spec.user_data) == ("", TEXT)


def test_projects_share_no_text(cell_database: Database) -> None:
    first, second = specs()[:2]
    other = make_spec(specs()[2].id, user_data=TEXT, project_id="another")
    with cell_database.write() as connection:
        kept = user_data.keep(connection, user_data.CELL, [first, second, other])
        again = user_data.attach(connection, user_data.CELL, kept)
    assert kept[0].user_data_id == kept[1].user_data_id != kept[2].user_data_id
    assert [spec.user_data for spec in kept] == [None] * 3
    assert [spec.user_data for spec in again] == [TEXT] * 3


def test_messages_and_pages_are_bounded_in_bytes(cell_database: Database) -> None:
    messages = list(portions(specs(), lambda spec: len(msgspec.json.encode(spec))))
    assert sum(len(some) for some in messages) == SERVERS
    assert all(len(msgspec.json.encode(some)) <= MOST_BYTES + 1000 for some in messages)
    heavy = [make_spec(spec.id, metadata={f"k{n}": "v" * 255 for n in range(128)}) for spec in specs()]
    with cell_database.write() as connection:
        feed.append(connection, servers.insert_held(connection, [(s, "h", "nova") for s in heavy], hold_seconds=60))
    after, seen = 0, 0
    while True:
        with cell_database.read() as connection:
            page = feed.list_after(connection, after, 501)
        if not page.entries:
            break
        assert len(msgspec.json.encode(page)) < feed.MOST_BYTES + 200_000
        after, seen = page.entries[-1].sequence, seen + len(page.entries)
    assert seen == SERVERS


def test_a_request_writes_no_more_than_its_bound_whatever_its_texts_are_in(world_: World) -> None:
    server = {"name": "a", "flavorRef": "1", "imageRef": IMAGE, "min_count": 500}
    metadata = {f"k{number}": "v" * 255 for number in range(128)}
    assert world_.post("/servers", {"server": {**server, "metadata": metadata}}).status_code == 202
    some = {**server, "min_count": 499}
    assert world_.post("/servers", {"server": some, "os:scheduler_hints": LONG_HINTS}).status_code == 202
    key = {"name": "k", "public_key": "ssh-ed25519 AAAA " + "c" * 60_000}
    assert world_.post("/os-keypairs", {"keypair": key}).status_code == 400
    specs = {f"aggregate_instance_extra_specs:k{number}": "v" * 255 for number in range(64)}
    assert world_.post("/flavors/1/os-extra_specs", {"extra_specs": specs}, token="admin").status_code == 200
    assert world_.post("/servers", {"server": server}).status_code == 413  # of a flavor's, which are in each record
    assert world_.post("/servers", {"server": {**server, "min_count": 1}}).status_code == 202


def audited(database: Database) -> list[str]:
    """The servers of which an operator is told that something of them is not there."""
    found = audit.check(database, down_time=1e9)
    return [one.subject for one in found if one.check == "texts" and one.severity == "error"]


def test_what_is_changed_of_one_server_changes_no_other(cell_database: Database) -> None:
    metadata = {f"k{number}": "v" * 255 for number in range(20)}
    image = Image(id="i", properties={"os_distro": "d" * 255})
    asked = [make_spec(spec.id, metadata=metadata, image=image) for spec in specs()[:3]]
    changed = {"metadata": {"a": "b"}, "image": replace(image, properties={}), "tags": ("t",)}
    with cell_database.write() as connection:
        servers.insert_held(connection, [(spec, "h", "nova") for spec in asked], hold_seconds=60)
        first, second, third = (servers.get(connection, spec.id) for spec in asked)
        servers.change(connection, first.id, ServerChanges(spec=replace(first.spec, **changed)))
        servers.change_many(connection, [(second.id, 0, ServerChanges(spec=replace(second.spec, description="d")))])
        old = {"spec": codec.to_plain(asked[2]), "large_fields_id": None}  # as they were kept before
        connection.execute(sa.update(cell_schema.servers).where(cell_schema.servers.c.id == third.id).values(old))
        feed.append(connection, servers.list_by_id(connection, [spec.id for spec in asked]))
        assert user_data.prune(connection, user_data.CELL, seconds=-1) == 0
        now = {record.id: record.spec for record in servers.list_by_id(connection, [spec.id for spec in asked])}
        columns = (cell_schema.servers.c.id, cell_schema.servers.c.large_fields_id)
        kept = {row.id for row in connection.execute(sa.select(*columns)) if row.large_fields_id}
        told = {entry.record.id: entry.record.spec for entry in feed.list_after(connection, 0, 10).entries}
        assert audited(cell_database) == []
        connection.execute(sa.delete(cell_schema.user_data))
    assert kept == {second.id}
    assert audited(cell_database) == [second.id]
    assert [getattr(now[first.id], name) for name in changed] == list(changed.values())
    assert (now[second.id].metadata, now[second.id].image, now[second.id].description) == (metadata, image, "d")
    assert now[third.id] == asked[2]
    assert told == {one: large_fields.as_stored(spec) for one, spec in now.items()}
    assert [bool(told[one.id].metadata) for one in (first, second, third)] == [True, False, True]


def test_every_field_that_is_kept_apart_is_put_in_again() -> None:
    """Each differs from what stands for it in a stored record, or one that is forgotten would not be seen."""
    port = RequestedNetwork(network_id="n", tag="t" * 4000)
    spec = make_spec(
        specs()[0].id,
        metadata={"a": "b"},
        tags=("t",),
        keypair=Keypair(name="k", user_id="u", public_key="p"),
        networks=(port,),
        security_groups=("s",),
        image=Image(id="i", properties={"os_distro": "d"}),
    )
    whole = replace(spec, kept_as=large_fields.id_of(spec.project_id, large_fields.text_of(spec)))
    stored = large_fields.as_stored(whole)
    emptied = msgspec.json.decode(large_fields.text_of(stored))
    full = msgspec.json.decode(large_fields.text_of(spec))
    assert [name for name in full if full[name] == emptied[name]] == []
    assert (stored.keypair and stored.keypair.name, stored.image.id) == ("k", "i")
    assert large_fields.with_text(stored, large_fields.text_of(spec)) == whole
