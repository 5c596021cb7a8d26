"""os-console-auth-tokens: where a token leads, whichever cell gave it."""

from __future__ import annotations

import pytest

from tests.api.world import TOKEN, World

PATH = "/os-console-auth-tokens"


def test_a_token_leads_to_a_host(world: World) -> None:
    shown = world.get(f"{PATH}/{TOKEN}", token="admin", version="2.31").get_json()["console"]
    assert set(shown) == {"instance_uuid", "host", "port", "internal_access_path"}
    assert (shown["host"], shown["port"]) == ("east-1", 5900)
    world.east.away = True
    assert world.get(f"{PATH}/{TOKEN}", token="admin", version="2.31").get_json()["console"]["host"] == "west-1"


@pytest.mark.parametrize(
    ("token", "version", "status"),
    [
        (TOKEN, "2.30", 400),
        ("x" * 43, "2.31", 404),
        ("x", "2.31", 404),
        (f"{TOKEN}?more=1", "2.98", 200),
        (f"{TOKEN}?more=1", "2.99", 400),
    ],
)
def test_tokens_that_lead_nowhere(world: World, token: str, version: str, status: int) -> None:
    assert world.get(f"{PATH}/{token}", token="admin", version=version).status_code == status
    assert world.get(f"{PATH}/{token}", version=version).status_code == 403


def test_an_unknown_token_is_not_denied_while_a_cell_is_silent(world: World) -> None:
    world.west.away = True
    assert world.get(f"{PATH}/{'x' * 43}", token="admin", version="2.31").status_code == 503
