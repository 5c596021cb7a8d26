"""Units: what a cloud consists of when it runs, and what must be ready before what.

A unit knows how to run and how to tell that it is ready; who forks, watches and ends it is the supervisor's
business. Services are found by name among the entry points of what is installed, so that the launcher never names
the code it launches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib import metadata
from signal import SIGTERM
from typing import Any

from cellcloud import errors

SERVICES = "cellcloud.services"


class UnitKind(StrEnum):
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
    kind: UnitKind
    run: Callable[[], None]
    after: tuple[str, ...] = ()
    ready: Callable[[], bool] = _always
    build: Callable[[], Any] | None = None
    stop_signal: int = SIGTERM
    grace: float = 10.0


@cache
def _services() -> metadata.EntryPoints:
    """Return the services that are installed: looked for once, and for all that are forked later."""
    return metadata.entry_points(group=SERVICES)


def list_service_modules() -> list[str]:
    """Return the modules of all services that are installed."""
    return sorted({entry.module for entry in _services()})


def load_service(name: str) -> Callable[..., Any]:
    """Return what builds a service from its options. Raises Misconfigured when it is not installed."""
    try:
        (entry,) = _services().select(name=name)
        build: Callable[..., Any] = entry.load()
    except (ValueError, ImportError, AttributeError) as error:
        raise errors.Misconfigured(f"The service {name} is not installed: {error}") from error
    return build


def in_order(units: Iterable[Unit]) -> list[Unit]:
    """Return the units, each behind those it comes after. Raises Misconfigured on a circle or an unknown name."""
    known = {unit.name: unit for unit in units}
    try:
        order = TopologicalSorter({unit.name: unit.after for unit in known.values()}).static_order()
        return [known[name] for name in order]
    except (CycleError, KeyError) as error:
        raise errors.Misconfigured(f"The units wait for each other or for nobody: {error}") from error
