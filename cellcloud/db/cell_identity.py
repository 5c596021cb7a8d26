"""Which cell a cell's database is of: two cells that were given one would work on each other's servers."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cellcloud.db.cell_schema import owner
from cellcloud.db.engine import racing


def ensure(connection: Connection, cell: str) -> str:
    """Return the name of the cell whose database it is: this one's, if it is nobody's yet. Raises LostRace."""
    found = connection.execute(sa.select(owner.c.cell)).scalar()
    if found is None:
        with racing():
            connection.execute(sa.insert(owner).values(id=1, cell=cell))
        return cell
    return str(found)
