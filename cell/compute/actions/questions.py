"""Answers one question about a guest with the host's driver."""

from __future__ import annotations

from cell.compute.driver import Driver
from cellcloud import errors
from cellcloud.model.guest_questions import Diagnose, GuestDiagnostics, GuestQuestion, InjectNmi, SetPassword


def answer(driver: Driver, server_id: str, generation: int, question: GuestQuestion) -> GuestDiagnostics | None:
    """Ask the driver what is asked of a guest. Raises NotFound, Stale when the guest has moved on, and what the driver
    raises."""
    guest = driver.find_guest(server_id)
    if guest is None:
        raise errors.NotFound("The server has no guest on this host.")
    if guest.generation > generation:
        raise errors.Stale("The server has changed since.")
    match question:
        case Diagnose():
            return driver.get_diagnostics(server_id)
        case SetPassword():
            driver.set_password(server_id, question.user, question.password)
        case InjectNmi():
            driver.inject_nmi(server_id)
    return None
