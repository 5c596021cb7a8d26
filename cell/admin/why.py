"""cellctl why, why-not and replay."""

from __future__ import annotations

import click

from cell.admin.common_options import Terminal, command
from cell.admin.documents import read_object
from cell.admin.naming import host_name, server_id
from cell.admin.output import Column, clean, show_list, show_one
from cell.admin.source import Source
from cellcloud import errors
from cellcloud.model.decision import ClaimConflict
from cellcloud.model.explanation import Explanation, Miss, RankedHost, Replayed, Weight
from cellcloud.model.no_valid_host_message import Reason, RefusedGroup
from cellcloud.safe_regex import Pattern

_DECISION = Pattern(r"[0-9a-f]{1,16}-[0-9]{1,6}")
REFUSED: list[Column[RefusedGroup]] = [
    ("filter", lambda group: group.reason.filter),
    ("hosts", lambda group: group.count),
    ("the nearest of them", lambda group: group.reason.text),
]
BEST: list[Column[RankedHost]] = [
    ("rank", lambda one: one.rank),
    ("host", lambda one: one.host),
    ("score", lambda one: f"{one.score:.6g}"),
    ("margin", lambda one: None if one.margin is None else f"{one.margin:.6g}"),
]
WEIGHTS: list[Column[Weight]] = [
    ("weigher", lambda one: one.weigher),
    ("raw", lambda one: f"{one.raw:.6g}"),
    ("normalised", lambda one: f"{one.normalised:.6g}"),
    ("weighted", lambda one: f"{one.weighted:.6g}"),
]
CONFLICTS: list[Column[ClaimConflict]] = [
    ("host", lambda one: one.host),
    ("of", lambda one: one.resource_class),
    ("capacity", lambda one: one.capacity),
    ("used", lambda one: one.used),
    ("wanted", lambda one: one.wanted),
]
REASONS: list[Column[Reason]] = [("filter", lambda one: one.filter), ("why", lambda one: one.text)]
DECISION: list[Column[Explanation]] = [
    ("decision", lambda told: told.decision),
    ("server", lambda told: told.server_id),
    ("request", lambda told: told.request_id),
    ("at", lambda told: told.at),
    ("cell", lambda told: told.cell),
    ("policy", lambda told: told.policy),
    ("chosen", lambda told: told.chosen or "none"),
    ("offered", lambda told: ", ".join(told.offered)),
    ("hosts", lambda told: f"{told.feasible} of {told.hosts} passed all filters"),
    ("malformed", lambda told: told.malformed),
]
REPLAYED: list[Column[Replayed]] = [
    ("decision", lambda told: told.decision),
    ("server", lambda told: told.server_id),
    ("cell", lambda told: told.cell),
    ("policy", lambda told: "as given" if told.policy is None else told.policy),
    ("chosen then", lambda told: ", ".join(told.before)),
    ("chosen now", lambda told: ", ".join(told.after)),
    ("same choice", lambda told: told.same),
    ("same batch, bit for bit", lambda told: told.identical),
    ("malformed", lambda told: told.malformed),
]


@click.command("why")
@click.argument("subject", metavar="SERVER|REQUEST|DECISION")
@click.option("--cell", help="Ask this cell alone.")
@click.option(
    "--hosts", "most", type=click.IntRange(0, 1000), default=5, show_default=True, help="Feasible hosts shown."
)
@command
def why(terminal: Terminal, subject: str, cell: str | None, most: int) -> None:
    """Why a server is where it is, or nowhere: on the figures its decision was made from.

    SERVER is an id or a name; REQUEST is a request id (req-...), for all servers of it; DECISION is an id of 'why'.

    \b
    Examples:
      cellctl why web-1
      cellctl why req-6f5f1c1e-6e0e-4b52-9d56-2f9f4f6b7f10 -f json
    """
    source = terminal.source()
    told = source.explain(_key(source, subject), host=None, cell=cell, most=most)
    if terminal.form == "json":
        terminal.show_list(told, [])
        return
    for one in told:
        _show_decision(one)
        if one.best:
            click.echo("\nThe best hosts:")
            show_list("table", one.best, BEST)
            click.echo(f"\nWhat weighers gave {clean(one.best[0].host)}:")
            show_list("table", one.best[0].weights, WEIGHTS)
        if one.nearest is not None:
            click.echo(f"\nNearest miss: {clean(one.nearest.change)}")
        click.echo()


