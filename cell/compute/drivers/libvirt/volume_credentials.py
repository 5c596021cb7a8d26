"""What QEMU proves its host with to volumes' exporters on other machines.

QEMU reads it when it opens a disk, from the one directory that libvirt's ``nbd_tls_x509_cert_dir`` names: there it lies
just as long.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from cellcloud import errors
from cellcloud.model.volume import AttachedVolume

FILES = {"ca-cert.pem": "ca", "client-cert.pem": "certificate", "client-key.pem": "key"}
Owner = tuple[int, int]


class VolumeCredentials:
    """``find_owner``: returns the user and group that QEMU runs as."""

    def __init__(self, directory: Path, find_owner: Callable[[], Owner]) -> None:
        self._directory = directory
        self._find_owner = find_owner
        self._lock = threading.Lock()

    def remove(self) -> None:
        """Remove what a service that was killed has left."""
        for name in FILES:
            (self._directory / name).unlink(missing_ok=True)

    @contextmanager
    def at_hand(self, volumes: Sequence[AttachedVolume]) -> Iterator[None]:
        """Have there what these volumes' exporters ask for. Raises GuestFailed where they want different proofs."""
        wanted = [given for one in volumes if (given := (one.connection.get("data") or {}).get("credentials"))]
        if not wanted:
            yield
            return
        if len({given.get("ca") for given in wanted}) > 1:
            raise errors.GuestFailed(
                "The guest's volumes are of several volume services: it can start with one's only."
            )
        with self._lock:
            try:
                self._write(wanted[-1])
                yield
            finally:
                self.remove()

    def _write(self, given: dict[str, Any]) -> None:
        owner = self._find_owner()
        self._directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        self.remove()
        for name, key in FILES.items():
            with open(os.open(self._directory / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(str(given.get(key, "")))
                os.fchown(file.fileno(), *owner)


def find_owner(opened: Any) -> Owner:
    """Return the user and group that libvirt runs QEMU as: its own where it does not say."""
    told = ET.fromstring(opened.getCapabilities())  # noqa: S314 -- libvirt's own words
    for model in told.findall("host/secmodel"):
        if model.findtext("model") == "dac":
            label = model.findtext("baselabel", "")
            user, _, group = label.replace("+", "").partition(":")
            if user.isdecimal() and group.isdecimal():
                return int(user), int(group)
    return os.geteuid(), os.getegid()
