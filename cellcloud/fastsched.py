"""Chooses the scheduler's kernel and names its choice.

The kernel is compiled several times, for machines of different ages: the newest that this processor can run is taken,
and ``KERNEL`` names it. CELLCLOUD_PURE_PYTHON=1 forces the plain Python reference.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

VARIANTS = {4: ("_fastsched_v4", "compiled x86-64-v4"), 3: ("_fastsched_v3", "compiled x86-64-v3")}
"""By level of x86-64: the module of the kernel that needs it, and its name."""


def _load() -> tuple[object, str]:
    try:
        portable = importlib.import_module("cellcloud._fastsched")
    except ImportError:
        return importlib.import_module("cellcloud._fastsched_py"), "python"
    for level, (module, name) in VARIANTS.items():
        if portable.level() >= level:
            try:
                return importlib.import_module(f"cellcloud.{module}"), name
            except ImportError:
                continue
    return portable, "compiled"


if TYPE_CHECKING or os.environ.get("CELLCLOUD_PURE_PYTHON") == "1":
    from cellcloud._fastsched_py import Index

    KERNEL = "python"
else:
    _kernel, KERNEL = _load()
    Index = _kernel.Index

__all__ = ["KERNEL", "Index"]
