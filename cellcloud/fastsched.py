"""Chooses the scheduler's kernel and names its choice.

CELLCLOUD_PURE_PYTHON=1 forces the plain Python reference.
"""

from __future__ import annotations

import os

if os.environ.get("CELLCLOUD_PURE_PYTHON") == "1":
    from cellcloud._fastsched_py import Index, fitting

    KERNEL = "python"
else:
    try:
        from cellcloud._fastsched import fitting
        from cellcloud._fastsched_py import Index

        KERNEL = "compiled"
    except ImportError:
        from cellcloud._fastsched_py import Index, fitting

        KERNEL = "python"

__all__ = ["KERNEL", "Index", "fitting"]
