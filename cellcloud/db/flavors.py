"""Flavors and which projects may use the private ones."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from cellcloud import errors
from cellcloud.db.engine import utc_now
from cellcloud.db.top_schema import flavor_projects, flavors
from cellcloud.model.flavor import Flavor

_FIELDS = [column for column in flavors.c if column.name != "created_at"]
# What a new cloud starts with: Nova's classic five, and two small ones for tests.
STARTERS = (
    Flavor(id="1", name="m1.tiny", vcpus=1, memory_mb=512, root_gb=1),
    Flavor(id="2", name="m1.small", vcpus=1, memory_mb=2048, root_gb=20),
    Flavor(id="3", name="m1.medium", vcpus=2, memory_mb=4096, root_gb=40),
    Flavor(id="4", name="m1.large", vcpus=4, memory_mb=8192, root_gb=80),
    Flavor(id="5", name="m1.xlarge", vcpus=8, memory_mb=16384, root_gb=160),
    Flavor(id="42", name="m1.nano", vcpus=1, memory_mb=128, root_gb=1),
    Flavor(id="84", name="m1.micro", vcpus=1, memory_mb=256, root_gb=1),
)


_granted = sa.exists().where(
    flavor_projects.c.flavor_id == flavors.c.id, flavor_projects.c.project_id == sa.bindparam("which_project")
)
_usable = sa.or_(flavors.c.is_public.is_(True), _granted)
_ANY = sa.select(*_FIELDS).where(flavors.c.id == sa.bindparam("which_id"))
_USABLE = _ANY.where(_usable)


def _flavor(row: Row[Any]) -> Flavor:
    return Flavor(**row._mapping)


def ensure_starters(connection: Connection) -> None:
    """Give a cloud without any flavor the first ones. Idempotent."""
    if connection.execute(sa.select(flavors.c.id).limit(1)).first() is None:
        for flavor in STARTERS:
            create_flavor(connection, flavor)


def create_flavor(connection: Connection, flavor: Flavor) -> None:
    """Store a flavor. Raises Conflict when the id or the name is taken."""
    values = {column.name: getattr(flavor, column.name) for column in _FIELDS}
    try:
        with connection.begin_nested():
            connection.execute(sa.insert(flavors).values(**values, created_at=utc_now()))
    except sa.exc.IntegrityError as error:
        raise errors.Conflict(f"Flavor with name {flavor.name} or ID {flavor.id} already exists.") from error


def delete_flavor(connection: Connection, flavor_id: str) -> None:
    """Delete a flavor; servers keep the copy they were made with. Raises NotFound."""
    connection.execute(sa.delete(flavor_projects).where(flavor_projects.c.flavor_id == flavor_id))
    if connection.execute(sa.delete(flavors).where(flavors.c.id == flavor_id)).rowcount == 0:
        raise _absent(flavor_id)


def set_description(connection: Connection, flavor_id: str, description: str | None) -> None:
    """Describe a flavor anew. Raises NotFound."""
    changed = connection.execute(sa.update(flavors).where(flavors.c.id == flavor_id).values(description=description))
    if changed.rowcount == 0:
        raise _absent(flavor_id)


def set_extra_specs(connection: Connection, flavor_id: str, specs: dict[str, str]) -> None:
    """Set keys and leave the others. Raises NotFound."""
    _write_extra_specs(connection, flavor_id, _lock_extra_specs(connection, flavor_id) | specs)


def delete_extra_spec(connection: Connection, flavor_id: str, key: str) -> None:
    """Delete one of a flavor's extra specs. Raises NotFound for a flavor or a key that is not there."""
    known = _lock_extra_specs(connection, flavor_id)
    if key not in known:
        raise errors.NotFound(f"Flavor {flavor_id} has no extra specs with key {key[:255]}.")
    _write_extra_specs(connection, flavor_id, {name: value for name, value in known.items() if name != key})


