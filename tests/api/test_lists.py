"""Lists of the Compute API: each key that a list declares selects, orders or bounds; unknown ones are refused from the
microversion on that Nova refuses them; links carry the whole query."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cellcloud.db import flavors, server_index, server_lists, top_schema
from cellcloud.db.engine import Database
from cellcloud.db.server_conditions import ServerQuery
from cellcloud.model.flavor import Flavor
from cellcloud.model.keypair import Keypair
from cellcloud.model.network import FixedIp
from cellcloud.model.volume import AttachedVolume
from cellcloud.server_states import PowerState, TaskState, VmState
from tests.api.test_migrations import make_migration
from tests.api.test_server_operations import take_in
from tests.api.world import DEMO, IMAGE, World
from top_api.routes import RESOURCES
from top_api.schemas.servers import JOINED

AT = dt.datetime(2026, 1, 1, 0, 0, 0, 500_000, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
UNKNOWN = "00000000-0000-0000-0000-000000000009"
BIG = "00000000-0000-0000-0000-000000000002"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Servers a, b and c of one project, d of another: what can differ between servers differs between them."""
    folder: Path = tmp_path_factory.mktemp("lists")
    database = Database(f"sqlite:///{folder}/top.db")
    with database.write() as connection:
        top_schema.metadata.create_all(connection)
    made = World(database, folder)
    ids = {name: made.create(name, token="other" if name == "d" else "member") for name in "abcd"}
    with database.read() as connection:
        records = {r.spec.name: r for r in server_lists.list_records(connection, ServerQuery(project_id=None))}
    for number, name in enumerate("abcd"):
        _make_different(made, records[name], number)
    _add_migrations(made, ids["d"])
    made.post("/os-keypairs", {"keypair": {"name": "ka"}})
    made.post("/os-keypairs", {"keypair": {"name": "kb"}})
    for name, token in (("ga", "member"), ("gb", "other"), ("gc", "member")):
        made.post("/os-server-groups", {"server_group": {"name": name, "policies": ["affinity"]}}, token=token)
    _add_flavors(database)
    volumes = tuple(AttachedVolume(id=UNKNOWN, volume_id=UNKNOWN, device=f"/dev/vd{letter}") for letter in "bc")
    take_in(made, made.cell_of(ids["d"]).change(ids["d"], volumes=volumes))
    for action in ({"os-stop": None}, {"os-start": None}):
        made.post(f"/servers/{ids['d']}/action", action, token="other")
    yield made
    made.close()
    database.close()


def _make_different(world: World, record: Any, number: int) -> None:
    name = record.spec.name
    spec = replace(
        record.spec,
        user_id=f"user-{name}",
        hostname=f"host-name-{name}",
        description=f"of {name}",
        access_ip_v4=f"192.0.2.{number}",
        access_ip_v6=f"2001:db8::{number}",
        tags=("both", name),
        config_drive=name == "b",
        disk_config="AUTO" if name == "b" else "MANUAL",
        launch_index=number,
        keypair=Keypair(name=f"key-{name}", user_id="u", public_key="", fingerprint=""),
        reservation_id=f"r-{name}",
        flavor=replace(record.spec.flavor, id=f"flavor-{name}"),
        image=replace(record.spec.image, id=IMAGE if name == "a" else BIG),
    )
    address = FixedIp(ip_address=f"10.9.{number}.7", subnet_id="s")
    changed = replace(
        record,
        spec=spec,
        version=record.version + 1,
        vm_state=VmState.STOPPED if name == "b" else VmState.ACTIVE,
        task_state=TaskState.REBOOTING if name == "c" else None,
        power_state=PowerState.SHUTDOWN if name == "b" else PowerState.RUNNING,
        availability_zone=f"zone-{name}",
        host=f"h-{name}",
        node=f"n-{name}",
        locked=name == "b",
        ports=(
            replace(record.ports[0], fixed_ips=(address, FixedIp(ip_address=f"2001:db8:9::{number}", subnet_id="s"))),
        ),
        updated_at=AT + (number + 1) * DAY,
        launched_at=AT + number * DAY,
        terminated_at=AT + (number + 2) * DAY,
    )
    cell = world.cell_of(record.id)
    cell.servers[record.id] = changed
    with world.database.write() as connection:
        told = replace(changed, cell=record.cell, spec=replace(spec, user_id=record.spec.user_id))
        server_index.upsert(connection, [told])
        row = top_schema.server_index
        shown = replace(changed, cell=record.cell, created_at=AT + number * DAY)
        values = {"created_at": AT + number * DAY, "user_id": spec.user_id, "record": shown}
        connection.execute(row.update().where(row.c.id == record.id).values(**values))


