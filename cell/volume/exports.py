"""Exports: one process a volume in use, which serves its content over NBD under a secret name."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cell.volume.credentials import ExportAuthority
from cellcloud import clock, errors
from cellcloud.storage_daemons import StorageDaemons, make_socket_directory

START_TIMEOUT = 15.0
BACKUP_TIMEOUT = 3600.0
_PROGRAM = "qemu-storage-daemon"
_KEEP_BUFFERS = {"MALLOC_MMAP_THRESHOLD_": str(8 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 20)}
"""Bytes: what large requests need stays the daemon's, or each would cost the kernel as much as it moves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """What is to be served. ``port`` 0: at the UNIX socket of the volume; otherwise over TLS to these hosts alone."""

    volume_id: str
    path: Path
    name: str
    writable: bool
    port: int = 0
    hosts: frozenset[str] = frozenset()


class Exporter(Protocol):
    """Serves exports. They outlive this process, and are found again by the volume's id."""

    def start(self, export: Export) -> None:
        """Serve, unless it is served already. Raises HostRefused."""
        ...

    def stop(self, volume_id: str) -> None:
        """End an export and every connection to it: nothing is written once this returns. Absent is success."""
        ...

    def is_serving(self, volume_id: str) -> bool: ...

    def list_serving(self) -> list[str]:
        """Return the volumes that are served."""
        ...

    def copy(self, volume_id: str, target: Path) -> None:
        """Copy what is served as it is at one moment, while it is written. Raises HostRefused."""
        ...

    def socket_of(self, volume_id: str) -> Path: ...

    def free_port(self, taken: frozenset[int]) -> int:
        """Return a port that nobody has. Raises HostRefused with none left."""
        ...


class NbdExporter:
    """Implements Exporter by one storage daemon of QEMU a volume. ``address``: where other machines reach this one;
    ``ports``: that exports over TLS may have."""

    def __init__(self, directory: Path, *, address: str = "", ports: range = range(0)) -> None:
        self._daemons = StorageDaemons(make_socket_directory(directory))
        self._address = address
        self._ports = ports
        self.authority = ExportAuthority(directory / "tls")

    def start(self, export: Export) -> None:
        """See Exporter."""
        if self.is_serving(export.volume_id):
            return
        for path in (self.socket_of(export.volume_id), self._daemons.monitor_of(export.volume_id)):
            path.unlink(missing_ok=True)
        pid_file = self._daemons.pid_file_of(export.volume_id)
        argv = [_PROGRAM, "--daemonize", "--pidfile", str(pid_file), *self._arguments(export)]
        try:
            subprocess.run(
                argv,
                capture_output=True,
                text=True,
                cwd="/",
                env=os.environ | _KEEP_BUFFERS,
                timeout=START_TIMEOUT,
                check=True,
            )
        except (OSError, subprocess.SubprocessError) as error:
            said = getattr(error, "stderr", "") or str(error)
            raise errors.HostRefused("The volume cannot be exported.", detail=said.strip()) from error
        if not export.port:  # for QEMU as whatever user: the export's name is the secret
            self.socket_of(export.volume_id).chmod(0o666)

    def stop(self, volume_id: str) -> None:
        """See Exporter."""
        self._daemons.end(volume_id)

    def is_serving(self, volume_id: str) -> bool:
        """See Exporter."""
        return self._daemons.find_pid(volume_id) is not None

    def list_serving(self) -> list[str]:
        """See Exporter."""
        return self._daemons.list_living()

    def copy(self, volume_id: str, target: Path) -> None:
        """See Exporter."""
        with target.open("wb") as file:
            file.truncate(self._size_of(volume_id))
        with _Monitor(self._daemons.monitor_of(volume_id)) as monitor:
            node = {"driver": "file", "filename": str(target), "node-name": "copy"}
            monitor.ask("blockdev-add", node)
            try:
                job = {"job-id": "copy", "device": "disk", "target": "copy", "sync": "full", "auto-dismiss": False}
                monitor.ask("blockdev-backup", job)
                monitor.wait_for("copy", BACKUP_TIMEOUT)
            finally:
                monitor.ask("blockdev-del", {"node-name": "copy"})

    def socket_of(self, volume_id: str) -> Path:
        """See Exporter."""
        return self._daemons.socket_of(volume_id)

    def free_port(self, taken: frozenset[int]) -> int:
        """See Exporter."""
        for port in self._ports:
            if port not in taken:
                with suppress(OSError), closing(socket.create_server((self._address, port))):
                    return port
        raise errors.HostRefused("No port is left to export the volume at.")

    def _size_of(self, volume_id: str) -> int:
        with _Monitor(self._daemons.monitor_of(volume_id)) as monitor:
            nodes: list[dict[str, Any]] = monitor.ask("query-named-block-nodes", {"flat": True})
            return next(int(node["image"]["virtual-size"]) for node in nodes if node["node-name"] == "disk")

    def _arguments(self, export: Export) -> list[str]:
        disk = {"driver": "file", "filename": str(export.path), "node-name": "disk", "discard": "unmap"}
        monitor = f"socket,id=monitor,path={self._daemons.monitor_of(export.volume_id)},server=on,wait=off"
        served = {
            "type": "nbd", "id": "export", "node-name": "disk", "name": export.name, "writable": export.writable
        }  # fmt: skip
        return [
            *("--chardev", monitor, "--monitor", "chardev=monitor"),
            *("--blockdev", json.dumps(disk)),
            *self._server(export),
            *("--export", json.dumps(served)),
        ]

    def _server(self, export: Export) -> list[str]:
        if not export.port:
            address = {"type": "unix", "path": str(self.socket_of(export.volume_id))}
            return ["--nbd-server", json.dumps({"addr": address})]
        self.authority.ensure_server(self._address)
        secrets = {
            "qom-type": "tls-creds-x509", "id": "tls", "endpoint": "server", "verify-peer": True,
            "dir": str(self.authority.directory),
        }  # fmt: skip
        rules = [{"match": f"CN={host}", "policy": "allow", "format": "exact"} for host in sorted(export.hosts)]
        allowed = {"qom-type": "authz-list", "id": "hosts", "policy": "deny", "rules": rules}
        address = {"type": "inet", "host": self._address, "port": str(export.port)}
        served = {"addr": address, "tls-creds": "tls", "tls-authz": "hosts"}
        return [
            *("--object", json.dumps(secrets), "--object", json.dumps(allowed)),
            *("--nbd-server", json.dumps(served)),
        ]


