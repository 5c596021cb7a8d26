"""Time until a cloud serves, and the memory of its processes when idle; both profiles, first start."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

from benchmarks.clouds import running_cloud
from benchmarks.figures import Figure, report

MIB = float(1 << 20)


def reference_seconds() -> float:
    """Time a Python process that imports what every web service of this kind imports."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import flask, sqlalchemy, oslo_messaging"], check=True)
    return time.monotonic() - began


def reference_memory() -> float:
    """Resident MiB of that process."""
    program = "import flask, sqlalchemy, oslo_messaging, pathlib; print(pathlib.Path('/proc/self/statm').read_text())"
    text = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    return int(text.split()[1]) * 4096 / MIB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    seconds, memory = reference_seconds(), reference_memory()
    figures = []
    for profile in ("embedded", "services"):
        starts: list[float] = []
        totals: list[float] = []
        table: list[str] = []
        for _ in range(given.repeats):
            with running_cloud(profile=profile) as cloud:
                time.sleep(5)
                rows = cloud.status()
                starts.append(cloud.start_seconds)
                totals.append(sum(row["pss_mb"] for row in rows))
                table = [f"{row['name']} {row['rss_mb']:.0f} MiB resident, {row['pss_mb']:.0f} own" for row in rows]
        figures.append(
            Figure(
                name=f"start of the {profile} profile",
                unit="s",
                readings=starts,
                reference="start of a bare process, s",
                reference_reading=seconds,
            )
        )
        figures.append(
            Figure(
                name=f"idle memory of the {profile} profile",
                unit="MiB",
                readings=totals,
                reference="memory of a bare process, MiB",
                reference_reading=memory,
                detail=f"proportional, all processes: {'; '.join(table)}",
            )
        )
    report(figures, as_json=given.json)


if __name__ == "__main__":
    main()
