"""Quotas: a counter per project and resource, moved by conditional updates in the transaction that changes it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud import errors
from cellcloud.db.engine import racing
from cellcloud.db.top_schema import quota_limits, quota_usages, server_index, user_quotas
from cellcloud.model import codec
from cellcloud.model.flavor import Flavor
from cellcloud.model.server import ServerRecord

RESOURCES = ("cores", "instances", "ram")
UNLIMITED = -1
CLASS = "class:default"
"""In the place of a project's id: the limits of every project that has none of its own."""
_BOUNDLESS = 1 << 62


def _by_resource(kind: str) -> sa.ColumnElement[int]:
    """Return the parameter of that kind for the row's resource."""
    whens = [
        (quota_usages.c.resource == resource, sa.bindparam(f"{kind}_{resource}", type_=sa.BigInteger))
        for resource in RESOURCES
    ]
    return sa.case(*whens)


_MINE = (quota_usages.c.project_id == sa.bindparam("which_project"), quota_usages.c.resource.in_(RESOURCES))
_RESERVE = (
    sa.update(quota_usages)
    .where(*_MINE, quota_usages.c.used + _by_resource("amount") <= _by_resource("limit"))
    .values(used=quota_usages.c.used + _by_resource("amount"))
)
_RELEASE = sa.update(quota_usages).where(*_MINE).values(used=quota_usages.c.used - _by_resource("amount"))
_LOCK = sa.update(quota_usages).where(*_MINE).values(used=quota_usages.c.used)
_USAGES = sa.select(quota_usages.c.resource, quota_usages.c.used).where(*_MINE)
_LIMITS = sa.select(quota_limits.c.project_id, quota_limits.c.resource, quota_limits.c.hard_limit).where(
    quota_limits.c.project_id.in_([sa.bindparam("which_project"), CLASS])
)


def cost_of(flavor: Flavor, count: int = 1) -> dict[str, int]:
    """Return what ``count`` servers of a flavor count for."""
    return {"cores": flavor.vcpus * count, "instances": count, "ram": flavor.memory_mb * count}


def cost_of_record(record: ServerRecord) -> dict[str, int]:
    """Return what a server counts for. While its resize may still end or be given up, the larger of both flavors:
    neither end goes beyond a limit then."""
    flavors = [record.spec.flavor]
    if record.migration is not None:
        flavors += [record.migration.old_flavor, record.migration.new_flavor]
    return larger(*map(cost_of, flavors))


def larger(*costs: Mapping[str, int]) -> dict[str, int]:
    """Return the most that any of them is, of each resource."""
    return {name: max(cost[name] for cost in costs) for name in costs[0]}


def list_usages(connection: Connection, project_id: str) -> dict[str, int]:
    """Resource -> what the project uses now."""
    rows = connection.execute(_USAGES, {"which_project": project_id})
    return dict.fromkeys(RESOURCES, 0) | {row.resource: row.used for row in rows}


def list_limits(connection: Connection, project_id: str, defaults: Mapping[str, int]) -> dict[str, int]:
    """Resource -> the limit: the project's own, else its class's, else of ``defaults``."""
    rows = connection.execute(_LIMITS, {"which_project": project_id}).all()
    of_class = {row.resource: row.hard_limit for row in rows if row.project_id == CLASS}
    own = {row.resource: row.hard_limit for row in rows if row.project_id == project_id}
    return dict(defaults) | of_class | own


def set_limits(connection: Connection, project_id: str, limits: Mapping[str, int]) -> None:
    """Give a project limits of its own. Raises LostRace where another request was first to."""
    for resource, limit in sorted(limits.items()):
        mine = (quota_limits.c.project_id == project_id, quota_limits.c.resource == resource)
        changed = connection.execute(sa.update(quota_limits).where(*mine).values(hard_limit=limit))
        if changed.rowcount == 0:
            values = {"project_id": project_id, "resource": resource, "hard_limit": limit}
            with racing():
                connection.execute(sa.insert(quota_limits).values(**values))


def delete_limits(connection: Connection, project_id: str) -> None:
    """Back to the defaults."""
    connection.execute(sa.delete(quota_limits).where(quota_limits.c.project_id == project_id))


def reserve(connection: Connection, project_id: str, amounts: Mapping[str, int], limits: Mapping[str, int]) -> bool:
    """Count ``amounts`` up in one statement, if each stays within its limit.

    False: at least one does not fit, others may be counted already, and the caller must roll back.
    """
    values: dict[str, object] = {"which_project": project_id}
    for resource in RESOURCES:
        limit = limits.get(resource, UNLIMITED)
        values[f"amount_{resource}"] = amounts.get(resource, 0)
        values[f"limit_{resource}"] = _BOUNDLESS if limit == UNLIMITED else limit
    counted = connection.execute(_RESERVE, values).rowcount
    if counted == 0:  # full, or the project's first servers: then somebody else may just have made the counters
        _ensure_rows(connection, project_id)
        counted = connection.execute(_RESERVE, values).rowcount
    return counted == len(RESOURCES)


def _ensure_rows(connection: Connection, project_id: str) -> None:
    """Make the counters of a project that has none."""
    if connection.execute(_USAGES, {"which_project": project_id}).first() is not None:
        return
    rows = [{"project_id": project_id, "resource": resource, "used": 0} for resource in RESOURCES]
    with suppress(sa.exc.IntegrityError), connection.begin_nested():  # another request may be making them
        connection.execute(sa.insert(quota_usages), rows)


def release(connection: Connection, project_id: str, amounts: Mapping[str, int]) -> None:
    """Count ``amounts`` down."""
    values = {f"amount_{resource}": amounts.get(resource, 0) for resource in RESOURCES}
    connection.execute(_RELEASE, {"which_project": project_id, **values})


