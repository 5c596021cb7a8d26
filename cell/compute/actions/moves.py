"""Carries out with the host's driver what moves one guest."""

from __future__ import annotations

from collections.abc import Callable

from cell.compute.driver import DiskSource, Driver, ImageStore
from cellcloud.model.guest_commands import Arrive, FetchDisks, MoveBack, Moving, OfferDisks, SetAside
from cellcloud.model.observed_guests import GuestState
from cellcloud.server_states import PowerState


def perform(
    driver: Driver, images: ImageStore, command: Moving, shutdown_timeout: float, tell: Callable[[int], None]
) -> GuestState:
    """Return the guest as it is afterwards. Raises what the driver raises."""
    server_id, generation = command.server_id, command.generation
    match command:
        case SetAside():
            return driver.set_aside(server_id, generation, shutdown_timeout)
        case FetchDisks():
            source = DiskSource(host=command.source, offer=command.offer)
            return driver.fetch_disks(command.spec, generation, command.ports, images, source, tell)
        case Arrive():
            return driver.arrive(command.spec, generation, command.ports, running=command.running)
        case MoveBack():
            return driver.move_back(command.spec, generation, command.ports, running=command.running)
    if not isinstance(command, OfferDisks):
        driver.discard(server_id, generation)
    nothing = GuestState(server_id=server_id, power_state=PowerState.NOSTATE, generation=generation)
    return driver.find_guest(server_id) or nothing


def find_offer(driver: Driver, command: object) -> dict[str, str]:
    """Return what the disks of a guest that is set aside are had by, where that is asked for."""
    return driver.offer_disks(command.server_id) if isinstance(command, OfferDisks) else {}
