"""A top that is put back by some minutes, and a cell: creates and deletes since, in a whole cloud of pretended guests.
No server runs twice, none is lost from sight, quotas and addresses are right."""

from __future__ import annotations

from pathlib import Path

from tests.cloud import CELLS, Api, Cloud, running_cloud, until
from tests.faults.books import open_books, wait_until_right


def make(api: Api, names: list[str]) -> list[str]:
    ids = [api.create(name) for name in names]
    for server_id in ids:
        api.wait_for(server_id, "ACTIVE")
    return ids


def delete(api: Api, ids: list[str]) -> None:
    for server_id in ids:
        assert api.request("DELETE", f"/servers/{server_id}").status_code == 204
    until(lambda: all(api.find(server_id) is None for server_id in ids), what="servers to be gone")


def test_a_restored_top_and_a_restored_cell(tmp_path: Path) -> None:
    with running_cloud(tmp_path, profile="embedded", hosts=3) as cloud:
        begin = ["--profile", "embedded", "--driver", "fake", "--hosts", "3", "--port", str(cloud.port)]
        begin += ["--clouds-file", str(cloud.clouds_file)]
        api = cloud.api()
        old = make(api, [f"old-{n}" for n in range(4)])
        cloud.command("backup", "top", str(tmp_path / "top"))
        new = make(api, [f"new-{n}" for n in range(3)])
        delete(api, [old[0], new[0]])
        kept = {*old[1:], *new[1:]}
        cell = next(name for name in CELLS if new[1] in _in_cell(cloud, name))
        cloud.command("backup", cell, str(tmp_path / "cell"))
        for action, status in (("os-stop", "SHUTOFF"), ("os-start", "ACTIVE"), ("os-stop", "SHUTOFF")):
            assert api.request("POST", f"/servers/{new[1]}/action", {action: None}).status_code == 202
            api.wait_for(new[1], status)

        cloud.command("down")
        cloud.command("restore", "top", str(tmp_path / "top"))
        cloud.command("restore", cell, str(tmp_path / "cell"))
        cloud.command("up", *begin)

        api = cloud.api()
        with open_books(cloud) as books:
            until(lambda: set(api.list_servers()) == kept, what="the index to show what there is")
            # As the cell had it; its guest is off, and the host takes what the cell asks for, though it has seen newer.
            answer = api.request("POST", f"/servers/{new[1]}/action", {"reboot": {"type": "HARD"}})
            assert answer.status_code == 202, answer.text
            api.wait_for(new[1], "ACTIVE")
            make(api, ["another"])
            wait_until_right(books, 40.0)
            delete(api, list(kept))
            wait_until_right(books, 40.0)


def _in_cell(cloud: Cloud, cell: str) -> list[str]:
    with open_books(cloud) as books:
        found = next(each for each in books.cells if each.name == cell)
        with found.database.read() as connection:
            rows = connection.exec_driver_sql("SELECT id FROM servers WHERE NOT deleted")
            return [str(row[0]) for row in rows]
