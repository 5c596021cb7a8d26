"""Processes on record: who was started, is it still that one, end it for certain.

A process is known by its pid together with the tick it was started at and the boot of the machine, so that a
number the kernel has since given to somebody else is never signalled.
"""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from cellcloud import clock


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRecord:
    """One started process. ``state``: starting | ready | waiting | held | done | failed."""

    name: str
    kind: str
    pid: int
    started: int
    boot: str
    state: str = "starting"
    restarts: int = 0
    stop_signal: int = signal.SIGTERM
    grace: float = 10.0

    def is_alive(self) -> bool:
        """Return whether that very process still runs."""
        return self.pid > 0 and self.boot == boot_id() and start_tick(self.pid) == self.started

    def memory(self, *, alone: bool = False) -> tuple[int, int]:
        """Resident and proportional bytes of the process and all it started, or of it ``alone``; zeros when gone."""
        resident = proportional = 0
        family = self.family()
        for process in family[:1] if alone else family:
            with suppress(psutil.Error, OSError):
                figures = process.memory_full_info()
                resident += figures.rss
                proportional += figures.pss
        return resident, proportional

    def ask(self) -> None:
        """Ask it to stop."""
        _signal(self.pid, self.started, self.stop_signal)

    def wake(self) -> None:
        """Make it look at what it is to do."""
        _signal(self.pid, self.started, signal.SIGHUP)

    def kill(self) -> None:
        """End it and every process it started at once."""
        kill_all(self.family())

    def family(self) -> list[psutil.Process]:
        """Return it and every process it started that still runs; nothing when it is gone."""
        if not self.is_alive():
            return []
        with suppress(psutil.Error):
            process = psutil.Process(self.pid)
            return [process, *process.children(recursive=True)]
        return []


def end_all(records: Iterable[ProcessRecord], *, grace: float | None = None) -> None:
    """Ask all these to stop at once, and each one that has not after its grace (or this one, in seconds) make it, with
    all they started."""
    alive = [record for record in records if record.is_alive()]
    began = clock.monotonic()
    families = [record.family() for record in alive]
    for record in alive:
        record.ask()
    for record in alive:
        patience = record.grace if grace is None else grace
        if not wait_gone(record.pid, max(0.0, began + patience - clock.monotonic())):
            families.append(record.family())
    kill_all(process for family in families for process in family)


def kill_all(processes: Iterable[psutil.Process]) -> None:
    """SIGKILL to each that still is the process it was (psutil compares start times)."""
    for process in processes:
        with suppress(psutil.Error):
            process.kill()


def boot_id() -> str:
    """Return the kernel's name of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_tick(pid: int) -> int | None:
    """When the process was started, in clock ticks since boot; None when there is none or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def describe(name: str, kind: str, pid: int, **details: object) -> ProcessRecord:
    """Return the record of a process that runs now."""
    return ProcessRecord(
        name=name,
        kind=kind,
        pid=pid,
        started=start_tick(pid) or 0,
        boot=boot_id(),
        **details,  # type: ignore[arg-type]
    )


def wait_gone(pid: int, timeout: float) -> bool:
    """Wait until a process that need not be a child has ended; False when it has not in time."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], timeout)[0])
    finally:
        os.close(handle)


def _signal(pid: int, started: int, number: int) -> None:
    if pid <= 0:
        return
    with suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        try:
            if start_tick(pid) == started:
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)


class Records:
    """The records of one cloud: a small file each below its state directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def save(self, record: ProcessRecord) -> None:
        """Write or replace the record of that name, whole or not at all."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._path(record.name)
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps({**asdict(record), "written": clock.now().isoformat()}))
        fresh.chmod(0o600)
        fresh.replace(path)

    def forget(self, name: str) -> None:
        """Remove the record of that name, if any."""
        self._path(name).unlink(missing_ok=True)

    def find(self, name: str) -> ProcessRecord | None:
        """Return the record of that name."""
        try:
            values = json.loads(self._path(name).read_text())
        except FileNotFoundError:
            return None
        values.pop("written", None)
        return ProcessRecord(**values)

    def list_all(self) -> list[ProcessRecord]:
        """Every record, in the order the processes were started."""
        names = sorted(path.stem for path in self.directory.glob("*.json"))
        records = [record for name in names if (record := self.find(name)) is not None]
        return sorted(records, key=lambda record: (record.started, record.name))

    def is_held(self, name: str) -> bool:
        """Return whether an operator wants this unit stopped."""
        return (self.directory / f"{name}.hold").exists()

    def hold(self, name: str) -> None:
        """Want this unit stopped, until released."""
        (self.directory / f"{name}.hold").touch(mode=0o600)

    def release(self, name: str) -> None:
        """Want this unit running again."""
        (self.directory / f"{name}.hold").unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self.directory / f"{name}.json"
