"""Imports of the embedded image service: staged bytes and bytes of the web, whole or not at all."""

from __future__ import annotations

import datetime as dt
import ipaddress
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient

from cellcloud import clock, errors
from cellcloud.db import top_schema as top
from cellcloud.embedded.image_contents import ImageLimits
from cellcloud.embedded.image_imports import ImportWorkers
from cellcloud.embedded.images import EmbeddedImages
from cellcloud.embedded.web_download import WebDownloadRules
from tests.cloud import until
from tests.embedded_cloud import MAX_IMAGE, PASSWORDS, EmbeddedCloud, make_cloud, make_top_database
from tests.unit.test_embedded_api import Api, error_of, new_image, upload
from tests.web_site import WebSite, web_site

IMAGES = "/image/v2/images"
RULES = WebDownloadRules(networks=(ipaddress.ip_network("127.0.0.1/32"),), ports=frozenset())
QUOTA = 4 << 20
Work = Callable[[], None]


@pytest.fixture(scope="module")
def site() -> Iterator[WebSite]:
    with web_site() as made:
        yield made


@pytest.fixture
def waiting() -> list[Work]:
    """Imports that are accepted and not begun."""
    return []


@pytest.fixture
def api(tmp_path: Path, waiting: list[Work]) -> Iterator[Api]:
    database = make_top_database(tmp_path / "top.db")
    cloud: EmbeddedCloud = make_cloud(database, tmp_path)
    limits = ImageLimits(count=20, size=QUOTA)
    images = EmbeddedImages(database, tmp_path / "images", max_bytes=MAX_IMAGE, limits=limits, rules=RULES)
    images.imports.start = lambda _, work: waiting.append(work)
    cloud = replace(cloud, images=images)
    tokens = {"demo": cloud.token("demo", PASSWORDS.demo), "admin": cloud.token("admin", PASSWORDS.admin, "admin")}
    client: FlaskClient = cloud.app().test_client()
    yield Api(cloud, client, tokens)
    for work in waiting:
        work()
    database.close()


def stage(api: Api, image_id: str, data: bytes = b"staged bytes") -> int:
    kind = "application/octet-stream"
    return api("PUT", f"{IMAGES}/{image_id}/stage", data=data, content_type=kind).status_code


def ask(api: Api, image_id: str, name: str = "glance-direct", **more: Any) -> Any:
    method = {"name": name, **({"uri": more.pop("uri")} if "uri" in more else {})}
    return api("POST", f"{IMAGES}/{image_id}/import", {"method": method, **more})


def shown(api: Api, image_id: str) -> Any:
    return api("GET", f"{IMAGES}/{image_id}").get_json()


def tasks(api: Api, image_id: str) -> list[Any]:
    found: list[Any] = api("GET", f"{IMAGES}/{image_id}/tasks").get_json()["tasks"]
    return found


def files(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "images").iterdir())


def test_staged_bytes_become_the_images(api: Api, waiting: list[Work], tmp_path: Path) -> None:
    image_id = new_image(api)
    assert stage(api, image_id) == 204
    assert (shown(api, image_id)["status"], shown(api, image_id)["size"]) == ("uploading", 12)
    assert files(tmp_path) == [f".staged-{image_id}"]
    answer = ask(api, image_id, all_stores=True)
    assert (answer.status_code, answer.data) == (202, b"")
    (task,) = tasks(api, image_id)
    assert (task["status"], task["request_id"]) == ("pending", answer.headers["x-openstack-request-id"])
    assert task["input"]["import_req"]["method"] == {"name": "glance-direct"}
    assert shown(api, image_id)["status"] == "importing"
    assert shown(api, image_id)["os_glance_importing_to_stores"] == "file"
    waiting.pop()()
    image = shown(api, image_id)
    assert (image["status"], image["size"], image["stores"]) == ("active", 12, "file")
    assert (image["os_glance_importing_to_stores"], image["os_glance_failed_import"]) == ("", "")
    assert "os_glance_import_task" not in image
    assert api("GET", f"{IMAGES}/{image_id}/file").data == b"staged bytes"
    assert files(tmp_path) == [image_id]
    (task,) = tasks(api, image_id)
    assert (task["status"], task["result"]) == ("success", {"image_id": image_id})
    assert task["expires_at"] > task["updated_at"]


