"""Carries out one command on one guest with the host's driver."""

from __future__ import annotations

from cell.compute.driver import Driver, ImageStore
from cellcloud import errors
from cellcloud.lifecycle import PowerState
from cellcloud.model.guest import CommandKind, GuestCommand, GuestState


def perform(driver: Driver, images: ImageStore, command: GuestCommand, shutdown_timeout: float) -> GuestState:
    """The guest as it is afterwards. Raises what the driver raises."""
    server_id, generation = command.server_id, command.generation
    match command.kind:
        case CommandKind.SPAWN:
            return _spawn(driver, images, command)
        case CommandKind.STOP:
            return driver.stop(server_id, generation, shutdown_timeout)
        case CommandKind.REBOOT_SOFT:
            return driver.reboot(server_id, generation, hard=False, timeout=shutdown_timeout)
        case CommandKind.START | CommandKind.REBOOT_HARD:
            return _run_again(driver, command)
        case CommandKind.DESTROY:
            driver.destroy(server_id, generation)
            return GuestState(server_id=server_id, power_state=PowerState.NOSTATE, generation=generation)


def _spawn(driver: Driver, images: ImageStore, command: GuestCommand) -> GuestState:
    if command.spec is None:
        raise errors.Invalid("A command to spawn a guest does not say what to spawn.")
    return driver.spawn(command.spec, command.generation, command.ports, images)


def _run_again(driver: Driver, command: GuestCommand) -> GuestState:
    """Start or hard reboot; a definition that got lost is made again around the disks that are there, and only around
    them: a guest without its disks is an error, never a new guest."""
    try:
        if command.kind is CommandKind.START:
            return driver.start(command.server_id, command.generation)
        return driver.reboot(command.server_id, command.generation, hard=True, timeout=0.0)
    except errors.NotFound:
        if command.spec is None:
            raise
        return driver.restore(command.spec, command.generation, command.ports)