def _add_migrations(world: World, server_id: str) -> None:
    """Two of server d, a year ago: the second failed."""
    values = {"status": "error", "type": "migration", "source": "h-2", "updated_at": AT - 360 * DAY}
    told = (make_migration(1, source="h-1"), make_migration(2, **values))
    told = tuple(replace(one, created_at=AT - (366 - number) * DAY) for number, one in enumerate(told))
    with world.database.write() as connection:
        record = server_index.find_record(connection, server_id)
        assert record is not None
        server_index.upsert(connection, [replace(record, version=record.version + 1, migrations=told)])


def _add_flavors(database: Database) -> None:
    with database.write() as connection:
        connection.execute(top_schema.flavors.delete())
        for number, name in enumerate("abc"):
            flavor = Flavor(
                id=f"f{name}",
                name=name,
                vcpus=number + 1,
                memory_mb=512 * (number + 1),
                root_gb=number,
                ephemeral_gb=number,
                swap_mb=number,
                is_public=name != "c",
                description=f"of {name}",
                rxtx_factor=number + 1.0,
                disabled=name == "c",
            )
            flavors.create_flavor(connection, flavor)
            row = top_schema.flavors
            connection.execute(row.update().where(row.c.id == f"f{name}").values(created_at=AT + number * DAY))


