"""Brings a database's schema up to date (Alembic, two trees: top and cell; expand before contract)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import sqlalchemy as sa

from cellcloud.db import cell_schema, database_incarnations, top_schema
from cellcloud.db.engine import Connection, Database

Tree = Literal["top", "cell"]
TREES = Path(__file__).parent / "alembic"
METADATA = {"top": top_schema.metadata, "cell": cell_schema.metadata}
VERSION = sa.Table(  # as Alembic makes it
    "alembic_version",
    sa.MetaData(),
    sa.Column("version_num", sa.String(32), nullable=False),
    sa.PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)


def upgrade(database: Database, tree: Tree) -> None:
    """Apply the migrations that are missing, and give a new database its incarnation. Safe to repeat.

    A new database gets the tables of the code at once, which is what the migrations come to; Alembic is not even loaded
    for it, nor for one that has them all.
    """
    with database.write() as connection:
        there = set(sa.inspect(connection).get_table_names())
        revision = connection.execute(sa.select(VERSION.c.version_num)).scalar() if VERSION.name in there else None
        if revision is None and (VERSION.name in there or not there):
            _create_tables(connection, tree, begun=bool(there))
        elif revision != find_newest(tree):
            migrate(connection, tree)
        database_incarnations.ensure(connection)


def find_newest(tree: Tree) -> str:
    """Return the newest revision of a tree, whose files begin with their revisions."""
    return max(path.name for path in (TREES / tree / "versions").glob("[0-9]*.py")).partition("_")[0]


def migrate(connection: Connection, tree: Tree, revision: str = "head") -> None:
    """Apply the migrations up to a revision, whatever was there before."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(TREES / tree))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _create_tables(connection: Connection, tree: Tree, *, begun: bool) -> None:
    """Create every table, and note last that they are there: MariaDB commits each statement, so what was ``begun`` may
    have broken off anywhere."""
    VERSION.create(connection, checkfirst=True)
    METADATA[tree].create_all(connection)
    if begun:
        for table in METADATA[tree].sorted_tables:
            for index in table.indexes:
                index.create(connection, checkfirst=True)
    connection.execute(sa.insert(VERSION).values(version_num=find_newest(tree)))
