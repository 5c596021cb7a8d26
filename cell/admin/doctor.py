"""cellctl doctor."""

from __future__ import annotations

import sys

import click

from cell.admin import naming
from cell.admin.common_options import FOUND, Terminal, command
from cell.admin.output import Column
from cellcloud.model.cell import Finding

COLUMNS: list[Column[Finding]] = [
    ("check", lambda finding: finding.check),
    ("severity", lambda finding: finding.severity),
    ("subject", lambda finding: finding.subject),
    ("finding", lambda finding: finding.text),
    ("what to do", lambda finding: finding.remedy),
]


@click.group()
def doctor() -> None:
    """Tell whether the cloud's bookkeeping adds up."""


@doctor.command("check")
@command
def check(terminal: Terminal) -> None:
    """Compare claims with usage, runs and holds with their times, hosts with records, hosts' networks (devices,
    namespaces, rules, tunnels, daemons) with their plans, and the index with the cells:
    servers in several cells, in a cell but not in the index, or lost by their cell; recount what counts against
    quotas, of servers and of networks. Exit 1 if anything is wrong."""
    findings = terminal.source().list_findings()
    terminal.show_list(findings, COLUMNS)
    wrong = [finding for finding in findings if finding.severity != "ok"]
    if terminal.form == "table":
        click.echo(f"\n{len(findings)} checked, {len(wrong)} wrong." if findings else "\nNothing wrong.")
    if wrong:
        sys.exit(FOUND)


@doctor.command("repair")
@click.argument("server_ids", metavar="[SERVER]...", nargs=-1)
@click.option("--keep", metavar="CELL", help="Of servers that several cells have: which keeps them.")
@command
def repair(terminal: Terminal, server_ids: tuple[str, ...], keep: str | None) -> None:
    """Count anew what projects have, where that is counted wrongly, and take into the index what cells have and it
    knows, but not as theirs.

    Of the servers named, also take in those it does not know at all; show as deleted those that their cell has lost;
    and delete those in several cells, with their disks, everywhere but in the cell to keep.
    """
    source = terminal.source()
    done = source.repair(naming.server_ids(source, server_ids), keep=keep)
    terminal.show_list(done, COLUMNS)
    if terminal.form == "table":
        click.echo(f"\n{len(done)} repaired.")
