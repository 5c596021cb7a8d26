"""Carries out with the host's driver what is done with a volume of one guest."""

from __future__ import annotations

from cell.compute.driver import Driver
from cellcloud.model.guest_commands import AttachVolume, DetachVolume, VolumeCommand
from cellcloud.model.observed_guests import GuestState


def perform(driver: Driver, command: VolumeCommand, detach_timeout: float) -> GuestState:
    """Return the guest as it is afterwards. Raises what the driver raises."""
    guest = command.server_id, command.generation
    match command:
        case AttachVolume():
            return driver.attach_volume(*guest, command.volume)
        case DetachVolume():
            return driver.detach_volume(*guest, command.volume, detach_timeout)
    return driver.extend_volume(*guest, command.volume)
