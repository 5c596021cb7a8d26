"""cellctl policy."""

from __future__ import annotations

import json

import click

from cell.admin.common_options import Terminal, command
from cell.admin.documents import read_object
from cell.admin.output import Column
from cellcloud import errors
from cellcloud.model.explanation import CellPolicy, CellShadow

COLUMNS: list[Column[CellPolicy]] = [
    ("cell", lambda one: one.cell),
    ("version", lambda one: one.policy.version),
    ("role", lambda one: one.policy.role),
    ("created", lambda one: one.policy.created_at),
    ("comment", lambda one: one.policy.comment),
]
MORE: list[Column[CellPolicy]] = [
    ("filters", lambda one: ", ".join(_names(one, "filters"))),
    ("weighers", lambda one: ", ".join(_names(one, "weighers"))),
    ("options", lambda one: json.dumps(one.policy.document.get("options", {}), sort_keys=True)),
]
SHADOWS: list[Column[CellShadow]] = [
    ("cell", lambda one: one.cell),
    ("version", lambda one: one.summary.version),
    ("decisions", lambda one: one.summary.decisions),
    ("differing", lambda one: one.summary.differing),
    ("examples", lambda one: ", ".join(one.summary.examples)),
]


def _names(one: CellPolicy, key: str) -> list[str]:
    found = one.policy.document.get(key, [])
    return [str(name) for name in found] if isinstance(found, list) else []


@click.group()
def policy() -> None:
    """Policies: which filters and weighers schedulers use, and with which settings.

    \b
    A policy is a JSON or YAML file with up to three keys, each with a default:
      filters: [ComputeFilter, ResourceClassFilter]
      weighers: [RAMWeigher]
      options: {filter_scheduler.ram_weight_multiplier: 2.0}
    Stored ones never change; one is active, at most one more is tried in its shadow. Version 0 is built in.
    """


@policy.command("list")
@click.option("--cell", help="Only this cell's.")
@command
def list_policies(terminal: Terminal, cell: str | None) -> None:
    """All stored policies."""
    terminal.show_list(terminal.source().list_policies(cell), COLUMNS)


@policy.command("show")
@click.argument("version", type=int)
@click.option("--cell", help="The cell whose version is meant, where there are several.")
@command
def show_policy(terminal: Terminal, version: int, cell: str | None) -> None:
    """One policy with all it says."""
    found = [one for one in terminal.source().list_policies(cell) if one.policy.version == version]
    if not found:
        raise errors.NotFound(f"Scheduling policy {version} could not be found.")
    for one in found:
        terminal.show_one(one, COLUMNS + MORE)


@policy.command("set")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("--comment", default="", help="What it is for.")
@click.option("--activate", "role", flag_value="active", help="Use it at once.")
@click.option("--shadow", "role", flag_value="shadow", help="Try it in the shadow of the active one at once.")
@click.option("--cell", help="Only in this cell.")
@command
def set_policy(terminal: Terminal, file: str, comment: str, role: str | None, cell: str | None) -> None:
    """Store the policy of a FILE as a new version; nothing uses it yet.

    \b
    Examples:
      cellctl policy set packing.yaml --comment "fill hosts up" --shadow
      cellctl policy set packing.yaml --activate --cell east
    """
    source = terminal.source()
    added = source.add_policy(read_object(file), comment=comment, cell=cell)
    if role is not None:
        versions = {one.cell: one.policy.version for one in added}
        changed = [
            one
            for name, version in versions.items()
            for one in source.set_policy_role(role, version=version, cell=name)
        ]
        added = [one for one in changed if versions.get(one.cell) == one.policy.version]
    terminal.show_list(added, COLUMNS)


@policy.command("activate")
@click.argument("version", type=click.IntRange(0))
@click.option("--cell", help="Only in this cell.")
@command
def activate(terminal: Terminal, version: int, cell: str | None) -> None:
    """Let schedulers use a stored policy from now on. 0 is the one that is built in."""
    terminal.show_list(terminal.source().set_policy_role("active", version=version, cell=cell), COLUMNS)


@policy.command("shadow")
@click.argument("version", type=click.IntRange(0), required=False)
@click.option("--off", is_flag=True, help="Try none any more.")
@click.option("--cell", help="Only in this cell.")
@command
def shadow(terminal: Terminal, version: int | None, off: bool, cell: str | None) -> None:
    """Try a stored policy in the shadow of the active one: it takes nothing, but what it would have chosen is noted.

    \b
    Examples:
      cellctl policy shadow 3
      cellctl policy shadow --off
    """
    if off == (version is not None):
        raise click.UsageError("Give a VERSION, or --off.")
    terminal.show_list(terminal.source().set_policy_role("shadow", version=version, cell=cell), COLUMNS)


@policy.command("diff-report")
@click.option("--cell", help="Only this cell's.")
@command
def diff_report(terminal: Terminal, cell: str | None) -> None:
    """How many live decisions the shadow policy would have made otherwise, and which: look at one with 'cellctl
    replay decision ID --policy FILE' or 'cellctl why ID'."""
    terminal.show_list(terminal.source().list_shadows(cell), SHADOWS)
