"""The embedded identity's directory: domains, projects in trees with their tags, groups and who is in them."""

from __future__ import annotations

from typing import Any

from cellcloud import errors
from cellcloud.db import identity as db
from cellcloud.db import pagination_snapshots
from cellcloud.db.engine import Connection, Database
from cellcloud.db.listing import ALL, Page
from cellcloud.embedded.identity_collections import IdentityCollection, change, new_id
from cellcloud.model.identity import Group, Project, User

MAX_TAGS = 80


class Directory:
    """Safe to use from several threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.domains = IdentityCollection(database, db.DOMAINS, delete=db.delete_domain)
        self.projects = IdentityCollection(
            database, db.PROJECTS, insert=db.insert_project, update=db.update_project, delete=db.delete_project
        )
        self.groups = IdentityCollection(database, db.GROUPS, insert=db.insert_group, delete=db.delete_group)

    # ---- projects ------------------------------------------------------------------------------------------------
    def create_project(self, name: str, **fields: Any) -> Project:
        """``fields``: of ``Project``. Raises as ``projects.create``."""
        return self.projects.create(Project(id=new_id(), name=name, **fields))

    def list_ancestors(self, project_id: str) -> list[Project]:
        """Return the projects above one, the nearest first."""
        with self._database.read() as c:
            return db.list_ancestors(c, project_id)

    def list_descendants(self, project_id: str) -> list[Project]:
        """Return the projects below one."""
        with self._database.read() as c:
            return db.list_descendants(c, project_id)

    def add_tag(self, project_id: str, tag: str) -> None:
        """Give a project a tag; one that it has already is success. Raises NotFound, Invalid for too many."""

        def work(c: Connection) -> None:
            tags = db.PROJECTS.get(c, project_id, lock=True).tags
            if tag in tags:
                return
            if len(tags) >= MAX_TAGS:
                raise errors.Invalid(f"A project has at most {MAX_TAGS} tags.")
            db.PROJECTS.update(c, project_id, {"tags": [*tags, tag]})

        change(self._database, work)

    def delete_tag(self, project_id: str, tag: str) -> None:
        """Take a tag of a project. Raises NotFound."""

        def work(c: Connection) -> None:
            tags = db.PROJECTS.get(c, project_id, lock=True).tags
            if tag not in tags:
                raise errors.NotFound(f"Could not find project tag: {tag[:64]}.")
            db.PROJECTS.update(c, project_id, {"tags": [other for other in tags if other != tag]})

        change(self._database, work)

    # ---- members -------------------------------------------------------------------------------------------------
    def list_groups_of(self, user_id: str, page: Page = ALL) -> list[Group]:
        """Return groups that a user is in. Raises NotFound."""
        with self._database.read() as c:
            db.USERS.get(c, user_id)
            return db.list_groups_of(c, user_id, page)

    def list_members(self, group_id: str, page: Page = ALL) -> list[User]:
        """Return users of a group. Raises NotFound."""

        def rows(c: Connection) -> list[User]:
            db.GROUPS.get(c, group_id)
            return db.list_members(c, group_id, page)

        return pagination_snapshots.listed(self._database, page.walk, rows)

    def check_member(self, group_id: str, user_id: str) -> None:
        """Check that the user is in the group. Raises NotFound."""
        with self._database.read() as c:
            db.GROUPS.get(c, group_id)
            db.USERS.get(c, user_id)
            if not db.has_member(c, group_id, user_id):
                raise _no_member(group_id, user_id)

    def add_member(self, group_id: str, user_id: str) -> None:
        """Put a user into a group; being in it already is success. Raises NotFound."""
        change(self._database, lambda c: db.add_member(c, group_id, user_id))

    def remove_member(self, group_id: str, user_id: str) -> None:
        """Take a user out of a group. Raises NotFound."""

        def work(c: Connection) -> None:
            db.GROUPS.get(c, group_id)
            db.USERS.get(c, user_id)
            if not db.remove_member(c, group_id, user_id):
                raise _no_member(group_id, user_id)

        change(self._database, work)


def _no_member(group_id: str, user_id: str) -> errors.NotFound:
    return errors.NotFound(f"User {user_id[:64]} not found in group {group_id[:64]}.")
