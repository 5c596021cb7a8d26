"""Images' bytes through the real front: who declares much and sends nothing holds little, and not for long."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from cellcloud.embedded.images import EmbeddedImages
from tests.cloud import until
from tests.embedded_cloud import PASSWORDS, EmbeddedCloud, make_cloud, make_top_database
from tests.functional.test_front import ask, is_closed, opened, serving

MOST = 10 << 30
IMAGES = "/image/v2/images"
AT_ONCE = 8  # transfers of one project


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCloud]:
    folder = tmp_path_factory.mktemp("uploads")
    database = make_top_database(folder / "top.db")
    made = make_cloud(database, folder)
    settings = dataclasses.replace(made.settings.adapters, max_image_bytes=MOST)
    images = EmbeddedImages(database, folder / "images", max_bytes=MOST)
    yield dataclasses.replace(
        made, images=images, settings=dataclasses.replace(made.settings, adapters=settings, state_dir=folder)
    )
    database.close()


def files(cloud: EmbeddedCloud) -> list[Path]:
    return list((cloud.settings.state_dir / "images").iterdir())


@pytest.mark.parametrize("verb", ["file", "stage"])
def test_of_several_uploads_at_once_one_wins(cloud: EmbeddedCloud, verb: str) -> None:
    image_id, begin = cloud.image().id, threading.Barrier(AT_ONCE)
    given = {"X_Auth_Token": cloud.token("demo", PASSWORDS.demo), "Content_Type": "application/octet-stream"}
    with serving(SimpleNamespace(flask=cloud.app())) as address:  # type: ignore[arg-type]  # what it asks for

        def upload(number: int) -> int:
            begin.wait()
            status: int = ask(address, "PUT", f"{IMAGES}/{image_id}/{verb}", bytes([number]) * 512, **given)[0]
            return status

        with ThreadPoolExecutor(AT_ONCE) as pool:
            told = sorted(pool.map(upload, range(AT_ONCE)))
    assert told == [204, *[409] * (AT_ONCE - 1)]
    (kept,) = files(cloud)
    assert len(set(kept.read_bytes())) == 1  # of one upload alone
    cloud.images.delete_image(image_id, project_id="", is_admin=True)


@pytest.mark.parametrize("verb", ["file", "stage"])
def test_eight_gibibytes_declared_and_nothing_sent(cloud: EmbeddedCloud, verb: str) -> None:
    ids = [cloud.image().id for _ in range(AT_ONCE)]
    token = cloud.token("demo", PASSWORDS.demo)

    def head(image_id: str) -> bytes:
        lines = [
            f"PUT {IMAGES}/{image_id}/{verb} HTTP/1.1",
            "Host: h",
            f"X-Auth-Token: {token}",
            "Content-Type: application/octet-stream",
        ]
        lines += [f"Content-Length: {8 << 30}", "Expect: 100-continue", "", ""]
        return "\r\n".join(lines).encode()

    def statuses() -> set[str]:
        return {cloud.images.get_image(one, project_id="", is_admin=True).status for one in ids}

    with serving(SimpleNamespace(flask=cloud.app())) as address:  # type: ignore[arg-type]  # what it asks for
        connections = [opened(address, head(one) + b"x" * 100 * (number % 2)) for number, one in enumerate(ids)]
        try:
            until(lambda: statuses() == {"queued"} and not files(cloud), 60.0, what="the uploads to be given up")
            for connection in connections:
                while not is_closed(connection, 30.0):
                    pass  # what was answered before
        finally:
            for connection in connections:
                connection.close()
        for one in ids:  # there is room again, and each can be tried anew
            given = {"X_Auth_Token": token, "Content_Type": "application/octet-stream"}
            assert ask(address, "PUT", f"{IMAGES}/{one}/{verb}", b"x" * 512, **given)[0] == 204
        too_large = {**given, "Content_Length": str(MOST + 1)}
        other = cloud.image().id
        assert ask(address, "PUT", f"{IMAGES}/{other}/{verb}", b"", **too_large)[0] == 413
    for one in (*ids, other):
        cloud.images.delete_image(one, project_id="", is_admin=True)
    assert files(cloud) == []
