"""Declaring a service's verbs once.

An interface is a Protocol whose methods carry ``@call`` (answered) or ``@cast`` (not answered), and which itself says
with ``@served_by`` whose account serves it. ``verbs_of`` reads them; the transport makes the client and the server
from that, and the broker's permissions follow from it.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from cellcloud.rpc.accounts import EACH, Account, Role

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound=type[Any])
_READ: dict[type[Any], Mapping[str, Verb]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """One method: its parameters' types in order (context left out), its answer's type, its time-out in seconds.

    ``callers``: the roles that may call it, beside the cell's conductors, which may call everything. ``about``: the
    parameter that names the host a host speaks of, or hosts, or has what names one (``host``, ``queue``). ``since``:
    the minor version of the interface that brought it. ``pages``: of a list that may not fit into a message, the
    attributes by which it is cut (see ``paging``).
    """

    name: str
    answered: bool
    timeout: float
    fanout: bool
    parameters: dict[str, Any]
    answer: Any
    callers: frozenset[Role]
    about: str
    since: int
    pages: tuple[str, ...] = ()

    def admits(self, account: Account | None) -> bool:
        """Return whether that account may call it at all."""
        return account is not None and (account.role in (None, Role.CONDUCTOR) or account.role in self.callers)

    def is_about(self, account: Account, given: dict[str, Any]) -> bool:
        """Return whether what it is given speaks of no other host than the caller may speak for."""
        if account.role is not Role.HOST:
            return True
        return all(
            account.speaks_for(host) and queue in ("", account.host) for host, queue in _hosts_in(given.get(self.about))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Marks:
    answered: bool
    timeout: float
    fanout: bool
    by: tuple[Role, ...] | None
    about: str
    since: int
    pages: tuple[str, ...] = ()


def call(
    timeout: float = 10.0,
    *,
    by: tuple[Role, ...] | None = None,
    about: str = "",
    since: int = 0,
    pages: tuple[str, ...] = (),
) -> Callable[[F], F]:
    """Return a verb with an answer, waited for at most ``timeout`` seconds and never past the context's budget.

    ``by``: who may call it; None: those who may call the interface. ``about``, ``since`` and ``pages`` as in Verb.
    """
    marks = _Marks(answered=True, timeout=timeout, fanout=False, by=by, about=about, since=since, pages=pages)
    return _marker(marks)


def cast(
    *, fanout: bool = False, by: tuple[Role, ...] | None = None, about: str = "", since: int = 0
) -> Callable[[F], F]:
    """Return a verb without an answer: it may be lost, repeated or overtaken. ``fanout``: to all who serve it."""
    return _marker(_Marks(answered=False, timeout=5.0, fanout=fanout, by=by, about=about, since=since))


def _marker(marks: _Marks) -> Callable[[F], F]:
    def mark(function: F) -> F:
        function.__rpc__ = marks  # type: ignore[attr-defined]
        return function

    return mark


def served_by(role: Role, *, callers: tuple[Role, ...], queue: str = "") -> Callable[[C], C]:
    """Whose account serves an interface, and who may call its verbs where they say nothing else.

    ``queue``: what its queue is called, where not as the interface: that name is for ever.
    """

    def mark(interface: C) -> C:
        interface.__server__, interface.__callers__, interface.__queue__ = role, callers, queue
        return interface

    return mark


def server_of(interface: type[Any]) -> Role:
    """Return the role that serves an interface."""
    return getattr(interface, "__server__", Role.CONDUCTOR)


def verbs_of(interface: type[Any]) -> Mapping[str, Verb]:
    """Return the verbs an interface declares, by name."""
    if interface not in _READ:
        _READ[interface] = _read_verbs(interface)
    return _READ[interface]


def _read_verbs(interface: type[Any]) -> Mapping[str, Verb]:
    found: dict[str, Verb] = {}
    usual: tuple[Role, ...] = getattr(interface, "__callers__", ())
    for name, function in vars(interface).items():
        marks: _Marks | None = getattr(function, "__rpc__", None)
        if marks is None:
            continue
        hints = typing.get_type_hints(function)
        parameters = [p for p in inspect.signature(function).parameters if p not in ("self", "context")]
        found[name] = Verb(
            name=name,
            answered=marks.answered,
            timeout=marks.timeout,
            fanout=marks.fanout,
            parameters={p: hints[p] for p in parameters},
            answer=hints.get("return", type(None)),
            callers=frozenset(usual if marks.by is None else marks.by),
            about=marks.about,
            since=marks.since,
            pages=marks.pages,
        )
    return found


def version_of(interface: type[Any]) -> str:
    """Return the version of an interface: one major for ever, the minor of its newest verb."""
    return f"1.{max((verb.since for verb in verbs_of(interface).values()), default=0)}"


def queue_of(interface: type[Any]) -> str:
    """Return what an interface is called on the wire."""
    return getattr(interface, "__queue__", "") or interface.__name__


def topic_of(interface: type[Any], cell: str, server: str | None = None) -> str:
    """Return the queue of an interface in a cell; ``server``: the host, for one that hosts serve."""
    role = server_of(interface)
    owner = Account(role, server or "") if role in EACH else Account(role)
    return f"{cell}/{owner.name}/{queue_of(interface)}"


def _hosts_in(value: Any) -> Iterator[tuple[str, str]]:
    """Return the (host, queue) that a value speaks of; a value that is not there speaks of a host without a name."""
    if isinstance(value, list | tuple):
        for item in value:
            yield (item, "") if isinstance(item, str) else (str(item.host), str(getattr(item, "queue", "")))
    else:
        yield str(value or ""), ""
