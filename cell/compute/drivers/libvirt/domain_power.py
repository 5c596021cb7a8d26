"""What runs of a domain, and how that is changed: each by libvirt's own calls on one domain.

A domain whose memory libvirt has put on disk is suspended, and whatever creates it goes on from there.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from typing import Any

import libvirt

from cell.compute.drivers.libvirt.domain_ownership import is_ours
from cellcloud.server_states import PowerState

POWER_STATES = {
    libvirt.VIR_DOMAIN_RUNNING: PowerState.RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED: PowerState.RUNNING,
    libvirt.VIR_DOMAIN_PAUSED: PowerState.PAUSED,
    libvirt.VIR_DOMAIN_SHUTDOWN: PowerState.RUNNING,  # on its way down
    libvirt.VIR_DOMAIN_SHUTOFF: PowerState.SHUTDOWN,
    libvirt.VIR_DOMAIN_CRASHED: PowerState.CRASHED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: PowerState.SUSPENDED,
}
HAS_MEMORY = (PowerState.RUNNING, PowerState.PAUSED, PowerState.SUSPENDED)
UNDEFINE = (
    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
)


def list_states(opened: Any, known: Collection[str]) -> dict[str, int]:
    """Of guests that are recorded or carry our mark: what others run here is none of our business."""
    saved = {domain.name() for domain in opened.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE)}
    stats = opened.getAllDomainStats(libvirt.VIR_DOMAIN_STATS_STATE, 0)
    return {
        domain.name(): _power_state(
            values.get("state.state", 0), values.get("state.reason", 0), saved=domain.name() in saved
        )
        for domain, values in stats
        if domain.name() in known or is_ours(domain)
    }


def power_of(domain: Any) -> int:
    state, reason = domain.state()
    saved = state == libvirt.VIR_DOMAIN_SHUTOFF and bool(domain.hasManagedSaveImage())
    return _power_state(state, reason, saved=saved)


def _power_state(state: int, reason: int, *, saved: bool) -> int:
    if saved and state == libvirt.VIR_DOMAIN_SHUTOFF:
        return PowerState.SUSPENDED
    if (state, reason) == (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR):
        return PowerState.RUNNING  # and waits for its disk
    return POWER_STATES.get(state, PowerState.NOSTATE)


def start(opened: Any, definition: str) -> None:
    domain = opened.defineXML(definition)
    state = domain.state()[0]
    if state == libvirt.VIR_DOMAIN_PAUSED:
        domain.resume()
    elif state == libvirt.VIR_DOMAIN_PMSUSPENDED:
        domain.pMWakeup()
    elif not domain.isActive():
        domain.create()


def save_memory(domain: Any) -> None:
    if domain.isActive():
        domain.managedSave(libvirt.VIR_DOMAIN_SAVE_RUNNING)


def drop_memory(domain: Any) -> None:
    if domain.hasManagedSaveImage():
        domain.managedSaveRemove()


def ask_off(domain: Any) -> None:
    with suppress(libvirt.libvirtError):  # it may be off by now; the caller looks again
        domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)


def cut_power(domain: Any) -> None:
    if domain.isActive():
        try:
            domain.destroy()
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_OPERATION_INVALID:  # off by itself meanwhile
                raise


def remove(domain: Any) -> None:
    cut_power(domain)
    domain.undefineFlags(UNDEFINE)
