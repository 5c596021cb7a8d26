"""The embedded profile: one process that holds everything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

RUN = """
import os, signal, subprocess, sys
from pathlib import Path

from cellcloud.launcher.one_process import OneProcess
from cellcloud.launcher.process_units import UnitKind, Unit

place = Path(sys.argv[1])


def look():
    with (place / "mask").open("w") as file:
        subprocess.run(["grep", "SigBlk", "/proc/self/status"], stdout=file, check=True)


def end():
    os.kill(os.getpid(), signal.SIGHUP)
    os.kill(os.getpid(), signal.SIGTERM)


embedded = OneProcess(
    [Unit(name="look", kind=UnitKind.TASK, run=look)],
    health=place / "h",
    log_file=place / "log",
    report=lambda line: None,
)
sys.exit(embedded.run(on_ready=end) or 0)
"""


def test_what_it_starts_hears_signals(tmp_path: Path) -> None:
    """A host's DHCP server is told by SIGHUP that there is another guest."""
    subprocess.run([sys.executable, "-c", RUN, str(tmp_path)], check=True, timeout=60)
    assert int((tmp_path / "mask").read_text().split()[1], 16) == 0
