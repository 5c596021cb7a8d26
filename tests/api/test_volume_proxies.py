"""Volumes and their snapshots as clients of before 2.36 ask for them."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from cellcloud import errors
from tests.api.world import DEMO, OTHER, World

UNKNOWN = str(uuid.UUID(int=77))
VERSION = "2.35"


def volume(world: World, **values: Any) -> str:
    return world.volumes.add(**({"project_id": DEMO, "created_at": "2026-01-02T03:04:05.000006"} | values)).id


def ask(world: World, method: str, path: str, body: Any = None, *, status: int = 200, **more: Any) -> Any:
    answer = world.call(method, path, body, version=VERSION, **more)
    assert answer.status_code == status, answer.text
    return answer.get_json(silent=True)


def test_a_volume_is_made_shown_and_deleted(world: World) -> None:
    wanted = {"size": "2", "display_name": "v", "display_description": "d", "metadata": {"k": "v"}}
    made = ask(world, "POST", "/os-volumes", {"volume": wanted})["volume"]
    assert {name: made[name] for name in ("size", "displayName", "displayDescription", "metadata", "attachments")} == {
        "size": 2,
        "displayName": "v",
        "displayDescription": "d",
        "metadata": {"k": "v"},
        "attachments": [{}],
    }
    assert ask(world, "GET", f"/os-volumes/{made['id']}")["volume"]["id"] == made["id"]
    ask(world, "DELETE", f"/os-volumes/{made['id']}", status=202)
    ask(world, "GET", f"/os-volumes/{made['id']}", status=404)


def test_one_that_a_server_has(world: World) -> None:
    server_id, volume_id = world.create(), volume(world)
    world.post(f"/servers/{server_id}/os-volume_attachments", {"volumeAttachment": {"volumeId": volume_id}})
    world.settle()
    (shown,) = ask(world, "GET", "/os-volumes/detail")["volumes"]
    at = {"id": volume_id, "volumeId": volume_id, "serverId": server_id, "device": "/dev/vdb"}
    assert (shown["status"], shown["attachments"]) == ("in-use", [at])
    assert shown["createdAt"] == "2026-01-02T03:04:05.000006"
    ask(world, "DELETE", f"/os-volumes/{volume_id}", status=400)
    ask(world, "POST", "/os-snapshots", {"snapshot": {"volume_id": volume_id}}, status=400)
    ask(world, "POST", "/os-snapshots", {"snapshot": {"volume_id": volume_id, "force": "true"}})


def test_snapshots(world: World) -> None:
    volume_id = volume(world)
    wanted = {"volume_id": volume_id, "display_name": "s", "display_description": "d", "force": False}
    made = ask(world, "POST", "/os-snapshots", {"snapshot": wanted})["snapshot"]
    assert (made["volumeId"], made["displayName"], made["displayDescription"], made["size"]) == (volume_id, "s", "d", 1)
    assert ask(world, "GET", f"/os-snapshots/{made['id']}")["snapshot"] == made
    for path in ("/os-snapshots", "/os-snapshots/detail"):
        assert ask(world, "GET", path)["snapshots"] == [made]
    ask(world, "DELETE", f"/os-snapshots/{made['id']}", status=202)
    assert ask(world, "GET", "/os-snapshots")["snapshots"] == []


@pytest.mark.parametrize("kind", ["volumes", "snapshots"])
def test_pages_of_ones_own_the_newest_first(world: World, kind: str) -> None:
    mine = [volume(world) for _ in range(3)]
    other = volume(world, project_id=OTHER)
    ids = mine
    if kind == "snapshots":
        ids = [world.volumes.ensure_snapshot(one, mark="", name="").id for one in (*mine, other)][:3]
    newest = ids[::-1]
    pages = {"": newest, "limit=2": newest[:2], "limit=0": [], "offset=1": newest[1:], "offset=1&limit=1": newest[1:2],
             f"offset={10**40}": [], "colour=red": newest}  # fmt: skip
    for end in ("", "/detail"):
        for query, wanted in pages.items():
            shown = ask(world, "GET", f"/os-{kind}{end}?{query}")[kind]
            assert [one["id"] for one in shown] == wanted, query
    assert [one["id"] for one in ask(world, "GET", f"/os-{kind}", token="admin")[kind]] == []


@pytest.mark.parametrize("kind", ["volumes", "snapshots"])
def test_what_is_anothers_or_is_not_there(world: World, kind: str) -> None:
    there = volume(world, project_id=OTHER)
    if kind == "snapshots":
        there = world.volumes.ensure_snapshot(there, mark="", name="").id
    for known_as in (there, UNKNOWN, "nonsense"):
        for method in ("GET", "DELETE"):
            ask(world, method, f"/os-{kind}/{known_as}", status=404)
    assert ask(world, "GET", f"/os-{kind}/{there}", token="admin")
    ask(world, "POST", "/os-snapshots", {"snapshot": {"volume_id": UNKNOWN}}, status=404)
    ask(world, "POST", "/os-volumes", {"volume": {"size": 1, "snapshot_id": UNKNOWN}}, status=404)


REFUSED: dict[str, dict[str, Any]] = {
    "no size": {},
    "a size that is none": {"size": "#$%"},
    "an empty size": {"size": ""},
    "none at all": {"size": "0"},
    "less than that": {"size": -1},
    "more than can be": {"size": 10**9},
    "a field that there is not": {"size": 1, "imageRef": UNKNOWN},
    "metadata that are no texts": {"size": 1, "metadata": {"k": {}}},
    "metadata of an endless name": {"size": 1, "metadata": {"k" * 256: "v"}},
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused(world: World, name: str) -> None:
    ask(world, "POST", "/os-volumes", {"volume": REFUSED[name]}, status=400)
    assert not world.volumes.volumes


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        (errors.QuotaExceeded("VolumeLimitExceeded"), 403),
        (errors.Invalid("no"), 400),
        (errors.Unreachable("away"), 503),
    ],
)
def test_what_the_volume_service_says_is_passed_on(world: World, refusal: errors.CellcloudError, status: int) -> None:
    world.volumes.refusal = refusal
    ask(world, "POST", "/os-volumes", {"volume": {"size": 1}}, status=status)


def test_they_end_at_2_35(world: World) -> None:
    for path in ("/os-volumes", "/os-volumes/detail", f"/os-volumes/{volume(world)}", "/os-snapshots"):
        assert world.get(path, version="2.35").status_code == 200
        assert world.get(path, version="2.36").status_code == 404
