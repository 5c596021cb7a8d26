"""Policy over HTTP: operators' rules reach every route, about the server that is meant."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cellcloud import errors
from cellcloud.db.engine import Database
from tests.api.world import CALLERS, World
from top_api.routes import RESOURCES
from top_api.routes.openapi import describing

CALLERS["colleague"] = ("second-user", CALLERS["member"][1], ("member", "reader"))
RULES = """
"os_compute_api:servers:delete": "user_id:%(user_id)s"
"os_compute_api:servers:stop": "user_id:%(user_id)s"
"os_compute_api:os-server-tags:update_all": "user_id:%(user_id)s"
"os_compute_api:os-hypervisors:list": "role:reader"
"os_compute_api:servers:show:flavor-extra-specs": "!"
"""


@pytest.fixture
def ruled(top_database: Database, tmp_path: Path) -> Iterator[World]:
    """A world whose operators have rules of their own."""
    made = World(top_database, tmp_path, policy=RULES)
    yield made
    made.close()


def test_rules_are_asked_about_the_owner_of_the_server(ruled: World) -> None:
    server_id = ruled.create()
    for method, path, body in (
        ("DELETE", "", None),
        ("POST", "/action", {"os-stop": None}),
        ("PUT", "/tags", {"tags": ["x"]}),
    ):
        answer = ruled.call(method, f"/servers/{server_id}{path}", body, token="colleague", version="2.26")
        assert answer.status_code == 403
        message = answer.get_json()["forbidden"]["message"]
        assert message.startswith("Policy doesn't allow os_compute_api:")
        assert message.endswith(" to be performed.")
        assert ruled.call(method, f"/servers/{server_id}{path}", body, token="other").status_code == 404
    assert ruled.call("PUT", f"/servers/{server_id}/tags", {"tags": ["x"]}, version="2.26").status_code == 200
    assert ruled.call("DELETE", f"/servers/{server_id}").status_code == 204


def test_rules_open_what_is_closed_by_default(ruled: World) -> None:
    assert ruled.get("/os-hypervisors", token="reader").status_code == 200
    assert ruled.get("/os-hypervisors/detail", token="reader").status_code == 403


def test_rules_of_single_fields(ruled: World) -> None:
    server_id = ruled.create()
    seen = ruled.get(f"/servers/{server_id}", version="2.47").get_json()["server"]["flavor"]
    assert "extra_specs" not in seen
    assert "original_name" in seen


def test_a_wrong_policy_builds_no_api(top_database: Database, tmp_path: Path) -> None:
    with pytest.raises(errors.Misconfigured, match="delte"):
        World(top_database, tmp_path, policy='"os_compute_api:servers:delte": "!"')


def test_the_application_serves_nothing_but_routes_with_rules_and_what_is_open(world: World) -> None:
    routes = {
        f"{resource.name}.{route.method}.{route.path}": route
        for resource in (*RESOURCES, describing(RESOURCES))
        for route in resource.routes
    }
    declared = {endpoint for endpoint, route in routes.items() if route.rule is not None}
    served = {rule.endpoint for rule in world.app.url_map.iter_rules()}
    assert served == routes.keys()
    assert {endpoint.split(".")[0] for endpoint in served - declared} == {"versions", "openapi"}
    for rule in world.app.url_map.iter_rules():
        if rule.endpoint in declared and "<" not in rule.rule and "GET" in (rule.methods or ()):
            assert world.get(rule.rule, token="nobody").status_code == 403, rule.rule
            assert world.get(rule.rule, token=None).status_code == 401, rule.rule
