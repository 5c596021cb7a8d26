"""Who has which role where, and what that amounts to: grants, and the effective assignments made of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import cellcloud.db.identity_assignments as db
from cellcloud import errors
from cellcloud.db import identity as directory
from cellcloud.db import pagination_snapshots
from cellcloud.db.engine import Connection, Database
from cellcloud.db.listing import ALL, Page
from cellcloud.embedded.identity_collections import IdentityCollection, change
from cellcloud.model.identity import DOMAIN, GROUP, PROJECT, SYSTEM, USER, Domain, Grant, IdentityRole, Project


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectiveAssignment:
    """An effective assignment: ``grant`` as it counts for one user in one place; ``source``: the grant as it was made;
    ``prior_role_id``: of the role that implies this one."""

    grant: Grant
    source: Grant
    prior_role_id: str | None = None


class Assignments:
    """Safe to use from several threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.roles = IdentityCollection(database, db.ROLES, insert=_insert_role, delete=db.delete_role)

    # ---- inference -----------------------------------------------------------------------------------------------
    def list_implications(self) -> dict[str, list[str]]:
        """Role's id -> ids of the roles that it implies directly."""
        with self._database.read() as c:
            return db.list_implications(c)

    def add_implication(self, prior_id: str, implied_id: str) -> None:
        """Have a role imply another. Raises NotFound, Forbidden."""
        change(self._database, lambda c: db.add_implication(c, prior_id, implied_id))

    def remove_implication(self, prior_id: str, implied_id: str) -> None:
        """End an implication. Raises NotFound."""

        def work(c: Connection) -> None:
            if not db.remove_implication(c, prior_id, implied_id):
                raise errors.NotFound(f"{prior_id} does not imply {implied_id}.")

        change(self._database, work)

    # ---- grants --------------------------------------------------------------------------------------------------
    def list_grants(self, **equals: Any) -> list[Grant]:
        """Return grants with these values, as they were made."""
        with self._database.read() as c:
            return db.list_grants(c, **equals)

    def check_parties(self, grant: Grant) -> None:
        """Check that actor and scope are there, and the role where one is named. Raises NotFound."""
        with self._database.read() as c:
            if grant.role_id:
                db.ROLES.get(c, grant.role_id)
            _check_parties(c, grant)

    def add_grant(self, grant: Grant) -> None:
        """Grant a role. Raises NotFound for an actor, scope or role that does not exist, Forbidden for a role of
        another domain, Invalid for a domain's in the system."""

        def work(c: Connection) -> None:
            role = db.ROLES.get(c, grant.role_id, lock=True)
            _check_parties(c, grant, lock=True)
            if role.domain_id and grant.scope == SYSTEM:
                raise errors.Invalid("role_id: the role of a domain cannot be granted in the system.")
            if role.domain_id and role.domain_id != _domain_of_scope(c, grant):
                raise errors.Forbidden(
                    f"Role {role.id} is of domain {role.domain_id} and can be granted within it alone."
                )
            db.add_grant(c, grant)

        change(self._database, work)

    def remove_grant(self, grant: Grant) -> None:
        """Withdraw a role; application credentials that its user made in that project end with it. Raises NotFound."""

        def work(c: Connection) -> None:
            if not db.remove_grant(c, grant):
                raise errors.NotFound("Could not find role assignment.")
            if grant.actor == USER and grant.scope == PROJECT:
                db.delete_application_credentials(c, grant.actor_id, grant.scope_id)

        change(self._database, work)

    # ---- effective assignments -------------------------------------------------------------------------------------
    def list_effective(
        self,
        *,
        user_id: str | None = None,
        scope: str | None = None,
        scope_id: str | None = None,
        subtree: bool = False,
    ) -> list[EffectiveAssignment]:
        """Return what grants amount to, for users only: groups, inheritance and implied roles taken apart.
        ``subtree``: in the projects below ``scope_id`` too. A constant number of queries."""
        with self._database.read() as c:
            grants = db.list_grants(c, *([db.held_by(user_id)] if user_id is not None else []))
            members = db.list_all_members(c) if any(g.actor == GROUP for g in grants) else {}
            implications = db.list_implications(c)
            of_domains = {role.id for role in db.ROLES.list_all(c) if role.domain_id}
            wanted = _wanted_projects(c, scope_id, subtree) if scope == PROJECT and scope_id else None
            trees = _ProjectTrees(directory.PROJECTS.list_all(c) if any(g.inherited for g in grants) else ())
        ids = None if wanted is None else {project.id for project in wanted}
        found: dict[tuple[str, str, str, str], EffectiveAssignment] = {}
        for source in grants:
            for place in _places(source, trees):
                if scope is not None and place[0] != scope:
                    continue
                if (ids is not None and place[1] not in ids) or (ids is None and scope_id not in (None, place[1])):
                    continue
                users = [source.actor_id] if source.actor == USER else members.get(source.actor_id, [])
                roles = db.with_implied([source.role_id], implications)
                for user in users if user_id is None else [user_id]:
                    for role_id, prior in roles.items():
                        if role_id in of_domains:
                            continue
                        grant = Grant(actor_id=user, scope=place[0], scope_id=place[1], role_id=role_id)
                        found.setdefault(
                            (user, *place, role_id),
                            EffectiveAssignment(grant=grant, source=source, prior_role_id=prior),
                        )
        return list(found.values())

    def list_in_subtree(self, project_id: str) -> list[Grant]:
        """Return the grants as they were made in a project and those below it."""
        with self._database.read() as c:
            wanted = _wanted_projects(c, project_id, True)
            ids = {project.id for project in wanted}
            return [grant for grant in db.list_grants(c, scope=PROJECT) if grant.scope_id in ids]

    # ---- where a user may go ---------------------------------------------------------------------------------------
    def list_projects_of(self, user_id: str, page: Page = ALL, **equals: Any) -> list[Project]:
        """Return projects with these values in which a user has a role."""
        projects, mine = directory.PROJECTS, db.projects_of(user_id)
        return pagination_snapshots.listed(
            self._database, page.walk, lambda c: projects.list_all(c, page, mine, **equals)
        )

    def list_domains_of(self, user_id: str, page: Page = ALL) -> list[Domain]:
        """Return enabled domains in which a user has a role."""
        table = directory.DOMAINS.table
        with self._database.read() as c:
            return directory.DOMAINS.list_all(c, page, table.c.id.in_(db.domains_of(user_id)), table.c.enabled)

    def has_system(self, user_id: str) -> bool:
        """Return whether a user has a role in the system."""
        with self._database.read() as c:
            return bool(db.list_role_ids(c, user_id, SYSTEM))


