"""Guest: what runs on a hypervisor for a server; commands to a host and its reports."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from enum import StrEnum

from cellcloud.model.network import Port
from cellcloud.model.server import ServerSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestState:
    """A guest as the hypervisor shows it. ``generation`` is the newest that the host has accepted for it.
    ``fenced``: its network devices are cut off."""

    server_id: str
    power_state: int
    generation: int
    project_id: str = ""
    fenced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestDescription:
    """A guest with all that its host was told of it: enough to make its server's record again."""

    state: GuestState
    spec: ServerSpec
    ports: tuple[Port, ...] = ()


class CommandKind(StrEnum):
    SPAWN = "spawn"
    START = "start"
    STOP = "stop"
    REBOOT_SOFT = "reboot_soft"
    REBOOT_HARD = "reboot_hard"
    DESTROY = "destroy"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestCommand:
    """One thing to do to one guest. Repeating it is harmless; ``run_id`` + ``step`` name the answer's addressee.

    ``spec`` and ``ports`` are given for SPAWN, and for START and REBOOT_HARD so that a lost definition can be
    made again. ``host``: the one it is for, where a message carries commands for several.
    """

    kind: CommandKind
    run_id: str
    step: str
    server_id: str
    generation: int
    spec: ServerSpec | None = None
    ports: tuple[Port, ...] = ()
    request_id: str = ""
    host: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestEvent:
    """The outcome of a command, or (``run_id`` empty) a change nobody asked for.

    ``error`` is the name of a class of cellcloud.errors, empty for success.
    """

    host: str
    server_id: str
    generation: int
    power_state: int
    run_id: str = ""
    step: str = ""
    error: str = ""
    message: str = ""
    detail: str = ""
    outputs: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedGuest:
    """What the cell's records say a host should hold; the host compares and corrects.

    ``running``: True or False as recorded, None while a run is under way (leave it alone).
    """

    server_id: str
    generation: int
    running: bool | None
    project_id: str = ""


class OrderKind(StrEnum):
    """What a cell may tell a host to do with a guest that is not among those it expects there."""

    DESTROY = "destroy"  # its record says deleted, or an operator said so
    STOP = "stop"  # its record, no older than it, has the server elsewhere
    FENCE = "fence"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestOrder:
    """``generation``: of what the order is based on; a guest that is newer by now is left alone."""

    server_id: str
    kind: OrderKind
    generation: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestOrders:
    """A cell's answer to the list of a host's guests: those it should hold, and what to do with some others."""

    expected: tuple[ExpectedGuest, ...] = ()
    orders: tuple[GuestOrder, ...] = ()


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleAddress:
    """Where a guest's VNC server listens. ``socket`` (a unix socket) wins over host and port when set."""

    server_id: str
    generation: int
    host: str
    port: int
    socket: str = ""
