"""Units: what a cloud consists of when it runs, and what must be ready before what.

A unit knows how to run and how to tell that it is ready; who forks, watches and ends it is the supervisor's
business. Services and tasks are named by entry point ("package.module:function"), so that the launcher never
imports the code it launches.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from graphlib import CycleError, TopologicalSorter
from signal import SIGTERM
from typing import Any

from cellcloud import errors


class Kind(StrEnum):
    """What the end of a unit's process means."""

    DAEMON = "daemon"  # a program not ours: started again
    SERVICE = "service"  # a process of ours: started again
    TASK = "task"  # done when it ends well; when it fails the start has failed


def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One process. ``run`` is called in it: a daemon's replaces the process, a task's returns, a service's stays.

    ``after``: names of the units that must be ready first; they also stop later. ``grace``: seconds between
    ``stop_signal`` and SIGKILL. ``build`` makes a service without running it, for a process that holds many.
    """

    name: str
    kind: Kind
    run: Callable[[], None]
    after: tuple[str, ...] = ()
    ready: Callable[[], bool] = _always
    build: Callable[[], Any] | None = None
    stop_signal: int = SIGTERM
    grace: float = 10.0


def load_entry(target: str) -> Callable[..., Any]:
    """The function an entry point names. Raises Misconfigured when there is none."""
    module, _, name = target.partition(":")
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise errors.Misconfigured(f"There is no {target}: {error}") from error
    return found


def in_order(units: Iterable[Unit]) -> list[Unit]:
    """The units, each behind those it comes after. Raises Misconfigured on a circle or an unknown name."""
    known = {unit.name: unit for unit in units}
    try:
        order = TopologicalSorter({unit.name: unit.after for unit in known.values()}).static_order()
        return [known[name] for name in order]
    except (CycleError, KeyError) as error:
        raise errors.Misconfigured(f"The units wait for each other or for nobody: {error}") from error
