"""Lists of the embedded services: each filter that is declared selects, what is not declared is refused or ignored as
the service's own API says, pages are whole in every order, links carry the whole query."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient

from cellcloud.db import top_schema
from cellcloud.db.engine import Database
from cellcloud.embedded.networks import Viewer
from cellcloud.model.network import Network, NewPort, Subnet
from tests.embedded_cloud import PASSWORDS, EmbeddedCloud, make_cloud, make_top_database
from top_api.embedded_api import identity, image_lists, network_lists

ADMIN = Viewer(project_id="", is_admin=True)
AT = dt.datetime(2026, 1, 1, 0, 0, 0, 500_000, tzinfo=dt.UTC)  # stored finer than it is shown
DAY = dt.timedelta(days=1)


@dataclass
class World:
    """Three of each kind, called a, b and c, beside what every cloud begins with."""

    cloud: EmbeddedCloud
    client: FlaskClient
    token: str
    ids: dict[str, str] = field(default_factory=dict)

    def get(self, path: str) -> Any:
        return self.client.get(path.format(**self.ids), headers={"X-Auth-Token": self.token})

    def names(self, path: str) -> str:
        """The names of those called by one letter, in order."""
        answer = self.get(path)
        assert answer.status_code == 200, answer.text
        kind = urlsplit(path).path.rsplit("/", 1)[-1]
        return "".join(item["name"] for item in answer.get_json()[kind] if len(item["name"]) == 1)


def _networks(world: World) -> None:
    networks, ids = world.cloud.networks, world.ids
    for number, name in enumerate("abc"):
        mine = ids["demo"] if name == "c" else ids["other"]
        network = Network(
            id="", name=name, project_id=mine, mtu=1400 + number, description=f"of {name}", admin_state_up=name != "b"
        )
        ids[f"n{name}"] = networks.create_network(ADMIN, network).id
        subnet = Subnet(
            id="",
            name=name,
            project_id=mine,
            network_id=ids[f"n{name}"],
            cidr=f"10.{number}.0.0/24",
            enable_dhcp=name != "b",
            description=f"of {name}",
        )
        ids[f"s{name}"] = networks.create_subnet(ADMIN, subnet).id
        port = NewPort(
            network_id=ids[f"n{name}"],
            project_id=mine,
            name=name,
            description=f"of {name}",
            device_id=f"device-{name}",
            device_owner=f"compute:{name}",
            host_id="host-b" if name == "b" else "",
            mac_address=f"fa:16:3e:00:00:0{number}",
            admin_state_up=name != "b",
            security_groups=(f"group-{name}", "both"),
            addresses=((None, f"10.{number}.0.{number + 7}"),),
        )
        ids[f"p{name}"] = networks.create_ports(ADMIN, [port])[0].port.id
    networks.update_network(ADMIN, ids["nc"], {"shared": True})


def _images(world: World) -> None:
    for number, name in enumerate("abc"):
        image = world.cloud.image(
            b"x" * 512 * (number + 1),
            name=name,
            owner=world.ids["demo"] if name == "c" else world.ids["other"],
            visibility={"a": "private", "b": "public", "c": "community"}[name],
            protected=name == "b",
            min_ram=number,
            min_disk=number,
            tags=("both", f"tag-{name}", f'{name},"quoted"'),
            properties={"os_distro": name, "both": "yes", f'"{name}': "x"},
        )
        world.ids |= {f"i{name}": image.id, f"md5{name}": image.checksum or "", f"sha{name}": image.os_hash_value or ""}
    queued = world.cloud.image(name="q", disk_format="", owner=world.ids["other"])
    world.ids["iq"] = queued.id


def _people(cloud: EmbeddedCloud) -> None:
    for name in "abc":
        cloud.identity.create_project(name, enabled=name != "b")
        cloud.identity.create_user(name, None, enabled=name != "b")


def _date(database: Database) -> None:
    """The three of a kind are a day apart, and changed a day after they were made."""
    with database.write() as connection:
        for table in (top_schema.networks, top_schema.subnets, top_schema.ports, top_schema.images):
            for number, name in enumerate("abc"):
                values = {"created_at": AT + number * DAY, "updated_at": AT + (number + 1) * DAY}
                connection.execute(sa.update(table).where(table.c.name == name).values(**values))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("lists")
    database = make_top_database(folder / "top.db")
    cloud = make_cloud(database, folder)
    made = World(cloud, cloud.app().test_client(), cloud.token("admin", PASSWORDS.admin, "admin"))
    made.ids = {"demo": cloud.project("demo"), "other": cloud.identity.create_project("other").id}
    _networks(made)
    _images(made)
    _people(cloud)
    _date(database)
    yield made
    database.close()


# Filter -> query -> who is found. What tells a from the others comes first.
EVERY = {
    "name": {"name=a": "a", "name=a&name=c": "ac", "name=": "", "name=A": ""},
    "project_id": {"project_id={demo}": "c", "project_id={demo}&project_id={other}": "abc"},
    "tenant_id": {"tenant_id={demo}": "c", "tenant_id=x": ""},
    "description": {"description=of%20a": "a"},
    "created_at": {"created_at=2026-01-01T00:00:00Z": "a", "created_at=2026-01-01T00:00:01Z": ""},
    "updated_at": {"updated_at=2026-01-02T00:00:00Z": "a"},
    "changes_since": {"changes_since=2026-01-03T00:00:00Z": "bc", "changes_since=2030-01-01T00:00:00Z": ""},
    "revision_number": {"revision_number=1": "abc", "revision_number=2": ""},
    "tags": {"tags=x": ""},
    "tags-any": {"tags-any=x,y": ""},
    "not-tags": {"not-tags=x": "abc"},
    "not-tags-any": {"not-tags-any=x": "abc"},
}
NETWORKS = EVERY | {
    "id": {"id={na}": "a", "id={na}&id={nb}": "ab"},
    "status": {"status=ACTIVE": "abc", "status=DOWN": ""},
    "admin_state_up": {"admin_state_up=False": "b", "admin_state_up=1": "ac"},
    "shared": {"shared=true": "c", "shared=0": "ab"},
    "router:external": {"router:external=True": "", "router:external=False": "abc"},
    "mtu": {"mtu=1400": "a", "mtu=1400&mtu=1402": "ac"},
}
SUBNETS = EVERY | {
    "id": {"id={sa}": "a"},
    "network_id": {"network_id={na}": "a", "network_id={na}&network_id={nc}": "ac"},
    "cidr": {"cidr=10.0.0.0/24": "a"},
    "gateway_ip": {"gateway_ip=10.0.0.1": "a"},
    "enable_dhcp": {"enable_dhcp=false": "b", "enable_dhcp=true": "ac"},
    "shared": {"shared=true": "c"},
    "ip_version": {"ip_version=4": "abc", "ip_version=6": ""},
    **{n: {f"{n}=x": ""} for n in ("subnetpool_id", "segment_id", "ipv6_ra_mode", "ipv6_address_mode")},
}
PORTS = EVERY | {
    "id": {"id={pa}": "a"},
    "network_id": {"network_id={na}": "a"},
    "device_id": {"device_id=device-a": "a", "device_id=device-a&device_id=device-b": "ab", "device_id=x": ""},
    "device_owner": {"device_owner=compute:a": "a"},
    "status": {"status=DOWN": "ac", "status=ACTIVE": "b", "status=DOWN&status=ACTIVE": "abc", "status=BUILD": ""},
    "binding:host_id": {"binding:host_id=host-b": "b", "binding:host_id=": "ac"},
    "binding:vnic_type": {"binding:vnic_type=normal": "abc", "binding:vnic_type=direct": ""},
    "mac_address": {"mac_address=FA:16:3E:00:00:00": "a"},
    "admin_state_up": {"admin_state_up=off": "b"},
    "fixed_ips": {
        "fixed_ips=ip_address%3D10.0.0.7": "a",
        "fixed_ips=subnet_id%3D{sa}": "a",
        "fixed_ips=ip_address_substr%3D.0.7": "a",
        "fixed_ips=ip_address%3D10.0.0.7&fixed_ips=subnet_id%3D{sb}": "",
    },
    "security_groups": {"security_groups=group-a": "a", "security_groups=both": "abc", "security_groups=BOTH": ""},
}
IMAGES = {
    "id": {"id={ia}": "a", "id=in:{ia},{ib}": "ab"},
    "name": {"name=a": "a", "name=in:a,c": "ac", 'name=in:"a","c"': "ac", "name=eq:a": "a", "name=A": ""},
    "status": {"status=active": "abc", "status=queued": "q", "status=in:active,queued": "abcq"},
    "container_format": {"container_format=bare": "abcq", "container_format=in:ovf,ami": ""},
    "disk_format": {"disk_format=raw": "abc", "disk_format=qcow2": ""},
    "created_at": {
        "created_at=2026-01-02T00:00:00Z": "b",
        "created_at=eq:2026-01-02T00:00:00Z": "b",
        "created_at=neq:2026-01-02T00:00:00Z": "acq",
        "created_at=gt:2026-01-02T00:00:00Z": "cq",
        "created_at=gte:2026-01-02T00:00:00Z": "bcq",
        "created_at=lt:2026-01-02T00:00:00Z": "a",
        "created_at=lte:2026-01-02T00:00:00Z": "ab",
    },
    "updated_at": {"updated_at=lte:2026-01-02T00:00:00Z": "a"},
    "visibility": {"visibility=private": "aq", "visibility=public": "b", "visibility=all": "abcq"},
    "owner": {"owner={demo}": "c"},
    "checksum": {"checksum={md5a}": "a"},
    "os_hash_value": {"os_hash_value={shaa}": "a"},
    "protected": {"protected=true": "b", "protected=false": "acq"},
    "os_hidden": {"os_hidden=false": "abcq", "os_hidden=true": ""},
    "size": {"size=512": "a"},
    "min_ram": {"min_ram=1": "b"},
    "min_disk": {"min_disk=1": "b"},
    "size_min": {"size_min=1024": "bc"},
    "size_max": {"size_max=1024": "abq"},
    "min_ram_min": {"min_ram_min=1": "bc"},
    "min_ram_max": {"min_ram_max=1": "abq"},
    "min_disk_min": {"min_disk_min=1": "bc"},
    "min_disk_max": {"min_disk_max=1": "abq"},
    "tag": {
        "tag=tag-a": "a",
        "tag=both&tag=tag-a": "a",
        "tag=tag-a&tag=tag-b": "",
        "tag=BOTH": "",
        "tag=bot": "",
        'tag=a,"quoted"': "a",
        "tag=quoted": "",
    },
    "a property": {
        "os_distro=a": "a",
        "both=yes": "abc",
        "both=yes&os_distro=c": "c",
        "both=ye": "",
        "both=no&both=yes": "abc",
        '"a=x': "a",
    },
}
_NAMED = {
    "name=a": "a",
    "name=A": "a",
    "name__contains=A": "",
    "name__icontains=A": "a",
    "name__startswith=b": "b",
    "name__iendswith=C": "c",
}
PROJECTS: dict[str, dict[str, str]] = {
    "name": _NAMED,
    "domain_id": {"domain_id=default": "abc", "domain_id=x": ""},
    "parent_id": {"parent_id=default": "abc", "parent_id=x": ""},
    "enabled": {"enabled=false": "b", "enabled=0": "b", "enabled=true": "ac", "enabled=": "ac"},
    "is_domain": {"is_domain=true": "", "is_domain=false": "abc"},
}
USERS: dict[str, dict[str, str]] = {
    "name": _NAMED,
    "domain_id": {"domain_id=default": "abc", "domain_id=x": ""},
    "enabled": {"enabled=False": "b", "enabled=True": "ac", "enabled=1&name=b": ""},
    "nobody": {
        "idp_id=x": "",
        "protocol_id=x": "",
        "unique_id=x": "",
        "password_expires_at=lt:2030-01-01T00:00:00Z": "",
    },
}
LISTS = [
    ("/identity/v3/projects", PROJECTS, set(identity.FILTERS["projects"])),
    ("/identity/v3/users", USERS, {*identity.FILTERS["users"], "nobody"}),
    ("/network/v2.0/networks", NETWORKS, set(network_lists.NETWORKS.filters)),
    ("/network/v2.0/subnets", SUBNETS, set(network_lists.SUBNETS.filters)),
    ("/network/v2.0/ports", PORTS, set(network_lists.PORTS.filters)),
    ("/image/v2/images", IMAGES, {*image_lists.FILTERS, "tag", "a property"}),
]
CASES = [
    (path, query, found) for path, filters, _ in LISTS for asked in filters.values() for query, found in asked.items()
]


@pytest.mark.parametrize(("path", "query", "found"), CASES)
def test_a_filter_selects(world: World, path: str, query: str, found: str) -> None:
    assert sorted(world.names(f"{path}?{quote(query, safe='{}=&%:,')}")) == sorted(found)


@pytest.mark.parametrize(("path", "filters", "declared"), LISTS)
def test_every_declared_filter_is_tried(path: str, filters: dict[str, Any], declared: set[str]) -> None:
    assert set(filters) == declared


SORTED = [
    ("/network/v2.0/networks", "mtu", "abc"),
    ("/network/v2.0/networks", "name", "abc"),
    ("/network/v2.0/networks", "created_at", "abc"),
    ("/network/v2.0/networks", "admin_state_up", None),
    ("/network/v2.0/networks", "status", None),
    ("/network/v2.0/networks", "revision_number", None),
    ("/network/v2.0/subnets", "cidr", "abc"),
    ("/network/v2.0/subnets", "gateway_ip", None),
    ("/network/v2.0/subnets", "ip_version", None),
    ("/network/v2.0/subnets", "segment_id", None),
    ("/network/v2.0/ports", "mac_address", "abc"),
    ("/network/v2.0/ports", "device_owner", "abc"),
    ("/network/v2.0/ports", "status", None),
    *(("/image/v2/images", key, None) for key in image_lists.SORT_KEYS),
]


@pytest.mark.parametrize(("path", "key", "order"), SORTED)
@pytest.mark.parametrize("direction", ["asc", "desc"])
def test_a_walk_over_pages_is_whole_in_every_order(
    world: World, path: str, key: str, order: str | None, direction: str
) -> None:
    asked = f"{path}?sort_key={key}&sort_dir={direction}"
    kind = path.rsplit("/", 1)[-1]
    whole = [item["id"] for item in world.get(asked).get_json()[kind]]
    assert len(set(whole)) == len(whole) >= 3
    if order is not None:
        assert world.names(asked) == (order if direction == "asc" else order[::-1])
    walked: list[str] = []
    link: str | None = f"{asked}&limit=1"
    while link is not None and len(walked) <= len(whole):
        body = world.get(link).get_json()
        walked += [item["id"] for item in body[kind]]
        assert len(body[kind]) <= 1
        link = _next(body, kind, path)
    assert walked == whole


def _next(body: Any, kind: str, path: str) -> str | None:
    if "image" in path:
        return f"/image{body['next']}" if "next" in body else None
    links = {link["rel"]: link["href"].removeprefix("http://localhost") for link in body.get(f"{kind}_links", ())}
    return links.get("next")


def test_pages_of_networks_can_be_walked_backwards(world: World) -> None:
    last = world.get("/network/v2.0/networks?sort_key=name&sort_dir=asc&limit=2&page_reverse=True").get_json()
    assert [network["name"] for network in last["networks"]] == ["c", "private"]
    links = {link["rel"]: link["href"].removeprefix("http://localhost") for link in last["networks_links"]}
    before = world.get(links["previous"]).get_json()
    assert [network["name"] for network in before["networks"]] == ["a", "b"]


@pytest.mark.parametrize(
    "query",
    ["tag=both&tag=tag-a", "name=in:a,b&sort=name:asc,size:desc", "sort_key=name&sort_key=size&sort_dir=asc"],
)
def test_links_of_images_carry_the_whole_query(world: World, query: str) -> None:
    body = world.get(f"/image/v2/images?limit=1&{query}").get_json()
    following = body["next"].partition("?")[2]
    for pair in query.split("&"):
        assert following.count(pair.split("=")[0] + "=") == query.count(pair.split("=")[0] + "=")
    assert body["first"].partition("?")[2] in following


REFUSED = [
    *(
        (f"/network/v2.0/{kind}?{query}", 400)
        for kind in ("networks", "subnets", "ports")
        for query in (
            "colour=red",
            "sort_key=colour&sort_dir=asc",
            "sort_key=name",
            "sort_key=name&sort_dir=up",
            "limit=-1",
            "limit=x",
            "created_at=yesterday",
            "revision_number=x",
        )
    ),
    ("/network/v2.0/networks?shared=perhaps", 400),
    ("/network/v2.0/networks?mtu=big", 400),
    ("/network/v2.0/networks?sort_key=shared&sort_dir=asc", 400),
    ("/network/v2.0/subnets?enable_dhcp=2", 400),
    ("/network/v2.0/ports?admin_state_up=2", 400),
    ("/network/v2.0/ports?fixed_ips=10.0.0.7", 400),
    ("/network/v2.0/ports?marker=absent", 404),
    ("/identity/v3/users?limit=x", 400),
    ("/identity/v3/users?marker=absent", 400),
    *(
        (f"/image/v2/images?{query}", 400)
        for query in (
            "visibility=x",
            "changes-since=2026-01-01",
            "member_status=x",
            "protected=1",
            "os_hidden=no",
            "size_min=x",
            "min_ram=x",
            "created_at=yesterday",
            "created_at=near:2026-01-01T00:00:00Z",
            "name=near:a",
            'name=in:"a',
            'name=in:"a"b',
            "sort=colour",
            "sort=name:up",
            "sort=name&sort_key=name",
            "sort_key=tags",
            "sort_key=name&sort_dir=up",
            "sort_key=name&sort_key=size&sort_key=id&sort_dir=asc&sort_dir=asc",
            "limit=x",
            "marker=absent",
        )
    ),
]


@pytest.mark.parametrize(("path", "status"), REFUSED)
def test_what_cannot_be_obeyed_is_refused(world: World, path: str, status: int) -> None:
    assert world.get(path).status_code == status


@pytest.mark.parametrize("kind", ["projects", "users"])
def test_a_walk_over_pages_of_people_is_whole(world: World, kind: str) -> None:
    found, path = "", f"/identity/v3/{kind}?limit=1&enabled=true"
    while path:
        body = world.get(path).get_json()
        assert len(body[kind]) == 1
        found += body[kind][0]["name"] + " "
        path = (body["links"]["next"] or "").removeprefix("http://localhost")
    whole = world.get(f"/identity/v3/{kind}?enabled=true").get_json()
    assert found.split() == [item["name"] for item in whole[kind]]
    assert {"a", "c"} < set(found.split())


@pytest.mark.parametrize("query", ["group.id=x", "scope.domain.id=default", "scope.system=all"])
def test_nobody_has_a_role_but_as_a_user_in_a_project(world: World, query: str) -> None:
    assert world.get("/identity/v3/role_assignments").get_json()["role_assignments"]
    assert world.get(f"/identity/v3/role_assignments?{query}").get_json()["role_assignments"] == []


def test_only_the_fields_that_are_asked_for(world: World) -> None:
    for path in ("networks?name=a", "networks/{na}?", "ports/{pa}?", "subnets?name=a"):
        body = world.get(f"/network/v2.0/{path}&fields=id&fields=name").get_json()
        (item,) = body.values()
        item = item[0] if isinstance(item, list) else item
        assert set(item) == {"id", "name"}
