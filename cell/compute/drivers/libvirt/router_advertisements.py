"""A router's announcements of itself on its legs, where IPv6 subnets want that: dnsmasq, which serves nothing else."""

from __future__ import annotations

import ipaddress
import shutil
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cell.compute.drivers.libvirt.dhcp import ANNOUNCED, RA_SECONDS
from cell.compute.drivers.libvirt.namespace_exec import Daemon, Namespace

LIFETIME = 300  # seconds that guests have a router for, once it is mute
Announced = tuple[str, str, str]  # device, range, mode


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterAnnouncer:
    """One router's, known by its ``directory``, in its network namespace ``router``."""

    namespace: Namespace
    router: str
    directory: Path

    def apply(self, announced: Collection[Announced]) -> None:
        """Announce exactly these. Raises HostRefused."""
        if not announced:
            self.remove()
            return
        self.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.directory.chmod(0o755)
        path, text = self.directory / "dnsmasq.conf", self._settings(announced)
        with suppress(FileNotFoundError):
            if path.read_text() == text:
                self._daemon.ensure_running()
                return
        self._daemon.stop()
        fresh = path.with_suffix(".new")
        fresh.write_text(text)
        fresh.chmod(0o644)
        fresh.replace(path)
        self._daemon.ensure_running()

    def ensure_running(self) -> None:
        """Start it again if it has died."""
        if self.directory.is_dir():
            self._daemon.ensure_running()

    def is_well(self) -> bool:
        """Return whether it runs, or there is nothing to announce."""
        return not self.directory.is_dir() or self._daemon.find_pid() is not None

    def remove(self) -> None:
        """End it and remove its files."""
        if self.directory.is_dir():
            self._daemon.stop()
            shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def _daemon(self) -> Daemon:
        conf = f"--conf-file={self.namespace.inside(self.directory / 'dnsmasq.conf')}"
        pid_file = self.directory / "pid"
        argv = ("dnsmasq", conf)
        return Daemon(namespace=self.namespace, argv=argv, pid_file=pid_file, word=conf, network=self.router)

    def _settings(self, announced: Collection[Announced]) -> str:
        inside = self.namespace.inside(self.directory)
        lines = [
            "bind-interfaces",
            "port=0",
            "no-resolv",
            "no-hosts",
            "quiet-ra",
            "enable-ra",
        ]
        lines += ["log-facility=/dev/null", f"dhcp-leasefile={inside / 'leases'}", f"pid-file={inside / 'pid'}"]
        for device in sorted({device for device, _, _ in announced}):
            lines += [f"interface={device}", f"ra-param={device},{RA_SECONDS},{LIFETIME}"]
        for _, cidr, mode in sorted(announced):
            network = ipaddress.IPv6Network(cidr)
            lines.append(f"dhcp-range={network.network_address},{ANNOUNCED[mode]},{network.prefixlen}")
        return "\n".join(lines) + "\n"
