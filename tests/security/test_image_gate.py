"""Hostile images: what the gate lets through is exactly a disk that stands alone, under its own name."""

from __future__ import annotations

import io
import os
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oslo_utils.imageutils import format_inspector

from cellcloud import errors
from cellcloud.image_gate import ImageFacts, inspect

LIMIT = 1 << 30
MIB = 1 << 20


def made(path: Path, form: str, *arguments: str, size: str = "8M") -> Path:
    options = [word for argument in arguments for word in ("-o", argument)]
    subprocess.run(["qemu-img", "create", "-q", "-f", form, *options, str(path), size], check=True)
    return path


def refused(source: Path | io.BytesIO, declared: str, limit: int = LIMIT) -> str:
    with pytest.raises(errors.Invalid) as caught:
        inspect(source, declared, limit)
    assert "/" not in caught.value.message
    return caught.value.message


def raw_with(*pieces: tuple[int, bytes], size: int = MIB) -> io.BytesIO:
    data = bytearray(size)
    for offset, magic in pieces:
        data[offset : offset + len(magic)] = magic
    return io.BytesIO(bytes(data))


def qcow2_with(path: Path, *pieces: tuple[int, bytes]) -> Path:
    made(path, "qcow2")
    with path.open("r+b") as file:
        for offset, value in pieces:
            file.seek(offset)
            file.write(value)
    return path


@pytest.mark.parametrize(
    "option",
    [
        "compat=1.1",
        "compat=0.10",
        "cluster_size=512",
        "cluster_size=64k",
        "extended_l2=on,cluster_size=128k",
        "compression_type=zstd",
        "lazy_refcounts=on",
        "preallocation=metadata",
    ],
)
def test_plain_qcow2_images_pass_under_their_own_name_only(tmp_path: Path, option: str) -> None:
    path = made(tmp_path / "disk", "qcow2", option)
    assert inspect(path, "qcow2", LIMIT) == ImageFacts(format="qcow2", virtual_size=8 * MIB)
    assert refused(path, "raw") == "The image was declared raw but is qcow2."


def test_internal_snapshots_and_compressed_clusters_pass(tmp_path: Path) -> None:
    path = made(tmp_path / "disk", "qcow2")
    subprocess.run(["qemu-img", "snapshot", "-c", "s", str(path)], check=True)
    assert inspect(path, "qcow2", LIMIT).virtual_size == 8 * MIB
    raw = tmp_path / "raw"
    raw.write_bytes(os.urandom(70000) + bytes(MIB))
    subprocess.run(["qemu-img", "convert", "-c", "-O", "qcow2", "-f", "raw", str(raw), str(tmp_path / "c")], check=True)
    assert inspect(tmp_path / "c", "qcow2", LIMIT).format == "qcow2"


@pytest.mark.parametrize("backing", ["/etc/shadow", "relative", "json:{}", "nbd:127.0.0.1:1", "fd:3"])
def test_a_backing_file_is_refused(tmp_path: Path, backing: str) -> None:
    path = tmp_path / "disk"
    name = ["-b", backing, "-F", "raw", "-u"]
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *name, str(path), "8M"], check=True)
    assert "backing file" in refused(path, "qcow2")
    assert "qcow2" in refused(path, "raw")


def test_a_data_file_is_refused(tmp_path: Path) -> None:
    path = made(tmp_path / "disk", "qcow2", f"data_file={tmp_path}/canary,data_file_raw=on")
    assert "external data file" in refused(path, "qcow2")
    with path.open("r+b") as file:  # the name alone, without the feature's bit
        file.seek(72)
        file.write(bytes(8))
    assert "external data file" in refused(path, "qcow2")


