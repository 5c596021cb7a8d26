"""What a running guest is asked or told at once, without a run, and its answer."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec


class Question(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """One thing to ask a host about a guest, or to tell the guest."""


class Diagnose(Question, frozen=True, kw_only=True, tag="diagnose"):
    """What the guest has used so far."""


class SetPassword(Question, frozen=True, kw_only=True, tag="set_password"):
    """Let its agent give a user of the guest another password."""

    user: str
    password: str

    def __repr__(self) -> str:
        return f"SetPassword(user={self.user!r})"


class InjectNmi(Question, frozen=True, kw_only=True, tag="inject_nmi"):
    """Interrupt its processors in a way that they cannot mask: many systems dump their memory on it."""


GuestQuestion = Diagnose | SetPassword | InjectNmi


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskFigures:
    """``name``: as the guest's machine has it."""

    name: str
    read_bytes: int
    read_requests: int
    write_bytes: int
    write_requests: int
    errors: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NicFigures:
    """``name``: of its device on the host."""

    name: str
    mac_address: str
    rx_octets: int
    rx_packets: int
    rx_errors: int
    rx_drop: int
    tx_octets: int
    tx_packets: int
    tx_errors: int
    tx_drop: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestDiagnostics:
    """``memory_kb``: what it was given, and has now. ``memory_figures``: the hypervisor's own, by its own names.
    ``cpu_times``: nanoseconds by number of the virtual CPU."""

    power_state: int
    driver: str
    hypervisor: str
    memory_kb: tuple[int, int]
    memory_figures: dict[str, int] = field(default_factory=dict)
    cpu_times: dict[int, int] = field(default_factory=dict)
    disks: tuple[DiskFigures, ...] = ()
    nics: tuple[NicFigures, ...] = ()