def _insert_role(c: Connection, role: IdentityRole) -> None:
    if role.domain_id:
        directory.DOMAINS.get(c, role.domain_id, lock=True)
    db.ROLES.insert(c, role)


def _check_parties(c: Connection, grant: Grant, *, lock: bool = False) -> None:
    """Check that actor and scope are there. Raises NotFound."""
    if grant.actor == USER:
        directory.USERS.get(c, grant.actor_id, lock=lock)
    else:
        directory.GROUPS.get(c, grant.actor_id, lock=lock)
    if grant.scope == PROJECT:
        directory.PROJECTS.get(c, grant.scope_id, lock=lock)
    elif grant.scope == DOMAIN:
        directory.DOMAINS.get(c, grant.scope_id, lock=lock)


def _domain_of_scope(c: Connection, grant: Grant) -> str:
    if grant.scope == PROJECT:
        return directory.PROJECTS.get(c, grant.scope_id).domain_id
    return grant.scope_id if grant.scope == DOMAIN else ""


def _wanted_projects(c: Connection, project_id: str, subtree: bool) -> list[Project]:
    project = directory.PROJECTS.find(c, id=project_id)
    if project is None:
        return []
    return [project, *(directory.list_descendants(c, project_id) if subtree else ())]


class _ProjectTrees:
    """Which projects are below which, and in which domain."""

    def __init__(self, projects: Iterable[Project]) -> None:
        self.in_domain: dict[str, list[str]] = {}
        self._children: dict[str, list[str]] = {}
        for project in projects:
            self.in_domain.setdefault(project.domain_id, []).append(project.id)
            if project.parent_id is not None:
                self._children.setdefault(project.parent_id, []).append(project.id)

    def below(self, project_id: str) -> list[str]:
        found, todo = [], [project_id]
        while todo:
            children = self._children.get(todo.pop(), [])
            found += children
            todo += children
        return found


def _places(grant: Grant, trees: _ProjectTrees) -> list[tuple[str, str]]:
    """Return where a grant counts."""
    if not grant.inherited:
        return [(grant.scope, grant.scope_id)]
    ids = trees.in_domain.get(grant.scope_id, []) if grant.scope == DOMAIN else trees.below(grant.scope_id)
    return [(PROJECT, project_id) for project_id in ids]
