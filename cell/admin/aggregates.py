"""cellctl aggregate: a client of the Compute API's os-aggregates."""

from __future__ import annotations

import click

from cell.admin.common_options import Terminal, command
from cell.admin.naming import aggregate_id, host_name
from cell.admin.output import Column
from cellcloud import errors
from cellcloud.model.host import Aggregate

COLUMNS: list[Column[Aggregate]] = [
    ("id", lambda one: one.id),
    ("name", lambda one: one.name),
    ("zone", lambda one: one.zone or ""),
    ("hosts", lambda one: ", ".join(one.hosts)),
    (
        "metadata",
        lambda one: ", ".join(f"{key}={value}" for key, value in sorted(one.metadata.items()) if key != ZONE),
    ),
]
ZONE = "availability_zone"
_PROPERTY = click.option(
    "--property", "properties", multiple=True, metavar="KEY=VALUE", help="May be given many times."
)


@click.group()
def aggregate() -> None:
    """Show and change aggregates: named sets of hosts with metadata. The top has them; each cell's schedulers go by a
    copy."""


@aggregate.command("list")
@click.option("--cell", help="This cell's copy, as its schedulers know it.")
@command
def list_aggregates(terminal: Terminal, cell: str | None) -> None:
    """All aggregates with their hosts."""
    terminal.show_list([one.aggregate for one in terminal.source().list_aggregates(cell)], COLUMNS)


@aggregate.command("create")
@click.argument("name")
@click.option("--zone", help="Availability zone that its hosts are in.")
@_PROPERTY
@command
def create(terminal: Terminal, name: str, zone: str | None, properties: tuple[str, ...]) -> None:
    """Make an aggregate, without hosts."""
    metadata = _metadata(properties)
    made = terminal.source().create_aggregate(name, zone)
    if metadata:
        made = terminal.source().change_aggregate(made.id, "set_metadata", {"metadata": metadata})
    terminal.show_one(made, COLUMNS)


@aggregate.command("set")
@click.argument("aggregate_name", metavar="AGGREGATE")
@click.option("--name", help="Its new name.")
@click.option("--zone", help="Availability zone that its hosts are in.")
@_PROPERTY
@click.option("--unset", multiple=True, metavar="KEY", help="Forget a property; may be given many times.")
@command
def set_aggregate(
    terminal: Terminal,
    aggregate_name: str,
    name: str | None,
    zone: str | None,
    properties: tuple[str, ...],
    unset: tuple[str, ...],
) -> None:
    """Change an aggregate's name, zone or properties."""
    metadata = {**_metadata(properties), **dict.fromkeys(unset)}
    first = {key: value for key, value in (("name", name), (ZONE, zone)) if value is not None}
    if not (first or metadata):
        raise errors.Invalid("Say what to change: --name, --zone, --property or --unset.")
    source = terminal.source()
    number = aggregate_id(source, aggregate_name)
    if first:
        changed = source.change_aggregate(number, "update", dict(first))
    if metadata:
        changed = source.change_aggregate(number, "set_metadata", {"metadata": metadata})
    terminal.show_one(changed, COLUMNS)


@aggregate.command("add-host")
@click.argument("aggregate_name", metavar="AGGREGATE")
@click.argument("host")
@command
def add_host(terminal: Terminal, aggregate_name: str, host: str) -> None:
    """Put a host into an aggregate."""
    _change_host(terminal, aggregate_name, "add_host", host)


@aggregate.command("remove-host")
@click.argument("aggregate_name", metavar="AGGREGATE")
@click.argument("host")
@command
def remove_host(terminal: Terminal, aggregate_name: str, host: str) -> None:
    """Take a host out of an aggregate."""
    _change_host(terminal, aggregate_name, "remove_host", host)


@aggregate.command("delete")
@click.argument("aggregate_name", metavar="AGGREGATE")
@command
def delete(terminal: Terminal, aggregate_name: str) -> None:
    """Forget an aggregate that has no hosts."""
    source = terminal.source()
    source.delete_aggregate(aggregate_id(source, aggregate_name))


def _change_host(terminal: Terminal, text: str, action: str, host: str) -> None:
    source = terminal.source()
    what: dict[str, object] = {"host": host_name(source, host)}
    terminal.show_one(source.change_aggregate(aggregate_id(source, text), action, what), COLUMNS)


def _metadata(properties: tuple[str, ...]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for text in properties:
        key, separator, value = text.partition("=")
        if not (key and separator):
            raise errors.Invalid(f"'{text}' is no KEY=VALUE.")
        found[key] = value
    return found
