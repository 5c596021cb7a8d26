"""What is wrong with a request whatever it asks for, at every route: the status, and Nova's form of refusal."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cellcloud.db import top_schema
from cellcloud.db.engine import Database
from tests.api.world import World
from top_api.rates import RateLimits
from top_api.request_pipeline import Actions, Route
from top_api.routes import RESOURCES

METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH")
ROUTES = [
    (resource.api.prefix + re.sub("<[^>]+>", "1", route.path), route)
    for resource in RESOURCES
    for route in resource.routes
    if route.rule is not None
]
COMPUTE = [(path, route) for path, route in ROUTES if path.startswith("/v2.1")]
NAMES = {400: "badRequest", 405: "badMethod", 406: "computeFault", 413: "overLimit", 415: "badMediaType",
         429: "overLimit"}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One for all: nothing here is ever done."""
    folder: Path = tmp_path_factory.mktemp("bad")
    database = Database(f"sqlite:///{folder}/top.db")
    with database.write() as connection:
        top_schema.metadata.create_all(connection)
    made = World(database, folder)
    yield made
    made.close()
    database.close()


def check(world: World, status: int, method: str, path: str, **more: Any) -> Any:
    """Ask as an administrator, and look at the form of the refusal."""
    answer = world.call(method, path, token="admin", **more)
    assert answer.status_code == status, (method, path, answer.text[:300])
    ((name, told),) = answer.get_json().items()
    assert (name, told["code"]) == (NAMES[status], status)
    assert told["message"]
    assert set(told) == {"code", "message"} | ({"retryAfter"} if status == 413 else set())
    assert ("Retry-After" in answer.headers) is (status in (413, 429))
    if method != "OPTIONS" and path.startswith("/v2.1"):
        assert re.fullmatch(r"req-[0-9a-f-]{36}", answer.headers["x-compute-request-id"])
    return answer


def version_of(route: Route) -> str:
    """One that the route is served at."""
    return ".".join(map(str, route.since))


def with_body() -> Iterator[tuple[str, Route]]:
    return ((path, route) for path, route in COMPUTE if route.method != "GET")


def test_a_method_that_a_path_has_not_is_answered_with_those_it_has(world: World) -> None:
    adapter = world.app.url_map.bind("localhost")
    for path in sorted({path for path, _ in ROUTES}):
        allowed = set(adapter.allowed_methods(path))
        assert allowed
        for method in {*METHODS, "OPTIONS"} - allowed:
            answer = check(world, 405, method, path)
            assert set(answer.headers["Allow"].split(", ")) == allowed, path


@pytest.mark.parametrize("version", ["2.0", "2.102", "3.1"])
def test_a_microversion_that_is_not_served(world: World, version: str) -> None:
    for path, route in COMPUTE:
        answer = check(world, 406, route.method, path, version=version)
        assert answer.get_json()["computeFault"]["message"] == (
            f"Version {version} is not supported by the API. Minimum is 2.1 and maximum is 2.101."
        )


@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "application/x-www-form-urlencoded", ""])
def test_a_body_of_a_kind_that_is_not_taken(world: World, kind: str) -> None:
    for path, route in with_body():
        check(world, 415, route.method, path, data=b"{}", content_type=kind, version=version_of(route))


def test_a_body_that_is_too_large(world: World) -> None:
    data = b'{"a": "' + b"a" * (1 << 20) + b'"}'
    for path, route in with_body():
        check(world, 413, route.method, path, data=data, content_type="application/json", version=version_of(route))


@pytest.mark.parametrize("data", [b"{", b"nonsense", b'{"a": 1, "a": 2}', b"\xff"])
def test_a_body_that_is_no_json(world: World, data: bytes) -> None:
    for path, route in with_body():
        more: dict[str, Any] = {"data": data, "content_type": "application/json", "version": version_of(route)}
        answer = check(world, 400, route.method, path, **more)
        assert answer.get_json()["badRequest"]["message"] == "Malformed request body"