@click.command("why-not")
@click.argument("subject", metavar="SERVER")
@click.argument("host")
@click.option("--cell", help="Ask this cell alone.")
@command
def why_not(terminal: Terminal, subject: str, host: str, cell: str | None) -> None:
    """Why a server did not go to HOST: every filter that refused it, and the smallest change that would have helped;
    or, where it passed, by how much others were better.

    \b
    Example:
      cellctl why-not web-1 node-7
    """
    source = terminal.source()
    host = host_name(source, host, cell)
    told = source.explain(_key(source, subject), host=host, cell=cell, most=1)
    if terminal.form == "json":
        terminal.show_list(told, [])
        return
    for one in told:
        _show_decision(one, brief=True)
        _show_host(one, host)
        click.echo()


@click.group()
def replay() -> None:
    """Make decisions again."""


@replay.command("decision")
@click.argument("decision", metavar="ID")
@click.option(
    "--policy", "file", type=click.Path(exists=True, dir_okay=False), help="Choose by this policy: a JSON or YAML file."
)
@click.option("--cell", help="Ask this cell alone.")
@command
def replay_decision(terminal: Terminal, decision: str, file: str | None, cell: str | None) -> None:
    """Make a decision again from what it was made from: the same choice, or that of another policy.

    'cellctl why' shows the ID of a decision. Exit 1 when the same policy does not give the same choice.

    \b
    Examples:
      cellctl replay decision 1c0ffee2a3b4c5d6-0
      cellctl replay decision 1c0ffee2a3b4c5d6-0 --policy packing.yaml
    """
    policy = None if file is None else read_object(file)
    told = terminal.source().replay(decision, policy=policy, cell=cell)
    terminal.show_one(told, REPLAYED)
    if policy is None and not told.same:
        raise errors.CallHuman("The decision made again is another one.")


def _key(source: Source, subject: str) -> str:
    """Return what a decision is found by: a name is looked up. Raises NotFound, Invalid for a name that several
    have."""
    if subject.startswith("req-") or _DECISION.matches(subject):
        return subject
    return server_id(source, subject)


def _show_decision(told: Explanation, *, brief: bool = False) -> None:
    show_one("table", told, DECISION)
    if told.gap:
        click.echo(f"\nNot all can be told: {clean(told.gap)}")
    if told.conflicts:
        click.echo("\nRaces lost:")
        show_list("table", told.conflicts, CONFLICTS)
    if told.refused and not brief:
        click.echo("\nHosts refused:")
        show_list("table", told.refused, REFUSED)


def _show_host(told: Explanation, host: str) -> None:
    if told.asked is not None:
        _show_miss(told.asked)
        return
    mine = [one for one in told.best if one.host.lower() == host.lower()]
    if not mine:
        click.echo("\nNothing more is known.")
    elif mine[0].rank == 1:
        lead = "" if mine[0].margin is None else f", {mine[0].margin:.6g} ahead of the next"
        click.echo(f"\n{clean(host)} was the best host{lead}.")
    else:
        behind = told.best[0].score - mine[0].score
        click.echo(f"\n{clean(host)} passed all filters, at rank {mine[0].rank} of {told.feasible}:")
        click.echo(f"it would have needed {behind:.6g} more than its score of {mine[0].score:.6g}.")
        best = {one.weigher: one for one in told.best[0].weights}
        columns: list[Column[Weight]] = [
            *WEIGHTS,
            (told.best[0].host, lambda one: f"{best[one.weigher].weighted:.6g}"),
        ]
        show_list("table", mine[0].weights, columns)


def _show_miss(miss: Miss) -> None:
    click.echo(f"\n{clean(miss.host)} was refused; the first filter decided:")
    show_list("table", miss.reasons, REASONS)
    click.echo(f"Smallest change: {clean(miss.change)}")
