"""Which kernel the scheduler runs."""

from __future__ import annotations

import os
import subprocess
import sys

from cellcloud import fastsched


def test_the_scheduler_runs_the_compiled_one() -> None:
    assert fastsched.KERNEL.startswith("compiled")


def test_the_plain_one_runs_where_it_is_asked_for() -> None:
    program = "from cellcloud import fastsched; print(fastsched.KERNEL)"
    environment = os.environ | {"CELLCLOUD_PURE_PYTHON": "1"}
    told = subprocess.run([sys.executable, "-c", program], env=environment, check=True, capture_output=True, text=True)
    assert told.stdout.strip() == "python"
