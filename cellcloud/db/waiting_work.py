"""What waits for the router, found by one statement: network plans that changed, and tasks of volumes."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud.db.engine import utc_now
from cellcloud.db.network_schema import network_hosts, routers, security_groups
from cellcloud.db.top_schema import networks
from cellcloud.db.volume_schema import volume_tasks

_FREE = volume_tasks.c.lease_until <= utc_now()
_TASKS = 9
# Between two additions, which bring a later time, numbers of rows only fall and versions only grow.
_LOOK = sa.union_all(
    *(
        sa.select(
            sa.literal(place).label("place"),
            sa.func.count().label("count"),
            sa.func.sum(table.c.version).label("sum"),
            sa.func.max(table.c.created_at).label("newest"),
        )
        for place, table in enumerate((networks, security_groups, routers))
    ),
    sa.select(
        sa.literal(3), sa.func.count(), sa.func.sum(sa.case((network_hosts.c.gone, 1), else_=0)), sa.null()
    ).select_from(network_hosts),
    sa.select(sa.literal(4), sa.func.count(), sa.literal(0), sa.null()).where(network_hosts.c.external),
    sa.select(sa.literal(_TASKS), sa.case((sa.exists().where(_FREE), 1), else_=0), sa.literal(0), sa.null()),
)


def look(c: Connection) -> tuple[tuple[Any, ...], list[str]]:
    """Return what is another one when network plans may be, and the cells, "" for none yet, with tasks of volumes that
    nobody is at."""
    found = {place: tuple(rest) for place, *rest in c.execute(_LOOK).all()}
    tasks, _, _ = found.pop(_TASKS)
    free = sa.select(volume_tasks.c.cell).where(_FREE).distinct()
    return tuple(sorted(found.items())), list(c.execute(free).scalars()) if tasks else []
