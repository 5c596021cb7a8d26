"""Disks from one host to another: whole, without holes, to who has the token, and on from where it was cut off."""

from __future__ import annotations

import io
import json
import os
import socket
import ssl
import subprocess
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from cell.compute import disk_transfer
from cell.compute.disk_transfer import LocalDisks, RemoteDisks, SourceAway, Target, fetch
from cell.compute.drivers.libvirt.disk_offers import make_argv, write_credentials

MIB = 1 << 20


def wanted(path: Path) -> Target:
    return Target(str(path), 64 * MIB)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """64 MiB long, with data in two places."""
    path = tmp_path / "disk"
    with path.open("wb") as file:
        file.write(os.urandom(3 * MIB + 5))
        file.seek(40 * MIB)
        file.write(os.urandom(2 * MIB))
        file.truncate(64 * MIB)
    return path


class Offer:
    """A server, and what its disk is had by."""

    def __init__(self, place: Path, disk: Path) -> None:
        certificate = write_credentials(place)
        key = str(certificate.with_suffix(".key"))
        told = {"address": "127.0.0.1", "token": "t", "certificate": str(certificate), "key": key}
        server = disk_transfer.DiskServer(told | {"files": {"root": str(disk)}})
        told |= {"port": str(server.port), "certificate": certificate.read_text()}
        self.by = {name: told[name] for name in ("address", "port", "token", "certificate")}
        self.server = threading.Thread(target=server.run, daemon=True)

    def connect(self) -> socket.socket:
        """As a stranger does."""
        return socket.create_connection((self.by["address"], int(self.by["port"])), timeout=60.0)


@pytest.fixture
def offer(tmp_path: Path, disk: Path) -> Offer:
    return Offer(tmp_path, disk)


@pytest.fixture
def source(offer: Offer) -> dict[str, str]:
    offer.server.start()
    return offer.by


def fetch_all(source: dict[str, str], copy: Path) -> None:
    fetch(RemoteDisks(source), {"root": wanted(copy)}, lambda done, total: None)


def test_a_disk_arrives_whole_and_without_its_holes(tmp_path: Path, disk: Path, source: dict[str, str]) -> None:
    told: list[tuple[int, int]] = []
    for number, there in enumerate((RemoteDisks(source), LocalDisks({"root": str(disk)}))):
        copy = tmp_path / f"copy-{number}"
        none = Target(str(tmp_path / "none"), 0, needed=False)
        fetch(there, {"root": wanted(copy), "swap": none}, lambda done, total: told.append((done, total)))
        assert copy.read_bytes() == disk.read_bytes()
        assert copy.stat().st_blocks * 512 < 8 * MIB
    assert told[-1] == (64 * MIB, 64 * MIB)
    assert not (tmp_path / "none").exists()
    assert not list(tmp_path.glob("copy-*.*"))


def test_a_copy_goes_on_where_it_was_cut_off(tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_transfer, "DURABLE_EVERY", MIB)
    asked: list[int] = []

    class CutOff(LocalDisks):
        left = 3

        def read(self, name: str, offset: int) -> disk_transfer.Pieces:
            asked.append(offset)
            for piece in super().read(name, offset):
                if not self.left:
                    self.left = 100
                    raise SourceAway("cut off")
                self.left -= 1
                yield piece

    there, copy = CutOff({"root": str(disk)}), tmp_path / "copy"
    with pytest.raises(SourceAway):
        fetch(there, {"root": wanted(copy)}, lambda done, total: None)
    assert not copy.exists()
    fetch(there, {"root": wanted(copy)}, lambda done, total: None)
    assert copy.read_bytes() == disk.read_bytes()
    assert asked == [0, 3 * MIB]


