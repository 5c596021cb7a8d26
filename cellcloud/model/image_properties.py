"""Image properties as Nova reads them: the names it knows, old names translated, values of their kinds.

Source: Nova's ImageMetaProps. Names that Nova does not know are dropped: no filter and no weigher sees them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from cellcloud import errors
from cellcloud.model.policy import ARCHITECTURES

Value = str | int | bool | tuple[str, ...]
T = TypeVar("T")

MOST_IN_ONE = 255  # characters of a property: as many as Nova keeps
MOST_IN_LIST = 4096  # of a list of CPUs
MOST_IN_ALL = 16_384  # of all that describe one guest, with their names
_LISTS = frozenset(["hw_cpu_realtime_mask"])

_HYPERVISORS = """
    baremetal bhyve docker fake hyperv ironic kqemu kvm lxc lxd openvz parallels phyp prsm qemu test uml vbox vmware vz
    xen zvm
"""
HYPERVISOR_TYPES = frozenset(_HYPERVISORS.split())
VM_MODES = frozenset(["hvm", "xen", "uml", "exe"])
_WORDS = """
    hw_auto_disk_config hw_cdrom_bus hw_cpu_policy hw_cpu_thread_policy hw_cpu_realtime_mask hw_disk_bus hw_disk_type
    hw_floppy_bus hw_firmware_type hw_input_bus hw_machine_type hw_mem_encryption_model hw_mem_page_size
    hw_pci_numa_affinity_policy hw_pointer_model hw_rescue_bus hw_rescue_device hw_rng_model hw_scsi_model
    hw_video_model hw_vif_model hw_viommu_model hw_watchdog_action hw_tpm_model hw_tpm_version
    hw_ephemeral_encryption_format hw_ephemeral_encryption_secret_uuid hw_maxphysaddr_mode hw_sound_model hw_usb_model
    img_hv_requested_version img_config_drive img_owner_id img_root_device_name img_signature
    img_signature_hash_method img_signature_certificate_uuid img_signature_key_type os_admin_user os_command_line
    os_distro os_secure_boot os_type
"""
_NUMBERS = """
    hw_cpu_cores hw_cpu_sockets hw_cpu_threads hw_cpu_max_cores hw_cpu_max_sockets hw_cpu_max_threads hw_device_id
    hw_numa_nodes hw_serial_port_count hw_video_ram hw_maxphysaddr_bits hw_redirected_usb_ports img_compression_level
    img_version
"""
_FLAGS = """
    hw_boot_menu hw_firmware_stateless hw_ipxe_boot hw_locked_memory hw_mem_encryption hw_pmu hw_qemu_guest_agent
    hw_time_hpet hw_vif_multiqueue_enabled hw_ephemeral_encryption hw_virtio_packed_ring img_bittorrent img_bdm_v2
    img_cache_in_nova img_linked_clone img_use_agent img_hide_hypervisor_id os_require_quiesce
    os_skip_agent_inject_files_at_boot os_skip_agent_inject_ssh