def test_an_encrypted_image_is_refused(tmp_path: Path) -> None:
    assert "encrypted" in refused(qcow2_with(tmp_path / "d", (32, struct.pack(">I", 2))), "qcow2")


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (4, struct.pack(">I", 1)),
        (4, struct.pack(">I", 4)),
        (20, struct.pack(">I", 8)),
        (20, struct.pack(">I", 31)),
        (24, struct.pack(">Q", 0)),
        (24, struct.pack(">Q", LIMIT + 1)),
        (24, struct.pack(">Q", (1 << 64) - 1)),
        (36, struct.pack(">I", 0)),
        (36, struct.pack(">I", 0xFFFFFFFF)),
        (40, struct.pack(">Q", 0)),
        (40, struct.pack(">Q", 1 << 60)),
        (40, struct.pack(">Q", 0x10001)),
        (48, struct.pack(">Q", 1 << 62)),
        (56, struct.pack(">I", 0)),
        (56, struct.pack(">I", 0xFFFFFFFF)),
        (60, struct.pack(">I", 70000)),
        (72, struct.pack(">Q", 0x02)),
        (72, struct.pack(">Q", 0x20)),
        (72, struct.pack(">Q", 1 << 63)),
        (96, struct.pack(">I", 7)),
        (100, struct.pack(">I", 96)),
        (100, struct.pack(">I", 105)),
        (100, struct.pack(">I", 1 << 20)),
        (104, b"\x02"),
        (112, struct.pack(">II", 0xE2792ACA, 3)),
        (112, struct.pack(">II", 0x0537BE77, 16)),
        (112, struct.pack(">II", 0x12345678, 0xFFFFFFF0)),
    ],
)
def test_a_header_that_is_not_sound_is_refused(tmp_path: Path, offset: int, value: bytes) -> None:
    refused(qcow2_with(tmp_path / "disk", (offset, value)), "qcow2")


def test_a_cut_header_is_refused(tmp_path: Path) -> None:
    whole = made(tmp_path / "disk", "qcow2").read_bytes()
    for length in (4, 8, 71, 73, 103, 104, 111, 4096, 65536):
        refused(io.BytesIO(whole[:length]), "qcow2")


def test_a_long_header_cannot_hide_an_extension(tmp_path: Path) -> None:
    path = made(tmp_path / "disk", "qcow2", "cluster_size=2M")
    with path.open("r+b") as file:
        file.seek(112)
        file.write(struct.pack(">II", 0x12345678, 65536 - 112 - 8))
        file.seek(65536)
        file.write(struct.pack(">II", 0x44415441, 8) + b"/canary/")
    refused(path, "qcow2")


@pytest.mark.parametrize("form", ["vmdk", "vdi", "vpc", "vhdx", "qed", "parallels"])
@pytest.mark.parametrize("declared", ["raw", "qcow2"])
def test_other_disk_formats_are_refused(tmp_path: Path, form: str, declared: str) -> None:
    refused(made(tmp_path / "disk", form), declared)


@pytest.mark.parametrize("subformat", ["monolithicSparse", "monolithicFlat", "twoGbMaxExtentFlat", "streamOptimized"])
def test_every_vmdk_is_refused(tmp_path: Path, subformat: str) -> None:
    refused(made(tmp_path / "disk.vmdk", "vmdk", f"subformat={subformat}"), "raw")


# What oslo.utils knows, each as the bytes by which a reader would take it for that.
KNOWN: dict[str, tuple[tuple[int, bytes], ...]] = {
    "qcow2": ((0, b"QFI\xfb\x00\x00\x00\x03"),),
    "vhd": ((0, b"conectix"),),
    "vhdx": ((0, b"vhdxfile"),),
    "vmdk": ((0, b"KDMV\x01"),),
    "vdi": ((0x40, b"\x7f\x10\xda\xbe"),),
    "qed": ((0, b"QED\x00"),),
    "iso": ((0x8000, b"\x01CD001"),),
    "luks": ((0, b"LUKS\xba\xbe\x00\x01"),),
}
PLAIN = {"raw", "gpt"}  # a disk with or without partitions


def test_every_format_that_the_library_knows_has_a_sample_here() -> None:
    assert set(format_inspector.ALL_FORMATS) == KNOWN.keys() | PLAIN


@pytest.mark.parametrize("name", KNOWN)
def test_what_the_library_knows_is_never_raw(name: str) -> None:
    assert name in refused(raw_with(*KNOWN[name]), "raw")


@pytest.mark.parametrize("name", KNOWN.keys() - {"qcow2"})
def test_what_the_library_knows_is_never_a_qcow2(tmp_path: Path, name: str) -> None:
    refused(raw_with(*KNOWN[name]), "qcow2")
    hidden = [(offset, magic) for offset, magic in KNOWN[name] if offset]
    if hidden:  # both at once
        refused(qcow2_with(tmp_path / "disk", *hidden), "qcow2")


@pytest.mark.parametrize(("one", "other"), [("vdi", "luks"), ("iso", "vhdx"), ("iso", "luks"), ("vdi", "iso")])
def test_two_formats_in_one_image_are_refused_by_both_names(one: str, other: str) -> None:
    message = refused(raw_with((510, b"\x55\xaa"), *KNOWN[one], *KNOWN[other]), "raw")
    assert one in message
    assert other in message


