"""Processes of the embedded image service killed while bytes come: nothing stays of it but a queued image."""

from __future__ import annotations

import datetime as dt
import ipaddress
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import sqlalchemy as sa

from cellcloud import clock
from cellcloud.db import images as db
from cellcloud.db import top_schema as top
from cellcloud.db.engine import Database
from cellcloud.embedded.images import EmbeddedImages
from cellcloud.embedded.web_download import WebDownloadRules
from cellcloud.model.image import Image
from tests.embedded_cloud import make_top_database
from tests.web_site import WebSite, web_site

CHILD = """
import ipaddress, pathlib, sys, time
from cellcloud.db.engine import Database
from cellcloud.embedded.images import EmbeddedImages
from cellcloud.embedded.web_download import WebDownloadRules

url, directory, image_id, kind, uri = sys.argv[1:]
rules = WebDownloadRules(networks=(ipaddress.ip_network("127.0.0.1/32"),), ports=frozenset())
images = EmbeddedImages(Database(url), pathlib.Path(directory), max_bytes=1 << 30, rules=rules)
who = {"project_id": "p", "is_admin": False}

def data():
    yield b"x" * 100_000
    print("half of it came", flush=True)
    time.sleep(600)

if kind == "web-download":
    images.imports.start = lambda _, work: work()
    images.imports.begin_import(image_id, {"method": {"name": kind, "uri": uri}}, **who)
else:
    getattr(images, kind)(image_id, data(), **who)
"""
WHO = {"project_id": "p", "is_admin": False}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = make_top_database(tmp_path / "top.db")
    yield made
    made.close()


def half_a_page(site: WebSite) -> str:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "200000")
        request.end_headers()
        request.wfile.write(b"x" * 100_000)
        request.wfile.flush()
        site.over.wait(60)

    site.pages["/half"] = answer
    return f"{site.url}/half"


@pytest.mark.parametrize("kind", ["upload", "stage", "web-download"])
def test_a_process_killed_while_bytes_come(database: Database, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "images"
    rules = WebDownloadRules(networks=(ipaddress.ip_network("127.0.0.1/32"),), ports=frozenset())
    images = EmbeddedImages(database, folder, max_bytes=1 << 20, rules=rules)
    wanted = Image(id="", name="i", disk_format="raw", container_format="bare", owner="p")
    killed, kept = images.create_image(wanted).id, images.create_image(wanted).id
    with web_site() as site:
        arguments = [f"sqlite:///{tmp_path}/top.db", str(folder), killed, kind, half_a_page(site)]
        child = subprocess.Popen([sys.executable, "-c", CHILD, *arguments], stdout=subprocess.PIPE)
        assert child.stdout is not None
        if kind == "web-download":
            while not any(path.stat().st_size for path in folder.glob(f".upload-{killed}-*")):
                assert child.poll() is None
                clock.sleep(0.02)
        else:
            assert child.stdout.readline() == b"half of it came\n"
        child.kill()
        child.communicate()
    assert images.get_image(killed, **WHO).status in ("saving", "uploading", "importing")
    images.sweep()  # it may have begun just now
    assert images.get_image(killed, **WHO).status != "queued"

    def meanwhile() -> Iterator[bytes]:
        yield b"mine"
        with database.write() as c:
            for table in (top.images, top.image_tasks):
                c.execute(sa.update(table).values(updated_at=dt.datetime(2020, 1, 1, tzinfo=dt.UTC)))
        with clock.using(clock.ManualClock(clock.now() + dt.timedelta(hours=1))):
            images.sweep()

    images.upload(kept, meanwhile(), **WHO)
    image = images.get_image(killed, **WHO)
    assert (image.status, image.size) == ("queued", 0)
    assert [path.name for path in folder.iterdir()] == [kept]
    with database.read() as c:
        assert db.size_of_all(c, "p") == 4
    assert [task.status for task in images.imports.list_tasks_of(killed, **WHO)] == ["failure"] * (
        kind == "web-download"
    )
    assert images.upload(killed, [b"again"], **WHO).status == "active"
