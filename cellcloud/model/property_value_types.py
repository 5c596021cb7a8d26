"""Kinds of values of image properties and extra specs: each reads a text, or raises Invalid that says what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from packaging.version import InvalidVersion, Version

from cellcloud import errors
from cellcloud.model import numa_request
from cellcloud.model.scheduling_policy import ARCHITECTURES
from cellcloud.safe_regex import Pattern

Value = str | int | bool | tuple[str, ...]
Kind = Callable[[str], Value]

_HYPERVISORS = """
    baremetal bhyve docker fake hyperv ironic kqemu kvm lxc lxd openvz parallels phyp prsm qemu test uml vbox vmware vz
    xen zvm
"""
HYPERVISOR_TYPES = frozenset(_HYPERVISORS.split())
VM_MODES = frozenset(["hvm", "xen", "uml", "exe"])
MOST_DIGITS = 30
_OLD_VIF_MODELS = {
    "virtuale1000": "e1000",
    "virtuale1000e": "e1000e",
    "virtualpcnet32": "pcnet",
    "virtualsriovethernetcard": "sriov",
    "virtualvmxnet": "vmxnet",
    "virtualvmxnet3": "vmxnet3",
}
_VIF_MODEL_NAMES = """
    virtio ne2k_pci pcnet rtl8139 e1000 e1000e netfront spapr-vlan lan9118 sriov vmxnet vmxnet3 igb
"""
_VIF_MODELS = frozenset(_VIF_MODEL_NAMES.split())
_OLD_SCSI_MODELS = {"lsilogicsas": "lsisas1068", "paravirtual": "vmpvscsi"}
_TRUE, _FALSE = frozenset(["1", "t", "true", "on", "y", "yes"]), frozenset(["0", "f", "false", "off", "n", "no"])
_VERSIONS = "2.4 2.5 2.6 2.7 2.8 2.9 2.10 2.11 2.12 3.0 3.1 4.0 4.1 4.2 5.0 5.1 5.2 6.0 6.1 6.2 7.0 7.1 7.2"
MACHINE_TYPES = ("pc", "q35", *(f"pc-{board}-{one}" for board in ("i440fx", "q35") for one in _VERSIONS.split()))
"""Those of the oldest QEMU that hosts may have."""
VERSION_CONDITION = Pattern(r"\s*(<=|>=|<|>|!=|==)\s*(\S+)\s*", most=100)
_CLASS_NAMES = """
    VCPU MEMORY_MB DISK_GB PCI_DEVICE SRIOV_NET_VF NUMA_SOCKET NUMA_CORE NUMA_THREAD NUMA_MEMORY_MB IPV4_ADDRESS VGPU
    VGPU_DISPLAY_HEAD NET_BW_EGR_KILOBIT_PER_SEC NET_BW_IGR_KILOBIT_PER_SEC PCPU MEM_ENCRYPTION_CONTEXT FPGA PGPU
    NET_PACKET_RATE_KILOPACKET_PER_SEC NET_PACKET_RATE_EGR_KILOPACKET_PER_SEC NET_PACKET_RATE_IGR_KILOPACKET_PER_SEC
"""
RESOURCE_CLASSES = tuple(_CLASS_NAMES.split())


def word(text: str) -> str:
    """Any text."""
    return text


lower: Callable[[str], str] = str.lower


def one_of(words: str, canonical: Callable[[str], str] = word) -> Kind:
    """One of several words, after ``canonical`` has been asked how they are written."""
    known = frozenset(words.split())

    def read(text: str) -> Value:
        return _known(canonical(text), known, ", ".join(words.split()))

    return read


def number(least: int | None = None, most: int = 1 << 53) -> Kind:
    """Return a whole number."""

    def read(text: str) -> Value:
        try:
            found = int(text) if len(text) <= MOST_DIGITS else None
        except ValueError:
            found = None
        if found is None:
            raise errors.Invalid(f"{text[:100]!r} is not a whole number.")
        if found < (-most if least is None else least) or found > most:
            raise errors.Invalid(f"{text[:100]!r} is not between {least} and {most}.")
        return found

    return read


def flag(text: str) -> bool:
    """Yes or no, in the words that Nova takes."""
    lowered = text.strip().lower()
    if lowered not in _TRUE | _FALSE:
        raise errors.Invalid(f"{text[:100]!r} is neither true nor false.")
    return lowered in _TRUE


def architecture(name: str) -> str:
    """Return the canonical name of an architecture."""
    lowered = name.lower()
    lowered = {"amd64": "x86_64"}.get(lowered, lowered)
    canonical = "i686" if lowered in ("i386", "i486", "i586", "x86_32", "x86_32p") else lowered
    return _known(canonical, ARCHITECTURES, "the architectures that are known")


def hypervisor_type(name: str) -> str:
    """Return the canonical name of a kind of hypervisor."""
    lowered = name.lower()
    return _known({"xapi": "xen"}.get(lowered, lowered), HYPERVISOR_TYPES, "the hypervisor types that are known")


def vm_mode(name: str) -> str:
    """Return the canonical name of an interface between guest and hypervisor."""
    lowered = name.lower()
    return _known(
        {"pv": "xen", "hv": "hvm", "baremetal": "hvm"}.get(lowered, lowered), VM_MODES, "the VM modes that are known"
    )


def vif_model(name: str) -> str:
    """Return the canonical name of a model of network interface."""
    lowered = name.lower()
    return _known(_OLD_VIF_MODELS.get(lowered, lowered), _VIF_MODELS, ", ".join(sorted(_VIF_MODELS)))


def scsi_model(name: str) -> str:
    """Return the name of a SCSI controller, not yet whether there is one of it."""
    lowered = name.lower()
    return _OLD_SCSI_MODELS.get(lowered, lowered)


def version_conditions(text: str) -> str:
    """Return what versions will do, as ">=6.0,<8.0"."""
    for condition in text.split(","):
        found = VERSION_CONDITION.groups(condition)
        try:
            if found is None or not Version(found[1]):
                raise InvalidVersion
        except InvalidVersion:
            raise errors.Invalid(f"{text[:100]!r} is no condition on a version, as '>=6.0,<8.0'.") from None
    return text


def cpu_list(text: str) -> str:
    """Numbers and ranges of CPUs, some left out: 0-3,^2."""
    numa_request.parse_cpus(text)
    if not text.strip(", "):
        raise errors.Invalid("The list of CPUs is empty.")
    return text


def page_size(text: str) -> str:
    """small, large, any, or a size."""
    numa_request.parse_pages(text)
    return text


def trait(name: str) -> str:
    """Return a standard trait, or a custom one."""
    if not name.startswith("CUSTOM_") and name not in _standard_traits():
        raise errors.Invalid(f"There is no trait {name[:100]}; own ones begin with CUSTOM_.")
    return name


@lru_cache(maxsize=1)
def _standard_traits() -> frozenset[str]:
    import os_traits

    return frozenset(os_traits.get_traits())


def _known(name: str, known: frozenset[str], said: str) -> str:
    if name not in known:
        raise errors.Invalid(f"{name[:100]!r} is not one of: {said}.")
    return name
