"""Walks through lists of servers and flavors: whatever happens meanwhile, what is there all the while is shown once."""

from __future__ import annotations

import datetime as dt
import random
import uuid
from collections import Counter
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest

from cellcloud.db import flavors, pagination_snapshots, quotas, server_index
from cellcloud.model.flavor import Flavor
from cellcloud.model.image import Image
from cellcloud.model.keypair import Keypair
from cellcloud.model.server import ServerRecord, ServerSpec
from cellcloud.server_states import VmState
from tests.api.world import DEMO, IMAGE, World
from top_api import server_query
from top_api.schemas import flavors as flavor_schemas

BEGAN = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
ORDERS = [(), *((key, way) for key in sorted(server_query._SORT_COLUMNS) for way in ("asc", "desc"))]


class Fleet:
    """Servers that change at random."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.chance = random.Random(seed)
        with world.database.read() as connection:
            self._flavors = flavors.list_flavors(connection, project_id=None)
        self.living: dict[str, ServerRecord] = {}
        self.add(10)

    def add(self, count: int) -> None:
        made = [self._accepted() for _ in range(count)]
        with self.world.database.write() as connection:
            assert quotas.reserve(connection, DEMO, quotas.cost_of(made[0].spec.flavor, count), {})
            server_index.insert_records(connection, made)
        self.living |= {record.id: record for record in made}

    def _accepted(self) -> ServerRecord:
        spec = ServerSpec(
            id=str(uuid.UUID(int=self.chance.getrandbits(128), version=4)),
            name=self._word(),
            project_id=DEMO,
            user_id="demo-user",
            flavor=self._flavors[0],
            image=Image(id=IMAGE),
            created_at=BEGAN + dt.timedelta(seconds=self.chance.randrange(5)),
        )
        return ServerRecord(
            spec=spec, version=0, generation=0, vm_state=VmState.BUILDING, created_at=spec.created_at, cell="east"
        )

    def _word(self) -> str:
        return "".join(self.chance.choices("abc", k=2))

    def _time(self) -> dt.datetime:
        return BEGAN + dt.timedelta(seconds=self.chance.randrange(60))

    def _changed(self, record: ServerRecord) -> ServerRecord:
        """As a cell tells of it: all that may change has changed, and the cell has a time of its own."""
        host = self._word()
        spec = replace(
            record.spec,
            name=self._word(),
            hostname=self._word(),
            flavor=self.chance.choice(self._flavors),
            image=Image(id=str(uuid.UUID(int=self.chance.getrandbits(128)))),
            keypair=Keypair(name=self._word(), user_id="demo-user", public_key="", fingerprint=""),
        )
        return replace(
            record,
            spec=spec,
            version=record.version + 1,
            vm_state=self.chance.choice([VmState.ACTIVE, VmState.STOPPED, VmState.ERROR]),
            task_state=self.chance.choice([None, "rebooting", "powering-off"]),
            power_state=self.chance.choice([0, 1, 4]),
            host=host,
            node=host,
            availability_zone=self._word(),
            created_at=self._time(),
            updated_at=self._time(),
            launched_at=self._time(),
        )

    def stir(self) -> None:
        """A few servers change, one is deleted, one is made."""
        chosen = self.chance.sample(sorted(self.living), 5)
        gone, changed = chosen[0], chosen[1:]
        with self.world.database.write() as connection:
            for server_id in changed:
                self.living[server_id] = self._changed(self.living[server_id])
            server_index.upsert(connection, [self.living[server_id] for server_id in changed[:2]])
            server_index.upsert(connection, [self.living[server_id] for server_id in changed[2:]])
            server_index.mark_tasks(connection, [self.living[gone]], "deleting")
            last = replace(self.living.pop(gone), version=99, deleted=True, vm_state=VmState.DELETED)
            server_index.upsert(connection, [last])
        self.add(1)

    def walk(self, query: str, *, by_link: bool) -> list[str]:
        """Through all pages, with changes between them; by the links, or by nothing but the last one's id."""
        seen: list[str] = []
        query += "&all_tenants=1"
        path = f"/v2.1/servers?{query}"
        while True:
            answer = self.world.get(path, token="admin")  # some orders are for administrators
            assert answer.status_code == 200, answer.get_data(as_text=True)
            body: dict[str, Any] = answer.get_json()
            seen += [server["id"] for server in body["servers"]]
            if "servers_links" not in body:
                return seen
            self.stir()
            link = urlsplit(body["servers_links"][0]["href"])
            path = f"{link.path}?{link.query}" if by_link else f"/v2.1/servers?{query}&marker={seen[-1]}"


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_a_server_that_lives_through_a_walk_is_shown_once(world: World, order: tuple[str, ...]) -> None:
    query = "limit=3" if not order else f"limit=3&sort_key={order[0]}&sort_dir={order[1]}"
    for by_link in (True, False) if not order else (order[1] == "asc",):
        fleet = Fleet(world, len(order) + by_link)
        before = set(fleet.living)
        shown = Counter(fleet.walk(query, by_link=by_link))
        assert all(shown[server_id] == 1 for server_id in before & fleet.living.keys())
        assert max(shown.values()) == 1
        with world.database.write() as connection:
            server_index.mark_deleted(connection, list(fleet.living))