ALL = "all_tenants=1&"
PAGED = {
    "limit": {f"{ALL}limit=2": 2, f"{ALL}limit=0": 0},
    "marker": {f"{ALL}sort_key=display_name&sort_dir=asc&marker={{b}}": "cd"},
    "walk": {},  # a name in our own links
    "sort_key": {f"{ALL}sort_key=display_name&sort_dir=asc": "abcd", f"{ALL}sort_key=display_name": "dcba"},
    "sort_dir": {f"{ALL}sort_dir=asc": "abcd", f"{ALL}sort_dir=desc": "dcba"},
}
SERVERS: dict[str, dict[str, Any]] = PAGED | {
    "all_tenants": {"": "", "all_tenants=1": "abcd", "all_tenants=0": "", "all_tenants=": "abcd"},
    "project_id": {f"{ALL}project_id={DEMO}": "abc", f"project_id={DEMO}": ""},
    "tenant_id": {f"{ALL}tenant_id={DEMO}": "abc", f"tenant_id={DEMO}": ""},
    "changes-since": {f"{ALL}changes-since=2026-01-04T00:00:00Z": "cd"},
    "changes-before": {f"{ALL}changes-before=2026-01-03T00:00:00Z": "a"},
    "deleted": {f"{ALL}deleted=True": "", f"{ALL}deleted=False": "abcd"},
    "soft_deleted": {f"{ALL}soft_deleted=0": "abcd"},
    "tags": {f"{ALL}tags=both,a": "a"},
    "tags-any": {f"{ALL}tags-any=a,b": "ab"},
    "not-tags": {f"{ALL}not-tags=both,a": "bcd"},
    "not-tags-any": {f"{ALL}not-tags-any=a,b": "cd"},
    "locked": {f"{ALL}locked=true": "b", f"{ALL}locked=false": "acd"},
    "locked_by": {f"{ALL}locked_by=owner": "b"},
    "name": {f"{ALL}name=a": "a", f"{ALL}name=^[ab]$": "ab"},
    "display_name": {f"{ALL}display_name=a": "a"},
    "hostname": {f"{ALL}hostname=name-a": "a"},
    "ip": {f"{ALL}ip=10.9.0": "a"},
    "ip6": {f"{ALL}ip6=2001:db8:9::3": "d"},
    "power_state": {f"{ALL}power_state=4": "b"},
    "access_ip_v4": {f"{ALL}access_ip_v4=192.0.2.0": "a"},
    "access_ip_v6": {f"{ALL}access_ip_v6=2001:db8::0": "a"},
    "auto_disk_config": {f"{ALL}auto_disk_config=True": "b"},
    "availability_zone": {f"{ALL}availability_zone=zone-a": "a"},
    "config_drive": {f"{ALL}config_drive=true": "b", f"{ALL}config_drive=false": "acd"},
    "created_at": {f"{ALL}created_at=2026-01-01T00:00:00Z": "a"},
    "deleted_at": {f"{ALL}deleted_at=2026-01-01T00:00:00Z": ""},
    "description": {f"{ALL}description=of a": "a"},
    "display_description": {f"{ALL}display_description=of a": "a"},
    "flavor": {f"{ALL}flavor=flavor-a": "a"},
    "instance_type_id": {f"{ALL}instance_type_id=flavor-a": "a"},
    "host": {f"{ALL}host=h-a": "a"},
    "node": {f"{ALL}node=n-a": "a"},
    "image": {f"{ALL}image={IMAGE}": "a"},
    "image_ref": {f"{ALL}image_ref={IMAGE}": "a"},
    "kernel_id": {f"{ALL}kernel_id=x": ""},
    "ramdisk_id": {f"{ALL}ramdisk_id=x": ""},
    "key_name": {f"{ALL}key_name=key-a": "a"},
    "launch_index": {f"{ALL}launch_index=0": "a", f"{ALL}launch_index=2": "c"},
    "launched_at": {f"{ALL}launched_at=2026-01-01T00:00:00Z": "a"},
    "progress": {f"{ALL}progress=0": "abcd", f"{ALL}progress=50": ""},
    "reservation_id": {f"{ALL}reservation_id=r-a": "a"},
    "root_device_name": {f"{ALL}root_device_name=/dev/vda": "abcd", f"{ALL}root_device_name=/dev/xvda": ""},
    "status": {f"{ALL}status=SHUTOFF": "b", f"{ALL}status=ACTIVE": "ad", f"{ALL}status=REBOOT&status=SHUTOFF": "bc"},
    "task_state": {f"{ALL}task_state=rebooting": "c"},
    "terminated_at": {f"{ALL}terminated_at=2026-01-03T00:00:00Z": "a"},
    "updated_at": {f"{ALL}updated_at=2026-01-02T00:00:00Z": "a"},
    "user_id": {f"{ALL}user_id=user-a": "a"},
    "uuid": {f"{ALL}uuid={{a}}": "a"},
    "vm_state": {f"{ALL}vm_state=stopped": "b"},
}
FLAVORS: dict[str, dict[str, Any]] = {
    "walk": {},  # a name in our own links
    "limit": {"limit=1": "a", "limit=0": ""},
    "marker": {"marker=fa": "b"},
    "is_public": {"": "ab", "is_public=None": "abc", "is_public=false": "c", "is_public=True": "ab"},
    "minRam": {"minRam=1024": "b", "minRam=1024&is_public=None": "bc"},
    "minDisk": {"minDisk=1": "b"},
    "sort_key": {
        f"is_public=None&sort_key={key}&sort_dir=desc": "cba"
        for key in ("created_at", "description", "ephemeral_gb", "flavorid", "id", "memory_mb", "name", "root_gb",
                    "rxtx_factor", "swap", "vcpus", "updated_at", "vcpu_weight", "disabled")
    } | {"is_public=None&sort_key=is_public": "cab"},
    "sort_dir": {"sort_dir=desc": "ba", "sort_dir=asc": "ab"},
}  # fmt: skip
HYPERVISORS: dict[str, dict[str, Any]] = {
    "limit": {"limit=1": ["east-1"], "limit=0": []},
    "marker": {"marker={east}": ["west-1"]},
    "hypervisor_hostname_pattern": {"hypervisor_hostname_pattern=wes": ["west-1"]},
    "with_servers": {"with_servers=true": ["east-1", "west-1"]},
}
SERVICES: dict[str, dict[str, Any]] = {
    "host": {"host=west-1": 3, "host=x": 0, "host=": 6},
    "binary": {"binary=nova-compute": 2, "binary=": 6, "binary=nova-compute&host=west-1": 1},
}
KEYPAIRS: dict[str, dict[str, Any]] = {
    "limit": {"limit=1&user_id=demo-user": ["ka"], "limit=0&user_id=demo-user": []},
    "marker": {"marker=ka&user_id=demo-user": ["kb"]},
    "user_id": {"user_id=demo-user": ["ka", "kb"], "user_id=other-user": []},
}
ACTIONS: dict[str, dict[str, Any]] = {
    "limit": {"limit=2": 2, "limit=0": 0},
    "marker": {"marker={first}": 2},
    "changes-since": {"changes-since=2026-01-02T00:00:00Z": 3, "changes-since=2030-01-02T00:00:00Z": 0},
    "changes-before": {"changes-before=2026-01-02T00:00:00Z": 0, "changes-before=2030-01-02T00:00:00Z": 3},
}
HOSTS: dict[str, dict[str, Any]] = {"zone": {"zone=zone-west": ["west-1"], "zone=nowhere": []}}
USAGES: dict[str, dict[str, Any]] = {
    "start": {"start=2026-01-01T00:00:00": 2, "start=2030-01-01T00:00:00&end=2031-01-01T00:00:00": 2},
    "end": {"start=2025-01-01T00:00:00&end=2025-02-01T00:00:00": 0},
    "detailed": {"detailed=1": 2},
    "limit": {"limit=1": 1, "limit=0": 0},
    "marker": {"limit=1&marker={d}": 0},
}
MIGRATIONS: dict[str, dict[str, Any]] = {
    "limit": {"": ["error", "confirmed"], "limit=1": ["error"], "limit=0": []},
    "marker": {"marker=00000000-0000-0000-0000-000000000002": ["confirmed"]},
    "changes-since": {"changes-since=2025-01-04T00:00:00Z": ["error"]},
    "changes-before": {"changes-before=2025-01-04T00:00:00Z": ["confirmed"]},
    "hidden": {"hidden=true": [], "hidden=false": ["error", "confirmed"]},
    "host": {"host=h-1": ["confirmed"], "host=east-2": ["error"]},
    "source_compute": {"source_compute=h-2": ["error"], "source_compute=east-2": []},
    "instance_uuid": {"instance_uuid={a}": [], "instance_uuid={d}": ["error", "confirmed"]},
    "status": {"status=error": ["error"]},
    "migration_type": {"migration_type=resize": ["confirmed"]},
    "user_id": {},  # of later microversions: test_migrations
    "project_id": {},
}
LIMITS: dict[str, dict[str, Any]] = {"reserved": {"reserved=0": None}, "tenant_id": {f"tenant_id={DEMO}": None}}
GROUPS: dict[str, dict[str, Any]] = {
    "all_projects": {"": [], "all_projects=": ["ga", "gb", "gc"]},
    "limit": {"all_projects=1&limit=2": ["ga", "gb"], "all_projects=1&limit=0": 3},
    "offset": {"all_projects=1&offset=1": ["gb", "gc"], "all_projects=1&offset=1&limit=1": ["gb"],
               f"all_projects=1&offset={10**40}": []},
}  # fmt: skip
VOLUMES: dict[str, dict[str, Any]] = {
    "limit": {"": ["/dev/vdb", "/dev/vdc"], "limit=1": ["/dev/vdb"], "limit=0": []},
    "offset": {"offset=1": ["/dev/vdc"], f"offset={10**40}": []},
}
SECURITY_GROUPS: dict[str, dict[str, Any]] = {
    "limit": {"": ["default"], "limit=1": ["default"], "limit=0": []},
    "offset": {"offset=1": [], f"offset={10**40}": []},
    "all_tenants": {"all_tenants=1": ["default"]},  # which Nova passes on to nobody
}
LISTS: dict[str, tuple[str, str, dict[str, dict[str, Any]]]] = {
    "/servers": ("servers", "name", SERVERS),
    "/servers/detail": ("servers", "name", SERVERS),
    "/flavors": ("flavors", "name", FLAVORS),
    "/flavors/detail": ("flavors", "name", FLAVORS),
    "/os-hypervisors": ("hypervisors", "hypervisor_hostname", HYPERVISORS),
    "/os-hypervisors/detail": ("hypervisors", "hypervisor_hostname", HYPERVISORS),
    "/os-services": ("services", "host", SERVICES),
    "/os-hosts": ("hosts", "host_name", HOSTS),
    "/os-simple-tenant-usage": ("tenant_usages", "tenant_id", USAGES),
    "/os-keypairs": ("keypairs", "name", KEYPAIRS),
    "/servers/<server_id>/os-instance-actions": ("instanceActions", "action", ACTIONS),
    "/servers/<server_id>/os-volume_attachments": ("volumeAttachments", "device", VOLUMES),
    "/os-security-groups": ("security_groups", "name", SECURITY_GROUPS),
    "/os-server-groups": ("server_groups", "name", GROUPS),
    "/os-migrations": ("migrations", "status", MIGRATIONS),
    "/limits": ("limits", "", LIMITS),
}
CASES = [
    (path, query, found)
    for path, (_, _, keys) in LISTS.items()
    for cases in keys.values()
    for query, found in cases.items()
]