class FakeExporter:
    """Implements Exporter and serves nothing; with this process all exports end, as those of killed processes do."""

    def __init__(self) -> None:
        self.exports: dict[str, Export] = {}
        self.started: list[Export] = []

    def start(self, export: Export) -> None:
        """See Exporter."""
        if export.volume_id not in self.exports:
            self.started.append(export)
        self.exports.setdefault(export.volume_id, export)

    def stop(self, volume_id: str) -> None:
        """See Exporter."""
        self.exports.pop(volume_id, None)

    def is_serving(self, volume_id: str) -> bool:
        """See Exporter."""
        return volume_id in self.exports

    def list_serving(self) -> list[str]:
        """See Exporter."""
        return sorted(self.exports)

    def copy(self, volume_id: str, target: Path) -> None:
        """See Exporter."""
        from cell.volume.volume_files import copy_sparse

        copy_sparse(self.exports[volume_id].path, target)

    def socket_of(self, volume_id: str) -> Path:
        """See Exporter."""
        return Path("/nonexistent") / f"{volume_id}.sock"

    def free_port(self, taken: frozenset[int]) -> int:
        """See Exporter."""
        return next(port for port in range(10809, 65536) if port not in taken)


class _Monitor:
    """The storage daemon's control socket, in QMP."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> _Monitor:
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.settimeout(START_TIMEOUT)
            self._socket.connect(str(self._path))
            self._lines = self._socket.makefile("rb")
            self._lines.readline()  # its greeting
            self.ask("qmp_capabilities", {})
        except OSError as error:
            self._socket.close()
            raise errors.HostRefused("The volume's export does not answer.", detail=str(error)) from error
        return self

    def __exit__(self, *_error: object) -> None:
        self._lines.close()
        self._socket.close()

    def ask(self, command: str, arguments: dict[str, Any]) -> Any:
        """Return what is answered. Raises HostRefused."""
        try:
            self._socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
            while line := self._lines.readline():
                said = json.loads(line)
                if "error" in said:
                    raise errors.HostRefused("The volume's export refuses that.", detail=str(said["error"]))
                if "return" in said:
                    return said["return"]
        except (OSError, ValueError) as error:
            raise errors.HostRefused("The volume's export does not answer.", detail=str(error)) from error
        raise errors.HostRefused("The volume's export has ended.")

    def wait_for(self, job: str, seconds: float) -> None:
        """Stay until a job has ended well, then dismiss it. Raises HostRefused."""
        deadline = clock.monotonic() + seconds
        while True:
            jobs: Sequence[dict[str, Any]] = self.ask("query-jobs", {})
            found = next((one for one in jobs if one["id"] == job), None)
            if found is not None and found["status"] == "concluded":
                self.ask("job-dismiss", {"id": job})
                if "error" in found:
                    raise errors.HostRefused("The volume could not be copied.", detail=str(found["error"]))
                return
            if found is None or clock.monotonic() > deadline:
                raise errors.HostRefused("The volume could not be copied in time.")
            clock.sleep(0.05)
