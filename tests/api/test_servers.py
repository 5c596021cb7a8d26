"""Servers over the API: create, list, show, update, delete and their actions."""

from __future__ import annotations

import pytest

from cellcloud.db import server_index
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


@pytest.mark.parametrize("given", [{}, {"adminPass": "given-word-1"}])
@pytest.mark.parametrize("key", [{}, {"Idempotency-Key": "k1"}])
@pytest.mark.parametrize("drive", [True, False])
def test_a_password_goes_to_the_cell_where_a_config_drive_tells_the_guest(
    world: World, given: dict[str, str], key: dict[str, str], drive: bool
) -> None:
    body = {"name": "vm1", "flavorRef": "1", "imageRef": IMAGE, "config_drive": drive, **given}
    made = world.post("/servers", {"server": body}, headers=key).get_json()["server"]
    assert made["adminPass"] == given.get("adminPass", made["adminPass"]) != ""
    world.settle()
    assert world.cell_of(made["id"]).passwords[made["id"]] == (made["adminPass"] if drive else "")
    with world.database.read() as connection:
        record = server_index.find_record(connection, made["id"])
    assert record is not None
    assert record.spec.admin_pass == ""
    assert made["adminPass"] not in world.get(f"/servers/{made['id']}", token="admin").get_data(as_text=True)
