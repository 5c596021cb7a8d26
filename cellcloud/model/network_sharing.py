"""What a project lets others use of its networks and security groups."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

SHARED, EXTERNAL = "access_as_shared", "access_as_external"
EVERYBODY = "*"
NETWORK, GROUP = "network", "security_group"
ACTIONS = {NETWORK: (SHARED, EXTERNAL), GROUP: (SHARED,)}
"""What there is to be let, by kind of thing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharingPolicy:
    """``target``: a project, or everybody. ``project_id``: whose policy it is."""

    id: str
    object_type: str
    object_id: str
    action: str
    target: str
    project_id: str = ""


def find_losers(going: str, staying: Collection[str], *, owner: str, users: Collection[str]) -> set[str]:
    """Return those of the users whom nothing lets use the owner's thing any more without the ``going`` target."""
    if EVERYBODY in staying:
        return set()
    others = set(users) - set(staying) - {owner}
    return others if going == EVERYBODY else others & {going}
