"""The config drive: a small CD with the documents the metadata service would give."""

from __future__ import annotations

import base64
import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cellcloud import errors
from cellcloud.model.metadata import meta_data, network_data
from cellcloud.model.network import Port
from cellcloud.model.server import ServerSpec

LABEL = "config-2"
NAME = "config.iso"


def ensure_config_drive(directory: Path, spec: ServerSpec, ports: Sequence[Port]) -> Path:
    """The guest's config drive in its ``directory``, made anew from what is known now."""
    target = directory / NAME
    fresh = directory / "config.new"
    with tempfile.TemporaryDirectory(dir=directory, prefix=".config-") as work:
        latest = Path(work, "openstack", "latest")
        latest.mkdir(parents=True)
        (latest / "meta_data.json").write_text(json.dumps(meta_data(spec, ports)))
        (latest / "network_data.json").write_text(json.dumps(network_data(ports)))
        (latest / "vendor_data.json").write_text("{}")
        if spec.user_data is not None:
            (latest / "user_data").write_bytes(base64.b64decode(spec.user_data))
        argv = ["xorriso", "-as", "mkisofs", "-quiet", "-V", LABEL, "-J", "-r", "-o", str(fresh), work]
        try:
            subprocess.run(argv, capture_output=True, cwd="/", timeout=60, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            raise errors.HostRefused("The host cannot make config drives.", detail=str(error)) from error
    fresh.chmod(0o600)
    fresh.replace(target)
    return target
