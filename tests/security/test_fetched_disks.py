"""A host in others' hands that a guest is moved away from: nothing that it says or sends is taken but disks like those
that the new host would have made."""

from __future__ import annotations

import hashlib
import io
import json
import os
import ssl
import struct
import subprocess
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cell.compute import disk_transfer
from cell.compute.disk_transfer import HEAD, PIECE, DiskServer, Target
from cell.compute.drivers.libvirt import fetched_disks
from cell.compute.drivers.libvirt.disk_offers import write_credentials
from cell.compute.drivers.libvirt.disks import grow_disks
from cellcloud import errors
from cellcloud.model.flavor import Flavor
from cellcloud.model.server import ServerSpec
from tests.contract.driver_rigs import IMAGE
from tests.libvirt_node import make_spec

MIB, GIB = 1 << 20, 1 << 30
SIZE = 64 * MIB  # of what the liar has
FLAVOR = Flavor(id="f", name="f", vcpus=1, memory_mb=96, root_gb=1, ephemeral_gb=1)
SPEC = make_spec("6f70656e-0000-4000-8000-000000000001", IMAGE, flavor=FLAVOR)
Frames = Iterator[bytes]


# ---- what it says ----------------------------------------------------------------------------------------------------
def piece(offset: int, data: bytes, checksum: int | None = None) -> bytes:
    return HEAD.pack(offset, len(data), zlib.crc32(data) if checksum is None else checksum) + data


def end(size: int = SIZE) -> bytes:
    return HEAD.pack(size, 0, 0)


DATA = os.urandom(PIECE)


def without_end() -> Frames:
    offset = 0
    while True:
        yield piece(offset, DATA)
        offset += PIECE


def one_place_for_ever() -> Frames:
    while True:
        yield piece(0, DATA)


def crumbs() -> Frames:
    for offset in range(SIZE):
        yield piece(offset, b"x")


def frames(*given: bytes) -> Callable[[], Frames]:
    return lambda: iter(given)


SAID: dict[str, Any] = {
    "no root disk": {},
    "no list": [["root", SIZE]],
    "a list that has no end": "[" * 4000,
    "more than it may have": {"root": SIZE + 1},
    "less than nothing": {"root": -1},
    "no number": {"root": str(SIZE)},
    "part of a byte": {"root": 0.5},
    "yes": {"root": True},
    "nothing": {"root": None},
    "beyond all bounds": {"root": 1 << 70},
}
SENT: dict[str, tuple[Callable[[], Frames], str]] = {
    "beyond its end": (frames(piece(SIZE, DATA)), "out of order"),
    "across its end": (frames(piece(SIZE - 512, DATA)), "out of order"),
    "far beyond its end": (frames(piece((1 << 64) - 1, b"x" * 512)), "out of order"),
    "backwards": (frames(piece(PIECE, DATA), piece(0, DATA)), "out of order"),
    "twice": (one_place_for_ever, "out of order"),
    "without end": (without_end, "out of order"),
    "in crumbs": (crumbs, "out of order"),
    "in huge pieces": (frames(HEAD.pack(0, (1 << 32) - 1, 0)), "a piece of 4294967295 bytes"),
    "with another checksum": (frames(piece(0, DATA, 1)), "differs at 0"),
    "short": (frames(piece(0, DATA), end(PIECE)), f"ends at {PIECE} instead of {SIZE}"),
    "long": (frames(end(SIZE + 512)), f"ends at {SIZE + 512} instead of {SIZE}"),
    "broken off": (frames(piece(0, DATA)), "The server has gone."),
    "broken off within": (frames(piece(0, DATA)[:-1]), "The server has gone."),
    "not at all": (frames(), "The server has gone."),
}


class Liar(DiskServer):
    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        self.said: Any = {"root": SIZE}
        self.sent = frames(end())

    def _serve(self, secured: ssl.SSLSocket, asked: dict[str, Any]) -> None:
        if "file" in asked:
            for frame in self.sent():
                secured.sendall(frame)
        else:
            said = self.said if isinstance(self.said, str) else json.dumps(self.said)
            secured.sendall(said.encode() + b"\n")


@pytest.fixture
def liar(tmp_path: Path) -> Iterator[Liar]:
    made = Liar(settings(tmp_path, {}))
    serving = threading.Thread(target=made.run, daemon=True)
    serving.start()
    yield made
    made.end()
    serving.join()


def settings(place: Path, files: dict[str, str]) -> dict[str, Any]:
    certificate = write_credentials(place)
    key = str(certificate.with_suffix(".key"))
    return {"address": "127.0.0.1", "token": "t", "certificate": str(certificate), "key": key, "files": files}


