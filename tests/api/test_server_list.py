"""Lists of servers: filters, order, pages."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.world import IMAGE, World


def names(world: World, query: str = "", **more: Any) -> list[str]:
    answer = world.get(f"/servers{query}", **more)
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return [server["name"] for server in answer.get_json()["servers"]]


@pytest.fixture
def fleet(world: World) -> World:
    """web-1, web-2 (stopped), db.1 with tags; made in this order."""
    world.create("web-1", metadata={"a": "b"})
    stopped = world.create("web-2")
    world.post(f"/servers/{stopped}/action", {"os-stop": None})
    third = world.create("db.1", config_drive=True)
    world.call("PUT", f"/servers/{third}/tags", {"tags": ["red", "blue"]}, version="2.26")
    return world


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["db.1", "web-2", "web-1"]),
        ("?name=web", ["web-2", "web-1"]),
        ("?name=WEB", ["web-2", "web-1"]),
        ("?name=^web-1$", ["web-1"]),
        ("?name=^w.*2$", ["web-2"]),
        ("?name=d.*1", ["db.1"]),
        ("?name=nothing", []),
        ("?name=100%25", []),
        ("?status=ACTIVE", ["db.1", "web-1"]),
        ("?status=shutoff", ["web-2"]),
        ("?status=ACTIVE&status=SHUTOFF", ["db.1", "web-2", "web-1"]),
        ("?status=ERROR", []),
        (f"?image={IMAGE}", ["db.1", "web-2", "web-1"]),
        ("?flavor=1&name=db", ["db.1"]),
        ("?flavor=2", []),
        ("?ip=10.100", ["db.1", "web-2", "web-1"]),
        ("?ip=^10.*[0-9]$", ["db.1", "web-2", "web-1"]),
        ("?ip=^11.*", []),
        ("?ip=192.168", []),
        ("?changes-since=2020-01-01T00:00:00Z", ["db.1", "web-2", "web-1"]),
        ("?changes-since=2100-01-01T00:00:00Z", []),
        ("?changes-since=2020-01-01%2000:00:00", ["db.1", "web-2", "web-1"]),
        ("?changes-since=2020-01-01T00:00:00+00:00", ["db.1", "web-2", "web-1"]),
        ("?changes-since=0001-01-01T00:00:00%2B23:00", ["db.1", "web-2", "web-1"]),
        ("?changes-since=9999-12-31T23:59:59-23:00", []),
        ("?deleted=False", ["db.1", "web-2", "web-1"]),
        ("?sort_key=display_name&sort_dir=asc", ["db.1", "web-1", "web-2"]),
        ("?sort_key=display_name&sort_dir=desc", ["web-2", "web-1", "db.1"]),
        ("?sort_key=vm_state&sort_key=display_name&sort_dir=desc&sort_dir=asc", ["web-2", "db.1", "web-1"]),
        ("?sort_key=created_at&sort_key=display_name&sort_key=uuid&sort_dir=asc", ["web-1", "web-2", "db.1"]),
        ("?sort_dir=asc", ["web-1", "web-2", "db.1"]),
        ("?limit=2", ["db.1", "web-2"]),
        ("?limit=0", []),
        ("?limit=100000", ["db.1", "web-2", "web-1"]),
    ],
)
def test_filters_and_order(fleet: World, query: str, found: list[str]) -> None:
    assert names(fleet, query) == found


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("?tags=red", ["db.1"]),
        ("?tags=red,green", []),
        ("?tags-any=red,green", ["db.1"]),
        ("?not-tags=red,blue", ["web-2", "web-1"]),
        ("?not-tags-any=green", ["db.1", "web-2", "web-1"]),
    ],
)
def test_tags(fleet: World, query: str, found: list[str]) -> None:
    assert names(fleet, query, version="2.26") == found
    assert names(fleet, query) == ["db.1", "web-2", "web-1"]


def test_columns_of_the_record_for_administrators(fleet: World) -> None:
    assert names(fleet, "?all_tenants=1&config_drive=True", token="admin") == ["db.1"]
    assert names(fleet, "?all_tenants=1&vm_state=stopped", token="admin") == ["web-2"]
    assert names(fleet, "?all_tenants=1&power_state=1", token="admin") == ["db.1", "web-1"]
    assert names(fleet, "?vm_state=stopped") == ["db.1", "web-2", "web-1"]
    assert names(fleet, "?vm_state=stopped", version="2.83") == ["web-2"]


def test_an_unknown_status_is_refused_from_2_38(fleet: World) -> None:
    assert names(fleet, "?status=SLEEPY") == []
    assert fleet.get("/servers?status=SLEEPY", version="2.38").status_code == 400
    assert fleet.get("/servers?status=DELETED").status_code == 403


@pytest.mark.parametrize("path", ["/servers", "/servers/detail"])
def test_a_walk_over_pages_meets_each_server_once(world: World, path: str) -> None:
    ids = [world.create(f"vm-{number % 3}", wait=False) for number in range(7)]
    world.settle()
    for order in ("", "&sort_key=display_name&sort_dir=asc", "&sort_key=locked_by", "&sort_key=launched_at"):
        met: list[str] = []
        link: str | None = f"/v2.1{path}?limit=2{order}"
        while link is not None:
            page = world.get(link).get_json()
            met += [server["id"] for server in page["servers"]]
            assert len(page["servers"]) <= 2
            links = page.get("servers_links")
            link = links[0]["href"].removeprefix("http://localhost") if links else None
        assert sorted(met) == sorted(ids)
    everything = [server["id"] for server in world.get(path).get_json()["servers"]]
    assert sorted(everything) == sorted(ids)


def test_deleted_servers_show_only_to_those_who_look_for_changes(world: World) -> None:
    server_id = world.create("gone")
    world.call("DELETE", f"/servers/{server_id}")
    world.settle()
    assert names(world) == []
    assert names(world, "?changes-since=2020-01-01T00:00:00Z") == ["gone"]
    assert names(world, "?all_tenants=1&deleted=True", token="admin") == ["gone"]
    listed = world.get("/servers/detail?all_tenants=1&status=deleted", token="admin").get_json()["servers"]
    assert [server["status"] for server in listed] == ["DELETED"]
