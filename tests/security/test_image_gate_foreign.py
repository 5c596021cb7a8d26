"""Images of other hypervisors at the gate: one file that stands alone, under its own name, and nothing beside."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest

from cellcloud import errors
from cellcloud.image_gate import ACCEPTED, ImageFacts, inspect

LIMIT = 1 << 30
MIB = 1 << 20
FOREIGN = {"vmdk": "vmdk", "vhd": "vpc"}


def made(path: Path, form: str, *arguments: str, size: str = "8M") -> Path:
    options = [word for argument in arguments for word in ("-o", argument)]
    subprocess.run(["qemu-img", "create", "-q", "-f", form, *options, str(path), size], check=True)
    return path


def iso(path: Path) -> Path:
    content = path.with_suffix(".d")
    content.mkdir()
    (content / "file").write_text("text")
    subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-o", str(path), str(content)], check=True)
    return path


def refused(path: Path, declared: str, limit: int = LIMIT) -> str:
    with pytest.raises(errors.Invalid) as caught:
        inspect(path, declared, limit)
    assert "/" not in caught.value.message
    return caught.value.message


def changed(path: Path, *pieces: tuple[int, bytes]) -> Path:
    with path.open("r+b") as file:
        for offset, value in pieces:
            file.seek(offset)
            file.write(value)
    return path


def described(path: Path, **lines: str) -> Path:
    """A VMDK whose descriptor has other lines."""
    made(path, "vmdk", "subformat=monolithicSparse")
    data = bytearray(path.read_bytes())
    text = bytes(data[512 : 512 + 20 * 512]).rstrip(b"\0").decode()
    for old, new in lines.items():
        before = next(line for line in text.split("\n") if line.startswith(old.replace("_", " ")))
        text = text.replace(before, new)
    data[512 : 512 + 20 * 512] = text.encode().ljust(20 * 512, b"\0")
    path.write_bytes(bytes(data))
    return path


@pytest.mark.parametrize("option", ["subformat=monolithicSparse", "subformat=streamOptimized", "compat6=on"])
def test_a_vmdk_of_one_file_passes(tmp_path: Path, option: str) -> None:
    path = made(tmp_path / "disk", "vmdk", option)
    assert inspect(path, "vmdk", LIMIT) == ImageFacts(format="vmdk", virtual_size=8 * MIB)


@pytest.mark.parametrize("option", ["subformat=dynamic", "subformat=fixed", "force_size=on"])
def test_a_vhd_that_stands_alone_passes(tmp_path: Path, option: str) -> None:
    facts = inspect(made(tmp_path / "disk", "vpc", option), "vhd", LIMIT)
    assert facts.virtual_size >= 8 * MIB


def test_a_vhd_with_partitions_passes_and_is_no_raw_disk(tmp_path: Path) -> None:
    path = changed(made(tmp_path / "disk", "vpc", "subformat=fixed"), (510, b"\x55\xaa"))
    inspect(path, "vhd", LIMIT)
    refused(path, "raw")


def test_an_iso_passes(tmp_path: Path) -> None:
    path = iso(tmp_path / "cd.iso")
    assert inspect(path, "iso", LIMIT) == ImageFacts(format="iso", virtual_size=path.stat().st_size)
    refused(path, "raw")
    inspect(changed(path, (510, b"\x55\xaa")), "iso", LIMIT)
    refused(changed(path, (0, b"KDMV")), "iso")


def test_a_format_passes_under_its_own_name_only(tmp_path: Path) -> None:
    images = {name: made(tmp_path / name, form) for name, form in {**FOREIGN, "qcow2": "qcow2"}.items()}
    images |= {"raw": made(tmp_path / "raw", "raw"), "iso": iso(tmp_path / "iso")}
    assert images.keys() == set(ACCEPTED)
    for name, path in images.items():
        inspect(path, name, LIMIT)
        for declared in images.keys() - {name}:
            assert f"declared {declared} but is {name}" in refused(path, declared)


@pytest.mark.parametrize("subformat", ["monolithicFlat", "twoGbMaxExtentFlat", "twoGbMaxExtentSparse"])
def test_a_vmdk_of_several_files_is_refused(tmp_path: Path, subformat: str) -> None:
    refused(made(tmp_path / "disk.vmdk", "vmdk", f"subformat={subformat}"), "vmdk")


EXTENT = 'RW 16384 SPARSE "disk"'


@pytest.mark.parametrize(
    "lines",
    [
        {"createType": 'createType="monolithicFlat"'},
        {"createType": 'createType="custom"'},
        {"createType": "nothing=1"},
        {"RW_": 'RW 16384 FLAT "disk" 0'},
        {"RW_": 'RW 16384 FLAT "/etc/shadow" 0'},
        {"RW_": 'RW 16384 SPARSE "/etc/shadow"'},
        {"RW_": 'RW 16384 SPARSE "../secret"'},
        {"RW_": f'{EXTENT}\nRW 16384 SPARSE "other"'},
        {"RW_": f'{EXTENT}\nRW 16384 FLAT "other" 0'},
        {"RW_": 'RW 16384 VMFS "other"'},
        {"RW_": "# none"},
        {"parentCID": 'parentCID=deadbeef\nparentFileNameHint="secret"'},
        {"parentCID": 'parentCID=deadbeef\nPARENTFILENAMEHINT="/etc/shadow"'},
    ],
)
def test_a_descriptor_that_names_another_file_is_refused(tmp_path: Path, lines: dict[str, str]) -> None:
    refused(described(tmp_path / "disk", **lines), "vmdk")


def test_a_parent_named_behind_a_short_descriptor_is_refused(tmp_path: Path) -> None:
    """QEMU reads twenty sectors, of however many the header says that the descriptor is."""
    path = made(tmp_path / "disk", "vmdk", "subformat=monolithicSparse")
    text = path.read_bytes()[512:1024].partition(b"# The Disk Data Base")[0]
    hidden = text.ljust(511, b"#") + b'\nparentFileNameHint="/etc/shadow"\n'
    changed(path, (512, hidden.ljust(20 * 512, b"\0")), (36, struct.pack("<Q", 1)))
    assert "backing file" in refused(path, "vmdk")


def test_a_descriptor_alone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_text(f'# Disk DescriptorFile\nversion=1\ncreateType="monolithicSparse"\n{EXTENT}\n')
    refused(path, "vmdk")


@pytest.mark.parametrize(
    ("form", "pieces", "limit"),
    [
        ("vmdk", [(12, bytes(8))], LIMIT),  # no capacity: QEMU would go by the descriptor's files
        ("vmdk", [(12, struct.pack("<Q", 1 << 51))], LIMIT),
        ("vmdk", [(28, struct.pack("<Q", 7))], LIMIT),  # the descriptor elsewhere
        ("vmdk", [(4, struct.pack("<I", 9))], LIMIT),
        ("vhd", [(60, struct.pack(">I", 4))], LIMIT),  # the difference to another
        ("vhd", [(60, struct.pack(">I", 0))], LIMIT),
        ("vhd", [(48, struct.pack(">Q", 1 << 51))], LIMIT),
        ("vhd", [(48, bytes(8))], LIMIT),
        ("vhd", [], 1000),
    ],
)
def test_what_is_not_sound_or_too_large_is_refused(
    tmp_path: Path, form: str, pieces: list[tuple[int, bytes]], limit: int
) -> None:
    path = changed(made(tmp_path / "disk", FOREIGN[form]), *pieces)
    refused(path, form, limit)


@pytest.mark.parametrize("form", [*FOREIGN, "iso"])
def test_what_is_cut_or_empty_is_refused(tmp_path: Path, form: str) -> None:
    path = tmp_path / "disk"
    whole = iso(path) if form == "iso" else made(path, FOREIGN[form])
    data = whole.read_bytes()
    for length in (0, 3, 4, 63, 64, 511, 512):
        whole.write_bytes(data[:length])
        refused(whole, form)
