"""os-simple-tenant-usage: right to the microsecond, by records, also of servers that the index has forgotten."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from cellcloud.db import retention, server_index, server_lists, top_schema
from cellcloud.db.server_conditions import ServerQuery
from cellcloud.server_states import VmState
from tests.api.world import DEMO, OTHER, World

NOON = dt.datetime(2026, 1, 10, 12, tzinfo=dt.UTC)
MONTH = "start=2026-01-01T00:00:00&end=2026-02-01T00:00:00"
PATH = "/os-simple-tenant-usage"


def at(**after: float) -> dt.datetime:
    return NOON + dt.timedelta(**after)


# name -> (whose, flavor, when launched, when terminated); flavor 1: 1 VCPU, 512 MiB, 1 GiB
SERVERS: dict[str, tuple[str, str, dt.datetime | None, dt.datetime | None]] = {
    "brief": ("member", "1", at(), at(hours=1, microseconds=1)),
    "over": ("member", "1", at(days=-30), at(days=-20, hours=-12)),  # ended before the month by 12 hours
    "across": ("member", "2", at(days=-10), at(days=-9)),  # begins before the month
    "running": ("member", "1", at(days=21), None),  # half a day in the month
    "later": ("member", "1", at(days=40), None),
    "never": ("member", "1", None, at()),
    "theirs": ("other", "1", at(), at(minutes=30)),
}


@pytest.fixture
def used(world: World) -> World:
    """A world of servers that ran when SERVERS says."""
    for name, (token, flavor, launched, terminated) in SERVERS.items():
        server_id = world.create(name, token=token, flavorRef=flavor)
        with world.database.write() as connection:
            records = server_lists.list_records(connection, ServerQuery(project_id=None))
            record = next(one for one in records if one.id == server_id)
            ended: dict[str, Any] = {} if terminated is None else {"deleted": True, "vm_state": VmState.DELETED}
            changed = replace(
                record, version=record.version + 1, launched_at=launched, terminated_at=terminated, **ended
            )
            server_index.upsert(connection, [changed])
    return world


def totals(world: World, query: str = MONTH, **more: Any) -> dict[str, Any]:
    found = world.get(f"{PATH}?{query}", token="admin", **more)
    assert found.status_code == 200, found.text
    return {one["tenant_id"]: one for one in found.get_json()["tenant_usages"]}


HOURS = {"brief": 1 + 1e-6 / 3600, "across": 12.0, "running": 12.0}


def check_month(world: World) -> None:
    mine = totals(world)[DEMO]
    assert mine["total_hours"] == pytest.approx(sum(HOURS.values()), abs=1e-12)
    flavors = {one["id"]: one for one in world.get("/flavors/detail").get_json()["flavors"]}
    for field, amount in (("vcpus", "vcpus"), ("memory_mb", "ram"), ("local_gb", "disk")):
        wanted = sum(hours * flavors[SERVERS[name][1]][amount] for name, hours in HOURS.items())
        assert mine[f"total_{field}_usage"] == pytest.approx(wanted), field
    assert "server_usages" not in mine
    assert (mine["start"], mine["stop"]) == ("2026-01-01T00:00:00.000000", "2026-02-01T00:00:00.000000")
    shown = world.get(f"{PATH}/{DEMO}?{MONTH}").get_json()["tenant_usage"]
    single = {one["name"]: one for one in shown["server_usages"]}
    assert {name: one["hours"] for name, one in single.items()} == pytest.approx(HOURS, abs=1e-12)
    assert {key: shown[key] for key in mine} == mine
    brief = single["brief"]
    assert (brief["started_at"], brief["ended_at"]) == ("2026-01-10T12:00:00.000000", "2026-01-10T13:00:00.000001")
    assert (brief["state"], brief["uptime"], brief["flavor"]) == ("terminated", 3600, "m1.tiny")
    assert (single["running"]["state"], single["running"]["ended_at"]) == ("active", None)


def test_a_month_of_two_projects(used: World) -> None:
    check_month(used)
    assert totals(used)[OTHER]["total_hours"] == 0.5
    assert set(totals(used, f"{MONTH}&detailed=1")[OTHER]) - set(totals(used)[OTHER]) == {"server_usages"}
    assert set(totals(used, f"{MONTH}&detailed=true")[OTHER]) == set(totals(used)[OTHER])


def test_what_the_index_has_forgotten_still_counts(used: World) -> None:
    before = [(totals(used)), used.get(f"{PATH}/{DEMO}?{MONTH}&limit=2", version="2.40").get_json()]
    with used.database.write() as connection:
        connection.execute(top_schema.intents.delete())
    ended = [name for name, (*_, launched, terminated) in SERVERS.items() if terminated]
    assert retention.purge_top(used.database, deleted_days=30, keys_days=30)["server_index"] == len(ended)
    check_month(used)
    after = [(totals(used)), used.get(f"{PATH}/{DEMO}?{MONTH}&limit=2", version="2.40").get_json()]
    now = "uptime"  # of what goes on
    for one in (before[1], after[1]):
        for server in one["tenant_usage"]["server_usages"]:
            del server[now]
    assert after == before
    assert retention.purge_top(used.database, deleted_days=30, keys_days=30, usage_days=1)["past_servers"] == 4
    assert set(totals(used)) == {DEMO}


def test_pages_are_of_servers_and_together_are_the_whole(used: World) -> None:
    whole = totals(used, f"{MONTH}&detailed=1")
    pages: list[str] = []
    hours = dict.fromkeys(whole, 0.0)
    query = f"{PATH}?{MONTH}&detailed=1&limit=1"
    while query:
        body = used.get(query, token="admin", version="2.75").get_json()
        for one in body["tenant_usages"]:
            hours[one["tenant_id"]] += one["total_hours"]
            pages += [server["name"] for server in one["server_usages"]]
        query = next((link["href"].split("/v2.1")[1] for link in body.get("tenant_usages_links", ())), "")
    assert sorted(pages) == sorted([*HOURS, "theirs"])
    assert hours == pytest.approx({project: one["total_hours"] for project, one in whole.items()})
    assert "tenant_usages_links" not in used.get(f"{PATH}?{MONTH}&limit=1", token="admin", version="2.39").get_json()
    mine = used.get(f"{PATH}/{DEMO}?{MONTH}&limit=1", version="2.40").get_json()
    assert mine["tenant_usage_links"][0]["rel"] == "next"
    theirs = totals(used, f"{MONTH}&detailed=1")[OTHER]["server_usages"][0]["instance_id"]
    for path, token, marker in ((PATH, "admin", "x"), (f"{PATH}/{DEMO}", "member", theirs)):
        assert used.get(f"{path}?{MONTH}&marker={marker}", token=token, version="2.40").status_code == 400


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 200),
        ("start=2026-01-01T00:00:00", 200),
        ("start=2026-01-01 00:00:00.5&end=2026-01-02T00:00:00.25", 200),
        ("start=2026-01-02T00:00:00&end=2026-01-01T00:00:00", 400),
        ("start=2026-01-01T00:00:00&end=2026-01-01T00:00:00", 400),
        ("start=yesterday", 400),
        ("end=2026-01-01", 400),
        ("start=2026-01-01T00:00:00Z", 400),
    ],
)
def test_periods(used: World, query: str, status: int) -> None:
    for path, token in ((PATH, "admin"), (f"{PATH}/{DEMO}", "reader")):
        assert used.get(f"{path}?{query}", token=token).status_code == status


def test_whose_usage_is_shown_to_whom(used: World) -> None:
    assert used.get(PATH).status_code == 403
    assert used.get(f"{PATH}/{OTHER}?{MONTH}").status_code == 403
    assert used.get(f"{PATH}/{OTHER}?{MONTH}", token="admin").get_json()["tenant_usage"]["total_hours"] == 0.5
    assert used.get(f"{PATH}/nobody?{MONTH}", token="admin").get_json() == {"tenant_usage": {}}


def test_usage_until_a_time_to_come_ends_now(used: World) -> None:
    shown = totals(used, "start=2026-01-01T00:00:00&end=2999-01-01T00:00:00")[DEMO]
    assert shown["stop"] < "2999"
    with used.database.read() as connection:
        statement = sa.select(sa.func.count()).select_from(top_schema.server_index)
        assert connection.execute(statement).scalar_one() == len(SERVERS)
