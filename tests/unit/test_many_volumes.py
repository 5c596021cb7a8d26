"""A thousand volumes: lists ask the database as often as for one, and nothing looks at what nobody has."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest

from cell.volume.exports import Export, FakeExporter
from cell.volume.rpc_endpoint import VolumeEndpoint
from cell.volume.volume_files import VolumeFiles, VolumeRecord
from cellcloud.context import service_context
from cellcloud.db import volume_schema
from cellcloud.embedded.volume import volumes
from cellcloud.embedded.volume.service import VolumeViewer
from cellcloud.embedded.volume.volumes import VolumeRequest
from cellcloud.model.block_storage import Connector
from tests.statements import counted
from tests.volume_world import VolumeWorld

MANY = 1000


def test_a_list_of_a_thousand_asks_as_often_as_one_of_one(tmp_path: Path) -> None:
    world = VolumeWorld(tmp_path)
    viewer = VolumeViewer(project_id=world.cloud.project("demo"), user_id="u")
    volumes.create_volume(world.service, viewer, VolumeRequest(size=1))
    client, token = world.cloud.app().test_client(), world.cloud.token("demo", "demo-password")

    def ask(limit: int) -> tuple[int, int]:
        """How many were listed, and by how many statements."""
        headers = {"X-Auth-Token": token, "OpenStack-API-Version": "volume 3.70"}
        with counted(world.database) as statements:
            answer = client.get(f"/volume/v3/volumes/detail?limit={limit}", headers=headers)
        assert answer.status_code == 200, answer.text
        return len(json.loads(answer.data)["volumes"]), len(statements)

    ask(1)
    one, asked = ask(1)

    others = ", ".join(column.name for column in volume_schema.volumes.c if column.name != "id")
    with world.database.engine.begin() as c:
        c.exec_driver_sql(
            f"WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < {MANY}) "  # noqa: S608
            f"INSERT INTO volumes (id, {others}) "
            f"SELECT printf('%08d-0000-4000-8000-000000000000', i), {others} FROM volumes, n"
        )
    many, asked_for_many = ask(MANY)
    assert (one, many) == (1, MANY)
    assert asked_for_many <= asked + 2  # what is looked up by ids is so in portions
    world.close()


class Watched(FakeExporter):
    """Counts what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def is_serving(self, volume_id: str) -> bool:
        self.asked += 1
        return super().is_serving(volume_id)

    def start(self, export: Export) -> None:
        self.asked += 1
        super().start(export)


def test_what_nobody_has_is_not_looked_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, exporter = VolumeFiles(tmp_path), Watched()
    made = [str(uuid.UUID(int=number)) for number in range(MANY)]
    for volume_id in made:
        files.finish(_touched(files.begin(volume_id)), VolumeRecord(id=volume_id, generation=1, size=1))
    endpoint = VolumeEndpoint(files, exporter, lambda: None, host="h", zone="nova")  # type: ignore[arg-type, return-value]
    monkeypatch.setattr(files, "list_records", lambda: pytest.fail("every volume is read"))
    monkeypatch.setattr(files, "find", lambda volume_id: pytest.fail("a volume that nobody has is read"))
    endpoint.look_after()
    assert exporter.asked == 0
    monkeypatch.undo()
    endpoint.connect(service_context(), made[0], "a", 2, Connector(host="h"), "rw", False)
    before = exporter.asked
    endpoint.look_after()
    assert exporter.asked == before + 1
    endpoint.stop()


def _touched(path: Path) -> Path:
    path.touch()
    return path
