"""The directory of a libvirt host's guests is known by its mark: one that is not mounted is noticed, not filled."""

from __future__ import annotations

from pathlib import Path

import pytest

from cell.compute.drivers.libvirt.records import GuestRecords
from cellcloud import errors
from tests.unit.cell_world import make_spec, server_id

ONE = server_id(1)


def unmount(directory: Path) -> None:
    """What is left is the empty directory that it was mounted over."""
    directory.rename(directory.with_name("elsewhere"))
    directory.mkdir()


def mount(directory: Path) -> None:
    directory.rmdir()
    directory.with_name("elsewhere").rename(directory)


def test_a_directory_that_is_not_mounted_is_refused_at_start_and_while_it_serves(tmp_path: Path) -> None:
    directory = tmp_path / "guests"
    records = GuestRecords(directory)
    records.load()
    records.accept(make_spec(1), 1, ())
    unmount(directory)
    with pytest.raises(errors.HostRefused, match="not the one"):
        records.accept(make_spec(2), 1, ())
    with pytest.raises(errors.HostRefused, match="not the one"):
        GuestRecords(directory).load()
    assert list(directory.iterdir()) == []
    mount(directory)
    again = GuestRecords(directory)
    again.load()
    assert [record.server_id for record in again.list_all()] == [ONE]
    assert again.is_complete


def test_anothers_directory_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        GuestRecords(tmp_path / name / "guests").load()
    unmount(tmp_path / "a" / "guests")
    (tmp_path / "a" / "guests").rmdir()
    (tmp_path / "b" / "guests").rename(tmp_path / "a" / "guests")
    with pytest.raises(errors.HostRefused):
        GuestRecords(tmp_path / "a" / "guests").load()


def test_a_record_that_cannot_be_read_is_known_to_be_missing(tmp_path: Path) -> None:
    records = GuestRecords(tmp_path / "guests")
    records.load()
    records.accept(make_spec(1), 1, ())
    (records.path(ONE) / "guest.json").write_text("{")
    again = GuestRecords(tmp_path / "guests")
    again.load()
    assert (again.list_all(), again.is_complete) == ([], False)
    assert again.path(ONE).is_dir()
