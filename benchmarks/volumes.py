"""Throughput of a volume as a host has it, over NBD, beside the local file that it lies in: the same requests by the
same program in the same run.

    .venv/bin/python -m benchmarks.volumes [--size MIB] [--directory DIR]
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

from cell.volume.exports import NbdExporter
from cell.volume.rpc_endpoint import BOOT_ID, VolumeEndpoint
from cell.volume.volume_files import VolumeFiles
from cellcloud.context import service_context
from cellcloud.model.block_storage import Connector, TaskKind, VolumeTask

KINDS = (("read", 4096, []), ("write", 4096, ["-w"]), ("read", 1 << 20, []), ("write", 1 << 20, ["-w"]))
DEPTH = 16


def measure(target: str, size: int, block: int, more: list[str]) -> float:
    """MiB a second of ``size`` MiB in requests of ``block`` bytes, sixteen at once."""
    count = min(size * (1 << 20) // block, 40_000)
    argv = ["qemu-img", "bench", "-f", "raw", "-c", str(count), "-d", str(DEPTH), "-s", str(block), *more, target]
    began = time.monotonic()
    subprocess.run(argv, check=True, capture_output=True)
    return count * block / (1 << 20) / (time.monotonic() - began)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=512, help="MiB that are read or written.")
    parser.add_argument("--directory", default=None, help="Where the volume lies.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.directory) as name:
        files, exporter = VolumeFiles(Path(name)), NbdExporter(Path(name) / "exports")
        endpoint = VolumeEndpoint(files, exporter, _no_images, host="bench", zone="nova")
        volume_id = str(uuid.uuid4())
        task = VolumeTask(id=volume_id, kind=TaskKind.CREATE, volume_id=volume_id, generation=1, size=1)
        while endpoint.perform(service_context(), [task])[0].state != "done":
            time.sleep(0.1)
        local = Path(name) / "local.raw"
        subprocess.run(["truncate", "-s", "1G", str(local)], check=True)
        for path in (local, files.data(volume_id)):
            subprocess.run(["dd", "if=/dev/zero", f"of={path}", "bs=1M", f"count={given.size}", "conv=notrunc"],
                           check=True, capture_output=True)  # fmt: skip
        connector = Connector(host="bench", boot_id=BOOT_ID.read_text().strip())
        had = endpoint.connect(service_context(), volume_id, "a", 2, connector, "rw", False)
        url = f"nbd+unix:///{had.export}?socket={had.socket}"
        print(f"{'':16}{'local file':>14}{'volume':>14}{'share':>8}")
        for what, block, more in KINDS:
            there, here = measure(str(local), given.size, block, more), measure(url, given.size, block, more)
            print(f"{what:6}{block // 1024:6} KiB{there:10.0f} MiB/s{here:8.0f} MiB/s{here / there:8.0%}")
        exporter.stop(volume_id)
        endpoint.stop()


def _no_images() -> object:
    raise AssertionError("no image is asked for")


if __name__ == "__main__":
    main()
