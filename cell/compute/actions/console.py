"""What a guest shows: its serial console's text, and where its screen or its serial port listens."""

from __future__ import annotations

from dataclasses import replace

from cell.compute.driver import Driver
from cellcloud import errors
from cellcloud.model.console import ConsoleAddress

MOST_CHARACTERS = 1 << 20


def read_output(driver: Driver, server_id: str, length: int) -> str:
    """Return the last ``length`` characters, all that is kept when negative; never more than fits a message."""
    wanted = MOST_CHARACTERS if length < 0 else min(length, MOST_CHARACTERS)
    return driver.get_console_output(server_id, wanted) if wanted else ""


def find_address(driver: Driver, server_id: str, generation: int, protocol: str) -> ConsoleAddress:
    """Return where the guest's console of that protocol listens, for one opened at ``generation``.

    The guest is looked at after the address was read, so that the address cannot be another guest's by now.
    Raises NotFound, Stale when the guest has moved on, Conflict when it does not run, Invalid when it has none.
    """
    address = driver.get_console(server_id, protocol)
    guest = driver.find_guest(server_id)
    if guest is None:
        raise errors.NotFound("The server has no guest on this host.")
    if guest.generation > generation:
        raise errors.Stale("The server has changed since its console was opened.")
    return replace(address, generation=generation)