@pytest.mark.parametrize("identifier", [b"NSR02", b"NSR03"])
def test_a_udf_is_refused(identifier: bytes) -> None:
    assert "iso" in refused(raw_with((0x8001, identifier)), "raw")


def test_a_descriptor_far_behind_comments_is_refused() -> None:
    text = b"# nothing to see\n" * 40000 + b'createType="monolithicFlat"\nRW 1 FLAT "/etc/shadow" 0\n'
    assert "vmdk" in refused(io.BytesIO(text), "raw")


@pytest.mark.parametrize("data", [b"x" * 600 + b"\xff" * 600, b"text\n" * 300000, b"\xff" * 2000])
def test_texts_and_other_bytes_are_raw(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    assert inspect(io.BytesIO(data), "raw", LIMIT).format == "raw"
    assert caplog.records == []


def test_a_fixed_vhd_is_refused(tmp_path: Path) -> None:
    assert "vhd" in refused(made(tmp_path / "disk", "vpc", "subformat=fixed"), "raw")


def test_luks_is_refused() -> None:
    assert "luks" in refused(raw_with((0, b"LUKS\xba\xbe\x00\x02")), "raw")


@pytest.mark.parametrize("text", [b"# Disk DescriptorFile\nversion=1\n", b"\n  \n# x\nversion=1\n", b"version=3\n"])
def test_a_vmdk_descriptor_is_refused(text: bytes) -> None:
    assert "vmdk" in refused(raw_with((0, text)), "raw")


@pytest.mark.parametrize("declared", ["vmdk", "vhd", "vhdx", "vdi", "iso", "ami", "RAW", "", "raw\n"])
def test_other_names_are_refused(declared: str) -> None:
    refused(raw_with(), declared)


def test_disks_with_partitions_pass_as_raw() -> None:
    mbr, gpt, iso = (510, b"\x55\xaa"), (512, b"EFI PART"), (0x8001, b"CD001")
    for pieces in ((), (mbr,), (mbr, gpt), (mbr, iso), (mbr, gpt, iso)):
        assert inspect(raw_with(*pieces), "raw", LIMIT).virtual_size == MIB
    assert "iso" in refused(raw_with(iso), "raw")


@pytest.mark.parametrize(
    "piece",
    [(510, b"\x55\xaa"), (512, b"EFI PART"), (0x8001, b"CD001"), (0x40, b"\x7f\x10\xda\xbe"), (-512, b"conectix")],
)
def test_what_is_two_things_at_once_is_refused(tmp_path: Path, piece: tuple[int, bytes]) -> None:
    path = made(tmp_path / "disk", "qcow2")
    offset = piece[0] if piece[0] >= 0 else path.stat().st_size + piece[0]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(piece[1])
    refused(path, "qcow2")
    refused(path, "raw")


def test_sizes_are_bounded() -> None:
    assert inspect(raw_with(size=1000), "raw", 1000).virtual_size == 1024
    refused(raw_with(size=1001), "raw", 1000)
    refused(io.BytesIO(b""), "raw")


def test_what_is_no_plain_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with os.fdopen(os.open(tmp_path / "pipe", os.O_RDWR), "r+b", buffering=0) as pipe:
        refused(pipe, "raw")  # type: ignore[arg-type]


@given(st.binary(max_size=200), st.sampled_from(["raw", "qcow2"]))
def test_no_bytes_break_the_gate(data: bytes, declared: str) -> None:
    for source in (data, b"QFI\xfb\x00\x00\x00\x03" + data):
        try:
            facts = inspect(io.BytesIO(source), declared, LIMIT)
        except errors.Invalid:
            continue
        assert facts.format == declared


@pytest.mark.parametrize(("size", "taken"), [("160G", True), ("1024T", True), ("1025T", False)])
def test_a_thin_disk_may_be_larger_than_its_file_may(tmp_path: Path, size: str, taken: bool) -> None:
    path = made(tmp_path / "disk", "qcow2", "cluster_size=2M", size=size)
    assert path.stat().st_size < LIMIT
    if taken:
        assert inspect(path, "qcow2", LIMIT).virtual_size > LIMIT
    else:
        assert "virtual size" in refused(path, "qcow2")
