"""The OpenAPI document: a valid one, with every route, whose patterns others' tools read as we do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.api.world import World
from top_api.microversion import LAST
from top_api.routes import RESOURCES
from top_api.service_api_definition import COMPUTE

ROUTES = [route for resource in RESOURCES for route in resource.routes if resource.api is COMPUTE]


@pytest.mark.parametrize("version", ["2.1", "2.36", "2.64", "latest"])
def test_it_is_served_and_valid(world: World, version: str) -> None:
    document = world.get(f"/openapi.json?microversion={version}", token=None).get_json()
    assert [str(error) for error in OpenAPIV31SpecValidator(document).iter_errors()] == []
    documents = [path for path, methods in document["paths"].items() if "servers" in methods]
    assert documents == ["/", "/v2.1/", "/v2/"]  # of versions, beside the API
    for path in documents:
        del document["paths"][path]
    pair = tuple(map(int, document["info"]["version"].split(".")))
    expected = {(route.method, route.path) for route in ROUTES if route.since <= pair <= route.until}
    found = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert found == {(method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", path)) for method, path in expected}
    named = [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]
    assert len(named) == len(set(named))


def test_without_a_version_it_is_the_newest(world: World) -> None:
    assert world.get("/openapi.json", token=None).get_json()["info"]["version"] == str(LAST)


@pytest.mark.parametrize(
    ("version", "status"), [("2.0", 406), ("2.102", 406), ("2.x", 400), ("", 400), ("2.1%00", 400), ("1" * 400, 400)]
)
def test_a_version_that_is_none_is_refused(world: World, version: str, status: int) -> None:
    assert world.get(f"/openapi.json?microversion={version}", token=None).status_code == status


def test_every_pattern_is_read_by_others(world: World) -> None:
    document = world.get("/openapi.json", token=None).get_json()
    patterns = [*_patterns(document)]
    assert len(patterns) > 5
    for pattern in patterns:
        assert pattern.startswith("^")
        assert re.compile(pattern)


def _patterns(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (text for key, text in value.items() if key == "pattern" and isinstance(text, str))
        yield from value.get("patternProperties", {})
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _patterns(each)
