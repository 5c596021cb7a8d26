"""How a host looks as a hypervisor at each microversion."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Any

from cellcloud.model.host import Host
from top_api.request_pipeline import Call

Server = dict[str, str]
_FIGURES = (
    "vcpus", "memory_mb", "local_gb", "vcpus_used", "memory_mb_used", "local_gb_used", "free_ram_mb", "free_disk_gb",
    "current_workload", "running_vms", "disk_available_least",
)  # fmt: skip


def number_of(identifier: str) -> int:
    """Return the whole number that stands for a UUID below microversion 2.53."""
    return uuid.UUID(identifier).int % 0x7FFFFFFF + 1


def id_of(call: Call, host: Host) -> str | int:
    """Return a UUID from 2.53, a number before."""
    return host.id if call.version >= (2, 53) else number_of(host.id)


def brief(call: Call, host: Host, *, fresh: bool, servers: Sequence[Server] | None = None) -> dict[str, Any]:
    """Return an item of GET /os-hypervisors."""
    shown: dict[str, Any] = {
        "id": id_of(call, host),
        "hypervisor_hostname": host.facts.hypervisor_hostname,
        "state": "up" if host.up and fresh else "down",
        "status": "enabled" if host.enabled else "disabled",
    }
    if servers is not None and (servers or call.version >= (2, 75)):
        shown["servers"] = list(servers)
    return shown


def detail(call: Call, host: Host, *, fresh: bool, servers: Sequence[Server] | None = None) -> dict[str, Any]:
    """Return a whole hypervisor: its figures left at 2.88."""
    shown = brief(call, host, fresh=fresh, servers=servers)
    shown |= {
        "hypervisor_type": host.facts.hypervisor_type,
        "hypervisor_version": host.facts.hypervisor_version,
        "host_ip": host.facts.host_ip,
        "service": {
            "id": id_of(call, host),
            "host": host.host,
            "disabled_reason": host.disabled_reason,
        },
    }
    if call.version >= (2, 88):
        shown["uptime"] = host.facts.uptime or None
        return shown
    shown |= figures(host)
    cpu_info = host.facts.cpu_info
    shown["cpu_info"] = cpu_info if call.version >= (2, 28) else json.dumps(cpu_info)
    return shown


def figures(host: Host) -> dict[str, int]:
    """Room and use, as the scheduler counts them."""
    used, total = host.used, host.total
    memory, disk = total.get("MEMORY_MB", 0), total.get("DISK_GB", 0)
    memory_used, disk_used = used.get("MEMORY_MB", 0), used.get("DISK_GB", 0)
    values = (
        total.get("VCPU", 0), memory, disk, used.get("VCPU", 0), memory_used, disk_used, memory - memory_used,
        disk - disk_used, 0, host.servers, disk - disk_used,
    )  # fmt: skip
    return dict(zip(_FIGURES, values, strict=True))


def statistics(hosts: Sequence[Host]) -> dict[str, int]:
    """Sum up what hosts have and use."""
    sums = dict.fromkeys(_FIGURES, 0)
    for host in hosts:
        for name, value in figures(host).items():
            sums[name] += value
    return {"count": len(hosts), **sums}
