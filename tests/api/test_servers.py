"""Servers over the API: create, list, show, update, delete and their actions."""

from __future__ import annotations

from tests.api.world import DEMO, IMAGE, World


def test_a_server_is_created_shown_listed_and_deleted(world: World) -> None:
    answer = world.post("/servers", {"server": {"name": "vm1", "flavorRef": "1", "imageRef": IMAGE}})
    assert answer.status_code == 202
    made = answer.get_json()["server"]
    assert set(made) == {"id", "links", "OS-DCF:diskConfig", "security_groups", "adminPass"}
    assert answer.headers["Location"] == f"http://localhost/v2.1/servers/{made['id']}"
    world.settle()
    shown = world.get(f"/servers/{made['id']}").get_json()["server"]
    assert (shown["status"], shown["tenant_id"], shown["hostId"] != "") == ("ACTIVE", DEMO, True)
    assert shown["addresses"]["private"][0]["OS-EXT-IPS:type"] == "fixed"
    listed = world.get("/servers").get_json()["servers"]
    assert [(one["id"], one["name"]) for one in listed] == [(made["id"], "vm1")]
    assert world.get("/servers/detail").get_json()["servers"] == [shown]
    assert world.call("DELETE", f"/servers/{made['id']}").status_code == 204
    world.settle()
    assert world.get(f"/servers/{made['id']}").status_code == 404
    assert world.get("/servers").get_json() == {"servers": []}
