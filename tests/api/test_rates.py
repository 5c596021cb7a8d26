"""Rate limits by option: each project has its own, everywhere, and hears when to come back."""

from __future__ import annotations

from pathlib import Path

import pytest

from cellcloud import errors
from cellcloud.db.engine import Database
from tests.api.world import World
from tests.embedded_cloud import PASSWORDS, make_cloud
from top_api.rates import RateLimits


def test_a_project_that_asks_too_often_waits_and_others_do_not(world: World) -> None:
    world.app.extensions["rates"] = RateLimits("5/hour")
    assert [world.get("/servers").status_code for _ in range(7)] == [200] * 5 + [429] * 2
    answer = world.get("/servers")
    assert 0 < int(answer.headers["Retry-After"]) <= 3600
    assert answer.get_json()["overLimit"]["code"] == 429
    assert world.post("/servers", {}).status_code == 429
    assert world.get("/servers", token="reader").status_code == 429  # of the same project
    assert world.get("/servers", token="other").status_code == 200
    assert world.get("/servers", token=None).status_code == 401


def test_embedded_services_count_too(top_database: Database, tmp_path: Path) -> None:
    cloud = make_cloud(top_database, tmp_path)
    app = cloud.app()
    app.extensions["rates"] = RateLimits("3/hour")
    headers = {"X-Auth-Token": cloud.token("demo", PASSWORDS.demo, "demo")}
    client = app.test_client()
    found = [client.get(path, headers=headers) for path in ("/image/v2/images", "/network/v2.0/networks") * 2]
    assert [one.status_code for one in found] == [200, 200, 200, 429]
    assert int(found[-1].headers["Retry-After"]) > 0


def test_there_is_no_limit_unless_one_is_set(world: World) -> None:
    assert world.config.top.rate_limit == ""
    assert {world.get("/servers").status_code for _ in range(300)} == {200}


def test_a_limit_that_cannot_be_read_is_said_at_the_start() -> None:
    with pytest.raises(errors.Misconfigured):
        RateLimits("often")
