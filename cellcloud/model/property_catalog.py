"""Every image property and flavor extra spec that Nova knows: what it may say, who obeys it here, and what is refused.

Sources: Nova's ImageMetaProps and its catalogue of extra specs. Each has exactly one class. What is refused is refused
by name before a server is accepted, for it would be stored, shown and not obeyed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from cellcloud import errors
from cellcloud.model import pci
from cellcloud.model.property_value_types import (
    MACHINE_TYPES,
    RESOURCE_CLASSES,
    Kind,
    Value,
    architecture,
    cpu_list,
    flag,
    hypervisor_type,
    lower,
    number,
    one_of,
    page_size,
    scsi_model,
    trait,
    version_conditions,
    vif_model,
    vm_mode,
    word,
)
from cellcloud.safe_regex import Pattern


class By(StrEnum):
    """Who obeys a property."""

    SCHEDULER = "scheduler"
    DRIVER = "driver"
    NOBODY = "nobody"  # refused
    READER = "reader"  # says what the image or its guest is, and asks for nothing


@dataclass(frozen=True, slots=True)
class Property:
    """``kind`` reads a value, and raises Invalid for what it may not be. ``served``: the values that can be obeyed,
    None for all of them; of a property that nobody obeys, those that ask for nothing."""

    by: By
    kind: Kind
    served: frozenset[Value] | None = None

    def read(self, name: str, text: str) -> Value:
        """Return the value of the property. Raises Invalid that names it."""
        try:
            return self.kind(text)
        except errors.Invalid as error:
            raise errors.Invalid(f"{name[:100]}: {error.message}") from error

    def refuse(self, name: str, value: Value) -> None:
        """Refuse a value that nobody here obeys. Raises Invalid."""
        if self.served is not None and value not in self.served:
            raise errors.Invalid(f"{name[:100]}={str(value)[:100]} is not supported by this cloud.")


def _by(by: By, kind: Kind, *names: str, served: str | tuple[Value, ...] | None = None) -> dict[str, Property]:
    values = tuple(served.split()) if isinstance(served, str) else served
    return dict.fromkeys(names, Property(by, kind, None if values is None else frozenset(values)))


_NO: tuple[Value, ...] = (False,)
_NOTHING: tuple[Value, ...] = ()
_BUSES = one_of("fdc ide sata scsi usb virtio xen lxc uml")
_WATCHDOG = one_of("none pause poweroff reset disabled")
_SOUND = one_of("sb16 es1370 pcspk ac97 ich6 ich9 usb virtio")
_SOUNDS = "sb16 es1370 ac97 ich6 ich9 usb"
_USB = one_of("none nec-xhci qemu-xhci")
_ENCRYPTED = one_of("amd-sev amd-sev-es amd-sev-snp intel-tdx")
_DISK_ENCRYPTION = one_of("plain luks luksv2")
_VIOMMU = one_of("intel smmuv3 virtio auto")
_TPM_MODEL, _TPM_VERSION = one_of("tpm-tis tpm-crb"), one_of("1.2 2.0")
_NEAR = one_of("required preferred legacy socket")
_CPU_POLICY, _THREAD_POLICY = one_of("dedicated shared mixed"), one_of("prefer isolate require")
_SIGNING_KEY = one_of("RSA-PSS DSA ECC_SECT571K1 ECC_SECT409K1 ECC_SECT571R1 ECC_SECT409R1 ECC_SECP521R1 ECC_SECP384R1")
_DIMENSIONS = ("sockets", "cores", "threads", "max_sockets", "max_cores", "max_threads")

IMAGE_PROPERTIES: Mapping[str, Property] = {
    # ---- obeyed by the scheduler ----
    **_by(By.SCHEDULER, architecture, "hw_architecture"),
    **_by(By.SCHEDULER, hypervisor_type, "img_hv_type"),
    **_by(By.SCHEDULER, vm_mode, "hw_vm_mode"),
    **_by(By.SCHEDULER, version_conditions, "img_hv_requested_version"),
    **_by(By.SCHEDULER, _CPU_POLICY, "hw_cpu_policy"),
    **_by(By.SCHEDULER, _THREAD_POLICY, "hw_cpu_thread_policy"),
    **_by(By.SCHEDULER, word, "hw_cpu_realtime_mask", "hw_mem_page_size"),
    **_by(By.SCHEDULER, number(), "hw_numa_nodes"),
    **_by(By.SCHEDULER, number(0), "hw_maxphysaddr_bits"),
    **_by(By.SCHEDULER, _NEAR, "hw_pci_numa_affinity_policy"),
    # ---- obeyed by the driver, and by who makes the guest's documents ----
    **_by(By.DRIVER, _BUSES, "hw_disk_bus", served="ide sata scsi usb virtio"),
    **_by(By.DRIVER, _BUSES, "hw_cdrom_bus", served="ide sata scsi usb"),
    **_by(
        By.DRIVER,
        one_of("buslogic ibmvscsi lsilogic lsisas1068 lsisas1078 virtio-scsi vmpvscsi", scsi_model),
        "hw_scsi_model",
        served="lsilogic lsisas1068 lsisas1078 virtio-scsi vmpvscsi",
    ),
    **_by(By.DRIVER, vif_model, "hw_vif_model", served="virtio e1000 e1000e rtl8139 ne2k_pci pcnet vmxnet3"),
    **_by(By.DRIVER, word, "hw_machine_type", served=MACHINE_TYPES),
    **_by(
        By.DRIVER,
        one_of("cirrus qxl vga vmvga xen virtio gop none bochs"),
        "hw_video_model",
        served="cirrus qxl vga vmvga virtio none bochs",
    ),
    **_by(By.DRIVER, number(0, 1 << 12), "hw_video_ram"),
    **_by(By.DRIVER, one_of("virtio"), "hw_rng_model"),
    **_by(By.DRIVER, one_of("usbtablet"), "hw_pointer_model"),
    **_by(By.DRIVER, one_of("usb virtio"), "hw_input_bus"),
    **_by(By.DRIVER, _WATCHDOG, "hw_watchdog_action"),
    **_by(By.DRIVER, number(0), "hw_serial_port_count"),
    **_by(By.DRIVER, number(0), *(f"hw_cpu_{name}" for name in _DIMENSIONS)),
    **_by(By.DRIVER, flag, "hw_boot_menu", "hw_qemu_guest_agent", "hw_time_hpet", "hw_vif_multiqueue_enabled"),
    **_by(By.DRIVER, flag, "hw_virtio_packed_ring", "hw_pmu", "img_hide_hypervisor_id"),
    **_by(By.DRIVER, one_of("linux windows", lower), "os_type"),
    **_by(By.DRIVER, one_of("optional mandatory"), "img_config_drive"),
    **_by(By.DRIVER, word, "hw_auto_disk_config"),
    **_by(By.DRIVER, one_of("passthrough emulate"), "hw_maxphysaddr_mode", served="emulate"),
    **_by(By.DRIVER, _SOUND, "hw_sound_model", served=_SOUNDS),
    **_by(By.DRIVER, _USB, "hw_usb_model"),
    # ---- refused ----
    **_by(By.NOBODY, architecture, "hw_emulation_architecture", served="x86_64"),
    **_by(By.NOBODY, one_of("uefi bios"), "hw_firmware_type", served="bios"),
    **_by(By.NOBODY, one_of("required disabled optional"), "os_secure_boot", served="disabled optional"),
    **_by(By.NOBODY, flag, "hw_firmware_stateless", "hw_ipxe_boot", "hw_locked_memory", served=_NO),
    **_by(By.NOBODY, flag, "hw_mem_encryption", "hw_ephemeral_encryption", served=_NO),
    **_by(By.NOBODY, flag, "img_bittorrent", "img_linked_clone", "img_use_agent", served=_NO),
    **_by(By.NOBODY, flag, "img_cache_in_nova", served=(True,)),
    **_by(By.NOBODY, _ENCRYPTED, "hw_mem_encryption_model", served=_NOTHING),
    **_by(By.NOBODY, _DISK_ENCRYPTION, "hw_ephemeral_encryption_format", served=_NOTHING),
    **_by(By.NOBODY, word, "hw_ephemeral_encryption_secret_uuid", served=_NOTHING),
    **_by(By.NOBODY, _TPM_MODEL, "hw_tpm_model", served=_NOTHING),
    **_by(By.NOBODY, _TPM_VERSION, "hw_tpm_version", served=_NOTHING),
    **_by(By.NOBODY, _VIOMMU, "hw_viommu_model", served=_NOTHING),
    **_by(By.NOBODY, number(0), "hw_redirected_usb_ports", served=(0,)),
    **_by(By.NOBODY, number(), "hw_device_id", "img_compression_level", served=_NOTHING),
    **_by(By.NOBODY, word, "hw_disk_type", "os_command_line", served=_NOTHING),
    **_by(By.NOBODY, word, "kernel_id", "ramdisk_id", "cinder_encryption_key_id", served=("",)),
    **_by(By.NOBODY, word, "img_block_device_mapping", "img_mappings", served=("", "[]")),
    # ---- what the image is, and what other operations than running it read ----
    **_by(By.READER, word, "os_distro", "os_admin_user", "img_owner_id", "img_root_device_name"),
    **_by(By.READER, word, "img_signature", "img_signature_certificate_uuid"),
    **_by(By.READER, one_of("SHA-224 SHA-256 SHA-384 SHA-512"), "img_signature_hash_method"),
    **_by(By.READER, _SIGNING_KEY, "img_signature_key_type"),
    **_by(By.READER, number(), "img_version"),
    **_by(By.READER, flag, "img_bdm_v2", "os_require_quiesce"),
    **_by(By.READER, flag, "os_skip_agent_inject_files_at_boot", "os_skip_agent_inject_ssh"),
    **_by(By.READER, _BUSES, "hw_floppy_bus", "hw_rescue_bus"),
    **_by(By.READER, one_of("cdrom disk floppy fs lun"), "hw_rescue_device"),
}

_LEVEL = one_of("custom high normal low")
_TUNES = tuple(f"{way}_{what}_sec" for way in ("read", "write", "total") for what in ("bytes", "iops"))
_SHARED = ("cpu", "memory", "disk_io", "vif")
_CAPABILITIES = """
    id uuid service_id host vcpus memory_mb local_gb vcpus_used memory_mb_used local_gb_used hypervisor_type
    hypervisor_version hypervisor_hostname free_ram_mb free_disk_gb current_workload running_vms disk_available_least
    host_ip mapped cpu_allocation_ratio ram_allocation_ratio disk_allocation_ratio total_usable_ram_mb
    total_usable_disk_gb disk_mb_used free_disk_mb vcpus_total num_instances num_io_ops failed_builds aggregates
    cell_uuid updated
