"""Walks through every list that has pages, in every order that may be asked for, while what is listed changes: what is
there all the while is shown once."""

from __future__ import annotations

import datetime as dt
import random
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient

from cellcloud.db import top_schema
from tests.embedded_cloud import PASSWORDS, EmbeddedCloud, make_cloud, make_top_database
from top_api.embedded_api import identity_list_filters, image_list_filters, network_list_filters

BEGAN = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
ALIKE = {"ip_version", "revision_number", "segment_id", "subnetpool_id", "ipv6_ra_mode", "ipv6_address_mode"}
STEADY = {"id", "created_at", None, *ALIKE}
Chance = random.Random
Values = Callable[[Chance], dict[str, Any]]


def _word(chance: Chance) -> str:
    return "".join(chance.choices("abc", k=2))


def _flag(chance: Chance) -> bool:
    return chance.random() < 0.5


def _time(chance: Chance) -> dt.datetime:
    return BEGAN + dt.timedelta(seconds=chance.randrange(5))


@dataclass(frozen=True)
class Kind:
    """``fixed``: what a new row has besides; ``changing``: what may be another thing at any moment."""

    path: str
    table: sa.Table
    keys: tuple[str | None, ...]
    fixed: Values
    changing: Values

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]


def _sortable(form: network_list_filters.NetworkListForm) -> tuple[str | None, ...]:
    return (None, *sorted(set(form.filters) - form.unsorted))


def _named(chance: Chance) -> dict[str, Any]:
    return {"name": _word(chance), "description": _word(chance), "updated_at": _time(chance)}


NETWORK = str(uuid.UUID(int=1))
KINDS = [
    Kind(
        "/network/v2.0/networks",
        top_schema.networks,
        _sortable(network_list_filters.NETWORKS),
        lambda _: {"project_id": "p"},
        lambda chance: _named(chance) | {"mtu": chance.randrange(1280, 1284), "admin_state_up": _flag(chance)},
    ),
    Kind(
        "/network/v2.0/subnets",
        top_schema.subnets,
        _sortable(network_list_filters.SUBNETS),
        lambda chance: {
            "project_id": "p", "network_id": NETWORK, "cidr": f"10.{chance.randrange(9)}.0.0/24",
            "dns_nameservers": [], "allocation_pools": [],
        },
        lambda chance: _named(chance) | {"gateway_ip": f"10.{chance.randrange(9)}.0.1", "enable_dhcp": _flag(chance)},
    ),
    Kind(
        "/network/v2.0/ports",
        top_schema.ports,
        _sortable(network_list_filters.PORTS),
        lambda _: {"project_id": "p", "network_id": NETWORK, "mac_address": uuid.uuid4().hex, "security_groups": []},
        lambda chance: _named(chance)
        | {name: _word(chance) for name in ("device_id", "device_owner")}
        | {"admin_state_up": _flag(chance), "host_id": chance.choice(["", "h"])},
    ),
    Kind(
        "/image/v2/images",
        top_schema.images,
        (None, *image_list_filters.SORT_KEYS),
        lambda _: {"owner": "p", "visibility": "public", "tags": [], "properties": {}},
        lambda chance: {
            "name": _word(chance), "updated_at": _time(chance), "size": chance.randrange(5),
            "status": chance.choice(["queued", "saving", "active"]),
            "disk_format": chance.choice(["raw", "qcow2", None]), "container_format": chance.choice(["bare", None]),
        },
    ),
    Kind(
        "/identity/v3/users",
        top_schema.identity_schema.identity_users,
        (None, *sorted(identity_list_filters.USERS.sorts)),
        lambda _: {"domain_id": "default", "password_hash": ""},
        lambda chance: {"name": _word(chance) + uuid.uuid4().hex, "enabled": _flag(chance)},
    ),
    Kind(
        "/identity/v3/projects",
        top_schema.identity_schema.identity_projects,
        (None,),
        lambda _: {"domain_id": "default"},
        lambda chance: {"name": _word(chance) + uuid.uuid4().hex, "enabled": _flag(chance)},
    ),
]  # fmt: skip
ORDERS = [(kind, key, way) for kind in KINDS for key in kind.keys for way in ("asc", "desc")]


class Crowd:
    """Rows of one kind that change at random."""

    def __init__(self, cloud: EmbeddedCloud, kind: Kind, seed: int) -> None:
        self.cloud, self.kind, self.chance = cloud, kind, random.Random(seed)
        with cloud.database.write() as connection:
            if kind.name in ("subnets", "ports"):
                times = {"created_at": BEGAN, "updated_at": BEGAN}
                connection.execute(sa.insert(top_schema.networks).values(id=NETWORK, project_id="p", **times))
        self.living: set[str] = set()
        self.add(9)

    def add(self, count: int) -> None:
        for _ in range(count):
            new = str(uuid.UUID(int=self.chance.getrandbits(128), version=4))
            values = self.kind.fixed(self.chance) | self.kind.changing(self.chance) | {"id": new}
            if "created_at" in self.kind.table.c:
                values["created_at"] = _time(self.chance)
            with self.cloud.database.write() as connection:
                connection.execute(sa.insert(self.kind.table).values(**values))
            self.living.add(new)

    def stir(self, spared: str | None) -> None:
        """All that can change does, for most; one is gone, one is new."""
        table = self.kind.table
        gone = self.chance.choice(sorted(self.living - {spared}))
        self.living.discard(gone)
        with self.cloud.database.write() as connection:
            connection.execute(sa.delete(table).where(table.c.id == gone))
            for one in self.chance.sample(sorted(self.living), 6):
                connection.execute(sa.update(table).where(table.c.id == one).values(**self.kind.changing(self.chance)))
        self.add(1)


