"""Running tools where the guests are: inside the host's node, or simply on this machine."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cell.compute.drivers.libvirt.options import LibvirtOptions
from cellcloud import clock, errors

TOOL_TIMEOUT = 30.0
START_TIMEOUT = 30.0
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Namespace:
    """The surroundings of the guests of one host."""

    def __init__(self, options: LibvirtOptions) -> None:
        self._options = options

    def get_pid(self) -> int:
        """The first process of the node, 1 on a plain machine. Raises HostRefused when the node is not running."""
        if not self._options.in_node:
            return 1
        with suppress(OSError, ValueError, KeyError, TypeError):
            record = json.loads((self._options.state_dir / "node.json").read_text())
            pid = int(record["pid"])
            if record["boot"] == BOOT_ID.read_text().strip() and _start_tick(pid) == record["started"]:
                return pid
        raise errors.HostRefused("The host is not running.", detail=f"no living node in {self._options.state_dir}")

    def get_boot_id(self) -> str:
        """Name the present boot: the machine's, and of a node its first process. Raises HostRefused."""
        machine = BOOT_ID.read_text().strip()
        pid = self.get_pid()
        return machine if pid == 1 else f"{machine}:{pid}:{_start_tick(pid)}"

    def inside(self, path: Path) -> Path:
        """What a path below the state directory is called in there."""
        if not self._options.in_node:
            return path
        if path.is_relative_to(self._options.guests_dir):
            return Path("/run/guests") / path.relative_to(self._options.guests_dir)
        return Path("/run") / path.relative_to(self._options.work_dir)

    def find_command(self, pid: int) -> list[str]:
        """The command line of a process by its number in there; empty when there is none."""
        root = Path("/proc") if not self._options.in_node else Path(f"/proc/{self.get_pid()}/root/proc")
        with suppress(OSError):
            return (root / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
        return []

    def run(self, argv: Sequence[str], *, text: str = "", check: bool = True) -> str:
        """Run a tool to its end and return what it printed; raises HostRefused when it fails and ``check`` is set."""
        argv = self._wrap(argv)
        try:
            done = subprocess.run(
                argv, input=text, capture_output=True, text=True, cwd="/", timeout=TOOL_TIMEOUT, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise errors.HostRefused("A tool of the host failed.", detail=str(error)) from error
        if check and done.returncode != 0:
            detail = f"{' '.join(argv)}: {done.stderr.strip()}"
            raise errors.HostRefused("A tool of the host failed.", detail=detail)
        return done.stdout

    def launch(self, argv: Sequence[str], log: Path) -> None:
        """Run a tool that leaves a daemon behind; what both say goes to ``log``. Raises HostRefused when it fails."""
        with log.open("wb") as file:
            try:
                subprocess.run(
                    self._wrap(argv),
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=file,
                    cwd="/",
                    timeout=TOOL_TIMEOUT,
                    check=True,
                )
            except (OSError, subprocess.SubprocessError) as error:
                said = log.read_text(errors="replace").strip()
                raise errors.HostRefused("A daemon of the host does not start.", detail=f"{error} {said}") from error

    def _wrap(self, argv: Sequence[str]) -> Sequence[str]:
        if not self._options.in_node:
            return argv
        return ["nsenter", f"--target={self.get_pid()}", "--all", "--", *argv]


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """A program in the background. It writes its process id, as numbered in there, to ``pid_file``; ``word`` is a part
    of its command line that no other process has.
    """

    namespace: Namespace
    argv: tuple[str, ...]
    pid_file: Path
    word: str

    def find_pid(self) -> int | None:
        """Its process id in there, if it runs."""
        with suppress(OSError, ValueError):
            pid = int(self.pid_file.read_text())
            if self.word in self.namespace.find_command(pid):
                return pid
        return None

    def ensure_running(self) -> None:
        """Start it unless it runs."""
        if self.find_pid() is not None:
            return
        self.pid_file.unlink(missing_ok=True)
        self.namespace.launch(self.argv, self.pid_file.with_suffix(".log"))
        deadline = clock.monotonic() + START_TIMEOUT
        while self.find_pid() is None:
            if clock.monotonic() > deadline:
                raise errors.HostRefused("A daemon of the host does not start.", detail=" ".join(self.argv))
            clock.sleep(0.01)

    def reload(self) -> None:
        """Make it read its files again."""
        pid = self.find_pid()
        if pid is not None:
            self.namespace.run(["kill", "-HUP", str(pid)], check=False)

    def stop(self, *, patience: float = 2.0) -> None:
        """End it, by force if asking takes longer than ``patience``."""
        deadline = clock.monotonic() + patience
        word = "-TERM"
        while (pid := self.find_pid()) is not None:
            self.namespace.run(["kill", word, str(pid)], check=False)
            clock.sleep(0.02)
            if clock.monotonic() > deadline:
                word = "-KILL"


def _start_tick(pid: int) -> int | None:
    """When a process was started, in ticks since boot; None when it is gone or a zombie."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])
