from __future__ import annotations

import hashlib
import os
import stat
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


def make_cache(directory: Path, content: bytes = BYTES) -> tuple[ImageCache, MemoryImages]:
    images = MemoryImages({IMAGE.id: content})
    return ImageCache(directory / "cache", lambda: images, max_bytes=1 << 20), images


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
