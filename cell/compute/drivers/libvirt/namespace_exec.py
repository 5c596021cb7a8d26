"""Running tools where the guests are: in the host's node or on this machine itself, and in networks' namespaces."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cell.compute.drivers.libvirt.options import LibvirtOptions
from cellcloud import clock, errors

TOOL_TIMEOUT = 30.0
START_TIMEOUT = 30.0
STOP_TIMEOUT = 10.0
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Namespace:
    """The surroundings of the guests of one host; with ``network``, the same but for the network: it is a namespace."""

    def __init__(self, options: LibvirtOptions, *, network: str = "") -> None:
        self._options = options
        self._network = network

    def enter(self, network: str) -> Namespace:
        """Return the same host, in a network namespace of it."""
        return Namespace(self._options, network=network)

    def list_networks(self, prefix: str) -> set[str]:
        """Return the network namespaces in there whose names begin so. A file without a namespace is none."""
        directory = Path(f"{self._root()}/run/netns")
        with suppress(FileNotFoundError):
            plain = directory.stat().st_dev
            return {path.name for path in directory.glob(f"{prefix}*") if path.stat().st_dev != plain}
        return set()

    def publish(self, network: str, suffix: str) -> None:
        """Give a network namespace of a node a name on this machine too: the node's own and the suffix."""
        name = self._public_name(suffix)
        inner = f"{self._root()}/run/netns/{network}"
        with suppress(FileNotFoundError):
            if Path("/run/netns", name).stat().st_ino == Path(inner).stat().st_ino:
                return
        if name:
            self.conceal(suffix)
            attach = ["nsenter", f"--net={inner}", "sh", "-c", 'ip netns attach "$0" $$', name]
            subprocess.run(attach, capture_output=True, cwd="/", check=False)

    def conceal(self, suffix: str) -> None:
        """Take the name back."""
        name = self._public_name(suffix)
        if name and Path("/run/netns", name).exists():
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, cwd="/", check=False)

    def get_pid(self) -> int:
        """Return the first process of the node, 1 on a plain machine. Raises HostRefused when the node is not
        running."""
        if not self._options.in_node:
            return 1
        with suppress(OSError, ValueError, KeyError, TypeError):
            record = self._read_record()
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
        """Return what a path below the state directory is called in there."""
        if not self._options.in_node:
            return path
        if path.is_relative_to(self._options.guests_dir):
            return Path("/run/guests") / path.relative_to(self._options.guests_dir)
        return Path("/run") / path.relative_to(self._options.work_dir)

    def find_command(self, pid: int) -> list[str]:
        """Return the command line of a process by its number in there; empty when there is none."""
        with suppress(OSError):
            return Path(f"{self._root()}/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        return []

    def run(self, argv: Sequence[str], *, text: str = "", check: bool = True) -> str:
        """Run a tool to its end and return what it printed; raises HostRefused when it fails and ``check`` is set."""
        argv = self.wrap(argv)
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
                    self.wrap(argv),
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

    def wrap(self, argv: Sequence[str]) -> Sequence[str]:
        """Return the same command, to be run in there."""
        if not self._options.in_node and not self._network:
            return argv
        node = [f"--target={self.get_pid()}", "--all"] if self._options.in_node else []
        network = [f"--net={self._root()}/run/netns/{self._network}"] if self._network else []
        return ["nsenter", *node, *network, "--", *argv]

    def _root(self) -> str:
        return f"/proc/{self.get_pid()}/root" if self._options.in_node else ""

    def _public_name(self, suffix: str) -> str:
        node = self._read_record().get("namespace") if self._options.in_node else None
        return f"{node}.{suffix}" if node else ""

    def _read_record(self) -> dict[str, Any]:
        """Return what the node's maker wrote of it."""
        record: dict[str, Any] = json.loads((self._options.state_dir / "node.json").read_text())
        return record


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """A program in the background. It writes its process id, as numbered in there, to ``pid_file``; ``word`` is a part
    of its command line that no other process has. ``network``: the network namespace it runs in, if not the host's.
    ``version``: an argument of the program that is wanted; one that was started without it is replaced.
    """

    namespace: Namespace
    argv: tuple[str, ...]
    pid_file: Path
    word: str
    network: str = ""
    version: str = ""

    def find_pid(self) -> int | None:
        """Its process id in there, if it runs."""
        with suppress(OSError, ValueError):
            pid = int(self.pid_file.read_text())
            if self.word in self.namespace.find_command(pid):
                return pid
        return None

    def ensure_running(self) -> None:
        """Start it unless it runs."""
        pid = self.find_pid()
        if pid is not None and self.version and self.version not in self.namespace.find_command(pid):
            self.stop()
        elif pid is not None:
            return
        self.pid_file.unlink(missing_ok=True)
        self.namespace.enter(self.network).launch(self.argv, self.pid_file.with_suffix(".log"))
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
        """End it, by force if asking takes longer than ``patience``. Raises HostRefused when that does not help."""
        began = clock.monotonic()
        while (pid := self.find_pid()) is not None:
            waited = clock.monotonic() - began
            if waited > patience + STOP_TIMEOUT:
                raise errors.HostRefused("A daemon of the host does not end.", detail=" ".join(self.argv))
            self.namespace.run(["kill", "-KILL" if waited > patience else "-TERM", str(pid)], check=False)
            clock.sleep(0.02)


def _start_tick(pid: int) -> int | None:
    """When a process was started, in ticks since boot; None when it is gone or a zombie."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])
