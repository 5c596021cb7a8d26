"""Unified limits: what services may ask the embedded identity about how much a project or domain may have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cellcloud.db.identity_limits as db
from cellcloud.db.engine import Connection, Database
from cellcloud.db.identity import PROJECTS
from cellcloud.embedded.identity_collections import IdentityCollection, change, new_id
from cellcloud.model.identity import PROJECT, OwnLimit, RegisteredLimit


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedLimit:
    """A limit of a project or domain, for a resource that is named."""

    owner: str
    owner_id: str
    service_id: str
    region_id: str
    resource_name: str
    resource_limit: int
    description: str | None


class UnifiedLimits:
    """Safe to use from several threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.registered = IdentityCollection(
            database,
            db.REGISTERED,
            insert=db.insert_registered,
            update=db.update_registered,
            delete=db.delete_registered,
        )
        self.own = IdentityCollection(database, db.LIMITS, insert=db.insert_limit)

    def register(self, limits: Sequence[RegisteredLimit]) -> list[RegisteredLimit]:
        """Register all of these limits, or none. Raises Conflict, Invalid."""

        def work(c: Connection) -> list[RegisteredLimit]:
            for limit in limits:
                db.insert_registered(c, limit)
            return list(limits)

        return change(self._database, work)

    def create(self, wanted: Sequence[WantedLimit]) -> list[OwnLimit]:
        """Store all of these limits, or none. Raises Forbidden for one that is not registered, Invalid, Conflict."""

        def work(c: Connection) -> list[OwnLimit]:
            made = []
            for one in wanted:
                registered = db.find_registered(c, one.service_id, one.region_id, one.resource_name)
                limit = OwnLimit(
                    id=new_id(),
                    owner=one.owner,
                    owner_id=one.owner_id,
                    registered_limit_id=registered.id,
                    resource_limit=one.resource_limit,
                    description=one.description,
                )
                db.insert_limit(c, limit)
                made.append(limit)
            return made

        return change(self._database, work)

    def list_own(self, **equals: Any) -> list[OwnLimit]:
        """Return limits with these values."""
        return self.own.list_all(**equals)

    def registered_of(self, limits: Sequence[OwnLimit]) -> dict[str, RegisteredLimit]:
        """Return what limits are of, by the id of that."""
        with self._database.read() as c:
            return db.list_registered_of(c, list({limit.registered_limit_id for limit in limits}))

    def domain_of(self, limit: OwnLimit) -> str | None:
        """Return the domain that the limit's owner is, or is in; None where it is gone."""
        if limit.owner != PROJECT:
            return limit.owner_id
        with self._database.read() as c:
            project = PROJECTS.find(c, id=limit.owner_id)
        return None if project is None else project.domain_id
