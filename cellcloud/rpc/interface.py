"""Declaring a service's verbs once.

An interface is a Protocol whose methods carry ``@call`` (answered) or ``@cast`` (not answered). ``verbs_of`` reads
them; the transport makes the client and the server from that.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """One method: its parameters' types in order (context left out), its answer's type, its time-out in seconds."""

    name: str
    answered: bool
    timeout: float
    fanout: bool
    parameters: dict[str, Any]
    answer: Any


def call(timeout: float = 10.0) -> Callable[[F], F]:
    """A verb with an answer, waited for at most ``timeout`` seconds and never past the context's budget."""

    def mark(function: F) -> F:
        function.__rpc__ = (True, timeout, False)  # type: ignore[attr-defined]
        return function

    return mark


def cast(*, fanout: bool = False) -> Callable[[F], F]:
    """A verb without an answer: it may be lost, repeated or overtaken. ``fanout``: to all who serve it."""

    def mark(function: F) -> F:
        function.__rpc__ = (False, 5.0, fanout)  # type: ignore[attr-defined]
        return function

    return mark


def verbs_of(interface: type[Any]) -> dict[str, Verb]:
    """The verbs an interface declares, by name."""
    found: dict[str, Verb] = {}
    for name, function in vars(interface).items():
        marks = getattr(function, "__rpc__", None)
        if marks is None:
            continue
        hints = typing.get_type_hints(function)
        parameters = [p for p in inspect.signature(function).parameters if p not in ("self", "context")]
        found[name] = Verb(
            name=name,
            answered=marks[0],
            timeout=marks[1],
            fanout=marks[2],
            parameters={p: hints[p] for p in parameters},
            answer=hints.get("return", type(None)),
        )
    return found


def topic_of(interface: type[Any], cell: str) -> str:
    """The queue of an interface in a cell; cells sharing one in-process transport stay apart by it."""
    return f"{cell}.{interface.__name__.lower()}"