@dataclass(frozen=True)
class Reader:
    """An administrator who reads lists."""

    cloud: EmbeddedCloud
    client: FlaskClient
    token: str

    def page(self, path: str) -> Any:
        answer = self.client.get(path, headers={"X-Auth-Token": self.token})
        assert answer.status_code == 200, answer.text
        return answer.get_json()

    def walk(self, path: str, crowd: Crowd, *, by_link: bool, spare: bool) -> list[str]:
        """Through all pages with changes between them, by the links or by the last one's id."""
        kind = crowd.kind.name
        seen: list[str] = []
        link: str | None = path
        while link is not None:
            body = self.page(link)
            seen += [item["id"] for item in body[kind]]
            link = _next(body, kind)
            if link is not None:
                crowd.stir(seen[-1] if spare else None)
                link = link if by_link else f"{path}&marker={seen[-1]}"
        return seen


def _next(body: Any, kind: str) -> str | None:
    if kind == "images":
        return f"/image{body['next']}" if "next" in body else None
    if f"{kind}_links" in body:
        return next((link["href"] for link in body[f"{kind}_links"] if link["rel"] == "next"), None)
    found: str | None = body.get("links", {}).get("next")
    return found


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    folder = tmp_path_factory.mktemp("walks")
    database = make_top_database(folder / "top.db")
    cloud = make_cloud(database, folder)
    yield Reader(cloud, cloud.app().test_client(), cloud.token("admin", PASSWORDS.admin, "admin"))
    database.close()


@pytest.fixture
def crowd_of(reader: Reader) -> Iterator[Callable[[Kind], Crowd]]:
    made: list[Crowd] = []

    def make(kind: Kind) -> Crowd:
        made.append(Crowd(reader.cloud, kind, len(made)))
        return made[-1]

    yield make
    with reader.cloud.database.write() as connection:
        for crowd in made:
            table = crowd.kind.table
            connection.execute(sa.delete(table).where(table.c.id.in_(crowd.living)))
        connection.execute(sa.delete(top_schema.networks).where(top_schema.networks.c.id == NETWORK))


def _path(kind: Kind, key: str | None, way: str, limit: int = 3) -> str:
    pairs: list[tuple[str, Any]] = [("limit", limit)]
    if key is not None:
        pairs += [("sort_key", key), ("sort_dir", way)]
    return f"{kind.path}?{urlencode(pairs)}"


@pytest.mark.parametrize(
    ("kind", "key", "way"), ORDERS, ids=lambda value: value.name if isinstance(value, Kind) else value
)
def test_what_lives_through_a_walk_is_shown_once(
    reader: Reader, crowd_of: Callable[[Kind], Crowd], kind: Kind, key: str | None, way: str
) -> None:
    crowd = crowd_of(kind)
    before = set(crowd.living)
    spare = key in STEADY or (kind.name, key) == (
        "networks",
        "status",
    )  # a place in such an order is that of the marker, which must be there
    shown = Counter(reader.walk(_path(kind, key, way), crowd, by_link=way == "asc", spare=spare))
    assert {one: shown[one] for one in before & crowd.living} == dict.fromkeys(before & crowd.living, 1)
    assert max(shown.values()) == 1


@pytest.mark.parametrize("kind", KINDS[:5], ids=lambda kind: kind.name)
def test_two_walks_of_one_user_do_not_meet(reader: Reader, crowd_of: Callable[[Kind], Crowd], kind: Kind) -> None:
    crowd = crowd_of(kind)
    path = _path(kind, "name", "asc")
    before = set(crowd.living)
    first = reader.page(path)
    crowd.stir(None)
    for body in (first, reader.page(path)):
        shown = Counter(item["id"] for item in body[kind.name])
        while (link := _next(body, kind.name)) is not None:
            body = reader.page(link)  # noqa: PLW2901 -- the next page of the same walk
            shown.update(item["id"] for item in body[kind.name])
        assert all(shown[one] == 1 for one in before & crowd.living)
        assert max(shown.values()) == 1


@pytest.mark.parametrize("kind", KINDS[:3], ids=lambda kind: kind.name)
def test_a_walk_goes_back_the_way_it_came(reader: Reader, crowd_of: Callable[[Kind], Crowd], kind: Kind) -> None:
    crowd = crowd_of(kind)
    pages = [reader.page(_path(kind, "name", "asc"))]
    while (link := _next(pages[-1], kind.name)) is not None and len(pages) < 3:
        pages.append(reader.page(link))
    with reader.cloud.database.write() as connection:
        for one in crowd.living:
            values = kind.changing(crowd.chance)
            connection.execute(sa.update(kind.table).where(kind.table.c.id == one).values(**values))
    for page, earlier in zip(pages[:0:-1], pages[-2::-1], strict=True):
        back = next(link["href"] for link in page[f"{kind.name}_links"] if link["rel"] == "previous")
        ids = [item["id"] for item in reader.page(back)[kind.name]]
        assert ids == [item["id"] for item in earlier[kind.name]]