def fits(connection: Connection, holder: str, resource: str, have: sa.Select[int], amount: int, limit: int) -> bool:
    """Return whether ``amount`` more stays within the limit, exactly: who asks for the same holder waits until this
    transaction ends, and ``have`` counts what there is then. Raises LostRace where another was first to ask."""
    mine = (quota_usages.c.project_id == holder, quota_usages.c.resource == resource)
    locked = connection.execute(sa.update(quota_usages).where(*mine).values(used=quota_usages.c.used + amount))
    if locked.rowcount == 0:
        with racing():
            connection.execute(sa.insert(quota_usages).values(project_id=holder, resource=resource, used=amount))
    found = int(connection.execute(have).scalar_one() or 0) + amount
    connection.execute(sa.update(quota_usages).where(*mine).values(used=found))
    return limit == UNLIMITED or found <= limit


def refusal(amounts: Mapping[str, int], usages: Mapping[str, int], limits: Mapping[str, int]) -> errors.QuotaExceeded:
    """Return the error that says which limits would be exceeded and by what, in Nova's words."""
    over = [
        name
        for name in sorted(amounts)
        if limits.get(name, UNLIMITED) != UNLIMITED and usages.get(name, 0) + amounts[name] > limits[name]
    ] or sorted(amounts)
    names = ", ".join(over)

    def figures(of: Mapping[str, int]) -> str:
        return ", ".join(str(of.get(name, 0)) for name in over)

    return errors.QuotaExceeded(
        f"Quota exceeded for {names}: Requested {figures(amounts)}, but already used {figures(usages)} "
        f"of {figures(limits)} {names}"
    )


def lock(connection: Connection, project_id: str) -> None:
    """Let nobody count the project's servers until this transaction ends."""
    mine = {"which_project": project_id}
    if not connection.execute(_LOCK, mine).rowcount:
        _ensure_rows(connection, project_id)
        connection.execute(_LOCK, mine)


def costs_of(
    connection: Connection, which: sa.ColumnElement[bool] | None = None, *, by_user: bool = False
) -> dict[tuple[str, ...], int]:
    """(project, resource) or (project, user, resource) -> what those of the servers that hold quota come to, counted
    one by one."""
    held = server_index.c.quota_held.is_(True)
    names = ("project_id", "user_id", "record", "quota_cores", "quota_ram", "quota_asked_at")
    query = sa.select(*(server_index.c[name] for name in names)).where(held)
    found: dict[tuple[str, ...], int] = {}
    for row in connection.execute(query if which is None else query.where(which)):
        record: ServerRecord = codec.from_plain(row.record, ServerRecord)
        holder = (row.project_id, row.user_id) if by_user else (row.project_id,)
        cost = cost_of_record(record)
        if row.quota_asked_at is not None:  # for a resize that it may be in
            cost = larger(cost, {"cores": row.quota_cores, "instances": 1, "ram": row.quota_ram})
        for resource, amount in cost.items():
            found[*holder, resource] = found.get((*holder, resource), 0) + amount
    return found


def mend(connection: Connection, project_id: str) -> None:
    """Let the counters of a project and of its users be what their servers come to."""
    lock(connection, project_id)
    mine = server_index.c.project_id == project_id
    anew = {"quota_cores": None, "quota_ram": None}
    told = (mine, server_index.c.quota_cores.is_not(None), server_index.c.quota_asked_at.is_(None))
    connection.execute(sa.update(server_index).where(*told).values(**anew))
    used: dict[str | None, dict[str, int]] = {None: dict.fromkeys(RESOURCES, 0)}
    for (_, user_id, resource), amount in costs_of(connection, mine, by_user=True).items():
        used.setdefault(user_id, {})[resource] = amount
        used[None][resource] += amount
    for resource, amount in used[None].items():
        row = (quota_usages.c.project_id == project_id, quota_usages.c.resource == resource)
        connection.execute(sa.update(quota_usages).where(*row).values(used=amount))
    of_users = sa.select(user_quotas).where(user_quotas.c.project_id == project_id)
    for row in connection.execute(of_users.where(user_quotas.c.resource.in_(RESOURCES))).all():
        key = sa.and_(*(user_quotas.c[name] == row._mapping[name] for name in ("project_id", "user_id", "resource")))
        amount = used.get(row.user_id, {}).get(row.resource, 0)
        connection.execute(sa.update(user_quotas).where(key).values(used=amount))


def recount(connection: Connection) -> list[tuple[str, str, int, int]]:
    """(project, or user in project, resource, counted, recomputed from the servers) wherever the two differ."""
    books = sa.select(quota_usages).where(quota_usages.c.resource.in_(RESOURCES))
    counted: dict[tuple[str, ...], int] = {(r.project_id, r.resource): r.used for r in connection.execute(books)}
    actual = costs_of(connection)
    of_users = sa.select(user_quotas).where(user_quotas.c.resource.in_(RESOURCES))
    rows = connection.execute(of_users).all()
    if rows:
        theirs = costs_of(connection, server_index.c.user_id.in_({row.user_id for row in rows}), by_user=True)
        for row in rows:
            key = (row.project_id, row.user_id, row.resource)
            counted[key], actual[key] = row.used, theirs.get(key, 0)
    return [
        (" user ".join(holder), resource, counted.get((*holder, resource), 0), actual.get((*holder, resource), 0))
        for *holder, resource in sorted(counted.keys() | actual.keys())
        if counted.get((*holder, resource), 0) != actual.get((*holder, resource), 0)
    ]
