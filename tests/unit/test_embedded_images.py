"""The embedded image service: an upload gives the whole image or nothing."""

from __future__ import annotations

import stat
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cell.compute.drivers.blank_qcow2 import blank_qcow2
from cell.compute.image_cache import ImageCache
from cellcloud import clock, errors
from cellcloud.db import images as db
from cellcloud.db.flavors import STARTERS
from cellcloud.embedded.bootstrap import upload_image
from cellcloud.model.flavor import Flavor
from cellcloud.model.image import Image
from tests.embedded_cloud import MAX_IMAGE, EmbeddedCloud, make_cloud, make_top_database


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[EmbeddedCloud]:
    database = make_top_database(tmp_path / "top.db")
    yield make_cloud(database, tmp_path)
    database.close()


def files(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "images").iterdir())


def as_admin(cloud: EmbeddedCloud, image_id: str, data: Iterator[bytes]) -> str:
    return cloud.images.upload(image_id, data, project_id="", is_admin=True).status


def status(cloud: EmbeddedCloud, image_id: str) -> str:
    return cloud.images.get_image(image_id, project_id="", is_admin=True).status


def test_bytes_are_private_to_the_service_all_the_time(cloud: EmbeddedCloud, tmp_path: Path) -> None:
    made = cloud.image()
    modes: list[int] = []

    def data() -> Iterator[bytes]:
        for _ in range(2):
            modes.extend(stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "images").iterdir())
            yield b"x" * 1000

    assert as_admin(cloud, made.id, data()) == "active"
    assert modes == [0o600, 0o600]
    assert stat.S_IMODE((tmp_path / "images" / made.id).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "images").stat().st_mode) == 0o700
    assert files(tmp_path) == [made.id]


