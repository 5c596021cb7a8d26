"""How fast the disk of a guest that moves comes to its new host, whole and durable, beside two references in the same
run: qemu-img from a qemu-nbd over TLS, which could copy it as safely, and qemu-img within one directory.

``--mebibytes`` of random data, the server and the client as processes of their own on this machine; all three ways take
turns.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.figures import Figure, report
from cell.compute.drivers.libvirt.disk_offers import make_argv, write_credentials


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until a server has written its process id."""
    while not path.exists():
        assert process.poll() is None, process.args
        time.sleep(0.01)


def timed(what: Callable[[], None], target: Path) -> float:
    """Seconds that it takes to make the file, and to make it durable."""
    began = time.perf_counter()
    what()
    descriptor = os.open(target, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    took = time.perf_counter() - began
    target.unlink()
    return took


def run(*argv: str) -> None:
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


def fetch(asked: str) -> None:
    """As a host does: the line stays open, or the fetch ends."""
    with subprocess.Popen(make_argv("fetch"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None  # noqa: PT018 -- both are pipes
        process.stdin.write(asked)
        process.stdin.flush()
        *_, last = process.stdout
        assert json.loads(last) == {"whole": True}, last


def ours(place: Path, disk: Path, target: Path) -> float:
    """By the transfer that hosts use."""
    certificate = write_credentials(place)
    key = str(certificate.with_suffix(".key"))
    told = {"address": "127.0.0.1", "token": "t", "certificate": str(certificate), "key": key}
    (place / "offer.json").write_text(json.dumps(told | {"files": {"root": str(disk)}}))
    pid = place / "offer.pid"
    pid.unlink(missing_ok=True)
    server = subprocess.Popen([*make_argv("serve"), str(place / "offer.json"), str(pid)])
    wait_for(pid, server)
    source = {"address": "127.0.0.1", "token": "t", "certificate": certificate.read_text()}
    source["port"] = (place / "offer.port").read_text()
    asked = json.dumps({"source": source, "targets": {"root": (str(target), disk.stat().st_size)}}) + "\n"
    took = timed(lambda: fetch(asked), target)
    server.kill()
    server.wait()
    return took


def over_nbd(place: Path, disk: Path, target: Path) -> float:
    """By qemu-nbd and qemu-img, with a key that both know."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    pid = place / "nbd.pid"
    pid.unlink(missing_ok=True)
    secret = f"tls-creds-psk,id=t,dir={place},endpoint="
    serve = ["qemu-nbd", "-r", "-t", "-f", "raw", "-b", "127.0.0.1", "-p", str(port), "--pid-file", str(pid)]
    server = subprocess.Popen([*serve, "--tls-creds", "t", "--object", f"{secret}server", str(disk)])
    wait_for(pid, server)
    source = f"driver=nbd,host=127.0.0.1,port={port},tls-creds=t"
    convert = ["qemu-img", "convert", "--object", f"{secret}client", "--image-opts", source, "-O", "raw", str(target)]
    try:
        return timed(lambda: run(*convert), target)
    finally:
        server.kill()
        server.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--mebibytes", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        disk, target = place / "disk", place / "copy"
        (place / "keys.psk").write_text(f"qemu:{os.urandom(32).hex()}\n")
        run("dd", "if=/dev/urandom", f"of={disk}", "bs=1M", f"count={given.mebibytes}", "status=none")
        local = ["qemu-img", "convert", "-f", "raw", "-O", "raw", str(disk), str(target)]
        ways: dict[str, Callable[[], float]] = {
            "a disk between hosts, over TLS": lambda: ours(place, disk, target),
            "qemu-img, over NBD and TLS": lambda: over_nbd(place, disk, target),
            "qemu-img, on one host": lambda: timed(lambda: run(*local), target),
        }
        speeds: dict[str, list[float]] = {what: [] for what in ways}
        for _ in range(given.rounds):
            for what, way in ways.items():
                speeds[what].append(given.mebibytes / way())
    (what, readings), *references = speeds.items()
    figures = [
        Figure(name=what, unit="MiB/s", readings=readings, reference=other, reference_reading=statistics.median(theirs))
        for other, theirs in references
    ]
    report(figures, as_json=given.json)


if __name__ == "__main__":
    main()
