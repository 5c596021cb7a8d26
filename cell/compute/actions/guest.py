"""Carries out one command on one guest with the host's driver."""

from __future__ import annotations

from collections.abc import Callable

from cell.compute.actions import devices, image, moves
from cell.compute.driver import Driver, ImageStore
from cellcloud import errors
from cellcloud.model.guest_commands import (
    Destroy,
    GuestCommand,
    ImageCommand,
    Moving,
    PortCommand,
    PrepareRebuild,
    RebootHard,
    RebootSoft,
    Rebuild,
    Rescue,
    Spawn,
    Start,
    Stop,
    Unrescue,
    VolumeCommand,
)
from cellcloud.model.observed_guests import GuestState
from cellcloud.server_states import PowerState


def perform(
    driver: Driver,
    images: ImageStore,
    command: GuestCommand,
    shutdown_timeout: float,
    reboot_timeout: float = 0.0,
    tell: Callable[[int], None] = lambda percent: None,
    detach_timeout: float = 0.0,
) -> GuestState:
    """Carry out a command, and return the guest as it is afterwards. Times: seconds it has to power off by itself, to
    be stopped and to be rebooted, and to let go of a device. ``tell`` is called with how far a long one is. Raises what
    the driver raises."""
    if isinstance(command, Moving):
        return moves.perform(driver, images, command, shutdown_timeout, tell)
    if isinstance(command, VolumeCommand | PortCommand):
        return devices.perform(driver, command, detach_timeout)
    return _perform(driver, images, command, shutdown_timeout, reboot_timeout)


def _perform(  # noqa: PLR0911 -- one for each kind
    driver: Driver, images: ImageStore, command: GuestCommand, shutdown_timeout: float, reboot_timeout: float
) -> GuestState:
    server_id, generation = command.server_id, command.generation
    match command:
        case Spawn():
            return driver.spawn(command.spec, generation, command.ports, images)
        case Stop():
            return driver.stop(server_id, generation, shutdown_timeout)
        case RebootSoft():
            return driver.reboot(server_id, generation, hard=False, timeout=reboot_timeout)
        case Start() | RebootHard():
            return _run_again(driver, command)
        case PrepareRebuild():
            return driver.prepare_rebuild(command.spec, generation, images)
        case Rebuild():
            wanted = {"run": command.run, "keep_ephemeral": command.keep_ephemeral}
            return driver.rebuild(command.spec, generation, command.ports, images, timeout=shutdown_timeout, **wanted)
        case Rescue():
            return driver.rescue(command.spec, generation, command.ports, command.image, images, shutdown_timeout)
        case Unrescue():
            return driver.unrescue(server_id, generation, running=command.running)
        case ImageCommand():
            return image.perform(driver, images, command)
        case Destroy():
            driver.destroy(server_id, generation)
            return GuestState(server_id=server_id, power_state=PowerState.NOSTATE, generation=generation)
        case _:
            verb: Callable[[str, int], GuestState] = getattr(driver, command.kind)
            return verb(server_id, generation)


def _run_again(driver: Driver, command: Start | RebootHard) -> GuestState:
    """Start or hard reboot; a definition that got lost is made again around the disks that are there, and only around
    them: a guest without its disks is an error, never a new guest."""
    try:
        if isinstance(command, Start):  # from its own disk, whatever it was when it was put away
            driver.unrescue(command.server_id, command.generation, running=False)
            return driver.start(command.server_id, command.generation)
        return driver.reboot(command.server_id, command.generation, hard=True, timeout=0.0)
    except errors.NotFound:
        return driver.restore(command.spec, command.generation, command.ports)
