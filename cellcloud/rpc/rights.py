"""What each account may do on its cell's queue, as it follows from who may call whom."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from cellcloud import errors
from cellcloud.rpc.accounts import EACH, NAME, Account, Role
from cellcloud.rpc.compute import Compute
from cellcloud.rpc.conductor import Conductor
from cellcloud.rpc.consoleauth import ConsoleAuth
from cellcloud.rpc.feed_notification import Router
from cellcloud.rpc.interface import server_of, verbs_of
from cellcloud.rpc.network_store import NetworkStore
from cellcloud.rpc.scheduler import Scheduler
from cellcloud.rpc.scheduling_store import SchedulingStore
from cellcloud.rpc.volume_store import VolumeStore
from cellcloud.safe_regex import Pattern

INTERFACES = (Conductor, SchedulingStore, NetworkStore, Scheduler, Compute, ConsoleAuth, Router, VolumeStore)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """Patterns of whole names: what an account may declare, send to or bind, and receive from, in RabbitMQ's words."""

    configure: str
    write: str
    read: str

    def allow(self, right: str, name: str) -> bool:
        """Return whether one of the three patterns holds for the name of a queue or an exchange."""
        return _compiled(getattr(self, right)).matches(name)


def rights_of(account: Account, cell: str) -> Rights:
    """Everything of its own, and sending to the exchanges of those it asks or answers. Hosts and volume services have
    an exchange each, the others one a role. Raises Misconfigured for a cell's name that is no plain word."""
    if not NAME.matches(cell):
        raise errors.Misconfigured(f"{cell!r} cannot be the name of a cell: letters, digits, dots, dashes only.")
    if account.role is None:
        return Rights(configure=".*", write=".*", read=".*")
    begin, name = (text.replace(".", r"\.") for text in (cell, account.name))
    own = rf"{begin}/{name}(/.*)?"
    to = "|".join(rf"{role}\.[^/]+" if role in EACH else str(role) for role in sorted(_partners(account.role)))
    return Rights(configure=own, write=rf"{own}|{begin}/({to})", read=own)


@functools.cache
def _compiled(pattern: str) -> Pattern:
    return Pattern(pattern)


@functools.cache
def _partners(role: Role) -> frozenset[Role]:
    """Return the roles that one asks or answers. Conductors may ask anybody."""
    if role is Role.CONDUCTOR:
        return frozenset(Role)
    found = {Role.CONDUCTOR}
    for interface in INTERFACES:
        for verb in verbs_of(interface).values():
            if role in verb.callers:
                found.add(server_of(interface))
            if server_of(interface) is role and verb.answered:
                found |= verb.callers
    return frozenset(found)
