"""What this host has accepted for its guests: one small file each, newest generation first of all.

A destroyed guest leaves a tombstone for a day, so that a command that was on its way meanwhile cannot bring it back.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from cell.compute.drivers.pci_devices import PciDevice, assign
from cellcloud import clock, errors
from cellcloud.model.codec import from_plain, to_plain
from cellcloud.model.image import Image
from cellcloud.model.network import Port, Ports, with_port, without_port
from cellcloud.model.server import ServerSpec
from cellcloud.model.volume import AttachedVolume, Volumes, with_changed, without

log = logging.getLogger(__name__)

MARK = ".mark"  # in the guests' directory
ASIDE = ".aside"  # there too: guests that are set aside for a move
TOMBSTONE_LIFE = 86400.0
PRUNE_EVERY = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestRescue:
    """What a guest is rescued from, and at which generation that began. ``admin_pass``: for that system."""

    image: Image
    generation: int
    admin_pass: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestRecord:
    """``rebooted``, ``rebuilt``, ``dropped``: the newest generation whose reboot or rebuild was carried out, or whose
    copy of the disk was dropped. ``fenced``: cut off its networks. ``rescue``: that it is in. ``devices``: addresses of
    the host's PCI devices that it has. ``serial_port``: of the host, where its serial port listens; 0 for none."""

    server_id: str
    generation: int
    spec: ServerSpec
    ports: tuple[Port, ...] = ()
    rebooted: int = 0
    rebuilt: int = 0
    dropped: int = 0
    fenced: bool = False
    rescue: GuestRescue | None = None
    devices: tuple[str, ...] = ()
    serial_port: int = 0


