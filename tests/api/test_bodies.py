"""A body is read once it is known who sends it."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from cellcloud.db.engine import Database
from tests.api.world import World
from tests.embedded_cloud import make_cloud
from top_api.embedded_api import RESOURCES as EMBEDDED_RESOURCES
from top_api.request_pipeline import Resource
from top_api.routes import RESOURCES


def closed(resources: Sequence[Resource]) -> list[tuple[str, str]]:
    """Return method and path of what takes a body and asks for a token."""
    return [
        (route.method, resource.api.prefix + route.path)
        for resource in resources
        for route in resource.routes
        if route.method != "GET" and route.rule is not None
    ]


class Unread(io.BytesIO):
    """A body that nobody may look into."""

    def read(self, size: int | None = -1) -> bytes:
        pytest.fail("the body of a request without a token was read")

    readinto = readline = readlines = read  # type: ignore[assignment]


def test_no_body_is_read_without_a_token(world: World) -> None:
    refuses_all(world.http, closed(RESOURCES))


def test_no_body_of_an_embedded_service_is_read_without_a_token(top_database: Database, tmp_path: Path) -> None:
    refuses_all(make_cloud(top_database, tmp_path).app().test_client(), closed(EMBEDDED_RESOURCES))


def refuses_all(client: FlaskClient, asked: list[tuple[str, str]]) -> None:
    """Check that who has no token is refused everything before a body is read."""
    assert len(asked) > 8
    for method, path in asked:
        for token in (None, "x" * 40):
            answer = client.open(
                re.sub(r"<[^>]+>", "11111111-0000-4000-8000-000000000001", path),
                method=method,
                headers={} if token is None else {"X-Auth-Token": token},
                input_stream=Unread(),
                content_length=500_000,
                content_type="application/json",
            )
            assert answer.status_code == 401, (method, path)
