"""A sample of every image property and extra spec: what it says, what it needs beside it, and what then must be so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Texts = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Built:
    """``seen``: where the definition then has an element (ElementTree's paths) that it has not with ``unlike`` instead.
    ``specs`` and ``image``: what else must be said for it to mean anything."""

    value: str
    seen: str
    specs: Texts = field(default_factory=dict)
    image: Texts = field(default_factory=dict)
    unlike: Texts = field(default_factory=dict)


BUILT_IMAGE: Mapping[str, Built] = {
    "hw_disk_bus": Built("scsi", "devices/disk[@device='disk']/target[@bus='scsi']"),
    "hw_cdrom_bus": Built("sata", "devices/disk[@device='cdrom']/target[@bus='sata']"),
    "hw_scsi_model": Built("lsilogic", "devices/controller[@type='scsi'][@model='lsilogic']"),
    "hw_vif_model": Built("e1000", "devices/interface/model[@type='e1000']"),
    "hw_machine_type": Built("q35", "os/type[@machine='q35']"),
    "hw_video_model": Built("cirrus", "devices/video/model[@type='cirrus']"),
    "hw_video_ram": Built("8", "devices/video/model[@vram='8192']", {"hw_video:ram_max_mb": "8"}),
    "hw_rng_model": Built("virtio", "devices/rng[@model='virtio']", unlike={"hw_rng:allowed": "false"}),
    "hw_pointer_model": Built("usbtablet", "devices/input[@type='tablet'][@bus='usb']"),
    "hw_input_bus": Built("virtio", "devices/input[@type='keyboard'][@bus='virtio']"),
    "hw_watchdog_action": Built("pause", "devices/watchdog[@action='pause']"),
    "hw_serial_port_count": Built("3", "devices/serial[3]"),
    "hw_cpu_sockets": Built("2", "cpu/topology[@sockets='2'][@cores='2']"),
    "hw_cpu_cores": Built("4", "cpu/topology[@cores='4']"),
    "hw_cpu_threads": Built("2", "cpu/topology[@threads='2']"),
    "hw_cpu_max_sockets": Built("1", "cpu/topology[@sockets='1'][@cores='4']"),
    "hw_cpu_max_cores": Built("2", "cpu/topology[@cores='2'][@threads='2']", image={"hw_cpu_max_sockets": "1"}),
    "hw_cpu_max_threads": Built("1", "cpu/topology[@sockets='4']", {"hw:cpu_threads": "2"}),
    "hw_boot_menu": Built("yes", "os/bootmenu[@enable='yes']"),
    "hw_qemu_guest_agent": Built("true", "devices/channel/target[@name='org.qemu.guest_agent.0']"),
    "hw_time_hpet": Built("true", "clock/timer[@name='hpet'][@present='yes']"),
    "hw_vif_multiqueue_enabled": Built("true", "devices/interface/driver[@queues='4']"),
    "hw_virtio_packed_ring": Built("true", "devices/interface/driver[@packed='on']"),
    "hw_pmu": Built("false", "features/pmu[@state='off']"),
    "img_hide_hypervisor_id": Built("true", "cpu/feature[@policy='disable'][@name='hypervisor']"),
    "os_type": Built("Windows", "clock[@offset='localtime']"),
    "hw_maxphysaddr_mode": Built("emulate", "cpu/maxphysaddr[@bits='42']", image={"hw_maxphysaddr_bits": "42"}),
    "hw_sound_model": Built("ich9", "devices/sound[@model='ich9']"),
    "hw_usb_model": Built("nec-xhci", "devices/controller[@type='usb'][@model='nec-xhci']"),
}
BY_THE_API = {"img_config_drive", "hw_auto_disk_config"}
BUILT_SPECS: Mapping[str, Built] = {
    "hw:cpu_sockets": Built("2", "cpu/topology[@sockets='2'][@cores='2']"),
    "hw:cpu_cores": Built("4", "cpu/topology[@cores='4']"),
    "hw:cpu_threads": Built("2", "cpu/topology[@threads='2']"),
    "hw:cpu_max_sockets": Built("1", "cpu/topology[@sockets='1'][@cores='4']"),
    "hw:cpu_max_cores": Built("2", "cpu/topology[@cores='2'][@threads='2']", {"hw:cpu_max_sockets": "1"}),
    "hw:cpu_max_threads": Built("1", "cpu/topology[@sockets='4']", {"hw:cpu_threads": "2"}),
    "hw:boot_menu": Built("true", "os/bootmenu[@enable='yes']"),
    "hw:vif_multiqueue_enabled": Built("true", "devices/interface/driver[@queues='4']"),
    "hw:pmu": Built("true", "features/pmu[@state='on']"),
    "hw:virtio_packed_ring": Built("true", "devices/disk/driver[@packed='on']"),
    "hw:hide_hypervisor_id": Built("true", "cpu/feature[@name='hypervisor']"),
    "hide_hypervisor_id": Built("true", "cpu/feature[@name='hypervisor']"),
    "hw_rng:allowed": Built("true", "devices/rng", unlike={"hw_rng:allowed": "false"}),
    "hw_rng:rate_bytes": Built("512", "devices/rng/rate[@bytes='512']"),
    "hw_rng:rate_period": Built("100", "devices/rng/rate[@period='100']", {"hw_rng:rate_bytes": "512"}),
    "hw_video:ram_max_mb": Built("16", "devices/video/model[@vram='8192']", image={"hw_video_ram": "8"}),
    "hw:serial_port_count": Built("2", "devices/serial[2]"),
    "hw:watchdog_action": Built("reset", "devices/watchdog[@action='reset']"),
    "hw:maxphysaddr_mode": Built("emulate", "cpu/maxphysaddr[@bits='40']", {"hw:maxphysaddr_bits": "40"}),
    "hw:sound_model": Built("ac97", "devices/sound[@model='ac97']"),
    "hw:usb_model": Built("qemu-xhci", "devices/controller[@type='usb'][@model='qemu-xhci']"),
    **{
        f"quota:disk_{name}": Built("1000", f"devices/disk[@device='disk']/iotune/{name}")
        for name in (f"{way}_{what}_sec" for way in ("read", "write", "total") for what in ("bytes", "iops"))
    },
}
NUMA = {"hw:numa_nodes": "1"}
DEDICATED = {"hw:cpu_policy": "dedicated"}
DEVICE = {"pci_passthrough:alias": "gpu:1"}
X86 = {"hw_architecture": "x86_64"}
# name: (value, what is said beside it); what a scheduler is asked is then another thing
CHOSEN_IMAGE: Mapping[str, tuple[str, Texts, Texts]] = {
    "hw_architecture": ("aarch64", {}, {}),
    "img_hv_type": ("xen", {}, {}),
    "hw_vm_mode": ("exe", {}, {}),
    "img_hv_requested_version": (">=9000", {}, X86),
    "hw_cpu_policy": ("dedicated", {}, {}),
    "hw_cpu_thread_policy": ("require", DEDICATED, {}),
    "hw_cpu_realtime_mask": ("^0", {"hw:cpu_policy": "mixed", "hw:cpu_realtime": "yes"}, {}),
    "hw_mem_page_size": ("large", {"hw:mem_page_size": "any"}, {}),
    "hw_numa_nodes": ("2", {}, {}),
    "hw_maxphysaddr_bits": ("52", {}, X86),
    "hw_pci_numa_affinity_policy": ("required", DEVICE, {}),
}
CHOSEN_SPECS: Mapping[str, tuple[str, Texts]] = {
    "hw:cpu_realtime": ("yes", {"hw:cpu_policy": "mixed", "hw:cpu_realtime_mask": "^0"}),
    "hw:cpu_realtime_mask": ("^0-1", {"hw:cpu_policy": "mixed", "hw:cpu_realtime": "yes"}),
    "hw:cpu_dedicated_mask": ("^0", {"hw:cpu_policy": "mixed"}),
    "hw:cpu_policy": ("dedicated", {}),
    "hw:cpu_thread_policy": ("isolate", DEDICATED),
    "hw:emulator_threads_policy": ("isolate", DEDICATED),
    "hw:mem_page_size": ("large", {}),
    "hw:numa_nodes": ("2", {}),
    "hw:pci_numa_affinity_policy": ("required", DEVICE),
    "pci_passthrough:alias": ("gpu:1", {}),
    "hw:numa_cpus.0": ("0-3", NUMA | {"hw:numa_mem.0": "1024"}),
    "hw:numa_mem.0": ("1024", NUMA | {"hw:numa_cpus.0": "0-3"}),
    "hw:maxphysaddr_bits": ("52", {}),
    "resources:CUSTOM_GOLD": ("1", {}),
    "resources2:VGPU": ("1", {}),
    "trait:CUSTOM_GOLD": ("required", {}),
    "trait:HW_CPU_X86_AVX2": ("required", {}),
    "aggregate_instance_extra_specs:gold": ("true", {}),
    "gold": ("true", {}),
}
REFUSED_IMAGE: Texts = {
    "hw_emulation_architecture": "aarch64",
    "hw_firmware_type": "uefi",
    "os_secure_boot": "required",
    "hw_firmware_stateless": "true",
    "hw_ipxe_boot": "yes",
    "hw_locked_memory": "true",
    "hw_mem_encryption": "1",
    "hw_ephemeral_encryption": "true",
    "img_bittorrent": "true",
    "img_linked_clone": "true",
    "img_use_agent": "true",
    "img_cache_in_nova": "false",
    "hw_mem_encryption_model": "amd-sev",
    "hw_ephemeral_encryption_format": "luks",
    "hw_ephemeral_encryption_secret_uuid": "12345678-1234-1234-1234-123456789012",
    "hw_tpm_model": "tpm-crb",
    "hw_tpm_version": "2.0",
    "hw_viommu_model": "intel",
    "hw_redirected_usb_ports": "2",
    "hw_device_id": "2",
    "img_compression_level": "9",
    "hw_disk_type": "preallocated",
    "os_command_line": "quiet",
    "kernel_id": "12345678-1234-1234-1234-123456789012",
    "ramdisk_id": "12345678-1234-1234-1234-123456789012",
    "cinder_encryption_key_id": "12345678-1234-1234-1234-123456789012",
    "img_block_device_mapping": '[{"snapshot_id": "s"}]',
    "img_mappings": '[{"virtual": "ami", "device": "vda"}]',
}
REFUSED_SPECS: Texts = {
    "hw:locked_memory": "true",
    "hw:mem_encryption": "true",
    "hw:ephemeral_encryption": "true",
    "hw:mem_encryption_model": "amd-sev",
    "hw:ephemeral_encryption_format": "luks",
    "hw:tpm_model": "tpm-tis",
    "hw:tpm_version": "1.2",
    "hw:tpm_secret_security": "host",
    "hw:viommu_model": "auto",
    "hw:redirected_usb_ports": "1",
    "hw:pmem": "6GB",
    "accel:device_profile": "fpga",
    "vmware:hw_version": "vmx-13",
    "vmware:storage_policy": "gold",
    "group_policy": "isolate",
    "os:secure_boot": "required",
    "quota:cpu_shares": "2048",
    "quota:cpu_period": "10000",
    "quota:cpu_quota": "5000",
    **{f"quota:{what}_limit": "1000" for what in ("cpu", "memory", "disk_io", "vif")},
    **{f"quota:{what}_reservation": "1000" for what in ("cpu", "memory", "disk_io", "vif")},
    **{f"quota:{what}_shares_level": "high" for what in ("cpu", "memory", "disk_io", "vif")},
    **{f"quota:{what}_shares_share": "10" for what in ("cpu", "memory", "disk_io", "vif")},
    **{f"quota:vif_{way}_{what}": "10" for way in ("inbound", "outbound") for what in ("average", "peak", "burst")},
}
READ_IMAGE: Texts = {
    "os_distro": "debian",
    "os_admin_user": "root",
    "img_owner_id": "p",
    "img_root_device_name": "/dev/sda1",
    "img_signature": "c2ln",
    "img_signature_hash_method": "SHA-256",
    "img_signature_certificate_uuid": "12345678-1234-1234-1234-123456789012",
    "img_signature_key_type": "RSA-PSS",
    "img_version": "1",
    "img_bdm_v2": "true",
    "os_require_quiesce": "yes",
    "os_skip_agent_inject_files_at_boot": "true",
    "os_skip_agent_inject_ssh": "true",
    "hw_floppy_bus": "fdc",
    "hw_rescue_bus": "virtio",
    "hw_rescue_device": "disk",
}
# values that Nova knows, and nobody here can give
UNSERVED_IMAGE: tuple[tuple[str, str], ...] = (
    ("hw_disk_bus", "xen"),
    ("hw_disk_bus", "fdc"),
    ("hw_cdrom_bus", "virtio"),
    ("hw_scsi_model", "buslogic"),
    ("hw_vif_model", "igb"),
    ("hw_vif_model", "VirtualSriovEthernetCard"),
    ("hw_machine_type", "pc-q35-99.0"),
    ("hw_machine_type", "virt"),
    ("hw_video_model", "gop"),
    ("hw_sound_model", "virtio"),
    ("hw_maxphysaddr_mode", "passthrough"),
)
OLD_NAMES: tuple[tuple[str, str, str], ...] = (
    ("vmware_adaptertype", "ide", "devices/disk[@device='disk']/target[@bus='ide']"),
    ("vmware_adaptertype", "paraVirtual", "devices/controller[@model='vmpvscsi']"),
    ("vmware_adaptertype", "lsiLogicsas", "devices/controller[@model='lsisas1068']"),
)
# what goes with nothing, or not together: extra specs, image properties
TOGETHER: tuple[tuple[Texts, Texts], ...] = (
    ({}, {"hw_machine_type": "q35", "hw_disk_bus": "ide"}),
    ({}, {"hw_machine_type": "pc-q35-7.2", "hw_cdrom_bus": "ide"}),
    ({}, {"hw_virtio_packed_ring": "true", "hw_disk_bus": "sata", "hw_vif_model": "e1000"}),
    ({}, {"hw_vif_multiqueue_enabled": "true", "hw_vif_model": "e1000"}),
    ({}, {"hw_maxphysaddr_mode": "emulate"}),
    ({}, {"hw_maxphysaddr_mode": "emulate", "hw_maxphysaddr_bits": "4"}),
    ({}, {"hw_video_ram": "8"}),
    ({"hw_video:ram_max_mb": "4"}, {"hw_video_ram": "8"}),
    ({"hw_video:ram_max_mb": "8"}, {"hw_video_ram": "8", "hw_video_model": "none"}),
    ({}, {"hw_usb_model": "none", "hw_pointer_model": "usbtablet"}),
    ({"hw:usb_model": "nec-xhci"}, {"hw_usb_model": "qemu-xhci"}),
    ({"hw:sound_model": "ac97"}, {"hw_sound_model": "ich9"}),
    ({}, {"hw_serial_port_count": "5"}),
    ({"hw:serial_port_count": "9"}, {}),
    ({"hw_rng:rate_period": "100"}, {}),
    ({"quota:disk_total_iops_sec": "1", "quota:disk_read_iops_sec": "1"}, {}),
    ({"hw:cpu_max_sockets": "1", "hw:cpu_max_cores": "1", "hw:cpu_max_threads": "1"}, {}),
    ({"hw:cpu_max_sockets": "3", "hw:cpu_max_cores": "1", "hw:cpu_max_threads": "1"}, {}),
    ({"hw:numa_nodes": "0"}, {}),
    ({"hw:cpu_policy": "dedicatd"}, {}),
    ({"hw:cpu_policy": "shared"}, {"hw_cpu_policy": "dedicated"}),
    ({"hw:wachdog_action": "reset"}, {}),
    ({"hw:watchdog_action": "explode"}, {}),
    ({"resources:VCPUS": "1"}, {}),
    ({"trait:HW_CPU_X86_AVX5": "required"}, {}),
    ({"pci_passthrough:alias": "gpu"}, {}),
    ({"hw:numa_nodes": "1", "hw:numa_cpus.0": "0-3", "hw:numa_mem.0": "1024", "hw:numa_mem.2": "1"}, {}),
    ({}, {"hw_disk_bus": "floppy9"}),
    ({}, {"hw_disc_bus": "scsi"}),
    ({}, {"img_hv_requested_version": ">=six"}),
    ({}, {"img_hv_requested_version": "6.0"}),
    ({}, {"img_hv_requested_version": ">=6.0"}),
    ({}, {"hw_maxphysaddr_bits": "40"}),
    ({}, {"hw_numa_cpus.x": "0"}),
    ({"hw:numa_cpus.0": "0-3", "hw:numa_mem.0": "1024"}, {}),
    ({}, {"hw_numa_nodes": "1", "hw_numa_mem.128": "1"}),
    ({}, {"hw_numa_nodes": "1", "hw_numa_cpus.0": "0-9", "hw_numa_mem.0": "1024"}),
)

# every name that Nova has, but for those that are many: hw_numa_cpus.N, hw_numa_mem.N, trait:NAME; resources...
NOVA_IMAGE_PROPERTIES = """
    hw_architecture hw_auto_disk_config hw_boot_menu hw_cdrom_bus hw_cpu_cores hw_cpu_max_cores hw_cpu_max_sockets
    hw_cpu_max_threads hw_cpu_policy hw_cpu_realtime_mask hw_cpu_sockets hw_cpu_thread_policy hw_cpu_threads
    hw_device_id hw_disk_bus hw_disk_type hw_emulation_architecture hw_ephemeral_encryption
    hw_ephemeral_encryption_format hw_ephemeral_encryption_secret_uuid hw_firmware_stateless hw_firmware_type
    hw_floppy_bus hw_input_bus hw_ipxe_boot hw_locked_memory hw_machine_type hw_maxphysaddr_bits hw_maxphysaddr_mode
    hw_mem_encryption hw_mem_encryption_model hw_mem_page_size hw_numa_nodes hw_pci_numa_affinity_policy hw_pmu
    hw_pointer_model hw_qemu_guest_agent hw_redirected_usb_ports hw_rescue_bus hw_rescue_device hw_rng_model
    hw_scsi_model hw_serial_port_count hw_sound_model hw_time_hpet hw_tpm_model hw_tpm_version hw_usb_model
    hw_video_model hw_video_ram hw_vif_model hw_vif_multiqueue_enabled hw_viommu_model hw_virtio_packed_ring
    hw_vm_mode hw_watchdog_action img_bdm_v2 img_bittorrent img_block_device_mapping img_cache_in_nova
    img_compression_level img_config_drive img_hide_hypervisor_id img_hv_requested_version img_hv_type
    img_linked_clone img_mappings img_owner_id img_root_device_name img_signature img_signature_certificate_uuid
    img_signature_hash_method img_signature_key_type img_use_agent img_version os_admin_user os_command_line
    os_distro os_require_quiesce os_secure_boot os_skip_agent_inject_files_at_boot os_skip_agent_inject_ssh os_type
"""
NOVA_EXTRA_SPECS = """
    accel:device_profile group_policy hide_hypervisor_id hw:boot_menu hw:cpu_cores hw:cpu_dedicated_mask
    hw:cpu_max_cores hw:cpu_max_sockets hw:cpu_max_threads hw:cpu_policy hw:cpu_realtime hw:cpu_realtime_mask
    hw:cpu_sockets hw:cpu_thread_policy hw:cpu_threads hw:emulator_threads_policy hw:ephemeral_encryption
    hw:ephemeral_encryption_format hw:hide_hypervisor_id hw:locked_memory hw:mem_encryption hw:mem_encryption_model
    hw:mem_page_size hw:numa_nodes hw:pci_numa_affinity_policy hw:pmem hw:pmu hw:redirected_usb_ports
    hw:serial_port_count hw:sound_model hw:tpm_model hw:tpm_secret_security hw:tpm_version hw:usb_model
    hw:vif_multiqueue_enabled hw:viommu_model hw:virtio_packed_ring hw:watchdog_action hw_rng:allowed
    hw_rng:rate_bytes hw_rng:rate_period hw_video:ram_max_mb os:secure_boot pci_passthrough:alias quota:cpu_limit
    quota:cpu_period quota:cpu_quota quota:cpu_reservation quota:cpu_shares quota:cpu_shares_level
    quota:cpu_shares_share quota:disk_io_limit quota:disk_io_reservation quota:disk_io_shares_level
    quota:disk_io_shares_share quota:disk_read_bytes_sec quota:disk_read_iops_sec quota:disk_total_bytes_sec
    quota:disk_total_iops_sec quota:disk_write_bytes_sec quota:disk_write_iops_sec quota:memory_limit
    quota:memory_reservation quota:memory_shares_level quota:memory_shares_share quota:vif_inbound_average
    quota:vif_inbound_burst quota:vif_inbound_peak quota:vif_limit quota:vif_outbound_average
    quota:vif_outbound_burst quota:vif_outbound_peak quota:vif_reservation quota:vif_shares_level
    quota:vif_shares_share vmware:hw_version vmware:storage_policy
"""