def ask(place: Path, server: DiskServer) -> dict[str, Any]:
    """What a fetch of 64 MiB comes to; its last word."""
    source = {"address": "127.0.0.1", "port": str(server.port), "token": "t"}
    source["certificate"] = (place / "offer.pem").read_text()
    targets = {"root": Target(str(place / "copy"), SIZE)}
    out = io.StringIO()
    disk_transfer.run_fetch({"source": source, "targets": targets}, out)
    return dict(json.loads(out.getvalue().splitlines()[-1]))


def test_what_is_in_order_is_taken(tmp_path: Path, liar: Liar) -> None:
    liar.sent = frames(piece(512, DATA), piece(SIZE - 512, b"x" * 512), end())
    assert ask(tmp_path, liar) == {"whole": True}
    expected = (b"\0" * 512 + DATA).ljust(SIZE - 512, b"\0") + b"x" * 512
    assert (tmp_path / "copy").read_bytes() == expected


@pytest.mark.parametrize("lie", SAID)
def test_sizes_that_cannot_be(tmp_path: Path, liar: Liar, lie: str) -> None:
    liar.said = SAID[lie]
    assert ask(tmp_path, liar)["error"] == "failed"
    assert not list(tmp_path.glob("copy*"))


@pytest.mark.parametrize("lie", SENT)
def test_pieces_that_cannot_be(tmp_path: Path, liar: Liar, lie: str) -> None:
    liar.sent, why = SENT[lie]
    told = ask(tmp_path, liar)
    assert why in told["why"]
    assert told["error"] == ("unreachable" if why.startswith("The server") else "failed")
    assert not (tmp_path / "copy").exists()
    assert all(path.stat().st_size <= SIZE for path in tmp_path.glob("copy*"))


@pytest.mark.parametrize("pieces", [0, 1, 2000])
def test_it_may_not_take_its_time(tmp_path: Path, liar: Liar, monkeypatch: pytest.MonkeyPatch, pieces: int) -> None:
    """It never says anything more, or always a little."""
    monkeypatch.setattr(disk_transfer, "SILENCE", 0.2)
    over = threading.Event()

    def slowly() -> Frames:
        for number in range(pieces):
            yield piece(512 * number, b"x" * 512)
            time.sleep(0.02)
        over.wait()

    liar.sent = slowly
    try:
        assert ask(tmp_path, liar)["error"] == "unreachable"
    finally:
        over.set()


# ---- what it sends ---------------------------------------------------------------------------------------------------
def qcow2(path: Path, *, size: str = "1G", base: str = "base", form: str = "qcow2", options: str = "") -> None:
    """As the guest's own root disk would be, unless said otherwise."""
    over = ["-u", "-b", base, "-F", form] if base else []
    more = ["-o", options] if options else []
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *over, *more, str(path), size], check=True)


