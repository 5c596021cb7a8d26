"""Programs that are not ours run as system users of their own and see only their own data."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """Runs a program as a system user of its own, its data bound over ``home`` for its eyes only.

    The data directory may lie below directories only root may enter: a private mount namespace shows it at the
    place the distribution gives such programs, and no permission has to be opened for it.
    """

    user: str
    data: Path
    home: str

    def wrap(self, argv: Sequence[str]) -> list[str]:
        """Return the command line that runs ``argv`` confined; needs root."""
        script = 'mount --bind "$0" "$1" && cd "$1" && shift && exec "$@"'
        drop = ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--init-groups"]
        limits = ["--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"]
        return ["unshare", "--mount", "sh", "-c", script, str(self.data), self.home, *drop, *limits, *argv]


def write_private(path: Path, text: str, mode: int = 0o600) -> None:
    """Write or replace a file, whole or not at all, that nobody else may read, not even for a moment."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "w") as file:
        file.write(text)
    fresh.replace(path)


def give_to(user: str, directory: Path) -> None:
    """Make a system user the owner of a directory and all in it."""
    for path in (directory, *directory.rglob("*")):
        if not path.is_symlink():
            shutil.chown(path, user, user)
