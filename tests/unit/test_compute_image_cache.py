from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cell.compute.image_cache import ImageCache
from cellcloud import errors
from cellcloud.model.image import Image
from tests.unit.cell_world import IMAGE, MemoryImages

BYTES = b"plain bytes of a disk" * 1000


def described(content: bytes, **values: object) -> Image:
    image = replace(IMAGE, size=len(content), os_hash_algo="sha512", os_hash_value=hashlib.sha512(content).hexdigest())
    return replace(image, **values)


def make_cache(
    directory: Path, content: bytes = BYTES, most_unused: int | None = None
) -> tuple[ImageCache, MemoryImages]:
    images = MemoryImages({IMAGE.id: content})
    return ImageCache(directory / "cache", lambda: images, max_bytes=8 << 20, most_unused=most_unused), images


def kept(directory: Path) -> list[str]:
    return sorted(path.name for path in (directory / "cache").iterdir() if not path.name.endswith(".lock"))


def test_an_image_is_fetched_once_and_private(tmp_path: Path) -> None:
    cache, images = make_cache(tmp_path)
    image = described(BYTES)
    threads = [threading.Thread(target=cache.ensure, args=(image,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    path = cache.ensure(image)
    assert path.read_bytes() == BYTES
    assert images.opened == [IMAGE.id]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert kept(tmp_path) == [image.os_hash_value]


@pytest.mark.parametrize(
    "given",
    [
        BYTES[:-1],
        BYTES + b"x",
        BYTES[:-1] + b"?",
    ],
)
def test_other_bytes_than_promised_are_refused(tmp_path: Path, given: bytes) -> None:
    cache, _ = make_cache(tmp_path, given)
    with pytest.raises(errors.HostRefused):
        cache.ensure(described(BYTES))
    assert kept(tmp_path) == []


def test_the_gate_decides_by_what_the_bytes_are(tmp_path: Path) -> None:
    really_qcow2 = b"QFI\xfb" + bytes(4096)
    cache, _ = make_cache(tmp_path, really_qcow2)
    with pytest.raises(errors.Invalid):
        cache.ensure(described(really_qcow2, disk_format="raw"))
    assert kept(tmp_path) == []


def test_a_kept_image_is_not_used_under_another_format(tmp_path: Path) -> None:
    cache, _ = make_cache(tmp_path)
    cache.ensure(described(BYTES))
    with pytest.raises(errors.Invalid):
        cache.ensure(described(BYTES, disk_format="qcow2"))


@pytest.mark.parametrize(
    "values",
    [
        {"os_hash_value": "../../etc/passwd"},
        {"os_hash_value": None, "id": "../secret"},
        {"os_hash_algo": "md5"},
    ],
)
def test_names_cannot_lead_elsewhere(tmp_path: Path, values: dict[str, object]) -> None:
    cache, images = make_cache(tmp_path)
    with pytest.raises(errors.HostRefused):
        cache.ensure(described(BYTES, **values))
    assert images.opened == []


def test_images_nobody_asked_for_are_pruned(tmp_path: Path) -> None:
    cache, _ = make_cache(tmp_path)
    path = cache.ensure(described(BYTES))
    cache.prune(60)
    assert path.exists()
    os.utime(path, (time.time() - 120,) * 2)
    linked = tmp_path / "guest-base"
    linked.hardlink_to(path)
    cache.prune(60)
    assert path.exists()
    linked.unlink()
    cache.prune(60)
    assert not path.exists()


@pytest.mark.parametrize(("image_format", "name"), [("vmdk", "vmdk"), ("vhd", "vpc")])
def test_images_of_other_hypervisors_are_converted_once(tmp_path: Path, image_format: str, name: str) -> None:
    raw, disk = tmp_path / "raw", tmp_path / "disk"
    raw.write_bytes(os.urandom(100_000) + bytes((4 << 20) - 100_000))
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", name, str(raw), str(disk)], check=True)
    cache, images = make_cache(tmp_path, disk.read_bytes())
    image = described(disk.read_bytes(), disk_format=image_format)
    path = cache.ensure(image)
    back = tmp_path / "back"
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(path), str(back)], check=True)
    assert back.read_bytes()[: 4 << 20] == raw.read_bytes()
    assert cache.holds(image)
    assert cache.ensure(image) == path
    assert images.opened == [IMAGE.id]
    assert kept(tmp_path) == [f"{image.os_hash_value}.qcow2"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(errors.Invalid):  # its bytes are no qcow2, whatever lies beside them
        cache.ensure(replace(image, disk_format="qcow2"))


def test_an_image_that_cannot_be_converted_leaves_nothing(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    subprocess.run(["qemu-img", "create", "-q", "-f", "vmdk", str(disk), "4M"], check=True)
    content = bytearray(disk.read_bytes())
    content[44:48] = b"\xff" * 4  # entries of each grain table
    cache, _ = make_cache(tmp_path, bytes(content))
    with pytest.raises(errors.HostRefused, match="could not be converted"):
        cache.ensure(described(bytes(content), disk_format="vmdk"))
    assert kept(tmp_path) == []


def test_an_image_that_swells_when_it_is_unpacked_is_given_up(tmp_path: Path) -> None:
    raw, disk = tmp_path / "raw", tmp_path / "disk"
    with raw.open("wb") as file:
        for _ in range(100):
            file.write(b"\xff" * (1 << 20))
    packed = ["-O", "vmdk", "-o", "subformat=streamOptimized", str(raw), str(disk)]
    subprocess.run(["qemu-img", "convert", "-f", "raw", *packed], check=True)
    content = disk.read_bytes()
    assert len(content) < 4 << 20
    cache, _ = make_cache(tmp_path, content)  # it keeps images of at most 8 MiB, and some room for their tables
    with pytest.raises(errors.HostRefused, match="could not be converted"):
        cache.ensure(described(content, disk_format="vmdk"))
    assert kept(tmp_path) == []


@pytest.mark.parametrize("most_unused", [None, 0, 1 << 30])
def test_a_host_that_never_had_an_image_has_nothing_to_prune(tmp_path: Path, most_unused: int | None) -> None:
    cache, _ = make_cache(tmp_path, most_unused=most_unused)
    cache.prune(0)
    assert list(tmp_path.iterdir()) == []


def test_of_unused_images_the_least_recently_used_go(tmp_path: Path) -> None:
    cache, images = make_cache(tmp_path, most_unused=3 * 64 << 10)

    def image(number: int) -> Image:
        content = bytes([number]) * (64 << 10)
        made = replace(described(content), id=f"{number:08}-0000-4000-8000-000000000000")
        images.content[made.id] = content
        return made

    made = [image(number) for number in range(1, 6)]
    paths = []
    for age, one in enumerate(made[:4]):
        paths.append(cache.ensure(one))
        os.utime(paths[-1], (time.time() - 5000 + age,) * 2)
        if age == 0:
            paths[0].with_name("guest").hardlink_to(paths[0])
    cache.ensure(made[1])
    cache.ensure(made[4])
    here = [cache.holds(one) for one in made]
    assert here == [True, True, False, True, True]  # the first is a guest's, the second was asked for again
    small, images_too = make_cache(tmp_path / "small", most_unused=0)
    images_too.content |= images.content
    assert small.ensure(made[0]).exists()  # who asked for it has not got it yet
    os.utime(small.ensure(made[0]), (time.time() - 5000,) * 2)
    small.prune(1e9)
    assert not small.holds(made[0])
