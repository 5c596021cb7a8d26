"""cellctl op."""

from __future__ import annotations

import click

from cell.admin.common_options import Terminal, command
from cell.admin.naming import server_id
from cell.admin.output import Column, show_list
from cellcloud.model.run import RunRecord, StepRecord

COLUMNS: list[Column[RunRecord]] = [
    ("id", lambda run: run.id),
    ("operation", lambda run: run.operation),
    ("server", lambda run: run.server_id),
    ("state", lambda run: run.state),
    ("step", lambda run: run.step),
    ("direction", lambda run: run.direction),
    ("attempt", lambda run: run.attempt),
    ("created", lambda run: run.created_at),
    ("finished", lambda run: run.finished_at),
]
MORE: list[Column[RunRecord]] = [
    ("request", lambda run: run.request_id),
    ("user", lambda run: run.user_id),
    ("project", lambda run: run.project_id),
    ("generation", lambda run: run.generation),
    ("cancel requested", lambda run: run.cancel_requested),
    ("lease", lambda run: run.lease_owner),
    ("next turn", lambda run: run.run_at),
    ("deadline", lambda run: run.deadline),
    ("error", lambda run: run.error),
    ("message", lambda run: run.message),
]


def took(step: StepRecord) -> str | None:
    """Seconds from a step's beginning to its end."""
    if step.started_at is None or step.finished_at is None:
        return None
    return f"{(step.finished_at - step.started_at).total_seconds():.3f}"


STEPS: list[Column[StepRecord]] = [
    ("step", lambda step: step.step),
    ("direction", lambda step: step.direction),
    ("outcome", lambda step: step.outcome),
    ("attempt", lambda step: step.attempt),
    ("started", lambda step: step.started_at),
    ("finished", lambda step: step.finished_at),
    ("seconds", took),
    ("message", lambda step: step.message),
]


@click.group()
def op() -> None:
    """Operations: what users asked for, and how far it is."""


@op.command("list")
@click.option("--server", help="Only this server's, by id or name.")
@click.option("--all", "finished_too", is_flag=True, help="Finished ones too.")
@command
def list_operations(terminal: Terminal, server: str | None, finished_too: bool) -> None:
    """Operations under way, newest first; all of a server's with --server."""
    unfinished = not finished_too and server is None
    source = terminal.source()
    wanted = None if server is None else server_id(source, server)
    terminal.show_list(source.list_operations(server_id=wanted, unfinished=unfinished), COLUMNS)


@op.command("show")
@click.argument("run_id", metavar="ID")
@command
def show_operation(terminal: Terminal, run_id: str) -> None:
    """One operation with its steps, by its id or by the request's (req-...)."""
    run = terminal.source().get_operation(run_id)
    terminal.show_one(run, COLUMNS + MORE)
    if terminal.form == "table" and run.steps:
        click.echo()
        show_list("table", run.steps, STEPS)