def test_an_upload_that_breaks_off_leaves_nothing(cloud: EmbeddedCloud, tmp_path: Path) -> None:
    made = cloud.image()

    def broken() -> Iterator[bytes]:
        yield b"x" * 1000
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        as_admin(cloud, made.id, broken())
    assert (status(cloud, made.id), files(tmp_path)) == ("queued", [])
    with pytest.raises(errors.TooLarge):
        as_admin(cloud, made.id, iter([b"x" * (MAX_IMAGE // 2)] * 3))
    with pytest.raises(errors.Invalid):
        as_admin(cloud, made.id, iter([]))
    assert (status(cloud, made.id), files(tmp_path)) == ("queued", [])
    assert as_admin(cloud, made.id, iter([b"y"])) == "active"


def test_what_the_gate_refuses_leaves_nothing(cloud: EmbeddedCloud, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(disk), "1M"], check=True)
    made = cloud.image()
    with pytest.raises(errors.Invalid, match="declared raw but is qcow2"):
        as_admin(cloud, made.id, iter([disk.read_bytes()]))
    assert (status(cloud, made.id), files(tmp_path)) == ("queued", [])


def as_qcow2(image: Image) -> Image:
    return replace(image, disk_format="qcow2")


def test_the_declared_format_cannot_change_under_an_upload(cloud: EmbeddedCloud) -> None:
    made = cloud.image()

    def turncoat() -> Iterator[bytes]:
        yield b"x" * 512
        with pytest.raises((errors.Forbidden, errors.Conflict)):
            cloud.images.change_image(made.id, as_qcow2, project_id="", is_admin=True)

    assert as_admin(cloud, made.id, turncoat()) == "active"
    shown = cloud.images.get_image(made.id, project_id="", is_admin=True)
    assert shown.disk_format == "raw"
    with pytest.raises(errors.Forbidden):
        cloud.images.change_image(made.id, as_qcow2, project_id="", is_admin=True)


def test_bytes_are_never_replaced(cloud: EmbeddedCloud) -> None:
    made = cloud.image(b"first")
    with pytest.raises(errors.Conflict):
        as_admin(cloud, made.id, iter([b"second"]))
    other = cloud.image()

    def twice() -> Iterator[bytes]:
        with pytest.raises(errors.Conflict):
            as_admin(cloud, other.id, iter([b"meanwhile"]))
        yield b"mine"

    assert as_admin(cloud, other.id, twice()) == "active"
    assert b"".join(cloud.images.open_image(made.id)) == b"first"
    assert b"".join(cloud.images.open_image(other.id)) == b"mine"


def test_an_image_deleted_during_its_upload_leaves_nothing(cloud: EmbeddedCloud, tmp_path: Path) -> None:
    made = cloud.image()

    def deleted() -> Iterator[bytes]:
        yield b"x"
        cloud.images.delete_image(made.id, project_id="", is_admin=True)

    with pytest.raises(errors.NotFound):
        as_admin(cloud, made.id, deleted())
    assert files(tmp_path) == []


def test_who_may_change_an_image(cloud: EmbeddedCloud) -> None:
    public = cloud.image(b"x", visibility="public")
    private = cloud.image(b"x")
    protected = cloud.image(b"x", protected=True)
    with pytest.raises(errors.Forbidden):
        cloud.images.delete_image(public.id, project_id="other", is_admin=False)
    with pytest.raises(errors.Forbidden):
        cloud.images.upload(public.id, [b"x"], project_id="other", is_admin=False)
    with pytest.raises(errors.NotFound):
        cloud.images.delete_image(private.id, project_id="other", is_admin=False)
    with pytest.raises(errors.Forbidden):
        cloud.images.delete_image(protected.id, project_id=protected.owner, is_admin=False)
    with pytest.raises(errors.Forbidden):
        cloud.images.change_image(
            private.id, lambda i: replace(i, owner="other"), project_id=private.owner, is_admin=False
        )
    given = cloud.images.change_image(private.id, lambda i: replace(i, owner="other"), project_id="", is_admin=True)
    assert given.owner == "other"


def test_the_sweep_takes_back_what_killed_processes_left(cloud: EmbeddedCloud, tmp_path: Path) -> None:
    kept, stuck = cloud.image(b"x"), cloud.image()
    with cloud.database.write() as connection:
        assert db.move_status(connection, stuck.id, "queued", "saving")
    half = tmp_path / "images" / f".upload-{stuck.id}-abc"
    half.write_bytes(b"half")
    (tmp_path / "images" / "00000000-0000-4000-8000-000000000000").write_bytes(b"of no image")

    def sweeping() -> Iterator[bytes]:
        with clock.using(clock.ManualClock(clock.now().replace(year=2100))):
            cloud.images.sweep()
        yield b"x"

    live = cloud.image()
    assert as_admin(cloud, live.id, sweeping()) == "active"
    assert files(tmp_path) == sorted([kept.id, live.id])
    assert status(cloud, kept.id) == "active"


def test_publishing_the_first_image_happens_once(cloud: EmbeddedCloud, tmp_path: Path) -> None:
    path = tmp_path / "tiny.raw"
    path.write_bytes(b"\0" * 4096)

    def publish() -> str:
        image = upload_image(cloud.images, cloud.database, name="tiny", path=path, disk_format="raw")
        assert (image.status, image.visibility) == ("active", "public")
        return image.id

    assert publish() == publish()
    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize("flavor", STARTERS, ids=lambda flavor: flavor.name)
def test_a_disk_of_each_flavor_becomes_an_image_that_hosts_take(
    cloud: EmbeddedCloud, tmp_path: Path, flavor: Flavor
) -> None:
    """What bounds an image is its file, not the disk of which it is: a thin one may be larger than any image."""
    made = cloud.image(disk_format="qcow2")
    data = blank_qcow2(flavor.root_gb << 30)
    cloud.images.fill_image(made.id, len(data), [data])
    image = cloud.images.get_image(made.id, project_id="", is_admin=True)
    assert (image.status, image.virtual_size) == ("active", flavor.root_gb << 30)
    assert len(data) < MAX_IMAGE < (image.virtual_size or 0)
    cache = ImageCache(tmp_path / "cache", lambda: cloud.images, max_bytes=MAX_IMAGE)
    assert cache.ensure(image).read_bytes() == data
