"""Copies of a guest's root disk as it was at one moment: by a block job of its emulator while it runs, by qemu-img
while it is off. A copy stands alone, and lies in the guest's directory until it is dropped."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree import ElementTree as ET

import libvirt

from cell.compute.driver import DISCARDED, NO_SNAPSHOT, NOT_QUIET
from cell.compute.drivers.libvirt.disks import Disk, make_blank, start_copy
from cellcloud import clock, errors

LOG = logging.getLogger(__name__)
PREFIX = "snapshot-"
PIECE = 1 << 20
LOOK_SECONDS = 0.2  # between two looks at a copy under way
LONGEST = 4 * 3600.0  # seconds for one copy
COPY_FLAGS = libvirt.VIR_DOMAIN_BLOCK_COPY_REUSE_EXT | libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB
Ask = Callable[[Callable[[Any], Any]], Any]
"""Asks libvirt about the guest's domain; None where there is none."""


class SnapshotFile:
    """The ``SnapshotReader`` of a file; one that loses its name is not read on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self.size = path.stat().st_size
        except FileNotFoundError:
            raise errors.NotFound(NO_SNAPSHOT) from None

    def __iter__(self) -> Iterator[bytes]:
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            raise errors.Stale(DISCARDED) from None
        with file:
            yield from self._pieces(file)

    def _pieces(self, file: BinaryIO) -> Iterator[bytes]:
        while piece := file.read(PIECE):
            if not self._path.exists():
                raise errors.Stale(DISCARDED)
            yield piece


def path_of(directory: Path, image_id: str) -> Path:
    """Return where a guest's copy for that image is once it is whole."""
    return directory / f"{PREFIX}{image_id}"


def drop(directory: Path, image_id: str) -> None:
    """Remove a copy, whole or begun; who makes or reads it notices."""
    for path in (path_of(directory, image_id), _begun(directory, image_id)):
        path.unlink(missing_ok=True)


def _begun(directory: Path, image_id: str) -> Path:
    return path_of(directory, image_id).with_suffix(".new")


def list_leftovers(directory: Path) -> list[Path]:
    """Whole copies and begun ones."""
    return sorted(directory.glob(f"{PREFIX}*"))


