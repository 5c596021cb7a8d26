"""cellctl server."""

from __future__ import annotations

import click

from cell.admin.common_options import Terminal, command
from cell.admin.naming import project_id, server_id
from cell.admin.output import Column
from cellcloud.model.run import TimelineEntry
from cellcloud.model.server import ServerRecord

COLUMNS: list[Column[ServerRecord]] = [
    ("id", lambda server: server.id),
    ("name", lambda server: server.spec.name),
    ("status", lambda server: server.status),
    ("task", lambda server: server.task_state),
    ("cell", lambda server: server.cell),
    ("host", lambda server: server.host),
    ("project", lambda server: server.spec.project_id),
    ("updated", lambda server: server.updated_at),
]
MORE: list[Column[ServerRecord]] = [
    ("vm state", lambda server: server.vm_state),
    ("power state", lambda server: server.power_state),
    ("version", lambda server: server.version),
    ("generation", lambda server: server.generation),
    ("user", lambda server: server.spec.user_id),
    ("flavor", lambda server: server.spec.flavor.name),
    ("image", lambda server: server.spec.image.id),
    ("zone", lambda server: server.availability_zone),
    ("ports", lambda server: ", ".join(port.id for port in server.ports)),
    ("created", lambda server: server.created_at),
    ("launched", lambda server: server.launched_at),
    ("deleted", lambda server: server.deleted),
    ("fault", lambda server: server.fault.message if server.fault else None),
    ("fault's details", lambda server: server.fault.details if server.fault else None),
]
TIMELINE: list[Column[TimelineEntry]] = [
    ("at", lambda entry: entry.at),
    ("kind", lambda entry: entry.kind),
    ("what", lambda entry: entry.text),
    ("request", lambda entry: entry.request_id),
]


@click.group()
def server() -> None:
    """Servers."""


@server.command("list")
@click.option("--cell", help="Only this cell's.")
@click.option("--project", help="Only this project's, by id or name.")
@click.option("--limit", type=click.IntRange(1, 1000), default=1000, show_default=True, help="At most so many.")
@command
def list_servers(terminal: Terminal, cell: str | None, project: str | None, limit: int) -> None:
    """Servers with where they are."""
    source = terminal.source()
    wanted = None if project is None else project_id(source, project)
    terminal.show_list(source.list_servers(cell=cell, project=wanted, limit=limit), COLUMNS)


@server.command("show")
@click.argument("server", metavar="SERVER")
@command
def show_server(terminal: Terminal, server: str) -> None:
    """One SERVER, by id or name, with what only operators see."""
    source = terminal.source()
    terminal.show_one(source.get_server(server_id(source, server)), COLUMNS + MORE)


@server.command("timeline")
@click.argument("server", metavar="SERVER")
@command
def show_timeline(terminal: Terminal, server: str) -> None:
    """Show what happened to a SERVER, by id or name, oldest first."""
    source = terminal.source()
    terminal.show_list(sorted(source.get_timeline(server_id(source, server)), key=lambda entry: entry.at), TIMELINE)
