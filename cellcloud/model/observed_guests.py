"""Guest: what runs on a hypervisor for a server, as its host shows it."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from cellcloud.model.network import Port
from cellcloud.model.server import ServerSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestState:
    """A guest as the hypervisor shows it. ``generation`` is the newest that the host has accepted for it.
    ``fenced``: its network devices are cut off. ``aside``: it is set aside for a move. ``beside``: the generation of an
    older one of the server that is set aside beside it, 0 where there is none."""

    server_id: str
    power_state: int
    generation: int
    project_id: str = ""
    fenced: bool = False
    aside: bool = False
    beside: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestDescription:
    """A guest with all that its host was told of it: enough to make its server's record again. ``rescued``: whether it
    is started from another disk than its own."""

    state: GuestState
    spec: ServerSpec
    ports: tuple[Port, ...] = ()
    rescued: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownGuest:
    """A guest on a host that no record accounts for: it stays until an operator adopts or removes it.

    ``removal``: an operator has asked for it, and the host has not done it yet.
    """

    host: str
    server_id: str
    generation: int
    power_state: int
    project_id: str
    reason: str
    removal: bool
    first_seen: dt.datetime
    cell: str = ""
