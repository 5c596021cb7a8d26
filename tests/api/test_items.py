"""Single items of a server's sets are changed where the server is: what the index does not know yet stays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.api.world import World


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "tags", "metadata"),
    [
        ("PUT", "tags/x", None, 201, {"old", "new", "x"}, {"old": "1", "new": "2"}),
        ("PUT", "tags/old", None, 204, {"old", "new"}, {"old": "1", "new": "2"}),
        ("DELETE", "tags/old", None, 204, {"new"}, {"old": "1", "new": "2"}),
        ("DELETE", "tags/new", None, 204, {"old"}, {"old": "1", "new": "2"}),
        ("DELETE", "tags/x", None, 404, {"old", "new"}, {"old": "1", "new": "2"}),
        ("POST", "metadata", {"metadata": {"x": "3"}}, 200, {"old", "new"}, {"old": "1", "new": "2", "x": "3"}),
        ("PUT", "metadata/x", {"meta": {"x": "3"}}, 200, {"old", "new"}, {"old": "1", "new": "2", "x": "3"}),
        ("DELETE", "metadata/old", None, 204, {"old", "new"}, {"new": "2"}),
        ("DELETE", "metadata/new", None, 204, {"old", "new"}, {"old": "1"}),
        ("DELETE", "metadata/x", None, 404, {"old", "new"}, {"old": "1", "new": "2"}),
    ],
)
def test_an_item_is_changed_beside_what_others_just_changed(
    world: World, method: str, path: str, body: Any, status: int, tags: set[str], metadata: dict[str, str]
) -> None:
    server_id = world.create(metadata={"old": "1"})
    assert world.call("PUT", f"/servers/{server_id}/tags/old", version="2.26").status_code == 201
    cell = world.cell_of(server_id)
    spec = cell.servers[server_id].spec
    cell.change(server_id, spec=replace(spec, tags=("old", "new"), metadata={"old": "1", "new": "2"}))
    answer = world.call(method, f"/servers/{server_id}/{path}", body, version="2.26")
    assert answer.status_code == status, answer.text
    found = cell.servers[server_id].spec
    assert (set(found.tags), found.metadata) == (tags, metadata)


def test_the_bounds_count_what_the_cell_has(world: World) -> None:
    server_id = world.create()
    cell = world.cell_of(server_id)
    spec = replace(cell.servers[server_id].spec, tags=tuple(f"t{n}" for n in range(50)))
    cell.change(server_id, spec=replace(spec, metadata={f"k{n}": "v" for n in range(128)}))
    assert world.call("PUT", f"/servers/{server_id}/tags/x", version="2.26").status_code == 400
    assert world.post(f"/servers/{server_id}/metadata", {"metadata": {"x": "1"}}).status_code == 403
    assert world.post(f"/servers/{server_id}/metadata", {"metadata": {"k1": "1"}}).status_code == 200


def test_where_a_new_tag_is(world: World) -> None:
    server_id = world.create()
    answer = world.call("PUT", f"/servers/{server_id}/tags/a%20b", version="2.26")
    assert answer.status_code == 201
    assert answer.headers["Location"].endswith(f"/servers/{server_id}/tags/a%20b")
