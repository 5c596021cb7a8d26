"""What waits for the router, found by one statement: network plans that changed, and tasks of volumes."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud.db.engine import utc_now
from cellcloud.db.network_schema import network_hosts, routers, security_groups
from cellcloud.db.top_schema import networks
from cellcloud.db.volume_schema import volume_tasks

# Between two additions, which bring a later time, numbers of rows only fall and versions only grow.
_VERSIONED = [
    sa.select(sa.func.count(), sa.func.sum(table.c.version), sa.func.max(table.c.created_at)).subquery()
    for table in (networks, security_groups, routers)
]
_HOSTS = sa.select(
    sa.func.count(),
    sa.func.sum(sa.case((network_hosts.c.gone, 1), else_=0)),
    sa.func.sum(sa.case((network_hosts.c.external, 1), else_=0)),
).subquery()
_FREE = volume_tasks.c.lease_until <= utc_now()
_MARK = sa.select(*_VERSIONED, _HOSTS, sa.exists().where(_FREE).label("tasks")).select_from(
    _VERSIONED[0].join(_VERSIONED[1], sa.true()).join(_VERSIONED[2], sa.true()).join(_HOSTS, sa.true())
)


def look(c: Connection) -> tuple[tuple[Any, ...], list[str]]:
    """Return what is another one when network plans may be, and the cells, "" for none yet, with tasks of volumes that
    nobody is at."""
    *mark, tasks = c.execute(_MARK).one()
    free = sa.select(volume_tasks.c.cell).where(_FREE).distinct()
    return tuple(mark), list(c.execute(free).scalars()) if tasks else []
