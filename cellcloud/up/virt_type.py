"""How guests can run on this machine. A device file proves nothing: only a guest that was seen to start does."""

from __future__ import annotations

import json
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

from cellcloud import clock
from cellcloud.up.processes import boot_id

KVM = Path("/dev/kvm")
SIGN_OF_LIFE = b"tiny: booting"  # what the tiny guest's first script prints
PATIENCE = 8.0


def detect_virt_type(state_dir: Path, guest_image: Path) -> str:
    """``kvm`` if the tiny guest starts under it within a few seconds, else ``qemu``. Remembered until the next boot."""
    if not KVM.exists():
        return "qemu"
    memory = state_dir / "virt-type.json"
    with suppress(OSError, ValueError):
        known = json.loads(memory.read_text())
        if known["boot"] == boot_id():
            return str(known["virt_type"])
    found = "kvm" if _starts_under_kvm(guest_image) else "qemu"
    memory.write_text(json.dumps({"boot": boot_id(), "virt_type": found}))
    return found


def _starts_under_kvm(guest_image: Path) -> bool:
    with tempfile.TemporaryDirectory(prefix="cellcloud-") as directory:
        serial, complaints = Path(directory, "serial"), Path(directory, "stderr")
        drive = f"file={guest_image},format=qcow2,if=virtio,snapshot=on"
        argv = ["qemu-system-x86_64", "-accel", "kvm", "-machine", "pc", "-cpu", "host", "-m", "96", "-nodefaults"]
        argv += ["-nic", "none", "-display", "none", "-serial", f"file:{serial}", "-drive", drive]
        with complaints.open("wb") as said:
            try:
                guest = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd=directory)
            except OSError:
                return False
            try:
                return _lives(guest, serial, complaints)
            finally:
                guest.kill()
                guest.wait()


def _lives(guest: subprocess.Popen[bytes], serial: Path, complaints: Path) -> bool:
    deadline = clock.monotonic() + PATIENCE
    while clock.monotonic() < deadline and guest.poll() is None:
        if serial.exists() and SIGN_OF_LIFE in serial.read_bytes():
            return True
        if b"KVM internal error" in complaints.read_bytes():
            return False
        clock.sleep(0.1)
    return False
