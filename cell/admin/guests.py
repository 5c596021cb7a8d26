"""cellctl guest, and cellctl host guests: what hosts hold that no record accounts for."""

from __future__ import annotations

import click

from cell.admin.common_options import Terminal, command
from cell.admin.naming import host_name
from cell.admin.output import Column
from cell.admin.servers import COLUMNS as SERVER_COLUMNS
from cellcloud.model.observed_guests import UnknownGuest
from cellcloud.server_states import PowerState

COLUMNS: list[Column[UnknownGuest]] = [
    ("cell", lambda guest: guest.cell),
    ("host", lambda guest: guest.host),
    ("guest", lambda guest: guest.server_id),
    ("power", lambda guest: PowerState(guest.power_state).name.lower()),
    ("generation", lambda guest: guest.generation),
    ("project", lambda guest: guest.project_id),
    ("why unknown", lambda guest: guest.reason),
    ("removal", lambda guest: "asked for" if guest.removal else ""),
    ("since", lambda guest: guest.first_seen),
]


@click.group()
def guest() -> None:
    """Guests that hosts hold and no record accounts for: nothing happens to them until you say so."""


@guest.command("list")
@click.option("--cell", help="Only this cell's.")
@click.option("--host", help="Only this host's.")
@command
def list_guests(terminal: Terminal, cell: str | None, host: str | None) -> None:
    """All of them, as the hosts last told."""
    source = terminal.source()
    wanted = None if host is None else host_name(source, host, cell)
    terminal.show_list(source.list_unknown_guests(host=wanted, cell=cell), COLUMNS)


@guest.command("adopt")
@click.argument("server_id", metavar="GUEST")
@click.option("--host", required=True, help="The host that holds it.")
@click.option("--cell", help="The host's cell, where several have one of that name.")
@command
def adopt_guest(terminal: Terminal, server_id: str, host: str, cell: str | None) -> None:
    """Make a server of a guest again, from what its host knows of it; its room on the host is claimed."""
    source = terminal.source()
    adopted = source.adopt_guest(server_id, host=host_name(source, host, cell), cell=cell)
    terminal.show_one(adopted, SERVER_COLUMNS)


@guest.command("remove")
@click.argument("server_id", metavar="GUEST")
@click.option("--host", required=True, help="The host that holds it.")
@click.option("--cell", help="The host's cell, where several have one of that name.")
@command
def remove_guest(terminal: Terminal, server_id: str, host: str, cell: str | None) -> None:
    """Have a guest destroyed with its disks: now, or when its host is back. There is no way back."""
    source = terminal.source()
    left = source.remove_guest(server_id, host=host_name(source, host, cell), cell=cell)
    terminal.show_list(left, COLUMNS)
