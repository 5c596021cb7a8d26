"""clouds.yaml: how the standard clients reach this cloud."""

from __future__ import annotations

from pathlib import Path

import yaml

from cellcloud.up.confinement import write_private
from cellcloud.up.profile import Layout

MEMBER, ADMIN = "cellcloud", "cellcloud-admin"


def write_clouds(layout: Layout, path: Path) -> None:
    """Write the file anew, readable by its owner only; clouds of others that it holds are kept."""
    known = yaml.safe_load(path.read_text()) if path.exists() else None
    clouds = known.get("clouds") if isinstance(known, dict) else None
    kept = clouds if isinstance(clouds, dict) else {}
    ours = {
        MEMBER: _cloud(layout, user="demo", project="demo"),
        ADMIN: _cloud(layout, user="admin", project="admin"),
    }
    write_private(path, yaml.safe_dump({"clouds": kept | ours}, sort_keys=False))


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
    }
