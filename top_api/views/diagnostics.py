"""How a guest's figures look: below 2.48 by its driver's names, then in one form. Source: Nova's view and driver."""

from __future__ import annotations

from typing import Any

from cellcloud import clock
from cellcloud.model.guest_questions import GuestDiagnostics
from cellcloud.model.server import ServerRecord
from cellcloud.server_states import PowerState

_STATES = {PowerState.NOSTATE: "pending"}


def by_driver(found: GuestDiagnostics) -> dict[str, int]:
    """Names are made of the devices'; memory in KiB, times in nanoseconds."""
    shown = {f"cpu{number}_time": used for number, used in found.cpu_times.items()}
    for disk in found.disks:
        shown |= {
            f"{disk.name}_read_req": disk.read_requests,
            f"{disk.name}_read": disk.read_bytes,
            f"{disk.name}_write_req": disk.write_requests,
            f"{disk.name}_write": disk.write_bytes,
            f"{disk.name}_errors": disk.errors,
        }
    for nic in found.nics:
        for way in ("rx", "tx"):
            shown[f"{nic.name}_{way}"] = getattr(nic, f"{way}_octets")
            shown |= {
                f"{nic.name}_{way}_{what}": getattr(nic, f"{way}_{what}") for what in ("packets", "errors", "drop")
            }
    shown["memory"] = found.memory_kb[0]
    return shown | {f"memory-{name}": amount for name, amount in found.memory_figures.items()}


def in_one_form(found: GuestDiagnostics, record: ServerRecord) -> dict[str, Any]:
    """Memory in MiB, times in nanoseconds, uptime in seconds since the server was first started. No rates are
    measured."""
    power, launched = PowerState(found.power_state), record.launched_at
    names = ("octets", "errors", "drop", "packets")
    return {
        "state": _STATES.get(power, power.name.lower()),
        "driver": found.driver,
        "hypervisor": found.hypervisor,
        "hypervisor_os": "linux",
        "uptime": int((clock.now() - launched).total_seconds()) if launched else None,
        "config_drive": record.spec.config_drive,
        "num_cpus": len(found.cpu_times),
        "num_nics": len(found.nics),
        "num_disks": len(found.disks),
        "disk_details": [
            {
                "read_bytes": disk.read_bytes,
                "read_requests": disk.read_requests,
                "write_bytes": disk.write_bytes,
                "write_requests": disk.write_requests,
                "errors_count": disk.errors,
            }
            for disk in found.disks
        ],
        "cpu_details": [
            {"id": number, "time": used, "utilisation": None} for number, used in sorted(found.cpu_times.items())
        ],
        "nic_details": [
            {"mac_address": nic.mac_address, "rx_rate": None, "tx_rate": None}
            | {f"{way}_{name}": getattr(nic, f"{way}_{name}") for way in ("rx", "tx") for name in names}
            for nic in found.nics
        ],
        "memory_details": {"maximum": found.memory_kb[0] >> 10, "used": found.memory_kb[1] >> 10},
    }