def _filled(world: World, text: str) -> str:
    with world.database.read() as connection:
        records = server_lists.list_records(connection, ServerQuery(project_id=None))
    ids = {record.spec.name: record.id for record in records}
    if "{east}" in text:
        ids["east"] = world.get("/os-hypervisors", token="admin", version="2.53").get_json()["hypervisors"][0]["id"]
    if "{first}" in text:
        actions = world.get(f"/servers/{ids['d']}/os-instance-actions", token="admin").get_json()["instanceActions"]
        ids["first"] = actions[0]["request_id"]
    return text.replace("<server_id>", ids["d"]).format(**ids)


@pytest.mark.parametrize(("path", "query", "found"), CASES)
def test_each_key_selects_orders_or_bounds(world: World, path: str, query: str, found: Any) -> None:
    collection, name, _ = LISTS[path]
    version = {"/os-hosts": "2.42", "/os-security-groups": "2.35"}.get(path, "2.74")
    answer = world.get(_filled(world, f"{path}?{query}"), token="admin", version=version)
    assert answer.status_code == 200, answer.text
    items = answer.get_json()[collection]
    if found is None:
        return
    names = [item.get("keypair", item)[name] for item in items]
    if isinstance(found, int):
        assert len(names) == found
    elif isinstance(found, list):
        assert names == found
    else:
        ordered = "sort" in query or "marker" in query
        assert "".join(names) == found if ordered else sorted(names) == sorted(found)


