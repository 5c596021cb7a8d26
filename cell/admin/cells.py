"""cellctl cell."""

from __future__ import annotations

import click

from cell.admin.common_options import Terminal, command
from cell.admin.output import Column
from cellcloud.model.cell import Cell

COLUMNS: list[Column[Cell]] = [
    ("name", lambda cell: cell.name),
    ("health", lambda cell: cell.health),
    ("enabled", lambda cell: cell.enabled),
    ("hosts up", lambda cell: f"{cell.digest.hosts_up}/{cell.digest.hosts_total}" if cell.digest else None),
    ("servers", lambda cell: cell.digest.servers if cell.digest else None),
    ("operations", lambda cell: cell.digest.running_runs if cell.digest else None),
    ("last seen", lambda cell: cell.last_seen),
    ("reason", lambda cell: cell.reason),
]
MORE: list[Column[Cell]] = [
    ("zones", lambda cell: ", ".join(cell.digest.zones) if cell.digest else None),
    ("feed cursor", lambda cell: cell.feed_cursor),
    ("figures of", lambda cell: cell.digest_at),
]


@click.group()
def cell() -> None:
    """Cells: the shards of the cloud."""


@cell.command("list")
@command
def list_cells(terminal: Terminal) -> None:
    """All cells with their health."""
    terminal.show_list(terminal.source().list_cells(), COLUMNS)


@cell.command("show")
@click.argument("name")
@command
def show_cell(terminal: Terminal, name: str) -> None:
    """One cell."""
    terminal.show_one(terminal.source().get_cell(name), COLUMNS + MORE)
