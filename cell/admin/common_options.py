"""The options and the errors that every cellctl command has."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import click

from cell.admin.api_source import RemoteSource, find_cloud
from cell.admin.cell_rpc_source import LocalSource
from cell.admin.output import Column, clean, show_list, show_one
from cell.admin.source import Source
from cellcloud import config as options
from cellcloud import errors
from cellcloud.rpc.conductor import Conductor
from cellcloud.rpc.scheduler import Scheduler
from cellcloud.rpc.scheduling_store import SchedulingStore

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
FOUND, USAGE, UNREACHABLE, NOT_FOUND = 1, 2, 3, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminal:
    """Where a command reads and how it prints."""

    form: str = "table"
    cloud: str = "cellcloud-admin"
    local: bool = False
    config: str | None = None
    source_override: Source | None = None

    def source(self) -> Source:
        """Return the top's API, or with ``--local`` the cell's own queue."""
        if self.source_override is not None:
            return self.source_override
        if not self.local:
            return RemoteSource(find_cloud(self.cloud))
        if self.config is None:
            raise click.UsageError("--local needs the cell's option file: --config STATE/cells/NAME/cellcloud.conf")
        config = options.load(self.config)
        if not config.cell.name:
            raise click.UsageError(f"{self.config} is not the option file of a cell.")
        if "memory://" in config.cell.transport_url:
            raise errors.Unreachable(
                "The queue of this cell is inside the process that runs it (embedded profile): nobody else reads it."
            )
        from cellcloud.rpc.transport import Transport  # slow to load, and only this way of reading needs it

        transport = Transport(config.cell.name, config.cell.transport_url)
        clients = transport.client(Conductor), transport.client(Scheduler), transport.client(SchedulingStore)
        return LocalSource(config, *clients)

    def show_list(self, items: list[T], columns: list[Column[T]]) -> None:
        show_list(self.form, items, columns)

    def show_one(self, item: T, columns: list[Column[T]]) -> None:
        show_one(self.form, item, columns)


def with_options(function: F) -> F:
    """Add the options that may stand before or after the command's name."""
    for option in (
        click.option(
            "-f", "--format", "form", type=click.Choice(["table", "json"]), help="table for people, json for programs."
        ),
        click.option("--cloud", help="Cloud of clouds.yaml to sign in to [cellcloud-admin]."),
        click.option(
            "--local", is_flag=True, default=None, help="Read one cell through its own queue, without the top."
        ),
        click.option(
            "--config", type=click.Path(exists=True, dir_okay=False), help="With --local: the cell's option file."
        ),
    ):
        function = option(function)
    return function


def merged(context: click.Context, given: dict[str, Any]) -> Terminal:
    """Return what stood before the command's name, overridden by what stands after it."""
    before = context.obj if isinstance(context.obj, Terminal) else Terminal()
    return replace(before, **{name: value for name, value in given.items() if value is not None})


def command(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command that gets a Terminal first, and whose errors end in the documented exit codes."""

    @with_options
    @functools.wraps(function)
    def run(**given: Any) -> None:
        own = {name: given.pop(name) for name in ("form", "cloud", "local", "config")}
        terminal = merged(click.get_current_context(), own)
        try:
            function(terminal, **given)
        except errors.CellcloudError as error:
            click.echo(f"cellctl: {clean(error.message)}", err=True)
            if error.detail:
                click.echo(f"         {clean(error.detail)[:500]}", err=True)
            click.echo(f"         {_advice(error, terminal)}", err=True)
            sys.exit(_exit_code(error))

    return run


def _exit_code(error: errors.CellcloudError) -> int:
    if isinstance(error, errors.NotFound):
        return NOT_FOUND
    if isinstance(error, errors.TryLater):
        return UNREACHABLE
    return USAGE if isinstance(error, errors.Invalid) else FOUND


def _advice(error: errors.CellcloudError, terminal: Terminal) -> str:
    if isinstance(error, errors.TryLater):
        if terminal.local:
            return "Next: 'cellcloud status' shows whether the cell's queue and conductor run."
        return "Next: 'cellcloud status' shows what runs; 'cellctl --local --config FILE' reads a cell without the top."
    if isinstance(error, errors.NotFound):
        return "Next: the matching 'list' command shows what there is."
    if isinstance(error, errors.Unauthenticated | errors.Forbidden):
        return "Next: use the cloud of an administrator, with --cloud NAME."
    if isinstance(error, errors.Misconfigured | errors.Invalid):
        return "Next: correct that and run the command again; --help says what is expected."
    return "Next: 'cellctl doctor check', and the log of the service named above."
