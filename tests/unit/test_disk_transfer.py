"""Disks from one host to another: whole, without holes, to who has the token, and on from where it was cut off."""

from __future__ import annotations

import io
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from cell.compute import disk_transfer
from cell.compute.disk_transfer import LocalDisks, RemoteDisks, SourceAway, Target, fetch
from cell.compute.drivers.libvirt.disk_offers import write_credentials

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


@pytest.fixture
def source(tmp_path: Path, disk: Path) -> dict[str, str]:
    certificate = write_credentials(tmp_path)
    told = {"address": "127.0.0.1", "token": "t", "certificate": str(certificate), "files": {"root": str(disk)}}
    server = disk_transfer.DiskServer(told | {"key": str(certificate.with_suffix(".key"))})
    threading.Thread(target=server.run, daemon=True).start()
    return {"address": "127.0.0.1", "port": str(server.port), "token": "t", "certificate": certificate.read_text()}


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
