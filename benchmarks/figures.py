"""Printing figures with the conditions they were taken under."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("Flask", "SQLAlchemy", "oslo.messaging", "gunicorn", "numpy", "Cython")


def conditions() -> dict[str, str]:
    """Describe the machine and the versions."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    return {
        "machine": f"{os.cpu_count()} x {model}, load {os.getloadavg()[0]:.1f}",
        "versions": f"Python {platform.python_version()}, {versions}",
    }


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Repeated readings of one quantity, and of its reference in the same run."""

    name: str
    unit: str
    readings: Sequence[float]
    reference: str
    reference_reading: float
    detail: str = ""

    def as_dict(self) -> dict[str, object]:
        median = statistics.median(self.readings)
        return {
            "name": self.name,
            "unit": self.unit,
            "median": round(median, 3),
            "lowest": round(min(self.readings), 3),
            "highest": round(max(self.readings), 3),
            "repeats": len(self.readings),
            "reference": self.reference,
            "reference_reading": round(self.reference_reading, 3),
            "ratio": round(median / self.reference_reading, 4) if self.reference_reading else None,
            "detail": self.detail,
        }


def milliseconds(ask: Callable[[], object], count: int) -> list[float]:
    """How long each of so many calls takes."""
    found = []
    for _ in range(count):
        began = time.perf_counter()
        ask()
        found.append((time.perf_counter() - began) * 1000)
    return found


def report(figures: Sequence[Figure], *, as_json: bool) -> None:
    """Print them all."""
    where = conditions()
    if as_json:
        for figure in figures:
            print(json.dumps(figure.as_dict() | where))
        return
    for name, text in where.items():
        print(f"{name}: {text}")
    for figure in figures:
        row = figure.as_dict()
        print(
            f"{row['name']:<44} {row['median']:>10} {row['unit']:<6} "
            f"({row['lowest']} to {row['highest']}, {row['repeats']} repeats); "
            f"{row['ratio']} x {row['reference']} ({row['reference_reading']}) {row['detail']}"
        )
