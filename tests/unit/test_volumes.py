"""The volume API over the embedded service and a cell's volume service: what clients ask, and what becomes of it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from cell.volume.exports import FakeExporter
from cellcloud.model.block_storage import GIB
from cellcloud.model.identity import Grant
from tests.embedded_cloud import PASSWORDS
from tests.volume_world import VolumeWorld

LATEST = "volume 3.70"
UNKNOWN = "5f0c2f2e-3a39-4f5e-9f61-3b9f0f8f6f10"


@dataclass(frozen=True)
class Api:
    """The API, asked by an ordinary member, one of another project, an administrator, and Compute."""

    world: VolumeWorld
    client: FlaskClient
    tokens: dict[str, str]

    def __call__(
        self, method: str, path: str, body: Any = None, *, who: str = "demo", version: str = LATEST, status: int = 0
    ) -> Any:
        response = self.raw(method, path, body, who=who, version=version)
        assert response.status_code == (status or response.status_code), response.text
        assert status or response.status_code < 300, response.text
        return response.get_json(silent=True)

    def raw(
        self, method: str, path: str, body: Any = None, *, who: str = "demo", version: str = LATEST
    ) -> TestResponse:
        headers = {"X-Auth-Token": self.tokens[who], "OpenStack-API-Version": version}
        given = {} if body is None else {"data": json.dumps(body), "content_type": "application/json"}
        return self.client.open(f"/volume/v3{path}", method=method, headers=headers, **given)

    def create(self, size: int | None = 1, *, settle: bool = True, who: str = "demo", **fields: Any) -> str:
        wanted = {**fields, **({"size": size} if size is not None else {})}
        made = self("POST", "/volumes", {"volume": wanted}, who=who, status=202)["volume"]
        assert made["status"] == "creating"
        if settle:
            self.world.settle()
        return str(made["id"])

    def status(self, volume_id: str) -> str:
        return str(self("GET", f"/volumes/{volume_id}", who="admin")["volume"]["status"])

    def act(self, volume_id: str, name: str, given: Any = None, *, status: int = 202, **more: Any) -> Any:
        return self("POST", f"/volumes/{volume_id}/action", {name: given}, status=status, **more)

    def attach(self, volume_id: str, host: str = "h1", *, complete: bool = True, server: str = "") -> str:
        wanted = {"volume_uuid": volume_id, "instance_uuid": server or str(uuid.uuid4())}
        made = self("POST", "/attachments", {"attachment": wanted}, who="service")["attachment"]
        assert made["status"] == "reserved"
        connector = {"host": host, "ip": "127.0.0.1"}
        body = {"attachment": {"connector": connector}}
        self("PUT", f"/attachments/{made['id']}", body, who="service")
        if complete:
            self("POST", f"/attachments/{made['id']}/action", {"os-complete": None}, who="service", status=204)
        return str(made["id"])


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    world = VolumeWorld(tmp_path)
    cloud = world.cloud
    project = cloud.identity.directory.create_project("other").id
    for name, role in (("tenant", "member"), ("reader", "reader")):
        user = cloud.identity.accounts.create_user(name, "password", default_project_id=project)
        for known in cloud.identity.assignments.roles.list_all():
            if known.name == role:
                cloud.identity.assignments.add_grant(Grant(actor_id=user.id, scope_id=project, role_id=known.id))
    tokens = {
        "demo": cloud.token("demo", PASSWORDS.demo),
        "admin": cloud.token("admin", PASSWORDS.admin, "admin"),
        "service": cloud.token("cellcloud", PASSWORDS.service, "service"),
        "tenant": cloud.token("tenant", "password", "other"),
        "reader": cloud.token("reader", "password", "other"),
    }
    yield Api(world, cloud.app().test_client(), tokens)
    world.close()


# ---- a volume's life -----------------------------------------------------------------------------------------------
def test_a_volume_is_made_shown_and_deleted(api: Api) -> None:
    made = api.create(2, name=" mine ", description="d", metadata={"k": "v"})
    shown = api("GET", f"/volumes/{made}")["volume"]
    assert (shown["status"], shown["size"], shown["name"], shown["metadata"]) == ("available", 2, "mine", {"k": "v"})
    assert shown["volume_type"] == "__DEFAULT__"
    assert shown["availability_zone"] == "nova"
    assert "os-vol-host-attr:host" not in shown
    assert api.world.files.data(made).stat().st_size == 2 * GIB
    assert [each["id"] for each in api("GET", "/volumes/detail")["volumes"]] == [made]
    assert api("GET", "/volumes", who="tenant")["volumes"] == []
    api("GET", f"/volumes/{made}", who="tenant", status=404)
    api("DELETE", f"/volumes/{made}", who="tenant", status=404)
    api("DELETE", f"/volumes/{made}", status=202)
    assert api.status(made) == "deleting"
    api.world.settle()
    api("GET", f"/volumes/{made}", status=404)
    assert api.world.held() == {}


def test_paths_with_and_without_the_project(api: Api) -> None:
    made = api.create()
    project = api.world.cloud.project("demo")
    shown = api("GET", f"/{project}/volumes/{made}")["volume"]
    assert shown["links"][0]["href"].endswith(f"/volume/v3/{project}/volumes/{made}")
    assert f"/volume/v3/volumes/{made}" in api("GET", f"/volumes/{made}")["volume"]["links"][0]["href"]
    api("GET", f"/{api.world.cloud.project('admin')}/volumes/{made}", status=400)


def test_versions_are_told_and_echoed(api: Api) -> None:
    found = api.client.get("/volume/").get_json()["versions"][0]
    assert (found["id"], found["min_version"], found["version"]) == ("v3.0", "3.0", "3.70")
    answer = api.raw("GET", "/volumes", version="volume 3.50")
    assert answer.headers["OpenStack-API-Version"] == "volume 3.50"
    assert api.raw("GET", "/volumes", version="volume 3.71").status_code == 406
    assert api.raw("GET", "/volumes", version="compute 2.1").headers["OpenStack-API-Version"] == "volume 3.0"


FIELDS_SINCE = {
    "group_id": "3.13", "shared_targets": "3.48", "service_uuid": "3.48", "volume_type_id": "3.63",
    "consumes_quota": "3.65", "cluster_name": "3.61", "provider_id": "3.21",
}  # fmt: skip


def test_fields_begin_at_their_microversions(api: Api) -> None:
    made = api.create()
    for name, since in FIELDS_SINCE.items():
        before = f"3.{int(since.partition('.')[2]) - 1}"
        for version, there in ((since, True), (before, False)):
            shown = api("GET", f"/volumes/{made}", who="admin", version=f"volume {version}")["volume"]
            assert (name in shown) == there, (name, version)


BAD_VOLUMES: list[tuple[dict[str, Any], int]] = [
    ({}, 400),
    ({"size": 0}, 400),
    ({"size": "#$%"}, 400),
    ({"size": -1}, 400),
    ({"size": 1, "volume_type": "none such"}, 404),
    ({"size": 1, "snapshot_id": UNKNOWN}, 404),
    ({"size": 1, "source_volid": UNKNOWN}, 404),
    ({"size": 1, "imageRef": UNKNOWN}, 400),
    ({"size": 1, "availability_zone": "none such"}, 400),
    ({"size": 1, "multiattach": True}, 400),
    ({"size": 1, "backup_id": UNKNOWN}, 400),
    ({"size": 1, "group_id": UNKNOWN}, 400),
    ({"size": 1, "metadata": {"k": "v" * 256}}, 400),
    ({"size": 1, "metadata": {"": "v"}}, 400),
    ({"size": 1, "name": "n" * 256}, 400),
    ({"size": 1, "unknown": 1}, 400),
    ({"size": 1001}, 413),
]


@pytest.mark.parametrize(("wanted", "status"), BAD_VOLUMES, ids=str)
def test_what_no_volume_is_made_of(api: Api, wanted: dict[str, Any], status: int) -> None:
    answer = api.raw("POST", "/volumes", {"volume": wanted})
    assert answer.status_code == status, answer.text
    assert set(next(iter(answer.get_json().values()))) >= {"code", "message"}
    assert api("GET", "/volumes")["volumes"] == []
    assert api.world.tasks() == set()


# ---- the way to the cell -----------------------------------------------------------------------------------------
def test_what_a_cell_does_not_hear_is_sent_again(api: Api) -> None:
    api.world.away = True
    made = api.create(settle=False)
    api.world.route()
    assert api.status(made) == "creating"
    api.world.away = False
    api.world.settle()
    assert api.status(made) == "available"


def test_an_answer_that_is_lost_doubles_nothing(api: Api) -> None:
    lost = iter([True, False])
    api.world.reached.lost = lambda verb: verb == "perform" and next(lost, False)
    made = api.create()
    assert api.status(made) == "available"
    assert list(api.world.held()) == [made]


def test_without_a_volume_service_it_waits_and_then_fails(api: Api) -> None:
    with api.world.database.engine.begin() as c:
        c.exec_driver_sql("DELETE FROM volume_hosts")
    made = api.create(settle=False)
    api.world.route()
    assert api.status(made) == "creating"
    with api.world.database.engine.begin() as c:
        c.exec_driver_sql("UPDATE volume_tasks SET created_at = '2020-01-01 00:00:00.000000'")
    api.world.route()
    assert api.status(made) == "error"
    api("DELETE", f"/volumes/{made}", status=202)
    api.world.settle()
    api("GET", f"/volumes/{made}", status=404)


def test_a_volume_service_that_was_killed_goes_on(api: Api) -> None:
    made = api.create(settle=False)
    api.world.route()
    api.world.endpoint.stop()
    api.world.start_endpoint()
    api.world.settle()
    assert api.status(made) == "available"


def test_a_late_create_of_what_is_deleted_makes_nothing(api: Api) -> None:
    made = api.create(settle=False)
    with api.world.database.read() as c:
        from cellcloud.db.volumes import get_volume
        from cellcloud.model.block_storage import TaskKind, VolumeTask

        volume = get_volume(c, made)
    late = VolumeTask(id=made, kind=TaskKind.CREATE, volume_id=made, generation=volume.generation, size=1)
    api.world.settle()
    api("DELETE", f"/volumes/{made}", status=202)
    api.world.settle()
    from cellcloud.context import service_context

    told = api.world.endpoint.perform(service_context(), [late])
    assert told[0].state == "failed"
    assert api.world.held() == {}


# ---- attachments ---------------------------------------------------------------------------------------------------
def test_an_attachment_from_reserved_to_gone(api: Api) -> None:
    made = api.create()
    server = str(uuid.uuid4())
    wanted = {"volume_uuid": made, "instance_uuid": server}
    attachment = api("POST", "/attachments", {"attachment": wanted}, who="service")["attachment"]
    assert (attachment["status"], attachment["instance"], attachment["connection_info"]) == ("reserved", server, {})
    assert api.status(made) == "reserved"
    connector = {
        "host": "h1",
        "ip": "127.0.0.1",
        "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
    }
    path = f"/attachments/{attachment['id']}"
    info = api("PUT", path, {"attachment": {"connector": connector}}, who="service")["attachment"]["connection_info"]
    assert info["driver_volume_type"] == "nbd"
    assert info["data"]["socket"].endswith(f"{made}.sock")
    assert info["data"]["access_mode"] == "rw"
    assert api.status(made) == "attaching"
    api("POST", f"{path}/action", {"os-complete": None}, who="service", status=204)
    shown = api("GET", f"/volumes/{made}")["volume"]
    assert shown["status"] == "in-use"
    assert [each["server_id"] for each in shown["attachments"]] == [server]
    api("DELETE", f"/volumes/{made}", status=400)
    api("DELETE", path, status=409)
    api("DELETE", path, who="service")
    assert api.status(made) == "available"
    api.world.settle()
    assert api.world.exporter.list_serving() == []


def test_a_volume_is_had_once(api: Api) -> None:
    made = api.create()
    api.attach(made)
    wanted = {"volume_uuid": made, "instance_uuid": str(uuid.uuid4())}
    api("POST", "/attachments", {"attachment": wanted}, who="service", status=400)


def test_another_host_ends_the_export_of_the_first(api: Api) -> None:
    made, server = api.create(), str(uuid.uuid4())
    first = api.attach(made, "h1", server=server)
    exporter = api.world.exporter
    assert isinstance(exporter, FakeExporter)
    before = exporter.exports[made].name
    second = api.attach(made, "h2", server=server)
    assert exporter.exports[made].name != before
    api("DELETE", f"/attachments/{first}", who="service")
    api.world.settle()
    assert made in exporter.exports
    assert api.status(made) == "in-use"
    api("DELETE", f"/attachments/{second}", who="service")
    api.world.settle()
    assert exporter.exports == {}


def test_exports_that_end_are_started_again(api: Api) -> None:
    made = api.create()
    api.attach(made)
    exporter = api.world.exporter
    assert isinstance(exporter, FakeExporter)
    known = exporter.exports.pop(made)
    api.world.endpoint.look_after()
    assert exporter.exports[made] == known
    exporter.exports.clear()
    api.world.start_endpoint()
    assert exporter.exports[made] == known
