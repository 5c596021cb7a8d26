"""cellctl aggregate."""

from __future__ import annotations

import click

from cell.admin.command import Terminal, command
from cell.admin.documents import read_document
from cell.admin.naming import aggregate_id
from cell.admin.output import Column
from cellcloud.model import codec
from cellcloud.model.explanation import CellAggregate
from cellcloud.model.host import Aggregate

COLUMNS: list[Column[CellAggregate]] = [
    ("cell", lambda one: one.cell),
    ("id", lambda one: one.aggregate.id),
    ("name", lambda one: one.aggregate.name),
    ("hosts", lambda one: ", ".join(one.aggregate.hosts)),
    ("metadata", lambda one: ", ".join(f"{name}={value}" for name, value in sorted(one.aggregate.metadata.items()))),
]


@click.group()
def aggregate() -> None:
    """Aggregates: named sets of hosts with metadata, as cells' schedulers know them."""


@aggregate.command("list")
@click.option("--cell", help="Only this cell's.")
@command
def list_aggregates(terminal: Terminal, cell: str | None) -> None:
    """All aggregates with their hosts."""
    terminal.show_list(terminal.source().list_aggregates(cell), COLUMNS)


@aggregate.command("set")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("--remove", multiple=True, metavar="AGGREGATE", help="Forget this one; may be given many times.")
@click.option("--cell", help="Only in this cell.")
@command
def set_aggregates(terminal: Terminal, file: str, remove: tuple[str, ...], cell: str | None) -> None:
    """Set the aggregates of a JSON or YAML FILE: one, or a list of them. Others stay as they are.

    \b
    Example of a file:
      - id: 1
        name: fast
        hosts: [node-1, node-2]
        metadata: {availability_zone: fast, ssd: "true"}
    """
    found = read_document(file)
    given: list[Aggregate] = codec.from_plain(found if isinstance(found, list) else [found], list[Aggregate])
    source = terminal.source()
    removed = [aggregate_id(source, text, cell) for text in remove]
    terminal.show_list(source.set_aggregates(given, removed=removed, cell=cell), COLUMNS)