"""
_DEEP = """
    cpu_info metrics stats numa_topology supported_hv_specs pci_device_pools nodename pci_stats supported_instances
    limits instances
"""

EXTRA_SPECS: Mapping[str, Property] = {
    # ---- obeyed by the scheduler ----
    **_by(By.SCHEDULER, flag, "hw:cpu_realtime"),
    **_by(By.SCHEDULER, cpu_list, "hw:cpu_realtime_mask", "hw:cpu_dedicated_mask"),
    **_by(By.SCHEDULER, _CPU_POLICY, "hw:cpu_policy"),
    **_by(By.SCHEDULER, _THREAD_POLICY, "hw:cpu_thread_policy"),
    **_by(By.SCHEDULER, one_of("isolate share"), "hw:emulator_threads_policy"),
    **_by(By.SCHEDULER, page_size, "hw:mem_page_size"),
    **_by(By.SCHEDULER, number(1), "hw:numa_nodes"),
    **_by(By.SCHEDULER, number(0), "hw:maxphysaddr_bits"),
    **_by(By.SCHEDULER, _NEAR, "hw:pci_numa_affinity_policy"),
    **_by(By.SCHEDULER, lambda text: text if pci.read_aliased(text) else "", "pci_passthrough:alias"),
    **_by(By.SCHEDULER, word, *(f"capabilities:{name}" for name in _CAPABILITIES.split())),
    # ---- obeyed by the driver ----
    **_by(By.DRIVER, number(1), *(f"hw:cpu_{name}" for name in _DIMENSIONS)),
    **_by(By.DRIVER, flag, "hw:boot_menu", "hw:vif_multiqueue_enabled", "hw:pmu", "hw:virtio_packed_ring"),
    **_by(By.DRIVER, flag, "hw:hide_hypervisor_id", "hide_hypervisor_id", "hw_rng:allowed"),
    **_by(By.DRIVER, number(0, (1 << 32) - 1), "hw_rng:rate_bytes", "hw_rng:rate_period"),
    **_by(By.DRIVER, number(0, 1 << 12), "hw_video:ram_max_mb"),
    **_by(By.DRIVER, number(0), "hw:serial_port_count"),
    **_by(By.DRIVER, _WATCHDOG, "hw:watchdog_action"),
    **_by(By.DRIVER, one_of("passthrough emulate"), "hw:maxphysaddr_mode", served="emulate"),
    **_by(By.DRIVER, _SOUND, "hw:sound_model", served=_SOUNDS),
    **_by(By.DRIVER, _USB, "hw:usb_model"),
    **_by(By.DRIVER, number(0, 10**15), *(f"quota:disk_{name}" for name in _TUNES)),
    # ---- refused ----
    **_by(By.NOBODY, flag, "hw:locked_memory", "hw:mem_encryption", "hw:ephemeral_encryption", served=_NO),
    **_by(By.NOBODY, one_of("amd-sev amd-sev-es amd-sev-snp"), "hw:mem_encryption_model", served=_NOTHING),
    **_by(By.NOBODY, _DISK_ENCRYPTION, "hw:ephemeral_encryption_format", served=_NOTHING),
    **_by(By.NOBODY, _TPM_MODEL, "hw:tpm_model", served=_NOTHING),
    **_by(By.NOBODY, _TPM_VERSION, "hw:tpm_version", served=_NOTHING),
    **_by(By.NOBODY, one_of("user host deployment"), "hw:tpm_secret_security", served=_NOTHING),
    **_by(By.NOBODY, _VIOMMU, "hw:viommu_model", served=_NOTHING),
    **_by(By.NOBODY, number(0, 15), "hw:redirected_usb_ports", served=(0,)),
    **_by(By.NOBODY, word, "hw:pmem", "accel:device_profile", "vmware:hw_version", served=_NOTHING),
    **_by(By.NOBODY, word, "vmware:storage_policy", served=_NOTHING),
    **_by(By.NOBODY, one_of("isolate none"), "group_policy", served="none"),
    **_by(By.NOBODY, one_of("disabled required"), "os:secure_boot", served="disabled"),
    **_by(By.NOBODY, number(0), "quota:cpu_shares", "quota:cpu_period", served=_NOTHING),
    **_by(By.NOBODY, number(), "quota:cpu_quota", served=(-1,)),
    **_by(By.NOBODY, number(0), *(f"quota:{what}_limit" for what in _SHARED), served=(0,)),
    **_by(By.NOBODY, number(), *(f"quota:{what}_reservation" for what in _SHARED), served=(0,)),
    **_by(By.NOBODY, _LEVEL, *(f"quota:{what}_shares_level" for what in _SHARED), served="normal"),
    **_by(By.NOBODY, number(0), *(f"quota:{what}_shares_share" for what in _SHARED), served=_NOTHING),
    **_by(
        By.NOBODY,
        number(0),
        *(f"quota:vif_{way}_{what}" for way in ("inbound", "outbound") for what in ("average", "peak", "burst")),
        served=(0,),
    ),
}
NAMESPACES = frozenset(name.partition(":")[0] for name in EXTRA_SPECS if ":" in name) | {
    "aggregate_instance_extra_specs"
}
_GROUP = "([a-zA-Z0-9_-]{1,64})?"
_AMOUNT, _TRAIT = Property(By.SCHEDULER, number()), Property(By.SCHEDULER, one_of("required forbidden"))
_CALLED: tuple[tuple[Pattern, Property, Kind | None], ...] = (
    (Pattern(r"hw:numa_cpus\.[0-9]+"), Property(By.SCHEDULER, cpu_list), None),
    (Pattern(r"hw:numa_mem\.[0-9]+"), Property(By.SCHEDULER, number(1)), None),
    (Pattern(rf"resources{_GROUP}:({'|'.join(RESOURCE_CLASSES)}|CUSTOM_[A-Z0-9_]+)"), _AMOUNT, None),
    (Pattern(rf"trait{_GROUP}:([A-Z][A-Z0-9_]*)"), _TRAIT, trait),
    (Pattern(rf"capabilities:({'|'.join(_DEEP.split())})(:[A-Za-z0-9_]+)*"), Property(By.SCHEDULER, word), None),
    (Pattern(r"aggregate_instance_extra_specs:.+"), Property(By.SCHEDULER, word), None),
)
_NUMBERED = Pattern(rf"(resources|trait){_GROUP}")


def find_extra_spec(name: str) -> Property | None:
    """Return the property of that name; None for a name that is nobody's but the operator's own. Raises Invalid for one
    that is not in the catalogue but in a namespace of Nova's: most likely it is misspelt."""
    found = EXTRA_SPECS.get(name)
    if found is not None:
        return found
    for pattern, called, check in _CALLED:
        parts = pattern.groups(name)
        if parts is not None:
            if check is not None:
                Property(called.by, check).read(f"Extra spec {name}", parts[-1])
            return called
    namespace, colon, _ = name.partition(":")
    if colon and (namespace in NAMESPACES or _NUMBERED.matches(namespace)):
        raise errors.Invalid(f"Extra spec '{name[:100]}' does not appear to be a valid extra spec.")
    return None
