"""Migration: a server's move to another host, or to another flavor on its own."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from cellcloud import clock
from cellcloud.model.flavor import Flavor

TOLD = 4  # of a server's migrations, the newest: what its record tells


class MigrationType(StrEnum):
    """Nova's words."""

    RESIZE = "resize"
    MIGRATION = "migration"


class MigrationStatus(StrEnum):
    """Nova's words for how far a move is."""

    PRE_MIGRATING = "pre-migrating"
    MIGRATING = "migrating"
    POST_MIGRATING = "post-migrating"
    FINISHED = "finished"
    CONFIRMING = "confirming"
    CONFIRMED = "confirmed"
    REVERTING = "reverting"
    REVERTED = "reverted"
    ERROR = "error"


OVER = frozenset({MigrationStatus.CONFIRMED, MigrationStatus.REVERTED, MigrationStatus.ERROR})


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """``id``: of its claim too. ``source``, ``destination``: hosts, with their zones; the second is empty until one is
    found. ``destination_address``: of its hypervisor. ``vm_state``, ``power_state``: what the server was before.
    ``user_id``, ``project_id``: who asked. ``progress``: percent of the disks that are copied. ``over_at``: at which
    generation it was over, with nothing more to keep on the host that it gives up; 0: not so."""

    id: str
    type: str
    status: str
    source: str
    source_zone: str
    old_flavor: Flavor
    new_flavor: Flavor
    vm_state: str
    power_state: int
    user_id: str
    project_id: str
    created_at: dt.datetime
    updated_at: dt.datetime | None = None
    destination: str = ""
    destination_zone: str = ""
    destination_address: str = ""
    progress: int = 0
    over_at: int = 0

    @property
    def is_over(self) -> bool:
        """Whether the server has but one host again."""
        return self.status in OVER

    @property
    def ended(self) -> str:
        """The status in which it ends with its server's delete: one that was not done has failed."""
        if self.is_over:
            return self.status
        stayed = self.status in (MigrationStatus.FINISHED, MigrationStatus.CONFIRMING)
        return MigrationStatus.CONFIRMED if stayed else MigrationStatus.ERROR

    def other_than(self, host: str | None) -> str:
        """Return the host of the two that is not that one; "" where there is none."""
        return next((one for one in (self.source, self.destination) if one and one != host), "")

    def has_given_up(self, host: str, generation: int) -> bool:
        """Return whether what that host has of the server, at that generation, is what this move has left there."""
        given_up = self.source if self.status == MigrationStatus.CONFIRMED else self.destination
        return host == given_up and self.source != self.destination and generation <= self.over_at

    def has_left_aside(self, host: str, generation: int) -> bool:
        """Return whether what that host has set aside, at that generation, beside the server's guest is what this move
        has left there: one that stayed on its host, and is confirmed."""
        stayed = self.status == MigrationStatus.CONFIRMED and host == self.source == self.destination
        return stayed and generation <= self.over_at


def changed(migrations: Sequence[Migration], **values: object) -> tuple[Migration, ...]:
    """Return the migrations with the newest changed, now."""
    *others, newest = migrations
    return (*others, replace(newest, updated_at=clock.now(), **values))  # type: ignore[arg-type]  # fields by name
