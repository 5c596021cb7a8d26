"""clouds.yaml: how the standard clients reach this cloud."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from cellcloud import errors
from cellcloud.launcher.confinement import write_private
from cellcloud.launcher.layout import Layout

AUTO, USUAL = "auto", "cellcloud"


def settled_name(layout: Layout) -> str:
    """Return this cloud's name in its clouds file: as chosen, or cellcloud, or cellcloud-PORT beside another's
    cellcloud.

    Raises Conflict when the chosen name is another cloud's there.
    """
    known = _read(layout.choices.clouds_file)
    chosen = layout.choices.cloud_name
    if chosen == AUTO:
        return USUAL if _is_free(layout, known, USUAL) else f"{USUAL}-{layout.choices.port}"
    if not _is_free(layout, known, chosen):
        raise errors.Conflict(
            f"{layout.choices.clouds_file} has another cloud called {chosen}; choose another --cloud-name."
        )
    return chosen


def write_clouds(layout: Layout) -> None:
    """Write the file anew, readable by its owner only; clouds of others that it holds are kept."""
    path = layout.choices.clouds_file
    with _alone(path.parent):
        name = settled_name(layout)
        ours = {
            name: _cloud(layout, user="demo", project="demo"),
            f"{name}-admin": _cloud(layout, user="admin", project="admin"),
        }
        write_private(path, yaml.safe_dump({"clouds": _read(path) | ours}, sort_keys=False))


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """One writer at a time: what it has read is what it adds to."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _read(path: Path) -> dict[str, Any]:
    known = yaml.safe_load(path.read_text()) if path.exists() else None
    clouds = known.get("clouds") if isinstance(known, dict) else None
    return clouds if isinstance(clouds, dict) else {}


def _is_free(layout: Layout, known: dict[str, Any], name: str) -> bool:
    """Whether the name is nobody's, or this cloud's: by its address, or by a password made in its state directory."""
    entry = known.get(name)
    auth = entry.get("auth") if isinstance(entry, dict) else None
    if not isinstance(auth, dict):
        return True
    made = {path.read_text() for path in layout.choices.state.glob("*/secrets/user.*")}
    return _address(auth.get("auth_url")) == _address(layout.public_url) or auth.get("password") in made


def _address(url: object) -> str:
    return str(url).partition("://")[2].partition("/")[0]


def _cloud(layout: Layout, *, user: str, project: str) -> dict[str, object]:
    return {
        "auth": {
            "auth_url": f"{layout.public_url}/identity/v3",
            "username": user,
            "password": layout.secret(f"user.{user}"),
            "project_name": project,
            "user_domain_id": "default",
            "project_domain_id": "default",
        },
        "region_name": "RegionOne",
        "identity_api_version": 3,
        **({"cacert": layout.cafile} if layout.cafile else {}),
    }