def test_every_declared_key_of_every_list_is_tried() -> None:
    declared = {
        route.path: {key for key, _ in route.query} - JOINED
        for resource in RESOURCES
        for route in resource.routes
        if resource.api.prefix == "/v2.1" and route.method == "GET" and list(route.query)
    }
    shown_alone = {"/os-hypervisors/<identifier>", "/os-keypairs/<name>", "/os-simple-tenant-usage/<project_id>"}
    quotas = {"/os-quota-sets/<project_id>", "/os-quota-sets/<project_id>/detail"}
    images = {"/images", "/images/detail"}  # gone at the microversions of these cases: test_images
    volumes = {
        f"/os-{kind}{end}" for kind in ("volumes", "snapshots") for end in ("", "/detail")
    }  # test_volume_proxies
    assert {path: set(keys) for path, (_, _, keys) in LISTS.items()} == {
        path: keys for path, keys in declared.items() if path not in shown_alone | quotas | images | volumes
    }


@pytest.mark.parametrize(
    ("path", "below", "since"),
    [
        *((f"/servers{end}?{ALL}colour=red", "2.74", "2.75") for end in ("", "/detail")),
        *((f"/flavors{end}?colour=red", "2.74", "2.75") for end in ("", "/detail")),
        ("/os-keypairs?colour=red", "2.74", "2.75"),
        ("/os-services?colour=red", "2.74", "2.75"),
        ("/os-simple-tenant-usage?colour=red", "2.74", "2.75"),
        ("/limits?colour=red", "2.74", "2.75"),
        ("/os-server-groups?colour=red", "2.74", "2.75"),
        ("/servers/<server_id>/os-volume_attachments?colour=red", "2.74", "2.75"),
        ("/os-migrations?colour=red", "2.58", "2.59"),
        ("/os-hypervisors?colour=red", "2.52", "2.53"),
        ("/servers/<server_id>/os-instance-actions?colour=red", "2.57", "2.58"),
        (f"/servers?{ALL}sort_key=vcpus", "2.74", "2.75"),
    ],
)
def test_an_unknown_key_is_refused_where_nova_refuses_it(world: World, path: str, below: str, since: str) -> None:
    assert world.get(_filled(world, path), token="admin", version=below).status_code == 200
    assert world.get(_filled(world, path), token="admin", version=since).status_code == 400


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("sort_key=colour", 400),
        ("sort_key=host", 403),
        ("sort_key=node", 403),
        ("locked=perhaps", 400),
        ("all_tenants=perhaps", 400),
        ("all_tenants=1", 403),
        ("changes-since=2026-01-02T00:00:00Z&changes-before=2026-01-01T00:00:00Z", 400),
        ("changes-since=yesterday", 400),
        ("limit=x", 400),
        ("limit=-1", 400),
        ("marker=absent", 400),
        ("status=SLEEPY", 400),
    ],
)
def test_what_a_member_may_not_ask_of_servers(world: World, query: str, status: int) -> None:
    assert world.get(f"/servers?{query}", version="2.83").status_code == status


