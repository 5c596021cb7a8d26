"""Accounts: who a message is from, by the word of the queue itself, and whom an account may speak to.

Each role has an account of its own on its cell's queue, and each host and each volume service. An account owns one
exchange, named after it, and the queues whose names begin alike; everything that is meant for it goes through that
exchange. It may send to the exchanges of those it asks or answers, as the interfaces declare, and to nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cellcloud import errors
from cellcloud.safe_regex import Pattern

NAME = Pattern(r"[A-Za-z0-9._-]+", most=200)
PRETENDED = Pattern(r"-fake-[0-9]+")  # ends the names of the hosts that a process with the fake driver stands for


class Role(StrEnum):
    """What kind of process an account is for."""

    TOP = "top"
    CONDUCTOR = "conductor"
    SCHEDULER = "scheduler"
    CONSOLEAUTH = "consoleauth"
    METADATA = "metadata"
    VOLUME = "volume"
    HOST = "host"


EACH = frozenset({Role.HOST, Role.VOLUME})
"""Roles of which each process has an account of its own, called after its host."""


@dataclass(frozen=True, slots=True)
class Account:
    """A role; one of EACH also has its ``host``. ``role`` None: everybody at once, which only a queue inside one
    process can have: there is nobody to be kept apart from."""

    role: Role | None
    host: str = ""

    @property
    def name(self) -> str:
        """The user's name on the broker."""
        return f"{self.role}.{self.host}" if self.role in EACH else str(self.role or "everybody")

    def speaks_for(self, host: str) -> bool:
        """Return whether it may say what only that host can know."""
        if self.role is not Role.HOST:
            return self.role in (None, Role.CONDUCTOR)
        return host == self.host or (host.startswith(self.host) and PRETENDED.matches(host.removeprefix(self.host)))


EVERYBODY = Account(None)


def host_account(host: str) -> Account:
    """Return the account of a host. Raises Misconfigured for a name that could be taken for more than one name."""
    if not NAME.matches(host):
        raise errors.Misconfigured(f"{host!r} cannot be the name of a host: letters, digits, dots, dashes only.")
    return Account(Role.HOST, host)


def volume_account(host: str) -> Account:
    """Return the account of a volume service. Raises Misconfigured as ``host_account``."""
    return Account(Role.VOLUME, host_account(host).host)


def account_of(name: str) -> Account | None:
    """Return the account with that name; None when it is not one of a cell's."""
    role, _, host = name.partition(".")
    if role in EACH:
        return Account(Role(role), host) if NAME.matches(host) else None
    return Account(Role(name)) if name in [*Role] else None


def exchange_of(queue: str) -> str:
    """Return the exchange that leads to a queue: cell and owner, the first two parts of its name."""
    return "/".join(queue.split("/", 2)[:2])
