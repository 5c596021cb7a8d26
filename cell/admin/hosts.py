"""cellctl host."""

from __future__ import annotations

import click

from cell.admin.common_options import Terminal, command
from cell.admin.guests import COLUMNS as GUEST_COLUMNS
from cell.admin.naming import host_name
from cell.admin.output import Column
from cellcloud.model.host import Host


def _used(resource: str) -> Column[Host]:
    return resource.lower(), lambda host: f"{host.used.get(resource, 0)}/{host.capacity.get(resource, 0)}"


COLUMNS: list[Column[Host]] = [
    ("cell", lambda host: host.cell),
    ("host", lambda host: host.host),
    ("zone", lambda host: host.zone),
    ("state", lambda host: "forced down" if host.forced_down else "up" if host.up else "mute"),
    ("status", lambda host: "enabled" if host.enabled else f"disabled: {host.disabled_reason or 'no reason given'}"),
    _used("VCPU"),
    _used("MEMORY_MB"),
    _used("DISK_GB"),
    ("servers", lambda host: host.servers),
    ("last seen", lambda host: host.last_seen),
]


@click.group()
def host() -> None:
    """Hosts: the machines that run guests."""


@host.command("list")
@click.option("--cell", help="Only this cell's.")
@command
def list_hosts(terminal: Terminal, cell: str | None) -> None:
    """All hosts with what is promised of them (used/capacity)."""
    terminal.show_list(terminal.source().list_hosts(cell), COLUMNS)


@host.command("guests")
@click.argument("name", metavar="HOST")
@click.option("--cell", help="The host's cell, where several have one of that name.")
@command
def list_guests(terminal: Terminal, name: str, cell: str | None) -> None:
    """Guests on a host that no record accounts for; `cellctl guest adopt` and `remove` say what becomes of them."""
    source = terminal.source()
    found = source.list_unknown_guests(host=host_name(source, name, cell), cell=cell)
    terminal.show_list(found, GUEST_COLUMNS)


@host.command("release")
@click.argument("name", metavar="HOST")
@click.option("--cell", help="The host's cell, where several have one of that name.")
@command
def release_name(terminal: Terminal, name: str, cell: str | None) -> None:
    """Let another machine have the name of one that is gone for good. Its servers are not on the new one."""
    source = terminal.source()
    name = host_name(source, name, cell)
    source.release_name(name, cell=cell)
    click.echo(f"The next machine called {name} has the name.")


@host.command("remove")
@click.argument("name", metavar="HOST")
@click.option("--cell", help="The host's cell, where several have one of that name.")
@click.option(
    "--force",
    is_flag=True,
    help="Although it is up (it is there again at its next report), or was last seen with guests that no record "
    "accounts for (they run on). A host with servers is not removed by force either.",
)
@command
def remove_host(terminal: Terminal, name: str, cell: str | None, force: bool) -> None:
    """Forget a host that is gone for good, with its room and its name. Refused while it has servers."""
    terminal.source().remove_host(name, force=force, cell=cell)
    click.echo(f"Host {name} is forgotten.")