@pytest.mark.parametrize("pair", ["name=a", "ip=1", "ip6=1", "status=ACTIVE", "hostname=a", "tags=a", "uuid=a"])
@pytest.mark.parametrize(("count", "status"), [(199, 200), (2000, 400)])
def test_no_query_is_too_much_for_a_database(world: World, pair: str, count: int, status: int) -> None:
    path = f"/servers?{ALL}" + "&".join([pair] * count)
    assert world.get(path, token="admin", version="2.73").status_code == status


@pytest.mark.parametrize(
    "path",
    [
        f"/servers?{ALL}sort_key=launch_index&sort_key=locked&sort_dir=asc&sort_dir=desc&status=ACTIVE&status=SHUTOFF",
        "/flavors?is_public=None&minRam=1&sort_key=name&sort_dir=desc",
        "/os-keypairs?user_id=demo-user",
    ],
)
def test_the_link_to_the_next_page_carries_the_whole_query(world: World, path: str) -> None:
    body = world.get(f"{path}&limit=1", token="admin", version="2.73").get_json()
    links = next(value for key, value in body.items() if key.endswith("_links"))
    following = links[0]["href"].partition("?")[2]
    for pair in path.partition("?")[2].split("&"):
        assert pair in following
    assert "limit=1" in following


SORT_KEYS = ("access_ip_v4", "access_ip_v6", "availability_zone", "created_at", "display_description", "display_name",
             "host", "hostname", "key_name", "launch_index", "launched_at", "node", "updated_at", "user_id",
             "instance_type_id", "terminated_at")  # fmt: skip


@pytest.mark.parametrize("key", SORT_KEYS)
def test_servers_are_sorted_by(world: World, key: str) -> None:
    def names(direction: str) -> str:
        path = f"/servers?{ALL}sort_key={key}&sort_dir={direction}"
        return "".join(server["name"] for server in world.get(path, token="admin").get_json()["servers"])

    assert (names("asc"), names("desc")) == ("abcd", "dcba")


@pytest.mark.parametrize("key", ["auto_disk_config", "config_drive", "locked", "locked_by", "power_state", "vm_state"])
def test_the_one_that_differs_is_at_an_end(world: World, key: str) -> None:
    path = f"/servers?{ALL}sort_key={key}&sort_dir=asc"
    names = [server["name"] for server in world.get(path, token="admin", version="2.73").get_json()["servers"]]
    assert "b" in (names[0], names[-1])
    assert sorted(names) == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("path", "collection", "version", "whole"),
    [
        ("/os-hypervisors?limit=1", "hypervisors", "2.32", 2),
        ("/os-hypervisors?limit=1", "hypervisors", "2.33", 1),
        ("/os-hypervisors/detail?limit=1", "hypervisors", "2.32", 2),
        ("/os-keypairs?limit=1", "keypairs", "2.34", 2),
        ("/os-keypairs?limit=1", "keypairs", "2.35", 1),
        ("/servers/<server_id>/os-instance-actions?limit=1", "instanceActions", "2.57", 3),
        ("/servers/<server_id>/os-instance-actions?limit=1", "instanceActions", "2.58", 1),
    ],
)
def test_pages_begin_at_their_microversion(world: World, path: str, collection: str, version: str, whole: int) -> None:
    token = "member" if "keypairs" in path else "admin"
    answer = world.get(_filled(world, path), token=token, version=version)
    assert len(answer.get_json()[collection]) == whole
