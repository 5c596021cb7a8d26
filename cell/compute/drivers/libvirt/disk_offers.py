"""The disks of guests that move: offered by the old host to who has a token made for it, fetched by the new one."""

from __future__ import annotations

import datetime as dt
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import cell
from cell.compute import disk_transfer
from cell.compute.drivers.libvirt.disks import name_disks
from cell.compute.drivers.libvirt.fetched_disks import BASE, CONSOLE, MOST_CONSOLE, ExpectedFile
from cell.compute.drivers.libvirt.namespace_exec import Daemon, Namespace
from cellcloud import clock, errors
from cellcloud.model.server import ServerSpec
from cellcloud.socket_readability import is_readable

MODULE = disk_transfer.__name__
CERTIFICATE_DAYS = 30
LOOK_SECONDS = 0.5  # between two looks for a newer command
END_SECONDS = 5.0  # that a fetch may take to end once it is not wanted


class DiskOffers:
    """Serves what guests that are set aside were. ``address``: where other hosts reach this one's hypervisor."""

    def __init__(self, namespace: Namespace, address: str, console_log: str) -> None:
        self._namespace = namespace
        self._address = address
        self._console_log = console_log

    def ensure(self, directory: Path, spec: ServerSpec) -> dict[str, str]:
        """Serve the disks of a guest in that directory; what they are had by."""
        daemon, settings = self._daemon(directory), directory / "offer.json"
        if daemon.find_pid() is None or not settings.exists():
            daemon.stop()
            certificate = write_credentials(directory)
            files = self._list_files(directory, spec)
            told = {
                "address": self._address,
                "token": secrets.token_hex(32),
                "certificate": str(self._namespace.inside(certificate)),
                "key": str(self._namespace.inside(certificate.with_suffix(".key"))),
                "files": {name: str(self._namespace.inside(path)) for name, path in files.items()},
            }
            _write_private(settings, json.dumps(told))
            daemon.ensure_running()
        told = json.loads(settings.read_text())
        return {
            "address": self._address,
            "port": settings.with_suffix(".port").read_text(),
            "token": told["token"],
            "certificate": (directory / "offer.pem").read_text(),
        }

    def stop(self, directory: Path) -> None:
        """Offer the guest's disks no longer."""
        if (directory / "offer.pid").exists():
            self._daemon(directory).stop()

    def fetch(
        self,
        expected: Mapping[str, ExpectedFile],
        source: Mapping[str, str] | tuple[Path, ServerSpec],
        *,
        tell: Callable[[int], None],
        is_overtaken: Callable[[], bool],
    ) -> None:
        """Copy the files that are expected to where they arrive, from what another host offered or from a directory of
        this one. Raises Unreachable, HostRefused; Stale when a newer command waits meanwhile."""
        targets = {}
        for name, file in expected.items():
            file.arrival.parent.mkdir(mode=0o700, exist_ok=True)
            path = str(self._namespace.inside(file.arrival))
            targets[name] = disk_transfer.Target(path=path, most=file.most, needed=file.needed)
        asked: dict[str, object] = {"targets": targets}
        if isinstance(source, tuple):
            files = self._list_files(*source)
            asked["files"] = {name: str(self._namespace.inside(path)) for name, path in files.items()}
        else:
            asked["source"] = dict(source)
        self._run_fetch(asked, tell, is_overtaken)

    def _run_fetch(self, asked: object, tell: Callable[[int], None], is_overtaken: Callable[[], bool]) -> None:
        argv = self._namespace.wrap(make_argv("fetch"))
        said: dict[str, object] = {}
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/", bufsize=0) as process:
            assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 -- both are pipes
            try:
                process.stdin.write(json.dumps(asked).encode() + b"\n")
                for line in _read_lines(process.stdout.fileno(), is_overtaken):
                    said = json.loads(line)
                    if "percent" in said:
                        tell(int(str(said["percent"])))
            except (BrokenPipeError, ValueError) as error:
                said = {"error": "failed", "why": str(error)}
            finally:
                process.stdin.close()  # it ends with that
                with suppress(subprocess.TimeoutExpired):
                    process.wait(END_SECONDS)
                process.kill()
        if said.get("whole"):
            return
        why = str(said.get("why", "it ended without a word"))
        if said.get("error") == disk_transfer.TOLD_BY_HOST:
            raise errors.Unreachable("The guest's disks cannot be reached on its old host.", detail=why)
        raise errors.HostRefused("The guest's disks could not be copied.", detail=why)

    def _list_files(self, directory: Path, spec: ServerSpec) -> dict[str, Path]:
        files = {name: disk.path for name, disk in name_disks(directory, spec).items()}
        files |= {BASE: directory / BASE, CONSOLE: directory / self._console_log}
        there = {name: path for name, path in files.items() if path.exists()}
        if CONSOLE in there and there[CONSOLE].stat().st_size > MOST_CONSOLE:
            del there[CONSOLE]
        return there

    def _daemon(self, directory: Path) -> Daemon:
        settings = str(self._namespace.inside(directory / "offer.json"))
        pid_file = directory / "offer.pid"
        argv = ["setsid", "--fork", *make_argv("serve"), settings, str(self._namespace.inside(pid_file))]
        return Daemon(namespace=self._namespace, argv=tuple(argv), pid_file=pid_file, word=settings)


def _read_lines(descriptor: int, is_overtaken: Callable[[], bool]) -> Iterator[bytes]:
    """Lines as they come. Raises Stale when a newer command waits meanwhile, whether any come or not."""
    rest = b""
    while True:
        if is_overtaken():
            raise errors.Stale("A newer command overtook this one.")
        if is_readable(descriptor, LOOK_SECONDS):
            more = os.read(descriptor, 1 << 16)
            if not more:
                return
            *lines, rest = (rest + more).split(b"\n")
            yield from lines


def make_argv(verb: str) -> list[str]:
    """Return the command that serves or fetches disks, on the standard library alone."""
    roots = ":".join(sorted({str(Path(path).resolve().parent) for path in cell.__path__}))
    return ["env", "-i", f"PYTHONPATH={roots}", sys.executable, "-S", "-m", MODULE, verb]


def write_credentials(directory: Path) -> Path:
    """Return a key, and a certificate that nobody but the other host will ever be asked to trust."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, directory.name)])
    now = clock.now()
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=CERTIFICATE_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write_private(directory / "offer.key", secret.decode())
    _write_private(directory / "offer.pem", made.public_bytes(serialization.Encoding.PEM).decode())
    return directory / "offer.pem"


def _write_private(path: Path, text: str) -> None:
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    fresh.replace(path)