class Copier:
    """Makes and drops one guest's copies. ``inside``: a path as the emulator knows it. ``gives_way``: whether a newer
    command waits for the guest."""

    def __init__(
        self, disk: Disk, directory: Path, ask: Ask, *, inside: Callable[[Path], Path], gives_way: Callable[[], bool]
    ) -> None:
        self._disk = disk
        self._directory = directory
        self._ask = ask
        self._inside = inside
        self._gives_way = gives_way

    def copy(self, image_id: str, *, agent: bool, needs_quiesce: bool) -> None:
        """Copy the guest's disk for an image. Raises GuestFailed, and Stale when a newer command waits or the copy is
        dropped."""
        target, begun = path_of(self._directory, image_id), _begun(self._directory, image_id)
        if target.exists():
            return
        self.end_job(agent=agent)
        begun.unlink(missing_ok=True)
        make_blank(begun, self._disk)
        if self._ask(lambda domain: domain.isActive()):
            self._copy_running(begun, agent=agent, needs_quiesce=needs_quiesce)
        else:
            self._copy_off(begun)
        try:
            begun.replace(target)
        except FileNotFoundError:
            raise errors.Stale(DISCARDED) from None

    def end_job(self, *, agent: bool) -> None:
        """End what an earlier attempt may have left: a job of the emulator, a guest whose disks are frozen."""
        name = self._find_name()
        if name is None:
            return
        with suppress(errors.GuestFailed):  # there is none
            self._ask(lambda domain: domain.blockJobAbort(name, 0))
        if agent:
            with suppress(errors.GuestFailed):  # it was not frozen, or does not answer
                self._ask(lambda domain: domain.fsThaw())

    def _copy_running(self, begun: Path, *, agent: bool, needs_quiesce: bool) -> None:
        """Copy the whole chain under a running guest: the emulator writes twice from then on, until it is told to end,
        so that the copy has the disk as it is at that moment."""
        name = self._find_name()
        if name is None:
            raise errors.GuestFailed("The guest has no root disk.")
        destination = ET.Element("disk", type="file")
        ET.SubElement(destination, "source", file=str(self._inside(begun)))
        ET.SubElement(destination, "driver", type="qcow2")
        text = ET.tostring(destination, encoding="unicode")
        self._ask(lambda domain: domain.blockCopy(name, text, None, COPY_FLAGS))
        ended = False
        try:
            self._await_ready(name, begun)
            with self._quiesced(agent=agent, needed=needs_quiesce):
                self._ask(lambda domain: domain.blockJobAbort(name, 0))
                ended = True
        finally:
            if not ended:
                self.end_job(agent=False)

    def _await_ready(self, name: str, begun: Path) -> None:
        deadline = clock.monotonic() + LONGEST
        while True:
            found = ET.fromstring(self._ask(lambda domain: str(domain.XMLDesc())) or "<domain/>")  # noqa: S314
            disk = next((one for one in found.iter("disk") if one.find(f"target[@dev='{name}']") is not None), None)
            mirror = disk.find("mirror") if disk is not None else None
            if mirror is None:
                raise errors.GuestFailed("The copy of the guest's disk broke off.")
            if mirror.get("ready") == "yes":
                return
            self._check_wanted(begun, deadline)
            clock.sleep(LOOK_SECONDS)

    @contextmanager
    def _quiesced(self, *, agent: bool, needed: bool) -> Iterator[None]:
        """With the guest's file systems at rest, where its agent does that. Raises GuestFailed where it must be."""
        frozen = False
        try:
            if agent:
                frozen = self._ask(lambda domain: domain.fsFreeze()) is not None
            if needed and not frozen:
                raise errors.GuestFailed(NOT_QUIET)
        except errors.GuestFailed as error:
            if needed:
                raise errors.GuestFailed(NOT_QUIET, detail=error.detail) from error
            LOG.info("guest is copied as it is: its agent does not answer", extra={"why": error.detail})
        try:
            yield
        finally:
            if agent:
                with suppress(errors.GuestFailed):
                    self._ask(lambda domain: domain.fsThaw())

    def _copy_off(self, begun: Path) -> None:
        """Nobody writes: a plain conversion of the chain."""
        process = start_copy(self._disk, begun)
        with process:
            try:
                said = self._await_end(process, begun)
            except BaseException:
                process.kill()
                raise
        if process.returncode != 0:
            raise errors.GuestFailed("The guest's disk could not be copied.", detail=said.strip())

    def _await_end(self, process: subprocess.Popen[bytes], begun: Path) -> str:
        deadline = clock.monotonic() + LONGEST
        while True:
            try:
                return process.communicate(timeout=LOOK_SECONDS)[1].decode(errors="replace")
            except subprocess.TimeoutExpired:
                self._check_wanted(begun, deadline)

    def _check_wanted(self, begun: Path, deadline: float) -> None:
        if self._gives_way() or not begun.exists():
            raise errors.Stale(DISCARDED)
        if clock.monotonic() > deadline:
            raise errors.GuestFailed("The copy of the guest's disk took too long.")

    def _find_name(self) -> str | None:
        """Return what libvirt calls the root disk of the running guest."""
        text = self._ask(lambda domain: str(domain.XMLDesc()) if domain.isActive() else "")
        if not text:
            return None
        path = str(self._inside(self._disk.path))
        for disk in ET.fromstring(text).iter("disk"):  # noqa: S314
            source, target = disk.find("source"), disk.find("target")
            if source is not None and target is not None and source.get("file") == path:
                return target.get("dev")
        return None
