"""Which cell the members of a server group go to, where they are to stay together: a strict group has one cell, that of
the members it has; a soft one prefers the cells of its members. The commit point decides (``cell_dispatcher``); this
spares servers that are bound to lose there the way."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from cellcloud.db import server_groups
from cellcloud.db.engine import Database
from cellcloud.model.intent import Intent
from cellcloud.model.server import ServerSpec
from cellcloud.model.server_group import AFFINITY, SOFT_AFFINITY

REMEMBERED = 1000  # groups whose cell was chosen, before any of their servers is in it


class Offers(Protocol):
    """Who knows the cells."""

    def may_take(self, spec: ServerSpec, refused: Collection[str]) -> list[str]:
        """Return the cells that have not refused and may take it."""
        ...


class GroupCells:
    """The cells of the groups of the intents looked at last, as the index has them; and what was chosen before."""

    def __init__(self, database: Database, cells: Offers) -> None:
        self._database = database
        self._cells = cells
        self._owners: dict[str, set[str]] = {}
        self._chosen: dict[str, str] = {}

    def look(self, intents: Sequence[Intent]) -> None:
        """Find out where the groups of these are."""
        groups = {one.group.id for one in intents if one.group is not None and not one.cell and _together(one)}
        self._owners = {}
        if groups:
            with self._database.read() as connection:
                self._owners = server_groups.list_cells(connection, groups)

    def barred(self, intent: Intent) -> set[str]:
        """Return the cells that may not have the server, because others of its group are elsewhere."""
        group = intent.group
        owners = self._owners.get(group.id) if group is not None and group.policy == AFFINITY else None
        return self._all_but(intent, owners) if owners else set()

    def others(self, intent: Intent) -> set[str]:
        """Return the cells that it would rather not be in."""
        if intent.group is None or not _together(intent):
            return set()
        owners, chosen = self._owners.get(intent.group.id), self._chosen.get(intent.group.id)
        wanted = owners or ({chosen} if chosen else None)
        return self._all_but(intent, wanted) if wanted else set()

    def note(self, intent: Intent, cell: str | None) -> None:
        """Note that a cell was chosen: those of its group that follow go there too."""
        if intent.group is not None and cell is not None and _together(intent):
            if len(self._chosen) >= REMEMBERED:
                self._chosen.clear()
            self._chosen[intent.group.id] = cell

    def _all_but(self, intent: Intent, wanted: set[str]) -> set[str]:
        return set() if intent.record is None else set(self._cells.may_take(intent.record.spec, ())) - wanted


def _together(intent: Intent) -> bool:
    return intent.group is not None and intent.group.policy in (AFFINITY, SOFT_AFFINITY)