def _lock_extra_specs(connection: Connection, flavor_id: str) -> dict[str, str]:
    query = sa.select(flavors.c.extra_specs).where(flavors.c.id == flavor_id).with_for_update()
    row = connection.execute(query).one_or_none()
    if row is None:
        raise _absent(flavor_id)
    return dict(row.extra_specs)


def _write_extra_specs(connection: Connection, flavor_id: str, specs: dict[str, str]) -> None:
    connection.execute(sa.update(flavors).where(flavors.c.id == flavor_id).values(extra_specs=specs))


def find_flavor(connection: Connection, flavor_id: str, *, project_id: str | None) -> Flavor | None:
    """One flavor that the project may use; project None: any."""
    statement, values = (_ANY, {}) if project_id is None else (_USABLE, {"which_project": project_id})
    row = connection.execute(statement, {"which_id": flavor_id, **values}).one_or_none()
    return None if row is None else _flavor(row)


def get_flavor(connection: Connection, flavor_id: str, *, project_id: str | None) -> Flavor:
    """Return a flavor that the project may use, any without one. Raises NotFound."""
    flavor = find_flavor(connection, flavor_id, project_id=project_id)
    if flavor is None:
        raise _absent(flavor_id)
    return flavor


# Nova's key to sort by -> the column; what is no column is alike in all flavors.
_SORT = {
    "created_at": flavors.c.created_at,
    "description": sa.func.coalesce(flavors.c.description, ""),
    "disabled": flavors.c.disabled,
    "ephemeral_gb": flavors.c.ephemeral_gb,
    "flavorid": flavors.c.id,
    "id": flavors.c.created_at,  # Nova's numbers grow
    "is_public": flavors.c.is_public,
    "memory_mb": flavors.c.memory_mb,
    "name": flavors.c.name,
    "root_gb": flavors.c.root_gb,
    "rxtx_factor": flavors.c.rxtx_factor,
    "swap": flavors.c.swap_mb,
    "vcpus": flavors.c.vcpus,
}


def list_flavors(
    connection: Connection,
    *,
    project_id: str | None,
    is_public: bool | None = None,
    order: str = "flavorid",
    descending: bool = False,
) -> list[Flavor]:
    """Every flavor that the project may use, in the order of one of Nova's keys."""
    statement = sa.select(*_FIELDS)
    if project_id is not None:
        statement = statement.where(_usable).params(which_project=project_id)
    if is_public is not None:
        statement = statement.where(flavors.c.is_public.is_(is_public))
    ranks = [rank for rank in (_SORT.get(order), flavors.c.id) if rank is not None]
    statement = statement.order_by(*(rank.desc() if descending else rank.asc() for rank in ranks))
    return [_flavor(row) for row in connection.execute(statement)]


def list_projects(connection: Connection, flavor_id: str) -> list[str]:
    """Projects that may use a private flavor."""
    rows = connection.execute(
        sa.select(flavor_projects.c.project_id)
        .where(flavor_projects.c.flavor_id == flavor_id)
        .order_by(flavor_projects.c.project_id)
    )
    return list(rows.scalars())


def add_project(connection: Connection, flavor_id: str, project_id: str) -> None:
    """Let a project use a private flavor. Raises Conflict when it may already."""
    try:
        with connection.begin_nested():
            connection.execute(sa.insert(flavor_projects).values(flavor_id=flavor_id, project_id=project_id))
    except sa.exc.IntegrityError as error:
        raise errors.Conflict(
            f"Flavor access already exists for flavor {flavor_id} and project {project_id}."
        ) from error


def remove_project(connection: Connection, flavor_id: str, project_id: str) -> None:
    """Take a flavor from a project. Raises NotFound."""
    gone = connection.execute(
        sa.delete(flavor_projects).where(
            flavor_projects.c.flavor_id == flavor_id, flavor_projects.c.project_id == project_id
        )
    )
    if gone.rowcount == 0:
        raise errors.NotFound(f"Flavor access not found for {flavor_id} / {project_id} combination.")


def _absent(flavor_id: str) -> errors.NotFound:
    return errors.NotFound(f"Flavor {flavor_id} could not be found.")