"""
_OLD_NAMES = {
    "architecture": "hw_architecture",
    "owner_id": "img_owner_id",
    "vmware_disktype": "hw_disk_type",
    "vmware_image_version": "img_version",
    "vmware_ostype": "os_distro",
    "auto_disk_config": "hw_auto_disk_config",
    "ipxe_boot": "hw_ipxe_boot",
    "xenapi_device_id": "hw_device_id",
    "xenapi_image_compression_level": "img_compression_level",
    "vmware_linked_clone": "img_linked_clone",
    "xenapi_use_agent": "img_use_agent",
    "xenapi_skip_agent_inject_ssh": "os_skip_agent_inject_ssh",
    "xenapi_skip_agent_inject_files_at_boot": "os_skip_agent_inject_files_at_boot",
    "cache_in_nova": "img_cache_in_nova",
    "vm_mode": "hw_vm_mode",
    "bittorrent": "img_bittorrent",
    "bdm_v2": "img_bdm_v2",
    "root_device_name": "img_root_device_name",
    "hypervisor_version_requires": "img_hv_requested_version",
    "hypervisor_type": "img_hv_type",
}
_OLD_VIF_MODELS = {
    "virtuale1000": "e1000",
    "virtuale1000e": "e1000e",
    "virtualpcnet32": "pcnet",
    "virtualsriovethernetcard": "sriov",
    "virtualvmxnet": "vmxnet",
    "virtualvmxnet3": "vmxnet3",
}
_TRUE, _FALSE = frozenset(["1", "t", "true", "on", "y", "yes"]), frozenset(["0", "f", "false", "off", "n", "no"])


def architecture(name: str) -> str:
    """The canonical name of an architecture. Raises Invalid."""
    lowered = name.lower()
    lowered = {"amd64": "x86_64"}.get(lowered, lowered)
    return _one_of(
        "architecture",
        "i686" if lowered in ("i386", "i486", "i586", "x86_32", "x86_32p") else lowered,
        ARCHITECTURES,
    )


def hypervisor_type(name: str) -> str:
    """The canonical name of a kind of hypervisor. Raises Invalid."""
    lowered = name.lower()
    return _one_of("hypervisor type", {"xapi": "xen"}.get(lowered, lowered), HYPERVISOR_TYPES)


def vm_mode(name: str) -> str:
    """The canonical name of an interface between guest and hypervisor. Raises Invalid."""
    lowered = name.lower()
    return _one_of("VM mode", {"pv": "xen", "hv": "hvm", "baremetal": "hvm"}.get(lowered, lowered), VM_MODES)


def _one_of(what: str, name: str, known: frozenset[str]) -> str:
    if name not in known:
        raise errors.Invalid(f"There is no {what} {name[:100]!r}.")
    return name


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise errors.Invalid(f"{text[:100]!r} is not a whole number.") from None


def _flag(text: str) -> bool:
    lowered = text.strip().lower()
    if lowered not in _TRUE | _FALSE:
        raise errors.Invalid(f"{text[:100]!r} is neither true nor false.")
    return lowered in _TRUE


def _vif_model(text: str) -> str:
    return _OLD_VIF_MODELS.get(text.lower(), text.lower())


_KINDS: Mapping[str, Callable[[str], Value]] = (
    dict.fromkeys(_WORDS.split(), str)
    | dict.fromkeys(_NUMBERS.split(), _number)
    | dict.fromkeys(_FLAGS.split(), _flag)
    | {
        "hw_architecture": architecture,
        "hw_emulation_architecture": architecture,
        "hw_vm_mode": vm_mode,
        "img_hv_type": hypervisor_type,
        "os_type": str.lower,
        "hw_scsi_model": str.lower,
        "hw_vif_model": _vif_model,
    }
)


def check_size(properties: Mapping[str, object]) -> None:
    """Raises Invalid where one that Nova knows, or all of them together, are longer than anything they could mean."""
    total = 0
    for name, value in known(properties).items():
        size = len(str(value))
        total += len(name) + size
        if size > most_of(name):
            raise errors.Invalid(f"Image property {name[:100]!r} has at most {most_of(name)} characters.")
    if total > MOST_IN_ALL:
        raise errors.Invalid(
            f"The properties of an image that describe its guest have at most {MOST_IN_ALL} characters."
        )


def known(properties: Mapping[str, T]) -> dict[str, T]:
    """Those that ``read`` looks at, under the names given."""
    return {
        name: value
        for name, value in properties.items()
        if name in _OLD_NAMES or name in _KINDS or _is_one_of_many(name)
    }


def _is_one_of_many(name: str) -> bool:
    return name.startswith(("hw_numa_cpus.", "hw_numa_mem.", "trait:"))


def most_of(name: str) -> int:
    """Characters that a property may have."""
    return MOST_IN_LIST if name in _LISTS or name.startswith("hw_numa_cpus.") else MOST_IN_ONE


NAMES = frozenset(_KINDS) | frozenset(_OLD_NAMES)


def is_known(name: str) -> bool:
    """Whether an image can have this property, other than by an old name."""
    return name in _KINDS or name == "traits_required" or name in ("hw_numa_cpus", "hw_numa_mem")


def text_of(value: Value) -> str:
    """A property's value as Nova writes it as text."""
    return str(list(value) if isinstance(value, tuple) else value)


def read(properties: Mapping[str, object]) -> dict[str, Value]:
    """The properties Nova knows, by their present names. ``traits_required`` has those of ``trait:NAME`` = required.

    Those of single NUMA cells (``hw_numa_cpus.0``) are kept as they are. Raises Invalid for a value that is not of its
    property's kind, or longer than check_size allows.
    """
    check_size(properties)
    given = {_OLD_NAMES[name]: value for name, value in properties.items() if name in _OLD_NAMES}
    given |= {name: value for name, value in properties.items() if name not in _OLD_NAMES}
    found: dict[str, Value] = {}
    for name, value in given.items():
        if name in _KINDS and value is not None:
            try:
                found[name] = _KINDS[name](str(value))
            except errors.Invalid as error:
                raise errors.Invalid(f"Image property {name}: {error.message}") from error
        elif name.startswith(("hw_numa_cpus.", "hw_numa_mem.")):
            found[name] = str(value)
    traits = sorted(name[6:] for name, value in given.items() if name.startswith("trait:") and value == "required")
    if traits:
        found["traits_required"] = tuple(traits)
    return found
