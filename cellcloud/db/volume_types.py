"""Volume types: their extra specs, who may use those that are not public, which one is meant where none is named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud import errors
from cellcloud.db.engine import utc_now
from cellcloud.db.listing import ALL, Columns, Page, rows_of
from cellcloud.db.volume_schema import volume_default_types, volume_type_projects, volume_types, volumes
from cellcloud.db.volumes import pairs_of
from cellcloud.model.block_storage import VolumeType

EVERYBODY = ""
_FIELDS = tuple(each.name for each in fields(VolumeType))
COLUMNS: Columns = {
    **{name: volume_types.c[name] for name in ("id", "name", "is_public", "created_at")},
    "description": sa.func.coalesce(volume_types.c.description, ""),
    "updated_at": sa.func.coalesce(volume_types.c.updated_at, volume_types.c.created_at),
    "extra_specs": pairs_of(volume_types.c.extra_specs),
}


def type_of(row: Any) -> VolumeType:
    """Return the type of a row."""
    return VolumeType(**{name: row._mapping[name] for name in _FIELDS})


def find_type(c: Connection, wanted: str, *, project_id: str | None = None) -> VolumeType | None:
    """Return a type by id or name. ``project_id``: who must be allowed to use it; None: nobody."""
    rows = c.execute(sa.select(volume_types).where((volume_types.c.id == wanted) | (volume_types.c.name == wanted)))
    found = sorted((type_of(row) for row in rows), key=lambda each: each.id != wanted)
    for each in found:
        if project_id is None or each.is_public or project_id in list_projects(c, each.id):
            return each
    return None


def list_types(c: Connection, *, project_id: str | None, page: Page = ALL) -> list[VolumeType]:
    """Return the types that a project may use; None: all. Raises NotFound for the page's marker."""
    query = sa.select(volume_types)
    if project_id is not None:
        mine = sa.select(volume_type_projects.c.type_id).where(volume_type_projects.c.project_id == project_id)
        query = query.where(volume_types.c.is_public | volume_types.c.id.in_(mine))
    return [type_of(row) for row in rows_of(c, query, volume_types.c.id, COLUMNS, page)]


def names_of(c: Connection) -> dict[str, str]:
    """Id -> name of every type."""
    return {row.id: row.name for row in c.execute(sa.select(volume_types.c.id, volume_types.c.name))}


def insert_type(c: Connection, wanted: VolumeType) -> None:
    """Store a new type. Raises Conflict for a name in use."""
    _check_name(c, wanted.name, "")
    values = {name: getattr(wanted, name) for name in _FIELDS}
    values |= {"extra_specs": dict(wanted.extra_specs), "created_at": utc_now(), "updated_at": None}
    c.execute(sa.insert(volume_types).values(**values))


def update_type(c: Connection, type_id: str, changes: Mapping[str, Any]) -> None:
    """Change a type. Raises Conflict for a name in use."""
    if "name" in changes:
        _check_name(c, changes["name"], type_id)
    c.execute(sa.update(volume_types).where(volume_types.c.id == type_id).values(**changes, updated_at=utc_now()))


def delete_type(c: Connection, type_id: str) -> None:
    """Forget a type. Raises Invalid while volumes have it."""
    if is_used(c, type_id):
        raise errors.Invalid("Target volume type is still in use.")
    c.execute(sa.delete(volume_default_types).where(volume_default_types.c.type_id == type_id))
    c.execute(sa.delete(volume_type_projects).where(volume_type_projects.c.type_id == type_id))
    c.execute(sa.delete(volume_types).where(volume_types.c.id == type_id))


def is_used(c: Connection, type_id: str) -> bool:
    """Return whether volumes have the type."""
    return c.execute(sa.select(volumes.c.id).where(volumes.c.type_id == type_id).limit(1)).first() is not None


def lock_type(c: Connection, type_id: str) -> VolumeType:
    """Return a type that nobody changes until the transaction ends. Raises NotFound."""
    row = c.execute(sa.select(volume_types).where(volume_types.c.id == type_id).with_for_update()).first()
    if row is None:
        raise errors.NotFound(f"Volume type {type_id[:64]} could not be found.")
    return type_of(row)


def _check_name(c: Connection, name: str, type_id: str) -> None:
    taken = sa.select(volume_types.c.id).where(volume_types.c.name == name, volume_types.c.id != type_id)
    if c.execute(taken).first() is not None:
        raise errors.Conflict(f"Volume Type {name} already exists.")


# ---- who may use them ----------------------------------------------------------------------------------------------
def list_projects(c: Connection, type_id: str) -> list[str]:
    """Return the projects that may use a type that is not public."""
    mine = sa.select(volume_type_projects.c.project_id).where(volume_type_projects.c.type_id == type_id)
    return list(c.execute(mine.order_by(volume_type_projects.c.project_id)).scalars())


def add_project(c: Connection, type_id: str, project_id: str) -> None:
    """Let a project use a type. Raises Conflict where it may already."""
    if project_id in list_projects(c, type_id):
        raise errors.Conflict(f"Volume type access for {type_id} / {project_id} combination already exists.")
    c.execute(sa.insert(volume_type_projects).values(type_id=type_id, project_id=project_id))


def remove_project(c: Connection, type_id: str, project_id: str) -> None:
    """Let a project use a type no longer. Raises NotFound where it might not."""
    mine = (volume_type_projects.c.type_id == type_id, volume_type_projects.c.project_id == project_id)
    if not c.execute(sa.delete(volume_type_projects).where(*mine)).rowcount:
        raise errors.NotFound(f"Volume type access not found for {type_id} / {project_id} combination.")


# ---- defaults --------------------------------------------------------------------------------------------------------
def find_default(c: Connection, project_id: str) -> str | None:
    """Return the id of the type that a project's new volumes have where they name none: its own default."""
    mine = sa.select(volume_default_types.c.type_id).where(volume_default_types.c.project_id == project_id)
    found: str | None = c.execute(mine).scalar()
    return found


def list_defaults(c: Connection) -> list[tuple[str, str]]:
    """(project, type) of each project with a default of its own."""
    query = sa.select(volume_default_types).where(volume_default_types.c.project_id != EVERYBODY)
    return [(row.project_id, row.type_id) for row in c.execute(query.order_by(volume_default_types.c.project_id))]


def set_default(c: Connection, project_id: str, type_id: str | None) -> None:
    """Give a project a default type; None: it has none of its own any more."""
    c.execute(sa.delete(volume_default_types).where(volume_default_types.c.project_id == project_id))
    if type_id is not None:
        c.execute(sa.insert(volume_default_types).values(project_id=project_id, type_id=type_id))
