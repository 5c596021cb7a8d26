"""How server groups are shown, by microversion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cellcloud.model.server_group import ServerGroup
from top_api.microversion import Microversion


def show(group: ServerGroup, members: Sequence[str], version: Microversion) -> dict[str, Any]:
    """Return a group with the ids of its servers."""
    shown: dict[str, Any] = {"id": group.id, "name": group.name, "members": list(members)}
    if version >= (2, 13):
        shown |= {"project_id": group.project_id, "user_id": group.user_id}
    if version < (2, 64):
        return shown | {"policies": [group.policy], "metadata": {}}
    most = group.max_server_per_host
    return shown | {"policy": group.policy, "rules": {} if most is None else {"max_server_per_host": most}}