def test_two_walks_of_one_user_through_the_same_list_do_not_meet(world: World) -> None:
    fleet = Fleet(world, 5)
    before = set(fleet.living)
    first = world.get("/servers?limit=3&sort_key=display_name").get_json()
    fleet.stir()
    fleet.stir()
    second = world.get("/servers?limit=3&sort_key=display_name").get_json()
    for begun in (first, second):
        body = begun
        shown = Counter(server["id"] for server in body["servers"])
        while "servers_links" in body:
            link = urlsplit(body["servers_links"][0]["href"])
            body = world.get(f"{link.path}?{link.query}").get_json()
            shown.update(server["id"] for server in body["servers"])
        assert all(shown[server_id] == 1 for server_id in before & fleet.living.keys())
        assert max(shown.values()) == 1


def test_a_copy_from_a_cell_leaves_the_time_of_acceptance(world: World) -> None:
    server_id = world.create()
    made = world.get(f"/servers/{server_id}").get_json()["server"]["created"]
    cell = world.cell_of(server_id)
    copy = cell.change(server_id, created_at=BEGAN, vm_state=VmState.STOPPED)
    with world.database.write() as connection:
        server_index.upsert(connection, [replace(copy, cell=cell.name)])
        taken = server_index.find_record(connection, server_id)
        assert taken is not None
        server_index.mark_tasks(connection, [taken], "deleting")
    shown = world.get(f"/servers/{server_id}").get_json()["server"]
    assert shown["created"] == made
    assert shown["status"] == "SHUTOFF"


def test_walks_are_few_and_forgotten(world: World) -> None:
    Fleet(world, 1)
    for _ in range(pagination_snapshots.KEPT_EACH + 5):
        assert world.get("/servers?limit=3&sort_key=host", token="admin").status_code == 200
        assert world.get("/servers?limit=3&sort_key=vm_state").status_code == 200
    with world.database.read() as connection:
        kept = connection.exec_driver_sql("SELECT count(*) FROM walks").scalar_one()
    assert kept <= 2 * pagination_snapshots.KEPT_EACH


FLAVOR_ORDERS = [(key, way) for key in flavor_schemas.SORT_KEYS for way in ("asc", "desc")]


@pytest.mark.parametrize(("key", "way"), FLAVOR_ORDERS)
def test_a_flavor_that_lives_through_a_walk_is_shown_once(world: World, key: str, way: str) -> None:
    chance = random.Random(key + way)
    with world.database.read() as connection:
        before = {flavor.id for flavor in flavors.list_flavors(connection, project_id=None)}
    assert len(before) > 4
    asked = f"/v2.1/flavors?limit=2&sort_key={key}&sort_dir={way}"
    path, seen = asked, []
    while True:
        body = world.get(path, token="admin").get_json()
        seen += [flavor["id"] for flavor in body["flavors"]]
        if "flavors_links" not in body:
            break
        with world.database.write() as connection:
            for one in before:
                flavors.set_description(connection, one, chance.choice("abcd"))
            name = f"a{chance.random()}"
            flavors.create_flavor(connection, Flavor(id=name, name=name, vcpus=1, memory_mb=1, root_gb=1))
        link = urlsplit(body["flavors_links"][0]["href"])
        path = f"{link.path}?{link.query}" if way == "asc" else f"{asked}&marker={seen[-1]}"
        assert len(seen) < 50
    shown = Counter(seen)
    assert all(shown[one] == 1 for one in before)
    assert max(shown.values()) == 1
