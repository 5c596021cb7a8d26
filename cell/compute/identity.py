"""Which machine this is, and whether it may act under its hosts' names."""

from __future__ import annotations

import fcntl
import os
import threading
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from cellcloud import clock, errors
from cellcloud.context import service_context
from cellcloud.model.host import HostMachine
from cellcloud.rpc.conductor import Conductor

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Identity:
    """An id kept in a file. A copy of the file is the same identity in another place, and so is another start of the
    machine; another process of this machine that opens it is refused."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIO | None = None

    def open(self) -> HostMachine:
        """Hold the file, made if need be. Raises HostRefused while another process does."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._file is None:
            file = os.fdopen(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600), "r+")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                file.close()
                message = "Another compute service of this machine has the same name."
                raise errors.HostRefused(message, detail=str(self._path)) from error
            self._file = file
        self._file.seek(0)
        identity = self._file.read().strip()
        if not identity:
            identity = str(uuid.uuid4())
            self._file.write(identity)
            self._file.flush()
            os.fsync(self._file.fileno())
        status = os.fstat(self._file.fileno())
        place = f"{os.uname().nodename}, start {BOOT_ID.read_text().strip()}, file {status.st_dev}:{status.st_ino}"
        return HostMachine(identity=identity, place=place[:255])

    def close(self) -> None:
        """Let another process have it."""
        file, self._file = self._file, None
        if file is not None:
            file.close()


class Standing:
    """The lease on the names. By this machine's own clock, from before it asked: it never believes to have them for
    longer than the cell does."""

    def __init__(self, conductor: Conductor, hosts: Sequence[str], open_identity: Callable[[], HostMachine]) -> None:
        self._conductor = conductor
        self._hosts = list(hosts)
        self._open_identity = open_identity
        self._until = -1.0
        self._lock = threading.Lock()

    def renew(self) -> None:
        """Ask for the names. Raises HostRefused when one is another machine's, TryLater when nobody answers."""
        machine = self._open_identity()
        asked = clock.monotonic()
        answer = self._conductor.hold_names(service_context(), self._hosts, machine)
        with self._lock:
            self._until = -1.0 if answer.refused else asked + answer.seconds
        for name, why in sorted(answer.refused.items()):
            raise errors.HostRefused(f"This machine may not serve host {name}.", detail=why)

    @property
    def holds(self) -> bool:
        """Whether the names are this machine's now."""
        return clock.monotonic() < self._until