class GuestRecords:
    """The records of one host, in memory and on disk. Safe to use from several threads."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._records: dict[str, GuestRecord] = {}
        self._aside: dict[str, GuestRecord] = {}
        self._unread: set[str] = set()
        self._buried = 0

    def load(self) -> None:
        """Read what is on disk; a guest's directory without a readable record is not ours to touch. Raises HostRefused
        when the directory is not the one that guests were put into before, as when it is not mounted."""
        with self._lock:
            self._mark_directory()
            self._tombstones.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._directory.chmod(0o711)
            (self._directory / ASIDE).mkdir(mode=0o711, exist_ok=True)
            (self._directory / ASIDE).chmod(0o711)
            self._records.clear()
            self._aside.clear()
            self._unread.clear()
            for path in (*self._directory.glob("*/guest.json"), *self._directory.glob(f"{ASIDE}/*/guest.json")):
                try:
                    record: GuestRecord = from_plain(json.loads(path.read_text()), GuestRecord)
                except (ValueError, errors.Invalid) as error:
                    log.error("the record %s cannot be read: %s", path, error)
                    self._unread.add(path.parent.name)
                    continue
                aside = path.parent.parent != self._directory
                (self._aside if aside else self._records)[record.server_id] = record
            self._prune()

    def path(self, server_id: str) -> Path:
        """Return the guest's directory."""
        return self._directory / server_id

    def find(self, server_id: str) -> GuestRecord | None:
        return self._records.get(server_id)

    def path_aside(self, server_id: str) -> Path:
        """Return the directory of the guest while it is set aside."""
        return self._directory / ASIDE / server_id

    def find_aside(self, server_id: str) -> GuestRecord | None:
        return self._aside.get(server_id)

    def list_aside(self) -> list[GuestRecord]:
        with self._lock:
            return list(self._aside.values())

    def set_aside(self, server_id: str, generation: int) -> GuestRecord:
        """Put the guest's directory and record out of the way, instead of what an earlier move left there; what this
        generation has set aside stays. Raises NotFound, Stale."""
        with self._lock:
            self._refuse_stale(server_id, generation)
            known, aside = self._records.get(server_id), self._aside.get(server_id)
            if aside is not None and aside.generation == generation:
                return aside
            if known is not None:
                self._remove(self.path_aside(server_id))
                self._save(replace(known, generation=generation))
                self.path(server_id).replace(self.path_aside(server_id))
                self._aside[server_id] = self._records.pop(server_id)
            elif aside is not None:
                self._aside[server_id] = replace(aside, generation=generation)
                _write_record(self.path_aside(server_id), self._aside[server_id])
            else:
                raise errors.NotFound("There is no such guest on this host.")
            return self._aside[server_id]

    def take_back(self, spec: ServerSpec, generation: int, ports: Sequence[Port]) -> GuestRecord:
        """Put a guest that is set aside in its place again, over a copy that was made of it, rescued no more; or else
        note the newer generation of one that is there. Raises Stale, GuestFailed when there is neither."""
        with self._lock:
            self._refuse_stale(spec.id, generation)
            back = self._find_to_take_back(spec.id)
            known = back or self._records.get(spec.id)
            if known is None:
                raise errors.GuestFailed("There is nothing of the guest on its host.")
            if back is not None:
                self._remove(self.path(spec.id))
                self.path_aside(spec.id).replace(self.path(spec.id))
                del self._aside[spec.id]
            devices = known.devices if known.spec.placed == spec.placed else ()
            changed = replace(known, generation=generation, spec=spec, ports=tuple(ports), devices=devices)
            self._save(replace(changed, rescue=None if back else known.rescue))
            return self._records[spec.id]

    def has_to_take_back(self, server_id: str) -> bool:
        """Return whether what is set aside is the guest's, and not what an earlier move left: a guest that has gone on
        since then is newer, one that was copied from it is not."""
        with self._lock:
            return self._find_to_take_back(server_id) is not None

    def _find_to_take_back(self, server_id: str) -> GuestRecord | None:
        known, aside = self._records.get(server_id), self._aside.get(server_id)
        if known is not None and aside is not None and aside.generation < known.generation:
            return None
        return aside

    def clear(self, server_id: str, generation: int) -> None:
        """Remove what an older generation left in the guest's place. Raises Stale."""
        with self._lock:
            self._refuse_stale(server_id, generation)
            known = self._records.get(server_id)
            if known is None or known.generation < generation:
                self._remove(self.path(server_id))
                self._records.pop(server_id, None)
                self._unread.discard(server_id)

    def discard(self, server_id: str, generation: int) -> None:
        """Remove what is set aside of the guest: no command up to that generation brings it back. Raises Stale."""
        with self._lock:
            self._refuse_stale(server_id, generation)
            if server_id not in self._records and self._find_tombstone(server_id) < generation:
                _write(self._tombstones / server_id, str(generation))
            self._remove(self.path_aside(server_id))
            self._aside.pop(server_id, None)

    @property
    def is_complete(self) -> bool:
        """Whether every guest that was put here has a record that can be read."""
        return not self._unread

    def list_all(self) -> list[GuestRecord]:
        with self._lock:
            return list(self._records.values())

    def accept(
        self, spec: ServerSpec, generation: int, ports: Sequence[Port], *, rebuilt: int | None = None
    ) -> GuestRecord:
        """Record a guest to be, or the newer generation of one, or what it was ``rebuilt`` to. Raises Stale."""
        with self._lock:
            self._refuse_stale(spec.id, generation)
            if self._find_tombstone(spec.id) >= generation:
                raise errors.Stale("The server has been deleted from this host.")
            known = self._records.get(spec.id)
            if known is None:
                self._check_directory()
            record = GuestRecord(
                server_id=spec.id,
                generation=generation,
                spec=spec,
                ports=tuple(ports),
                rebooted=known.rebooted if known else 0,
                rebuilt=rebuilt if rebuilt is not None else known.rebuilt if known else 0,
                dropped=known.dropped if known else 0,
                fenced=known.fenced if known else False,
                rescue=known.rescue if known and rebuilt is None else None,
                devices=known.devices if known and known.spec.placed == spec.placed else (),
                serial_port=known.serial_port if known else 0,
            )
            if record != known:
                self._save(record)
            return record

    def advance(self, server_id: str, generation: int) -> GuestRecord:
        """Note a command's generation and return the record. Raises NotFound, Stale."""
        with self._lock:
            self._refuse_stale(server_id, generation)
            known = self._records.get(server_id)
            if known is None:
                raise errors.NotFound("There is no such guest on this host.")
            if generation > known.generation:
                known = replace(known, generation=generation)
                self._save(known)
            return known

    def hold_devices(self, server_id: str, there: Sequence[PciDevice]) -> GuestRecord:
        """Give a guest the PCI devices that were claimed for it, of those that are there; it keeps what it has. Raises
        HostRefused, NotFound."""
        with self._lock:
            known = self._records.get(server_id)
            if known is None:
                raise errors.NotFound("There is no such guest on this host.")
            wanted = known.spec.placed.devices if known.spec.placed else ()
            if wanted and not known.devices:
                others = (*self._records.values(), *self._aside.values())
                taken = {address for other in others for address in other.devices}
                known = replace(known, devices=assign(there, wanted, taken))
                self._save(known)
            return known

    def hold_volume(self, server_id: str, volume: AttachedVolume) -> GuestRecord:
        """Let a volume be the guest's. Raises NotFound."""
        return self._change_volumes(server_id, lambda volumes: with_changed(volumes, volume))

    def drop_volume(self, server_id: str, device_id: str) -> GuestRecord:
        """Let a volume be the guest's no more. Raises NotFound."""
        return self._change_volumes(server_id, lambda volumes: without(volumes, device_id))

    def hold_port(self, server_id: str, port: Port) -> None:
        """Let a port be the guest's. Raises NotFound."""
        self._change_ports(server_id, lambda ports: with_port(ports, port))

    def drop_port(self, server_id: str, port_id: str) -> None:
        """Let a port be the guest's no more. Raises NotFound."""
        self._change_ports(server_id, lambda ports: without_port(ports, port_id))

    def _change_ports(self, server_id: str, change: Callable[[Ports], Ports]) -> None:
        with self._lock:
            known = self._records.get(server_id)
            if known is None:
                raise errors.NotFound("There is no such guest on this host.")
            self._save(replace(known, ports=change(known.ports)))

    def _change_volumes(self, server_id: str, change: Callable[[Volumes], Volumes]) -> GuestRecord:
        with self._lock:
            known = self._records.get(server_id)
            if known is None:
                raise errors.NotFound("There is no such guest on this host.")
            known = replace(known, spec=replace(known.spec, volumes=change(known.spec.volumes)))
            self._save(known)
            return known

    def hold_serial_port(self, server_id: str, ports: range) -> GuestRecord:
        """Give a guest a port of the host that no other guest has, one that is suspended neither; it keeps the one that
        it has for as long as that is offered. Raises HostRefused, NotFound."""
        with self._lock:
            known = self._records.get(server_id)
            if known is None:
                raise errors.NotFound("There is no such guest on this host.")
            if known.serial_port not in ports and (ports or known.serial_port):
                taken = {other.serial_port for other in (*self._records.values(), *self._aside.values())}
                free = next((port for port in ports if port not in taken), 0)
                if ports and not free:
                    raise errors.HostRefused("The host has no port left for the guest's serial console.")
                known = replace(known, serial_port=free)
                self._save(known)
            return known

    def note_reboot(self, server_id: str, generation: int) -> None:
        """Note that this generation's reboot is done, so that a repeated command does not do it twice."""
        with self._lock:
            known = self._records.get(server_id)
            if known is not None:
                self._save(replace(known, rebooted=generation))

    def note_drop(self, server_id: str, generation: int) -> None:
        """Note that this generation's copy of the disk was dropped: a late command does not make it again."""
        with self._lock:
            known = self._records.get(server_id)
            if known is not None and known.dropped < generation:
                self._save(replace(known, dropped=generation))

    def set_rescue(self, record: GuestRecord, rescue: GuestRescue | None) -> GuestRecord:
        """Note what a guest is rescued from, or that it is not; its record then."""
        with self._lock:
            changed = replace(record, rescue=rescue)
            self._save(changed)
            return changed

    def set_fence(self, server_id: str, *, fenced: bool) -> None:
        """Note whether the guest is cut off its networks; one without a record has nothing to note it in."""
        with self._lock:
            known = self._records.get(server_id)
            if known is not None and known.fenced != fenced:
                self._save(replace(known, fenced=fenced))

    def is_removed(self, server_id: str, generation: int) -> bool:
        """Return whether a removal of that generation or a newer one has left nothing here."""
        with self._lock:
            here = server_id in self._records or server_id in self._aside or self.path(server_id).exists()
            return not here and self._find_tombstone(server_id) >= generation

    def begin_removal(self, server_id: str, generation: int) -> None:
        """From now on no command up to ``generation`` may bring the guest back. Raises Stale."""
        with self._lock:
            self._refuse_stale(server_id, generation)
            if self._find_tombstone(server_id) < generation:
                _write(self._tombstones / server_id, str(generation))

    def finish_removal(self, server_id: str) -> None:
        """Remove the guest's directory and record."""
        with self._lock:
            for path in (self.path(server_id), self.path_aside(server_id)):
                self._remove(path)
            self._records.pop(server_id, None)
            self._aside.pop(server_id, None)
            self._unread.discard(server_id)
            self._buried += 1
            if self._buried % PRUNE_EVERY == 0:
                self._prune()

    def _remove(self, path: Path) -> None:
        if path.exists():
            gone = self._directory / f".gone-{path.name}"
            shutil.rmtree(gone, ignore_errors=True)
            path.replace(gone)
            shutil.rmtree(gone)

    def _mark_directory(self) -> None:
        """Write the same id into the directory and beside it: what lies beside it knows when another directory is in
        its place."""
        if not self._witness.exists():
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(self._directory / MARK, str(uuid.uuid4()))
            _write(self._witness, (self._directory / MARK).read_text())
        self._check_directory()

    def _check_directory(self) -> None:
        try:
            right = (self._directory / MARK).read_text() == self._witness.read_text()
        except FileNotFoundError:
            right = False
        if not right:
            detail = f"{self._directory} has not the mark that {self._witness} names: is it mounted?"
            raise errors.HostRefused("The directory of the host's guests is not the one it was.", detail=detail)

    @property
    def _witness(self) -> Path:
        return self._directory.with_name(f"{self._directory.name}.mark")

    @property
    def _tombstones(self) -> Path:
        return self._directory / ".tombstones"

    def _refuse_stale(self, server_id: str, generation: int) -> None:
        known = [one for one in (self._records.get(server_id), self._aside.get(server_id)) if one]
        newest = max((one.generation for one in known), default=0) or self._find_tombstone(server_id)
        if generation < newest:
            raise errors.Stale(f"The host has seen generation {newest} of this server.")

    def _find_tombstone(self, server_id: str) -> int:
        with suppress(FileNotFoundError):
            return int((self._tombstones / server_id).read_text())
        return 0

    def _save(self, record: GuestRecord) -> None:
        path = self.path(record.server_id)
        path.mkdir(exist_ok=True)
        path.chmod(0o711)  # whatever the umask
        _write_record(path, record)
        self._records[record.server_id] = record

    def _prune(self) -> None:
        oldest = clock.now().timestamp() - TOMBSTONE_LIFE
        for path in self._tombstones.iterdir():
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < oldest:
                    path.unlink()
        for path in self._directory.glob(".gone-*"):
            shutil.rmtree(path, ignore_errors=True)


def _write_record(directory: Path, record: GuestRecord) -> None:
    _write(directory / "guest.json", json.dumps(to_plain(record)))


def _write(path: Path, text: str) -> None:
    """Replace a file as a whole, for good, readable by us only."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