def patch(path: Path, offset: int, value: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(value)


def header_of(path: Path) -> bytes:
    return path.read_bytes()[:65536]


def without_format(path: Path) -> None:
    """Whoever opens it would guess the base's."""
    qcow2(path)
    patch(path, header_of(path).index(b"\xe2\x79\x2a\xca"), b"\x00\x00\x00\x07")


def format_too_late(path: Path) -> None:
    """Behind the name, where QEMU does not look any more."""
    qcow2(path)
    patch(path, 112, b"base".ljust(8, b"\0") + struct.pack(">II", 0xE2792ACA, 5) + b"qcow2".ljust(8, b"\0"))
    patch(path, 8, struct.pack(">QI", 112, 4))


DISKS: dict[str, Callable[[Path], object]] = {
    "backed by nothing": lambda path: qcow2(path, base=""),
    "backed by a file of the host": lambda path: qcow2(path, base="/etc/shadow", form="raw"),
    "backed by another's disk": lambda path: qcow2(path, base="../6f70656e-0000-4000-8000-000000000002/disk"),
    "backed by the base, as a path": lambda path: qcow2(path, base="./base"),
    "backed by what a name may say": lambda path: qcow2(path, base='json:{"file.filename":"/etc/shadow"}', form="raw"),
    "backed by another machine": lambda path: qcow2(path, base="nbd:127.0.0.1:10809", form="raw"),
    "backed by the base, as another format": lambda path: qcow2(path, form="raw"),
    "backed by the base, as any format": without_format,
    "backed by the base, as a format that comes too late": format_too_late,
    "with its data elsewhere": lambda path: qcow2(path, options=f"data_file={path}.canary"),
    "larger than the flavor": lambda path: qcow2(path, size="1025M"),
    "as large as can be": lambda path: (qcow2(path), patch(path, 24, b"\xff" * 8)),
    "marked corrupt": lambda path: (qcow2(path), patch(path, 72, struct.pack(">Q", 2))),
    "encrypted": lambda path: (qcow2(path), patch(path, 32, struct.pack(">I", 2))),
    "of an older kind": lambda path: qcow2(path, options="compat=0.10"),
    "with tables beyond its end": lambda path: (qcow2(path), patch(path, 40, struct.pack(">Q", 1 << 60))),
    "of another format": lambda path: subprocess.run(
        ["qemu-img", "create", "-q", "-f", "vmdk", path, "1G"], check=True
    ),
    "no disk": lambda path: path.write_bytes(b"\0" * MIB),
    "cut": lambda path: path.write_bytes(b"QFI\xfb\0\0\0\3"),
    "empty": lambda path: path.write_bytes(b""),
}


def receive(place: Path, spec: ServerSpec, image: Path | None, **made: Callable[[Path], object]) -> None:
    """The host has got these; the others are as they should be."""
    expected = fetched_disks.expect(place, spec, image, 8 * GIB, "console.log")
    usual: dict[str, Callable[[Path], object]] = {"root": qcow2, "ephemeral": lambda path: qcow2(path, base="")}
    for name, make in (usual | made).items():
        expected[name].arrival.parent.mkdir(exist_ok=True)
        make(expected[name].arrival)
        assert expected[name].arrival.stat().st_size <= expected[name].most
    fetched_disks.admit(spec, expected)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    qcow2(path, size="16M", base="")
    return path


@pytest.fixture
def guest(tmp_path: Path) -> Path:
    """Its directory."""
    path = tmp_path / "guest"
    path.mkdir()
    return path


def test_disks_like_its_own_are_taken(guest: Path, image: Path) -> None:
    receive(guest, SPEC, image, console=lambda path: path.write_bytes(b"hello"))
    assert sorted(path.name for path in guest.iterdir()) == ["console.log", "disk", "disk-b"]
    assert fetched_disks.expect(guest, SPEC, image, 8 * GIB, "console.log") == {}
    grow_disks(guest, replace(SPEC, flavor=replace(FLAVOR, root_gb=2)), image)


@pytest.mark.parametrize("which", ["root", "ephemeral"])
@pytest.mark.parametrize("lie", DISKS)
def test_other_disks_are_not(guest: Path, image: Path, which: str, lie: str) -> None:
    make = DISKS[lie]
    if which == "ephemeral" and lie == "backed by nothing":
        make = qcow2  # just what this one may not be
    if which == "ephemeral" and lie == "of an older kind":
        return  # it stands alone all the same
    with pytest.raises(errors.HostRefused) as caught:
        receive(guest, SPEC, image, **{which: make})
    assert caught.value.detail.startswith(f"{which}: ")
    assert list(guest.iterdir()) == []
    with pytest.raises(errors.GuestFailed):
        grow_disks(guest, SPEC, image)


def test_a_root_disk_of_no_size_of_its_own_is_as_large_as_its_image(guest: Path, image: Path) -> None:
    spec = replace(SPEC, flavor=replace(FLAVOR, root_gb=0))
    for base in (image, None):
        made = {} if base else {"base": lambda path: path.write_bytes(image.read_bytes())}
        with pytest.raises(errors.HostRefused, match="not its own"):
            receive(guest, spec, base, root=lambda path: qcow2(path, size="17M"), **made)
    receive(guest, spec, image, root=lambda path: qcow2(path, size="16M"))


BASES: dict[str, Callable[[Path], object]] = {
    "another image": lambda path: qcow2(path, size="16M", base="", options="cluster_size=32k"),
    "an image over another file": lambda path: qcow2(path, size="16M", base="/etc/shadow", form="raw"),
    "larger than the flavor": lambda path: qcow2(path, size="1025M", base=""),
    "of another format": lambda path: path.write_bytes(b"x" * 4096),
}


@pytest.mark.parametrize("lie", BASES)
def test_an_image_that_is_had_from_the_old_host_only_is_the_recorded_one(guest: Path, image: Path, lie: str) -> None:
    digest = hashlib.sha512(image.read_bytes()).hexdigest()
    spec = replace(SPEC, image=replace(IMAGE, os_hash_algo="sha512", os_hash_value=digest))
    with pytest.raises(errors.HostRefused) as caught:
        receive(guest, spec, None, base=BASES[lie])
    assert caught.value.detail.startswith("base: ")
    assert list(guest.iterdir()) == []
    receive(guest, spec, None, base=lambda path: path.write_bytes(image.read_bytes()))
    grow_disks(guest, spec, None)
    longer = replace(spec.image, size=image.stat().st_size)
    assert (
        fetched_disks.expect(guest / "other", replace(spec, image=longer), None, 8 * GIB, "log")["base"].most
        == longer.size
    )
    assert (guest / "base").stat().st_mode & 0o777 == 0o444
