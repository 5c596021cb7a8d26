"""What checks every answer of these tests sees what is wrong with one, and each declared field is really shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.api.declared_answers import problem_of
from tests.api.world import World
from top_api.microversion import LAST, Microversion

SHOW = "servers.GET./servers/<server_id>"
Change = Callable[[dict[str, Any]], object]
WRONG: dict[str, tuple[Change, str]] = {
    "a field more": (lambda server: server.update(more=1), "unexpected"),
    "one too few": (lambda server: server.pop("locked"), "required"),
    "another type": (lambda server: server.update(locked="no"), "/server/locked"),
    "null where none may be": (lambda server: server.update(name=None), "/server/name"),
    "no word of those": (lambda server: server.update(status="ASLEEP"), "/server/status"),
    "no id": (lambda server: server.update(id="1"), "/server/id"),
    "another form of a time": (lambda server: server.update(created="2026-01-01T00:00:00"), "/server/created"),
    "inside of what it has": (lambda server: server["flavor"].update(id="1"), "/server/flavor"),
    "in a list": (lambda server: server["links"][0].pop("href"), "/server/links/0"),
}


@pytest.mark.parametrize("what", WRONG)
def test_it_sees_what_is_wrong(world: World, what: str) -> None:
    change, place = WRONG[what]
    shown = world.get(f"/servers/{world.create()}", version=str(LAST)).get_json()
    assert problem_of(SHOW, "", LAST, 200, json.dumps(shown).encode()) == ""
    change(shown["server"])
    assert place in problem_of(SHOW, "", LAST, 200, json.dumps(shown).encode())


def test_a_field_is_there_at_its_microversions_alone(world: World) -> None:
    """Each answer is declared for its own microversion, and for no other that shows something else."""
    path = f"/servers/{world.create()}"
    for minor in (9, 19, 26, 47, 63, 71, 73, 96, 98, 100):
        bodies = [world.get(path, version=f"2.{number}").get_data() for number in (minor - 1, minor)]
        found = [problem_of(SHOW, "", Microversion(2, number), 200, bodies[0]) for number in (minor - 1, minor)]
        assert (found[0], bool(found[1])) == ("", True), minor
        assert problem_of(SHOW, "", Microversion(2, minor - 1), 200, bodies[1]) != ""


@pytest.mark.parametrize(
    ("endpoint", "name", "status", "data"),
    [
        (SHOW, "", 202, b"{}"),
        (SHOW, "", 200, b""),
        (SHOW, "", 409, b"{}"),
        (SHOW, "", 404, b"{}"),
        (SHOW, "", 404, b'{"itemNotFound": {"code": 404, "message": "m", "more": 1}}'),
        (SHOW, "", 401, b'{"unauthorized": {"code": 401, "message": "m"}}'),
        ("servers.DELETE./servers/<server_id>", "", 204, b"{}"),
        ("server-actions.POST./servers/<server_id>/action", "os-stop", 202, b"{}"),
        ("server-actions.POST./servers/<server_id>/action", "os-stop", 200, b""),
        ("server-actions.POST./servers/<server_id>/action", "rescue", 200, b""),
        ("server-actions.POST./servers/<server_id>/action", "os-stop", 501, b"{}"),
        ("gone.GET./os-cells", "", 200, b"{}"),
        ("", "", 300, b'{"choices": [{}]}'),
        ("", "", 200, b"{}"),
    ],
)
def test_no_other_status_and_no_other_body(endpoint: str, name: str, status: int, data: bytes) -> None:
    assert problem_of(endpoint, name, LAST, status, data) != ""