def test_bytes_of_the_web_become_the_images(api: Api, waiting: list[Work], site: WebSite, tmp_path: Path) -> None:
    image_id = new_image(api)
    assert ask(api, image_id, "web-download", uri=site.serve("/image", b"x" * 5000)).status_code == 202
    waiting.pop()()
    assert (shown(api, image_id)["status"], shown(api, image_id)["size"]) == ("active", 5000)
    assert files(tmp_path) == [image_id]


@pytest.mark.parametrize("kind", ["wrong format", "too large", "beyond the quota", "not there", "refused by redirect"])
def test_an_import_that_fails_leaves_a_queued_image_and_no_file(
    api: Api, waiting: list[Work], site: WebSite, tmp_path: Path, kind: str
) -> None:
    image_id = new_image(api)
    uri = {
        "wrong format": lambda: site.serve("/qcow2", b"QFI\xfb" + bytes(1000)),
        "too large": lambda: site.serve("/large", bytes(MAX_IMAGE + 1)),
        "beyond the quota": lambda: site.serve("/quota", bytes(QUOTA + 1)),
        "not there": lambda: f"{site.url}/absent",
        "refused by redirect": lambda: site.serve("/away", b"", 302, Location="http://169.254.169.254/"),
    }[kind]()
    assert ask(api, image_id, "web-download", uri=uri).status_code == 202
    waiting.pop()()
    image = shown(api, image_id)
    assert (image["status"], image["size"], image["os_glance_failed_import"]) == ("queued", None, "file")
    (task,) = tasks(api, image_id)
    assert task["status"] == "failure"
    assert task["message"]
    assert files(tmp_path) == []
    assert ask(api, image_id, "web-download", uri=site.serve("/again", b"ok")).status_code == 202
    waiting.pop()()
    assert shown(api, image_id)["status"] == "active"


def test_what_is_staged_counts_and_is_taken_back(api: Api, waiting: list[Work], tmp_path: Path) -> None:
    image_id, other = new_image(api), new_image(api)
    assert stage(api, image_id, bytes(QUOTA - 100)) == 204
    assert stage(api, other, bytes(101)) == 413
    assert error_of(upload(api, other, bytes(101)))[0] == 413
    assert api("GET", "/image/v2/info/usage").get_json()["usage"]["image_stage_total"]["usage"] == 4
    ask(api, image_id)
    waiting.pop()()
    assert shown(api, image_id)["status"] == "active"  # it is not counted twice
    assert stage(api, other, bytes(100)) == 204
    assert api("DELETE", f"{IMAGES}/{other}").status_code == 204
    assert files(tmp_path) == [image_id]


def test_an_image_deleted_during_its_import_leaves_nothing(api: Api, waiting: list[Work], tmp_path: Path) -> None:
    image_id = new_image(api)
    stage(api, image_id)
    ask(api, image_id)
    assert api("DELETE", f"{IMAGES}/{image_id}").status_code == 204
    waiting.pop()()
    assert files(tmp_path) == []
    task = api("GET", "/image/v2/tasks", who="admin").get_json()["tasks"][0]
    assert (task["status"], task["image_id"]) == ("failure", image_id)


