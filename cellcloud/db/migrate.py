"""Brings a database's schema up to date (Alembic, two trees: top and cell; expand before contract)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from alembic import command
from alembic.config import Config

from cellcloud.db import database_incarnations
from cellcloud.db.engine import Database

TREES = Path(__file__).parent / "alembic"


def _config(tree: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(TREES / tree))
    return config


def upgrade(database: Database, tree: Literal["top", "cell"]) -> None:
    """Apply the migrations that are missing, and give a new database its incarnation. Safe to repeat."""
    config = _config(tree)
    with database.write() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        database_incarnations.ensure(connection)
