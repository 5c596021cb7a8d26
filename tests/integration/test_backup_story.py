"""A top that is put back by some minutes, and a cell: creates and deletes since, in a whole cloud of pretended guests.
No server runs twice, none is lost from sight, quotas and addresses are right."""

from __future__ import annotations

from pathlib import Path

from tests.cloud import Api, Cloud, running_cloud, until
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


def restart(cloud: Cloud, begin: list[str], between: list[str]) -> None:
    cloud.command("down")
    cloud.command(*between)
    cloud.command("up", *begin)


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

        restart(cloud, begin, ["restore", "top", str(tmp_path / "top")])
        api = cloud.api()
        with open_books(cloud) as books:
            wait_until_right(books, 40.0)
            assert set(api.list_servers()) == kept
            make(api, ["another"])
            wait_until_right(books, 20.0)

        place = {server_id: cell for cell in ("east", "west") for server_id in _in_cell(cloud, cell)}
        cell = place[new[1]]
        cloud.command("backup", cell, str(tmp_path / "cell"))
        api = cloud.api()
        mine = [server_id for server_id, its in place.items() if its == cell]
        assert api.request("POST", f"/servers/{mine[0]}/action", {"os-stop": None}).status_code == 202
        api.wait_for(mine[0], "SHUTOFF")
        restart(cloud, begin, ["restore", cell, str(tmp_path / "cell")])
        api = cloud.api()
        assert set(api.list_servers()) == set(place)
        assert api.request("POST", f"/servers/{mine[0]}/action", {"os-start": None}).status_code in (202, 409)
        api.wait_for(mine[0], "ACTIVE")
        delete(api, list(place))
        with open_books(cloud) as books:
            wait_until_right(books, 40.0)


def _in_cell(cloud: Cloud, cell: str) -> list[str]:
    with open_books(cloud) as books:
        found = next(each for each in books.cells if each.name == cell)
        with found.database.read() as connection:
            rows = connection.exec_driver_sql("SELECT id FROM servers WHERE NOT deleted")
            return [str(row[0]) for row in rows]