def test_imports_that_are_refused(api: Api, site: WebSite) -> None:
    queued, staged, active = new_image(api), new_image(api), new_image(api)
    blank = api("POST", IMAGES, {"name": "blank"}).get_json()["id"]
    stage(api, staged)
    stage(api, blank)
    upload(api, active, b"x")
    uri = site.serve("/image", b"x")
    cases: list[tuple[str, Any, int]] = [
        (queued, {}, 400),
        (queued, [], 400),
        (queued, {"method": {}}, 400),
        (queued, {"method": {"name": "copy-image"}}, 400),
        (queued, {"method": {"name": "glance-download"}}, 400),
        (queued, {"method": {"name": 5}}, 400),
        (queued, {"method": {"name": "web-download"}}, 400),
        (queued, {"method": {"name": "web-download", "uri": "http://10.0.0.1/"}}, 400),
        (queued, {"method": {"name": "web-download", "uri": uri, "headers": {}}}, 400),
        (queued, {"method": {"name": "glance-direct"}}, 409),
        (queued, {"method": {"name": "web-download", "uri": uri}, "stores": ["other"]}, 409),
        (queued, {"method": {"name": "web-download", "uri": uri}, "stores": []}, 400),
        (queued, {"method": {"name": "web-download", "uri": uri}, "stores": ["file"], "all_stores": True}, 400),
        (queued, {"method": {"name": "web-download", "uri": uri}, "all_stores": "yes"}, 400),
        (staged, {"method": {"name": "web-download", "uri": uri}}, 409),
        (active, {"method": {"name": "web-download", "uri": uri}}, 409),
        (active, {"method": {"name": "glance-direct"}}, 409),
        (blank, {"method": {"name": "glance-direct"}}, 409),
        ("00000000-0000-4000-8000-ffffffffffff", {"method": {"name": "glance-direct"}}, 404),
    ]
    for image_id, body, status in cases:
        answer = api("POST", f"{IMAGES}/{image_id}/import", body)
        assert error_of(answer)[0] == status, body
    assert stage(api, staged) == 409
    assert error_of(upload(api, staged, b"x"))[0] == 409
    kind = {"data": b"x", "content_type": "text/plain"}
    assert error_of(api("PUT", f"{IMAGES}/{queued}/stage", **kind))[0] == 415
    assert shown(api, queued)["status"] == "queued"


def test_the_sweep_ends_imports_whose_process_is_gone(api: Api, waiting: list[Work], tmp_path: Path) -> None:
    """A killed process gives up its locks: here, by closing the file of an import that never runs."""
    killed, at_work, waits = new_image(api), new_image(api), new_image(api)
    for image_id in (killed, at_work, waits):
        stage(api, image_id)
    ask(api, killed)
    ask(api, at_work)
    alive = waiting.pop()
    for part in (tmp_path / "images").glob(f".upload-{killed}-*"):
        part.unlink()
    later = clock.ManualClock(clock.now().replace(year=2100))
    api.cloud.images.sweep()
    assert shown(api, killed)["status"] == "importing"  # it may have begun just now
    _age(api)
    with clock.using(later):
        api.cloud.images.sweep()
    assert (shown(api, killed)["status"], shown(api, killed)["size"]) == ("queued", None)
    assert [task["status"] for task in tasks(api, killed)] == ["failure"]
    assert [task["status"] for task in tasks(api, at_work)] == ["pending"]
    assert shown(api, waits)["status"] == "uploading"
    alive()
    assert shown(api, at_work)["status"] == "active"
    ask(api, waits)
    waiting.pop()()
    assert len(waiting) == 1
    assert files(tmp_path) == sorted([at_work, waits])
    assert stage(api, killed) == 204
    waiting.pop()()  # what was given up changes nothing, should it come to life
    assert (shown(api, killed)["status"], shown(api, killed)["size"]) == ("uploading", 12)


def _age(api: Api) -> None:
    """Let everything have begun long ago."""
    with api.cloud.database.write() as c:
        for table in (top.images, top.image_tasks):
            c.execute(sa.update(table).values(updated_at=dt.datetime(2020, 1, 1, tzinfo=dt.UTC)))