def test_a_piece_that_differs_is_refused(tmp_path: Path, disk: Path) -> None:
    class Broken(LocalDisks):
        def read(self, name: str, offset: int) -> disk_transfer.Pieces:
            for at, data, checksum in super().read(name, offset):
                yield at, data, checksum ^ 1

    with pytest.raises(ValueError, match="differs at 0"):
        fetch(Broken({"root": str(disk)}), {"root": wanted(tmp_path / "copy")}, lambda done, total: None)
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("wrong", ["token", "port", "certificate"])
def test_only_who_was_told_is_answered(tmp_path: Path, source: dict[str, str], wrong: str) -> None:
    other = tmp_path / "other"
    other.mkdir()
    values = {"token": "x", "port": "1", "certificate": write_credentials(other).read_text()}
    out, asked = io.StringIO(), {**source, wrong: values[wrong]}
    told: dict[str, Any] = {"source": asked, "targets": {"root": wanted(tmp_path / "copy")}}
    assert disk_transfer.run_fetch(told, out) == 1
    assert json.loads(out.getvalue().splitlines()[-1])["error"] == disk_transfer.TOLD_BY_HOST
    assert not (tmp_path / "copy").exists()


def test_an_offer_that_was_taken_ends(tmp_path: Path, offer: Offer) -> None:
    offer.server.start()
    fetch_all(offer.by, tmp_path / "copy")
    offer.server.join(60.0)
    assert not offer.server.is_alive()
    with pytest.raises(OSError, match="refused"):
        offer.connect()


def test_an_offer_that_nobody_takes_ends_and_one_that_is_being_taken_does_not(
    tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.write_bytes(os.urandom(64 * MIB))  # more than sockets hold
    monkeypatch.setattr(disk_transfer, "IDLE", 0.1)
    offer = Offer(tmp_path, disk)
    taken = RemoteDisks(offer.by).read("root", 0)
    with offer.connect():  # a stranger, who is heard for longer than nobody
        offer.server.start()
        next(taken)
    time.sleep(0.5)
    assert offer.server.is_alive()
    assert sum(len(data) for _, data, _ in taken) == 63 * MIB
    offer.server.join(60.0)
    assert not offer.server.is_alive()


@pytest.mark.parametrize("secured", [False, True], ids=["plain", "secured"])
def test_strangers_keep_nobody_waiting(
    tmp_path: Path, offer: Offer, monkeypatch: pytest.MonkeyPatch, secured: bool
) -> None:
    """They say nothing, whether they have come as far as the encryption or not."""
    monkeypatch.setattr(disk_transfer, "HEAR", 3600.0)
    offer.server.start()
    context = ssl.create_default_context(cadata=offer.by["certificate"])
    context.check_hostname = False
    with ExitStack() as strangers:
        for _ in range(2 * disk_transfer.MOST_CONNECTIONS):
            plain = strangers.enter_context(offer.connect())
            if secured:
                strangers.enter_context(context.wrap_socket(plain))
        fetch_all(offer.by, tmp_path / "copy")


def test_a_stranger_is_heard_for_a_short_time_and_few_are_at_once(
    tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_transfer, "MOST_STRANGERS", 2)
    monkeypatch.setattr(disk_transfer, "HEAR", 0.5)
    offer = Offer(tmp_path, disk)
    offer.server.start()
    with offer.connect() as first, offer.connect() as second:
        talking = threading.Event()

        def drip() -> None:
            """It says something all the time, and never enough."""
            with suppress(OSError):
                for byte in b"\x16\x03\x01\x02\x00" + bytes(500):
                    first.sendall(bytes([byte]))
                    if talking.wait(0.1):
                        return

        dripping = threading.Thread(target=drip)
        dripping.start()
        with offer.connect() as third:
            assert third.recv(1) == b""
        for stranger in (first, second):
            with suppress(ConnectionError):
                while stranger.recv(4096):
                    pass
        talking.set()
        dripping.join()
    monkeypatch.setattr(disk_transfer, "HEAR", 60.0)
    fetch_all(offer.by, tmp_path / "copy")


def test_a_fetch_ends_with_who_asked_for_it(tmp_path: Path) -> None:
    argv, targets = make_argv("fetch"), {"root": wanted(tmp_path / "copy")}
    with (
        disk_transfer.listen("127.0.0.1") as silent,
        subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process,
    ):
        assert process.stdin is not None
        source = {"address": "127.0.0.1", "port": str(silent.getsockname()[1]), "token": "t"}
        source["certificate"] = write_credentials(tmp_path).read_text()
        process.stdin.write(json.dumps({"source": source, "targets": targets}).encode() + b"\n")
        process.stdin.flush()
        connection, _ = silent.accept()
        with connection:
            process.stdin.close()
            assert process.wait(60.0) == 1
