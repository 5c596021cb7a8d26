"""``cellcloud migrate``, ``backup``, ``restore`` and ``promoted``: one database of a cloud is renewed in its schema,
kept, put back, or found behind.

A name is "top" or a cell's; its option file says which database that is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from cellcloud import config as options
from cellcloud import errors

_NAME = click.argument("name", metavar="top|CELL")
_STATE = click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("/var/lib/cellcloud"),
    show_default=True,
    help="The cloud's state directory.",
)
_CONFIG = click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The option file of the top or the cell, where it is not in the state directory.",
)


def _with_errors(function: Callable[..., None]) -> Callable[..., None]:
    def run(**given: Any) -> None:
        try:
            function(**given)
        except errors.CellcloudError as error:
            click.echo(f"cellcloud: {error.message} {error.detail}".rstrip(), err=True)
            sys.exit(1)

    run.__doc__ = function.__doc__
    run.__name__ = function.__name__
    return run


@click.command()
@_NAME
@_STATE
@_CONFIG
@_with_errors
def migrate(name: str, state: Path, path: Path | None) -> None:
    """Make or renew the schema of the database of the top or of a cell; its rows stay.

    Done before the services of a release start, while those of the release before may run. `cellcloud up` does it by
    itself.
    """
    from cellcloud.db.engine import Database
    from cellcloud.db.migrate import upgrade

    database = Database(_url(name, state, path), pool_size=1, timeout=0)
    try:
        upgrade(database, "top" if name == "top" else "cell")
    finally:
        database.close()
    click.echo(f"The schema of {name} is up to date.")


@click.command()
@_NAME
@click.argument("target", metavar="DIRECTORY", type=click.Path(path_type=Path))
@_STATE
@_CONFIG
@_with_errors
def backup(name: str, target: Path, state: Path, path: Path | None) -> None:
    """Copy the database of the top or of a cell into a new directory, while the cloud runs.

    The copy is of one moment. Image files and the state directory's secrets are not in it.
    """
    from cellcloud.db import backups

    about = backups.take(_url(name, state, path), name, target.resolve(), _tell)
    click.echo(f"{target} is a backup of {about.what} at {about.taken_at} (schema {about.revision}).")


@click.command()
@_NAME
@click.argument("source", metavar="DIRECTORY", type=click.Path(path_type=Path, exists=True, file_okay=False))
@_STATE
@_CONFIG
@_with_errors
def restore(name: str, source: Path, state: Path, path: Path | None) -> None:
    """Put a backup back in place of the database of the top or of a cell.

    Refused while anything uses the database: take the cloud down, or in the services profile stop what uses it
    ('cellcloud stop top.api top.router', or 'cellcloud stop CELL.conductor') and leave the database server running.
    What was there is kept beside the backup. All others notice afterwards, and follow.
    """
    from cellcloud.db import backups

    begun = backups.put_back(_url(name, state, path), name, source.resolve(), _tell)
    click.echo(f"{name} is restored; its incarnation is {begun.id}. Start it, then: cellctl doctor check")


@click.command()
@_NAME
@click.option("--reason", default="a standby was promoted", show_default=True, help="Kept with the incarnation.")
@_STATE
@_CONFIG
@_with_errors
def promoted(name: str, reason: str, state: Path, path: Path | None) -> None:
    """Say that the database of the top or of a cell was put back, or promoted, by other means than 'restore'.

    The cloud may run. Whoever follows the database reads it anew and asks about what it may have lost.
    """
    from cellcloud.db import backups
    from cellcloud.db.engine import Database, transact

    database = Database(_url(name, state, path), pool_size=1, timeout=0)
    try:
        begun = transact(database, lambda connection: backups.begin_incarnation(connection, name, reason))
    finally:
        database.close()
    click.echo(f"The incarnation of {name} is {begun.id}, number {begun.number}.")


def _url(name: str, state: Path, path: Path | None) -> str:
    """Return the URL of the top's or a cell's database. Raises NotFound, Misconfigured."""
    place = "top" if name == "top" else f"cells/{name}"
    file = path or state.resolve() / place / "cellcloud.conf"
    if not file.exists():
        raise errors.NotFound(f"There is no option file {file}.")
    config = options.load(str(file))
    if name not in ("top", config.cell.name):
        raise errors.Misconfigured(f"{file} is not the option file of the cell {name}.")
    url = config.top.connection if name == "top" else config.cell.connection
    if not url:
        raise errors.Misconfigured(f"{file} names no database of {name}.")
    return url


def _tell(line: str) -> None:
    click.echo(f"  {line}")