def test_tasks_are_listed_and_shown_to_administrators(api: Api, waiting: list[Work], site: WebSite) -> None:
    ids = [new_image(api) for _ in range(3)]
    for image_id in ids:
        ask(api, image_id, "web-download", uri=site.serve("/image", b"x"))
    waiting.pop(0)()
    assert error_of(api("GET", "/image/v2/tasks"))[0] == 403

    def get(path: str) -> Any:
        return api("GET", f"/image/v2{path}", who="admin").get_json()

    first = get("/tasks?limit=2&sort_key=created_at&sort_dir=asc")
    assert len(first["tasks"]) == 2
    assert first["schema"] == "/v2/schemas/tasks"
    assert not {"input", "result", "message"} & first["tasks"][0].keys()
    following = get(first["next"].removeprefix("/v2"))
    assert {task["image_id"] for page in (first, following) for task in page["tasks"]} == set(ids)
    assert [task["image_id"] for task in get("/tasks?status=success")["tasks"]] == ids[:1]
    assert len(get("/tasks?type=api_image_import")["tasks"]) == 3
    one = get(f"/tasks/{first['tasks'][0]['id']}")
    assert one["input"]["import_req"]["method"]["name"] == "web-download"
    for path, status in (
        ("/tasks?status=x", 400),
        ("/tasks?type=x", 400),
        ("/tasks?sort_key=x", 400),
        ("/tasks?sort_dir=x", 400),
        ("/tasks?limit=x", 400),
        ("/tasks?marker=x", 400),
        ("/tasks/x", 404),
    ):
        assert error_of(api("GET", f"/image/v2{path}", who="admin"))[0] == status, path
    assert error_of(api("POST", "/image/v2/tasks", {"type": "import", "input": {}}, who="admin"))[0] == 400
    assert error_of(api("DELETE", f"/image/v2/tasks/{one['id']}", who="admin"))[0] == 405


def test_what_an_import_was_told_is_for_who_asked_for_it(api: Api, waiting: list[Work], site: WebSite) -> None:
    image_id = new_image(api, visibility="community")
    ask(api, image_id, "web-download", uri=site.serve("/image?secret", b"x"))
    assert len(tasks(api, image_id)) == 1
    admin = api("GET", f"{IMAGES}/{image_id}/tasks", who="admin").get_json()["tasks"]
    assert len(admin) == 1
    images = api.cloud.images
    assert images.get_image(image_id, project_id="other", is_admin=False).id == image_id
    assert images.imports.list_tasks_of(image_id, project_id="other", is_admin=False) == []


def test_one_project_does_not_hold_up_the_imports_of_others() -> None:
    workers, release, begun = ImportWorkers(at_once=4, most=16), threading.Event(), Counter[str]()
    lock = threading.Lock()

    def work(project: str) -> None:
        with lock:
            begun[project] += 1
        release.wait(60)

    for _ in range(4):
        workers.start("greedy", lambda: work("greedy"))
    with pytest.raises(errors.Busy):
        workers.start("greedy", lambda: work("greedy"))
    for _ in range(2):
        workers.start("other", lambda: work("other"))
    until(lambda: begun == {"greedy": 2, "other": 2})
    release.set()
    until(lambda: begun == {"greedy": 4, "other": 2})
    workers.start("greedy", lambda: work("greedy"))
    until(lambda: begun["greedy"] == 5)


def test_the_only_store_keeps_its_images(api: Api) -> None:
    image_id, queued = new_image(api), new_image(api)
    upload(api, image_id, b"x")
    for who, store, which, status in (
        ("demo", "file", image_id, 403),
        ("admin", "file", image_id, 403),
        ("admin", "other", image_id, 409),
        ("admin", "file", queued, 409),
        ("admin", "file", "x", 404),
    ):
        assert error_of(api("DELETE", f"/image/v2/stores/{store}/{which}", who=who))[0] == status
    assert shown(api, image_id)["status"] == "active"
