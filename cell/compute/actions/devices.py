"""Carries out with the host's driver what is done with one device of a guest: a volume or a port."""

from __future__ import annotations

from cell.compute.driver import Driver
from cellcloud.model.guest_commands import AttachPort, AttachVolume, DetachVolume, PortCommand, VolumeCommand
from cellcloud.model.observed_guests import GuestState


def perform(driver: Driver, command: VolumeCommand | PortCommand, detach_timeout: float) -> GuestState:
    """Return the guest as it is afterwards. Raises what the driver raises."""
    guest = command.server_id, command.generation
    if isinstance(command, PortCommand):
        if isinstance(command, AttachPort):
            return driver.attach_port(*guest, command.port)
        return driver.detach_port(*guest, command.port, detach_timeout)
    match command:
        case AttachVolume():
            return driver.attach_volume(*guest, command.volume)
        case DetachVolume():
            return driver.detach_volume(*guest, command.volume, detach_timeout)
    return driver.extend_volume(*guest, command.volume)