def test_too_many_requests(world: World) -> None:
    world.app.extensions["rates"] = RateLimits("1/hour")
    world.get("/servers", token="admin")
    for path, route in COMPUTE:
        check(world, 429, route.method, path)
    world.app.extensions["rates"] = RateLimits("")


# ---- what nobody sends by intent -------------------------------------------------------------------------------------
WORDS = ("0", "9" * 4000, "%00", "%ed%a0%80", "a%2Fb", "\u0661", "9223372036854775808")
QUERIES = (
    "%ff=%ff", "limit=" + "9" * 400, "limit=\u00b2", "marker=%00", "=", ";%&&", "x" * 20_000, "sort_key=%ff", "ip=(((",
    "start=0001-01-01T00:00:00&end=9999-12-31T23:59:59", "changes-since=0001-01-01T00:00:00-23:59", "user_id=%00",
    "detailed=\u00b2", "limit=1e3", "_=%ED%A0%80",
)  # fmt: skip
HEADERS = (
    {"OpenStack-API-Version": "compute"}, {"OpenStack-API-Version": "compute \u00b2.\u00b9"},
    {"OpenStack-API-Version": "compute 2." + "1" * 5000}, {"X-OpenStack-Nova-API-Version": "\u00b2"},
    {"Idempotency-Key": "\u00e9" * 300}, {"X-OpenStack-Request-ID": "req-\u00e9"}, {"Host": "["},
    {"Host": "x" * 5000}, {"Content-Type": "application/json; charset=none"}, {"Content-Type": "\u00e9"},
    {"Content-Encoding": "gzip"}, {"Content-Length": "-1"}, {"Content-Length": "9" * 20}, {"Range": "bytes=-"},
    {"Authorization": "Digest x"}, {"Cookie": "\u00e9=;;"}, {"X-HTTP-Method-Override": "DELETE"},
)  # fmt: skip
VALUES = ("null", "1" * 400, "1e308", '"\\ud800"', "[[]]", '{"": ""}')


def survives(world: World, method: str, path: str, **more: Any) -> None:
    """Ask as an administrator; whatever is answered, it is declared and no defect."""
    answer = world.call(method, path, token="admin", **more)
    assert answer.status_code < 500 or answer.status_code == 501, (method, path[:200], answer.text[:300])


def test_no_word_of_a_path_is_a_defect(world: World) -> None:
    for path, route in [(route.path, route) for _, route in COMPUTE if "<" in route.path]:
        body = {} if route.method in ("POST", "PUT") else None
        for word in WORDS:
            survives(world, route.method, re.sub("<[^>]+>", word, path), body=body, version=version_of(route))


def test_no_query_is_a_defect(world: World) -> None:
    for path in [path for path, route in COMPUTE if route.method == "GET"]:
        for query in QUERIES:
            survives(world, "GET", f"{path}?{query}")


def test_no_header_is_a_defect(world: World) -> None:
    for path in ("/v2.1/servers", "/v2.1/flavors/1", "/v2.1/os-keypairs/a"):
        for headers in HEADERS:
            for method in ("GET", "PUT", "POST"):
                sent = headers if "Content-Type" in headers else {**headers, "Content-Type": "application/json"}
                survives(world, method, path, headers=sent, data=b"{}" if method != "GET" else b"")


def test_no_value_is_a_defect(world: World) -> None:
    for path, route in with_body():
        names = [*route.rule.by_name] if isinstance(route.rule, Actions) else ["x"]
        for _, schema in route.body or ():
            names += schema.get("properties", {})
        for name in {*names} - {"forceDelete"}:
            for value in VALUES:
                data = f'{{"{name}": {value}}}'.encode()
                survives(
                    world, route.method, path, data=data, content_type="application/json", version=version_of(route)
                )


def test_an_answer_is_json_whatever_is_accepted(world: World) -> None:
    for path, _ in [(path, route) for path, route in COMPUTE if route.method == "GET"]:
        for kind in ("application/xml", "text/*;q=x", "\u00e9"):
            answer = world.get(path, token="admin", headers={"Accept": kind})
            assert answer.content_type == "application/json"
