"""The only place that starts qemu-img, which is always told formats, and may use so much and no more."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from cellcloud import errors

FORMATS = ("qcow2", "raw")
CONVERTED = {"vmdk": "vmdk", "vhd": "vpc"}
"""Format of an image -> QEMU's name of it, of those that are converted before a guest uses them."""
TARGET = "qcow2"
CONVERT_SECONDS = 900.0
_MEMORY = 2 << 30  # bytes of addresses
_OVERHEAD = 64 << 20  # bytes that a qcow2 may have beside its guest's
# seconds of CPU and bytes of memory that reading or making one header may take
LIMITS = ("prlimit", "--cpu=30", f"--as={_MEMORY}")


def run(verb: str, flag: str, image_format: str, rest: list[str]) -> str:
    """Run it for one header. Return what it says. Raises GuestFailed, HostRefused."""
    if image_format not in FORMATS:
        raise errors.GuestFailed("The format of a disk is not known.")
    done = _run([*LIMITS, "qemu-img", verb, flag, image_format, *rest], 60, "The host cannot make disks.")
    if done.returncode != 0:
        raise errors.HostRefused("The guest's disk could not be made.", detail=done.stderr.strip())
    return done.stdout


def start_convert(source: Path, source_format: str, target: Path) -> subprocess.Popen[bytes]:
    """Begin to write a disk that nobody writes, with all that it stands on, into a qcow2. Raises HostRefused."""
    argv = ["qemu-img", "convert", "-q", "-f", source_format, "-O", TARGET, str(source), str(target)]
    try:
        return subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd="/")
    except OSError as error:
        raise errors.HostRefused("The host cannot copy disks.", detail=str(error)) from error


def convert_image(source: Path, image_format: str, target: Path, max_bytes: int) -> None:
    """Make a qcow2 of an image of another hypervisor that has passed the gate. Raises HostRefused where that takes more
    time, memory or room than an image of ``max_bytes`` may take."""
    limits = ["prlimit", f"--cpu={CONVERT_SECONDS:.0f}", f"--as={_MEMORY}", f"--fsize={max_bytes + _OVERHEAD}"]
    formats = ["-f", CONVERTED[image_format], "-O", TARGET]
    argv = [*limits, "qemu-img", "convert", "-q", *formats, str(source), str(target)]
    done = _run(argv, CONVERT_SECONDS, "The host cannot convert the image.")
    if done.returncode != 0:
        raise errors.HostRefused("The image could not be converted.", detail=done.stderr.strip()[:500])


def _run(argv: Sequence[str], seconds: float, refusal: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(argv, capture_output=True, text=True, cwd="/", timeout=seconds, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise errors.HostRefused(refusal, detail=str(error)) from error
