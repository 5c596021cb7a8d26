"""A body is read once it is known who sends it."""

from __future__ import annotations

import io
import re

import pytest

from tests.api.world import World
from top_api.routes import RESOURCES

ROUTES = [(route.method, resource.prefix + route.path) for resource in RESOURCES for route in resource.routes]


class Unread(io.BytesIO):
    """A body that nobody may look into."""

    def read(self, size: int | None = -1) -> bytes:
        pytest.fail("the body of a request without a token was read")

    readinto = readline = readlines = read  # type: ignore[assignment]


def test_no_body_is_read_without_a_token(world: World) -> None:
    asked = [(method, path) for method, path in ROUTES if method != "GET"]
    assert len(asked) > 20
    for method, path in asked:
        for token in (None, "x" * 40):
            answer = world.http.open(
                re.sub(r"<[^>]+>", "11111111-0000-4000-8000-000000000001", path),
                method=method,
                headers={} if token is None else {"X-Auth-Token": token},
                input_stream=Unread(),
                content_length=500_000,
                content_type="application/json",
            )
            assert answer.status_code == 401, (method, path)
