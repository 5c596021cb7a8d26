"""Tags and metadata of a server: in which states they are changed, and how many there may be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cellcloud.db import server_index
from cellcloud.server_states import VmState
from tests.api.world import World

CHANGED_IN = {VmState.ACTIVE, VmState.PAUSED, VmState.SUSPENDED, VmState.STOPPED}
# Source: Nova's controllers of tags and metadata. What each change is called, and its status where it is done.
CHANGES: dict[str, tuple[str, str, Any, int]] = {
    "update tag": ("PUT", "/tags/b", None, 201),
    "update tags": ("PUT", "/tags", {"tags": ["b"]}, 200),
    "delete tag": ("DELETE", "/tags/a", None, 204),
    "delete tags": ("DELETE", "/tags", None, 204),
    "update metadata": ("POST", "/metadata", {"metadata": {"b": "c"}}, 200),
    "update metadata ": ("PUT", "/metadata", {"metadata": {"b": "c"}}, 200),
    "update metadata  ": ("PUT", "/metadata/b", {"meta": {"b": "c"}}, 200),
    "delete metadata": ("DELETE", "/metadata/a", None, 204),
}


@pytest.mark.parametrize("state", sorted(set(VmState) - {VmState.DELETED}))
def test_the_states_in_which_they_are_changed(world: World, state: VmState) -> None:
    for verb, (method, path, body, status) in CHANGES.items():
        server_id = world.create(metadata={"a": "b"})
        assert world.call("PUT", f"/servers/{server_id}/tags/a", version="2.26").status_code == 201
        cell = world.cell_of(server_id)
        with world.database.write() as connection:
            server_index.upsert(connection, [replace(cell.change(server_id, vm_state=state), cell=cell.name)])
        answer = world.call(method, f"/servers/{server_id}{path}", body, version="2.26")
        if state in CHANGED_IN:
            assert answer.status_code == status, verb
        else:
            told = f"Cannot '{verb.strip()}' instance {server_id} while it is in vm_state {state}"
            assert (answer.status_code, answer.get_json()["conflictingRequest"]["message"]) == (409, told)
        assert world.get(f"/servers/{server_id}/tags", version="2.26").status_code == 200
        assert world.get(f"/servers/{server_id}/metadata/none").status_code == 404
        assert world.call("DELETE", f"/servers/{server_id}/metadata/none").status_code == 404


def test_how_many_there_may_be(world: World) -> None:
    server_id = world.create()
    tags, metadata = f"/servers/{server_id}/tags", f"/servers/{server_id}/metadata"
    full = {"tags": [f"t{number}" for number in range(50)]}
    assert world.call("PUT", tags, full, version="2.26").status_code == 200
    for method, path, body in (("PUT", tags, {"tags": [*full["tags"], "more"]}), ("PUT", f"{tags}/more", None)):
        assert world.call(method, path, body, version="2.26").status_code == 400
    most = world.config.quota.metadata_items
    whole = {"metadata": {f"k{number}": "v" for number in range(most)}}
    assert world.call("PUT", metadata, whole).status_code == 200
    for method, path, body in (
        ("POST", metadata, {"metadata": {"more": "v"}}),
        ("PUT", f"{metadata}/more", {"meta": {"more": "v"}}),
        ("PUT", metadata, {"metadata": {**whole["metadata"], "more": "v"}}),
    ):
        answer = world.call(method, path, body)
        assert answer.status_code == 403
        assert answer.get_json()["forbidden"]["message"] == f"Maximum number of metadata items exceeds {most}"
    assert world.call("PUT", f"{metadata}/k0", {"meta": {"k0": "w"}}).status_code == 200
