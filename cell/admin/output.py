"""What operators see: tables for people, JSON for programs. What users named cannot steer the terminal."""

from __future__ import annotations

import datetime as dt
import json
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import click
from tabulate import tabulate

from cellcloud.model import codec

T = TypeVar("T")
Column = tuple[str, Callable[[T], object]]


def clean(value: object) -> str:
    """Return a value as one line of printable text; control, formatting and unassigned characters become "?"."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dt.datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    text = "; ".join(str(value).split("\n"))
    return "".join("?" if unicodedata.category(letter).startswith("C") else letter for letter in text)


def show_list(form: str, items: Sequence[T], columns: Sequence[Column[T]]) -> None:
    """Print one line an item, or the items as a JSON list."""
    if form == "json":
        _show_json([codec.to_plain(item) for item in items])
        return
    rows = [[clean(read(item)) for _, read in columns] for item in items]
    click.echo(_table(rows, [name for name, _ in columns]))


def show_one(form: str, item: T, columns: Sequence[Column[T]]) -> None:
    """Print one line a field, or the whole item as a JSON object."""
    if form == "json":
        _show_json(codec.to_plain(item))
        return
    click.echo(_table([[name, clean(read(item))] for name, read in columns], ["field", "value"]))


def _show_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=True))


def _table(rows: Iterable[Sequence[str]], headers: Sequence[str]) -> str:
    return str(tabulate(rows, headers=headers, tablefmt="simple", disable_numparse=True))
