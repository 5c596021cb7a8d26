"""Tempest in a virtual environment of its own, since what it needs is not what the project needs."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import venv
from pathlib import Path

VERSION = "47.0.0"
CACHE = Path(__file__).parents[2] / ".cache"


def install() -> Path:
    """Install Tempest unless it is there. Return the directory of its programs."""
    home = CACHE / f"tempest-{VERSION}"
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "tempest.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "installed").exists():
            venv.create(home, clear=True, with_pip=True)
            pip = [home / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", f"tempest=={VERSION}"]
            subprocess.run(pip, check=True, stdout=sys.stderr)
            (home / "installed").touch()
    return home / "bin"
