"""Keep logs small: a file past its bound is copied aside and begun anew, and only the newest copies are kept.

The writers are many, and some are not ours: they hold their file open for appending, so it is emptied rather than
renamed. What is written between the copy and the emptying is lost.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

LIMIT = 16 << 20  # bytes of one file
KEPT = 3  # copies of one file
EVERY = 30.0  # seconds between two looks


def rotate(directory: Path, *, limit: int = LIMIT, kept: int = KEPT) -> None:
    """Rotate every ``*.log`` of ``directory`` that has more than ``limit`` bytes; NAME.log.1 is its newest copy.

    With the disk full older copies give way, and at last the lines themselves: a log must not keep a disk full.
    """
    for path in directory.glob("*.log"):
        if path.stat().st_size > limit:
            _rotate_one(path, kept)


def _rotate_one(path: Path, kept: int) -> None:
    copies = [path.with_name(f"{path.name}.{number}") for number in range(1, kept + 1)]
    copies[-1].unlink(missing_ok=True)
    for older, newer in zip(reversed(copies), reversed(copies[:-1]), strict=False):
        if newer.exists():
            newer.replace(older)
    try:
        _copy(path, copies[0])
    except OSError as error:
        copies[0].unlink(missing_ok=True)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        for copy in copies:
            copy.unlink(missing_ok=True)
    os.truncate(path, 0)


def _copy(path: Path, copy: Path) -> None:
    with path.open("rb") as source, open(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as target:
        shutil.copyfileobj(source, target)
