"""cellctl plan."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cell.admin.common_options import Terminal, command
from cell.admin.naming import host_name
from cell.admin.output import Column, clean, show_list
from cell.admin.source import Source
from cell.admin.why import REFUSED
from cellcloud import errors
from cellcloud.model.explanation import Fits, HostCount, Loss, PlannedMove

WHERE: list[Column[HostCount]] = [("host", lambda one: one.host), ("servers", lambda one: one.count)]
MOVES: list[Column[PlannedMove]] = [
    ("server", lambda move: move.server_id),
    ("flavor", lambda move: move.flavor),
    ("from", lambda move: move.host),
    ("to", lambda move: move.to or "nowhere"),
    ("why", lambda move: move.why),
]


@click.group()
def plan() -> None:
    """Plans: what would be if. Schedulers try it on a copy of what they know; nothing is claimed or moved."""


@plan.command("fits")
@click.argument("flavor")
@click.option("-n", "servers", type=click.IntRange(1, 1_000_000), default=1, show_default=True, help="So many servers.")
@click.option("--zone", help="Only in this availability zone.")
@click.option("--cell", help="Only in this cell.")
@command
def fits(terminal: Terminal, flavor: str, servers: int, zone: str | None, cell: str | None) -> None:
    """How many servers of a FLAVOR have room in each cell, and where.

    FLAVOR is an id or a name, or VCPUS:MIB:GIB.

    \b
    Examples:
      cellctl plan fits m1.large -n 200
      cellctl plan fits 8:32768:100 -n 50 --cell east -f json
    """
    found = terminal.source().plan_fits(flavor, servers=servers, zone=zone, cell=cell)
    if terminal.form == "json":
        terminal.show_list(found, [])
        return
    for one in found:
        _show_fits(one)


def _show_fits(found: Fits) -> None:
    if found.malformed:
        raise errors.Invalid(found.malformed)
    click.echo(clean(f"cell {found.cell}: {found.fit} of {found.wanted} fit, on {len(found.where)} hosts"))
    if found.where:
        show_list("table", found.where, WHERE)
    if found.fit < found.wanted:
        click.echo("\nWhy there is no host for the next one:")
        show_list("table", found.refused, REFUSED)
        if found.nearest is not None:
            click.echo(f"Nearest: {clean(found.nearest.change)}")
    click.echo()


@plan.command("lose")
@click.argument("hosts", nargs=-1, required=True)
@command
def lose(terminal: Terminal, hosts: tuple[str, ...]) -> None:
    """Where the servers of HOSTS would go, were these lost at once.

    \b
    Example:
      cellctl plan lose node-7 node-8
    """
    _show_losses(terminal, _loss(terminal.source(), hosts, drain=False))


@plan.command("drain")
@click.argument("hosts", nargs=-1, required=True)
@command
def drain(terminal: Terminal, hosts: tuple[str, ...]) -> None:
    """Where the servers of HOSTS would go, were these disabled and emptied one server after the other.

    \b
    Example:
      cellctl plan drain node-7
    """
    _show_losses(terminal, _loss(terminal.source(), hosts, drain=True))


def _loss(source: Source, hosts: Sequence[str], *, drain: bool) -> list[Loss]:
    return source.plan_loss([host_name(source, host, alone=True) for host in hosts], drain=drain)


def _show_losses(terminal: Terminal, found: list[Loss]) -> None:
    if terminal.form == "json":
        terminal.show_list(found, [])
        return
    for one in found:
        show_list("table", one.moves, MOVES)
        placed = len(one.moves) - one.stranded
        click.echo(clean(f"\ncell {one.cell}: {placed} of {len(one.moves)} servers find a place, {one.stranded} none."))
