"""The config drive: a small CD with the documents the metadata service would give."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from cellcloud import errors
from cellcloud.model.instance_metadata_documents import GuestFacts, config_drive_files

LABEL = "config-2"
NAME = "config.iso"


def ensure_config_drive(directory: Path, facts: GuestFacts) -> Path:
    """Make the guest's config drive in its ``directory`` anew from what is known now. Raises HostRefused."""
    target = directory / NAME
    fresh = directory / "config.new"
    with tempfile.TemporaryDirectory(dir=directory, prefix=".config-") as work:
        for name, content in config_drive_files(facts):
            path = Path(work, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        argv = ["xorriso", "-as", "mkisofs", "-quiet", "-V", LABEL, "-J", "-r", "-o", str(fresh), work]
        try:
            subprocess.run(argv, capture_output=True, cwd="/", timeout=60, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            raise errors.HostRefused("The host cannot make config drives.", detail=str(error)) from error
    fresh.chmod(0o600)
    fresh.replace(target)
    return target
