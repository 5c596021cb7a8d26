"""The error tree, by what the caller should do.

    CellcloudError
    |-- FixRequest            the request is wrong: change it
    |   |-- Invalid               malformed or out of range              400
    |   |-- Unauthenticated       no valid credentials                   401
    |   |-- Forbidden             not allowed for this caller            403
    |   |   `-- QuotaExceeded         a limit of the project             403
    |   |-- NotFound              no such thing for this caller          404
    |   |-- Conflict              not in this state                      409
    |   |   `-- Stale                 the generation or version moved on 409
    |   |-- TooLarge              more bytes than are taken              413
    |   `-- NotSupported          nothing here can do it                 501
    |-- TryElsewhere            this host or cell cannot: choose another
    |   |-- NoValidHost           no host of the cell fits
    |   |-- ClaimLost             another request won the race
    |   `-- HostRefused           the host cannot do it
    |-- TryLater                nothing is wrong with the request: repeat it
    |   |-- Unreachable           no answer from a cell or service       503
    |   |   `-- LostConnection        a connection that had been kept ended 503
    |   |-- Busy                  a bound is reached                     503
    |   |-- NotYet                a service is too old for it            503
    |   `-- DeadlineExceeded      the time budget is used up             504
    `-- CallHuman               a defect or a broken installation        500
        |-- Misconfigured         an option or file is wrong
        `-- GuestFailed           the hypervisor refused the guest

``message`` is written for the user who asked: no path, no secret, no traceback. ``detail`` is for administrators
and logs.

Errors of the tree cross queues. What a module makes of one for its own use (a class of its own below) arrives as the
class of the tree that it is, and what a newer service knows and an older one does not, as the nearest that it does.
"""

from __future__ import annotations

from collections.abc import Iterable


class CellcloudError(Exception):
    """Any error this project raises on purpose. ``relayed``: another process raised it and answered with it."""

    relayed = False

    def __init__(self, message: str = "", *, detail: str = "") -> None:
        super().__init__(message)
        self.message = message or type(self).__name__
        self.detail = detail
        if detail:
            self.add_note(detail)  # tracebacks end with it


class FixRequest(CellcloudError):
    """The request is wrong and will stay wrong."""


class Invalid(FixRequest):
    """Malformed, out of range, or naming something that does not exist."""


class Unauthenticated(FixRequest):
    """No credentials, or they are not valid."""


class Forbidden(FixRequest):
    """The caller may not do this."""


class QuotaExceeded(Forbidden):
    """A limit of the project would be exceeded."""


class NotFound(FixRequest):
    """There is no such thing, or not for this caller."""


class Conflict(FixRequest):
    """The thing is in a state that does not allow this."""


class Stale(Conflict):
    """The caller's generation or version is older than the record's."""


class TooLarge(FixRequest):
    """The body or a field has more bytes than are taken."""


class NotSupported(FixRequest):
    """Nothing here can do what was asked, whenever it is asked."""


class TryElsewhere(CellcloudError):
    """This host or cell cannot; another may."""


class NoValidHost(TryElsewhere):
    """No host of the cell fits the request."""


class ClaimLost(TryElsewhere):
    """Another request took the room first."""


class HostRefused(TryElsewhere):
    """The host cannot do what was asked."""


class TryLater(CellcloudError):
    """Nothing is wrong with the request; repeat it later."""


class Unreachable(TryLater):
    """A cell or an outside service did not answer."""


class LostConnection(Unreachable):
    """The connection to the database ended, and with it a transaction of which nothing is committed: all of it may be
    done again, on another connection."""


class Busy(TryLater):
    """A bound is reached; there is no room right now."""


class NotYet(TryLater):
    """A service that has to do it does not know how to yet: its software is older than the asker's."""


class DeadlineExceeded(TryLater):
    """The time budget of the request is used up."""


class CallHuman(CellcloudError):
    """A defect, or an installation that needs repair."""


class Misconfigured(CallHuman):
    """An option or a file of the installation is wrong."""


class GuestFailed(CallHuman):
    """The hypervisor refused the guest."""


TREE: dict[str, type[CellcloudError]] = {
    name: value
    for name, value in list(globals().items())
    if isinstance(value, type) and issubclass(value, CellcloudError)
}
"""The classes above by their names."""


def lineage(error: CellcloudError) -> tuple[str, ...]:
    """Return the names of the classes of the tree that an error is of, the nearest first."""
    return tuple(cls.__name__ for cls in type(error).__mro__ if TREE.get(cls.__name__) is cls)


def nearest(names: Iterable[str]) -> type[CellcloudError]:
    """Return the first class that is known here, of names as ``lineage`` tells them; CellcloudError where none is."""
    return next((TREE[name] for name in names if name in TREE), CellcloudError)
