"""What a host is and offers."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import libvirt

from cell.compute.drivers.host_description import HostDescription, HostShare, describe
from cell.compute.drivers.libvirt.namespace_exec import BOOT_ID
from cell.compute.drivers.libvirt.options import LibvirtOptions
from cell.compute.drivers.pci_devices import pools_of
from cellcloud.model.host import HostFacts
from cellcloud.model.property_catalog import IMAGE_PROPERTIES

_KINDS = {
    "hw_disk_bus": "COMPUTE_STORAGE_BUS",
    "hw_cdrom_bus": "COMPUTE_STORAGE_BUS",
    "hw_video_model": "COMPUTE_GRAPHICS_MODEL",
    "hw_vif_model": "COMPUTE_NET_VIF_MODEL",
    "hw_sound_model": "COMPUTE_SOUND_MODEL",
}
TRAITS = (
    *("COMPUTE_NODE", "COMPUTE_IMAGE_TYPE_QCOW2", "COMPUTE_IMAGE_TYPE_RAW", "COMPUTE_IMAGE_TYPE_VMDK"),
    *("COMPUTE_IMAGE_TYPE_VHD", "COMPUTE_ARCH_X86_64", "HW_ARCH_X86_64"),
    *sorted(
        {
            f"{prefix}_{str(value).upper()}"
            for name, prefix in _KINDS.items()
            for value in IMAGE_PROPERTIES[name].served or ()
        }
    ),
)
"""Standard traits: what images may ask for here."""


def get_facts(connection: Any, options: LibvirtOptions) -> HostFacts:
    """Ask libvirt and the machine. Memory is the kernel's figure: libvirt's is wrong on some kernels."""
    described = describe_host(connection, options.share)
    shared = None if options.share.shared is None else len(options.share.shared)
    return HostFacts(
        hypervisor_hostname=options.host,
        hypervisor_type="QEMU",
        hypervisor_version=int(connection.getVersion()),
        host_ip=options.host_ip,
        vcpus=options.vcpus or ((os.cpu_count() or 1) if shared is None else shared),
        memory_mb=options.memory_mb or _memory_mb(),
        disk_gb=options.disk_gb or shutil.disk_usage(options.state_dir).total >> 30,
        cpu_info=_cpu_info(connection.getCapabilities()),
        uptime=_uptime(),
        traits=(*TRAITS, *described.traits),
        virt_type=options.virt_type,
        numa=described.cells or None,
        pci_pools=pools_of(described.devices),
        resources=described.resources,
        tunnel_address=options.tunnel_address,
        external_networks=bool(options.external_bridge),
        boot_id=BOOT_ID.read_text().strip(),
    )


def describe_host(connection: Any, share: HostShare) -> HostDescription:
    """Return what of its CPUs, memory and PCI devices is for guests. Raises HostRefused."""
    every = connection.listAllDevices(libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_PCI_DEV) if share.devices else ()
    return describe(connection.getCapabilities(), [device.XMLDesc() for device in every], share)


def _memory_mb() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) >> 10
    return 0


def _cpu_info(capabilities: str) -> dict[str, object]:
    """Return the processor in Nova's form."""
    cpu = ET.fromstring(capabilities).find("host/cpu")  # noqa: S314 - written by our libvirtd
    if cpu is None:
        return {}
    topology = cpu.find("topology")
    counts = ("sockets", "cores", "threads")
    return {
        "arch": cpu.findtext("arch", ""),
        "model": cpu.findtext("model", ""),
        "vendor": cpu.findtext("vendor", ""),
        "topology": {name: int(topology.get(name, "1")) for name in counts} if topology is not None else {},
        "features": sorted(str(feature.get("name")) for feature in cpu.findall("feature")),
    }


def _uptime() -> str:
    try:
        done = subprocess.run(["uptime"], capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
