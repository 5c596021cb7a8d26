"""The volume API over the embedded service and a cell's volume service: what clients ask, and what becomes of it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from cell.volume.exports import FakeExporter
from cellcloud import errors
from cellcloud.context import service_context
from cellcloud.db import server_index
from cellcloud.db.engine import transact
from cellcloud.embedded.volume import abandoned
from cellcloud.embedded.volume.client import EmbeddedVolumes
from cellcloud.model.block_storage import GIB
from cellcloud.model.identity import Grant
from cellcloud.model.server import ServerRecord
from cellcloud.server_states import VmState
from tests.embedded_cloud import PASSWORDS
from tests.volume_world import VolumeWorld
from tests.workflows.world import make_spec
from top_api.operations import quota_recount, volume_audit

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


@pytest.fixture(scope="module")
def whole_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    world = VolumeWorld(tmp_path_factory.mktemp("volumes"))
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


@pytest.fixture
def api(whole_api: Api) -> Iterator[Api]:
    """The API of a cloud without volumes."""
    yield whole_api
    whole_api.world.empty()


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
    for method in ("GET", "PUT", "DELETE"):  # an empty id, which no volume has
        api(method, "/volumes/", {} if method == "PUT" else None, status=404)


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
    for connector in ({}, {"host": "h1"}):
        api.act(made, "os-terminate_connection", {"connector": connector}, status=409)
    api.act(made, "os-detach", {}, status=409)
    api.act(made, "os-force_detach", {"attachment_id": attachment["id"]}, status=409, who="admin")
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


def test_a_server_on_no_host_has_its_volume_for_the_next(api: Api) -> None:
    client, made, server = EmbeddedVolumes(api.world.service), api.create(), str(uuid.uuid4())
    attachment = client.create_attachment(made, server)
    client.complete_attachment(attachment)
    assert (api.status(made), client.get_volume(made).attached_to) == ("in-use", (server,))
    client.begin_detaching(made)
    client.roll_detaching(made)
    client.update_attachment(attachment, {"host": "h1"})
    client.complete_attachment(attachment)
    assert api.world.exporter.list_serving() == [made]
    client.delete_attachment(attachment)
    api.world.settle()
    assert (api.status(made), api.world.exporter.list_serving()) == ("available", [])


# ---- snapshots and copies ------------------------------------------------------------------------------------------
def _write(api: Api, volume_id: str, data: bytes) -> None:
    with api.world.files.data(volume_id).open("r+b") as file:
        file.write(data)


def _read(api: Api, volume_id: str, size: int = 4) -> bytes:
    with api.world.files.data(volume_id).open("rb") as file:
        return file.read(size)


def test_a_snapshot_is_the_content_of_its_moment(api: Api) -> None:
    made = api.create(1, name="v")
    _write(api, made, b"old!")
    body = {"snapshot": {"volume_id": made, "name": "s", "metadata": {"k": "v"}}}
    snapshot = api("POST", "/snapshots", body, status=202)["snapshot"]
    assert snapshot["status"] == "creating"
    api.world.settle()
    _write(api, made, b"new!")
    copy = api.create(2, snapshot_id=snapshot["id"])
    clone = api.create(None, source_volid=made)
    assert (_read(api, copy), _read(api, clone)) == (b"old!", b"new!")
    assert api.world.files.data(copy).stat().st_size == 2 * GIB
    api("DELETE", f"/volumes/{made}", status=400)
    api.act(made, "revert", {"snapshot_id": snapshot["id"]})
    api.world.settle()
    assert (api.status(made), _read(api, made)) == ("available", b"old!")
    shown = api("GET", f"/snapshots/{snapshot['id']}")["snapshot"]
    assert (shown["status"], shown["size"], shown["metadata"]) == ("available", 1, {"k": "v"})
    api("DELETE", f"/snapshots/{snapshot['id']}", status=202)
    api.world.settle()
    api("GET", f"/snapshots/{snapshot['id']}", status=404)
    assert api.world.held()[made] == ()


PROGRESS: list[tuple[Any, str]] = [("45%", "45%"), (None, "45%"), ("", "45%"), ("100%", "100%"), ("0%", "0%")]
NO_PROGRESS = ["45", "101%", "-1%", "%", 45, "x%", "4.5%"]


def test_a_snapshot_s_progress_is_as_it_is_told(api: Api) -> None:
    made = api.create()
    snapshot = api("POST", "/snapshots", {"snapshot": {"volume_id": made}}, status=202)["snapshot"]["id"]

    def tell(progress: Any, status: int = 202) -> str:
        body = {"os-update_snapshot_status": {"status": "creating", "progress": progress}}
        api("POST", f"/snapshots/{snapshot}/action", body, status=status)
        shown = api("GET", f"/snapshots/{snapshot}")["snapshot"]
        return str(shown["os-extended-snapshot-attributes:progress"])

    for told, shown in PROGRESS:
        assert tell(told) == shown
    for told in NO_PROGRESS:
        assert tell(told, 400) == "0%"
    api.world.settle()
    assert api("GET", f"/snapshots/{snapshot}")["snapshot"]["os-extended-snapshot-attributes:progress"] == "100%"


def test_a_cascade_takes_the_snapshots_with_it(api: Api) -> None:
    made = api.create()
    for _ in range(2):
        api("POST", "/snapshots", {"snapshot": {"volume_id": made}}, status=202)
    api.world.settle()
    api("DELETE", f"/volumes/{made}?cascade=true", status=202)
    api.world.settle()
    assert api("GET", "/snapshots")["snapshots"] == []
    assert api.world.held() == {}
    used = api("GET", f"/os-quota-sets/{api.world.cloud.project('demo')}?usage=true")["quota_set"]
    assert [used[name]["in_use"] for name in ("volumes", "snapshots", "gigabytes")] == [0, 0, 0]


def test_an_image_becomes_a_volume_and_a_volume_an_image(api: Api) -> None:
    image = api.world.cloud.image(b"content" + bytes(1000), name="i", visibility="public", properties={"hw_x": "y"})
    made = api.create(1, imageRef=image.id)
    shown = api("GET", f"/volumes/{made}")["volume"]
    assert (shown["bootable"], shown["volume_image_metadata"]["image_id"]) == ("true", image.id)
    assert _read(api, made, 7) == b"content"
    told = api.act(made, "os-volume_upload_image", {"image_name": "made", "disk_format": "raw"})
    assert api.status(made) == "uploading"
    api.world.settle()
    assert api.status(made) == "available"
    with pytest.raises(errors.NotFound):  # larger than images may be: nothing is left of it
        api.world.cloud.images.get_image(told["os-volume_upload_image"]["image_id"], project_id="", is_admin=True)
    api.act(made, "os-volume_upload_image", {"image_name": "made", "disk_format": "vdi"}, status=400)


# ---- growing -------------------------------------------------------------------------------------------------------
def test_a_volume_grows_also_in_use(api: Api) -> None:
    made = api.create(1)
    api.act(made, "os-extend", {"new_size": 1}, status=400)
    api.act(made, "os-extend", {"new_size": 2})
    api.world.settle()
    assert api.world.files.data(made).stat().st_size == 2 * GIB
    server = str(uuid.uuid4())
    api.attach(made, server=server)
    api.act(made, "os-extend", {"new_size": 3}, status=400, version="volume 3.41")
    api.act(made, "os-extend", {"new_size": 3})
    assert api.status(made) == "extending"
    api.world.settle()
    assert (api.status(made), api.world.announced) == ("in-use", [(server, made, 3)])
    assert api.world.exporter.is_serving(made)


# ---- types ---------------------------------------------------------------------------------------------------------
def test_a_type_for_several_servers(api: Api) -> None:
    body = {"volume_type": {"name": "shared", "extra_specs": {"multiattach": "<is> True"}}}
    kind = api("POST", "/types", body, who="admin")["volume_type"]
    made = api.create(volume_type="shared")
    assert api("GET", f"/volumes/{made}")["volume"]["multiattach"] is True
    first, second = api.attach(made, "h1"), api.attach(made, "h2")
    assert len(api("GET", f"/volumes/{made}")["volume"]["attachments"]) == 2
    api("DELETE", f"/attachments/{first}", who="service")
    assert api.status(made) == "in-use"
    api("DELETE", f"/attachments/{second}", who="service")
    assert api.status(made) == "available"
    api("DELETE", f"/types/{kind['id']}", who="admin", status=400)


def test_a_type_that_asks_for_what_there_is_not(api: Api) -> None:
    body = {"volume_type": {"name": "odd", "extra_specs": {"volume_backend_name": "another"}}}
    api("POST", "/types", body, who="admin")
    made = api.create(volume_type="odd")
    assert api.status(made) == "error"
    message = api("GET", "/messages")["messages"][0]
    assert message["resource_uuid"] == made
    api("DELETE", f"/messages/{message['id']}", status=204)
    assert api("GET", "/messages")["messages"] == []


def test_types_of_some_projects(api: Api) -> None:
    other = api.world.cloud.identity.directory.projects.list_all()
    project = next(each.id for each in other if each.name == "other")
    body = {"volume_type": {"name": "closed", "os-volume-type-access:is_public": False}}
    kind = api("POST", "/types", body, who="admin")["volume_type"]
    path = f"/types/{kind['id']}"
    api("GET", path, who="tenant", status=404)
    for asked, who, listed in (
        ("?is_public=None", "admin", True),  # python-cinderclient asks so for whoever it is
        ("?is_public=None", "tenant", False),
        ("?is_public=false", "tenant", False),
        ("?is_public=false", "admin", True),
        ("?is_public=true", "admin", False),
    ):
        names = {each["name"] for each in api("GET", f"/types{asked}", who=who)["volume_types"]}
        assert ("closed" in names) is listed, (asked, who)
    api("POST", f"{path}/action", {"addProjectAccess": {"project": project}}, who="admin", status=202)
    api("POST", f"{path}/action", {"addProjectAccess": {"project": project}}, who="admin", status=409)
    assert api("GET", path, who="tenant")["volume_type"]["name"] == "closed"
    found = api("GET", f"{path}/os-volume-type-access", who="admin")["volume_type_access"]
    assert project in {each["project_id"] for each in found}
    api("POST", f"{path}/action", {"removeProjectAccess": {"project": project}}, who="admin", status=202)
    api("POST", f"{path}/action", {"removeProjectAccess": {"project": project}}, who="admin", status=404)
    api("DELETE", path, who="admin", status=202)


# ---- quotas --------------------------------------------------------------------------------------------------------
def test_quotas_hold_under_parallel_requests(api: Api) -> None:
    project = api.world.cloud.project("demo")
    api("PUT", f"/os-quota-sets/{project}", {"quota_set": {"volumes": 3}}, who="admin")
    app = api.world.cloud.app()

    def create(_: int) -> int:
        headers = {"X-Auth-Token": api.tokens["demo"], "Content-Type": "application/json"}
        data = json.dumps({"volume": {"size": 1}})
        return app.test_client().post("/volume/v3/volumes", headers=headers, data=data).status_code

    with ThreadPoolExecutor(8) as pool:
        told = sorted(pool.map(create, range(8)))
    assert told == [202] * 3 + [413] * 5
    api("PUT", f"/os-quota-sets/{project}", {"quota_set": {"volumes": 2}}, who="admin", status=400)
    assert api("GET", "/limits")["limits"]["absolute"]["totalVolumesUsed"] == 3


def test_defaults_of_everybody(api: Api) -> None:
    api("PUT", "/os-quota-class-sets/default", {"quota_class_set": {"volumes": 1}}, who="admin")
    api("PUT", "/os-quota-class-sets/other", {"quota_class_set": {"volumes": 1}}, who="admin", status=400)
    api("PUT", "/os-quota-class-sets/default", {"quota_class_set": {"none": 1}}, who="admin", status=400)
    api.create()
    assert api.raw("POST", "/volumes", {"volume": {"size": 1}}).status_code == 413


# ---- transfers -----------------------------------------------------------------------------------------------------
def test_a_volume_is_given_to_another_project(api: Api) -> None:
    made = api.create()
    offer = api("POST", "/volume-transfers", {"transfer": {"volume_id": made, "name": "t"}}, status=202)["transfer"]
    assert api.status(made) == "awaiting-transfer"
    path = f"/volume-transfers/{offer['id']}/accept"
    api("POST", path, {"accept": {"auth_key": "wrong"}}, who="tenant", status=400)
    api("POST", path, {"accept": {"auth_key": offer["auth_key"]}}, who="tenant", status=202)
    api("GET", f"/volumes/{made}", status=404)
    assert api("GET", f"/volumes/{made}", who="tenant")["volume"]["status"] == "available"
    api("POST", path, {"accept": {"auth_key": offer["auth_key"]}}, who="tenant", status=404)
    again = api("POST", "/os-volume-transfer", {"transfer": {"volume_id": made}}, who="tenant", status=202)["transfer"]
    api("DELETE", f"/os-volume-transfer/{again['id']}", who="tenant", status=202)
    assert api.status(made) == "available"


# ---- lists ---------------------------------------------------------------------------------------------------------
def test_lists_are_filtered_sorted_and_paged(api: Api) -> None:
    made = [api.create(size, name=f"v{size}", metadata={"n": str(size)}, settle=False) for size in (3, 1, 2)]
    api.world.settle()
    by_size = api("GET", "/volumes?sort=size:asc")["volumes"]
    assert [each["name"] for each in by_size] == ["v1", "v2", "v3"]
    first = api("GET", "/volumes?sort=size:asc&limit=2&with_count=true")
    assert (len(first["volumes"]), first["count"]) == (2, 3)
    link = first["volumes_links"][0]["href"].partition("/volume/v3")[2]
    assert [each["name"] for each in api("GET", link)["volumes"]] == ["v3"]
    assert [each["name"] for each in api("GET", "/volumes?sort=size:asc&offset=1&limit=1")["volumes"]] == ["v2"]
    for query, names in {
        "name=v1": ["v1"], "metadata={'n': '2'}": ["v2"], "name~=v": ["v1", "v2", "v3"], "status=error": [],
        "bootable=false": ["v1", "v2", "v3"], "created_at=gt:2000-01-01T00:00:00": ["v1", "v2", "v3"],
    }.items():  # fmt: skip
        found = api("GET", f"/volumes?sort=size:asc&{query}")["volumes"]
        assert [each["name"] for each in found] == names, query
    for query in ("unknown=1", "sort=unknown", "limit=-1", "bootable=perhaps"):
        api("GET", f"/volumes?{query}", status=400)
    api("GET", f"/volumes?marker={uuid.uuid4()}", status=404)
    summary = api("GET", "/volumes/summary")["volume-summary"]
    assert (summary["total_count"], summary["total_size"], sorted(summary["metadata"]["n"])) == (3, 6, ["1", "2", "3"])
    assert len(made) == 3


REFUSED = ("backups", "groups", "consistencygroups", "qos-specs", "os-volume-manage", "manageable_volumes")


def test_what_is_not_offered_is_refused(api: Api) -> None:
    for path in REFUSED:
        assert next(iter(api("GET", f"/{path}").values())) == []
        api("POST", f"/{path}", {}, status=400)
        api("GET", f"/{path}/{uuid.uuid4()}", status=404)
    made = api.create()
    api("POST", f"/volumes/{made}/action", {"os-migrate_volume": {"host": "x"}}, who="admin", status=400)
    api.act(made, "os-unknown", status=400)


def test_readers_change_nothing(api: Api) -> None:
    api("POST", "/volumes", {"volume": {"size": 1}}, who="reader", status=403)
    assert api("GET", "/volumes/detail", who="reader")["volumes"] == []
    assert api("GET", "/types", who="reader")["volume_types"][0]["name"] == "__DEFAULT__"


# ---- the auditor ---------------------------------------------------------------------------------------------------
def _wrong(api: Api) -> list[str]:
    found = volume_audit.findings(api.world.service, service_context())
    return [each.text for each in found if each.severity != "ok"]


def test_the_auditor_tells_what_does_not_fit(api: Api) -> None:
    made = api.create()
    api.attach(made)
    assert _wrong(api) == []
    with api.world.database.engine.begin() as c:
        c.exec_driver_sql("DELETE FROM volume_attachments")
    told = _wrong(api)
    assert any("nobody has it" in text for text in told)
    assert any("which is gone" in text for text in told)
    with api.world.database.engine.begin() as c:
        c.exec_driver_sql("DELETE FROM volumes")
    assert _wrong(api) == ["east keeps it, and nothing is known of it here"]


def test_a_sweep_gives_back_what_deleted_servers_had(api: Api) -> None:
    made, server = api.create(), str(uuid.uuid4())
    api.attach(made, server=server)
    abandoned.sweep(api.world.service, lambda cell, ids: [])
    assert api.status(made) == "in-use"
    record = ServerRecord(spec=make_spec(server), cell="east", version=1, generation=1, vm_state=VmState.ACTIVE)
    transact(api.world.database, lambda c: server_index.upsert(c, [record], adopt=True))
    with api.world.database.engine.begin() as c:
        c.exec_driver_sql("UPDATE server_index SET deleted = 1, deleted_at = '2020-01-01 00:00:00.000000'")
    abandoned.sweep(api.world.service, lambda cell, ids: [])
    api.world.settle()
    assert api.status(made) == "available"
    assert api.world.exporter.list_serving() == []


def test_counters_that_are_wrong_are_counted_anew(api: Api) -> None:
    api.create(2)
    with api.world.database.engine.begin() as c:
        c.exec_driver_sql("UPDATE volume_usages SET used = 77 WHERE resource = 'gigabytes'")
    found = [each for each in quota_recount.find_wrong(api.world.database)["volume use"] if each[1] == "gigabytes"]
    assert [each[2:] for each in found] == [(77, 2)]
    quota_recount.repair(api.world.database)
    assert quota_recount.find_wrong(api.world.database)["volume use"] == []
