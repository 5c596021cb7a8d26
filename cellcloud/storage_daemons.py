"""Storage daemons of QEMU, one a volume that is exported: where their sockets lie, and how they end. Like guests, they
outlive the services that started them."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import tempfile
from contextlib import suppress
from pathlib import Path

from cellcloud import clock, errors

LONGEST_SOCKET = 107  # bytes that fit into sockaddr_un
STOP_PATIENCE = 3.0  # seconds to write down what is on its way, before it is killed
END_TIMEOUT = 15.0
_NAME = 36 + len(".monitor")


class StorageDaemons:
    """The daemons whose sockets and process ids lie in one directory, by their volumes' ids."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def socket_of(self, volume_id: str) -> Path:
        return self._directory / f"{volume_id}.sock"

    def monitor_of(self, volume_id: str) -> Path:
        return self._directory / f"{volume_id}.monitor"

    def pid_file_of(self, volume_id: str) -> Path:
        return self._directory / f"{volume_id}.pid"

    def find_pid(self, volume_id: str) -> int | None:
        """Return the volume's daemon; None when it does not live."""
        with suppress(OSError, ValueError):
            pid = int(self.pid_file_of(volume_id).read_text())
            if str(self.monitor_of(volume_id)).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
        return None

    def list_living(self) -> list[str]:
        """Return the volumes that have a daemon."""
        names = sorted(path.stem for path in self._directory.glob("*.pid"))
        return [name for name in names if self.find_pid(name) is not None]

    def end(self, volume_id: str) -> None:
        """End a daemon: nothing is written once this returns. Absent is success. Raises HostRefused."""
        began = clock.monotonic()
        while (pid := self.find_pid(volume_id)) is not None:
            waited = clock.monotonic() - began
            if waited > STOP_PATIENCE + END_TIMEOUT:
                raise errors.HostRefused("An export does not end.", detail=f"process {pid}")
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL if waited > STOP_PATIENCE else signal.SIGTERM)
            clock.sleep(0.01)
        for path in (self.socket_of(volume_id), self.monitor_of(volume_id), self.pid_file_of(volume_id)):
            path.unlink(missing_ok=True)


def make_socket_directory(directory: Path) -> Path:
    """Return the directory, or where its path is too long for sockets, or closed to others than their owner, as QEMU's
    user is, a short one of its own for it."""
    directory.mkdir(parents=True, exist_ok=True)
    for each in (directory, directory.parent):
        each.chmod(0o711)
    is_open = all(parent.stat().st_mode & 0o001 for parent in directory.absolute().parents)
    if is_open and len(os.fsencode(directory)) + 1 + _NAME <= LONGEST_SOCKET:
        return directory
    short = _short(directory)
    short.mkdir(mode=0o700, exist_ok=True)
    if short.is_symlink() or short.stat().st_uid != os.geteuid():
        raise errors.Misconfigured(f"Remove {short}: it is not this service's.")
    short.chmod(0o711)  # whatever the process's mask
    return short


def end_all(directory: Path) -> None:
    """End every daemon of a directory, once nobody uses their volumes, and remove the short one that was made for it.
    Raises HostRefused."""
    short = _short(directory)
    for place in (directory, short):
        daemons = StorageDaemons(place)
        for volume_id in daemons.list_living():
            daemons.end(volume_id)
    if short.is_dir() and not short.is_symlink() and short.stat().st_uid == os.geteuid():
        shutil.rmtree(short)


def _short(directory: Path) -> Path:
    return Path(tempfile.gettempdir()) / f"cellcloud-{hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]}"
