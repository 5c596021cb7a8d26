"""Image properties as Nova reads them: the names it knows, old names translated, values of their kinds.

Source: Nova's ImageMetaProps. Names that Nova does not know are dropped: no filter and no weigher sees them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from cellcloud import errors
from cellcloud.model.image import MAPPING
from cellcloud.model.property_catalog import IMAGE_PROPERTIES
from cellcloud.model.property_value_types import Value

T = TypeVar("T")

MOST_IN_ONE = 255  # characters of a property: as many as Nova keeps
MOST_IN_LIST = 4096  # of a list of CPUs
MOST_IN_ALL = 16_384  # of all that describe one guest, with their names
MOST_IN_MAPPING = 12_288  # of the disks that an image says its servers have
_LISTS = frozenset(["hw_cpu_realtime_mask"])

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
    "mappings": "img_mappings",
    "block_device_mapping": "img_block_device_mapping",
}
_OLD_ADAPTER = "vmware_adaptertype"
NAMES = frozenset(IMAGE_PROPERTIES) | frozenset(_OLD_NAMES) | {_OLD_ADAPTER}


def check_size(properties: Mapping[str, object]) -> None:
    """Check that none that Nova knows, nor all of them together, are longer than anything they could mean. Raises
    Invalid."""
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
    return {name: value for name, value in properties.items() if name in NAMES or _is_one_of_many(name)}


def _is_one_of_many(name: str) -> bool:
    return name.startswith(("hw_numa_cpus.", "hw_numa_mem.", "trait:"))


def most_of(name: str) -> int:
    """Characters that a property may have."""
    if name == MAPPING:
        return MOST_IN_MAPPING
    return MOST_IN_LIST if name in _LISTS or name.startswith("hw_numa_cpus.") else MOST_IN_ONE


def text_of(value: Value) -> str:
    """Return a property's value as Nova writes it as text."""
    return str(list(value) if isinstance(value, tuple) else value)


def read(properties: Mapping[str, object]) -> dict[str, Value]:
    """Return the properties Nova knows, by their present names. ``traits_required`` has those of ``trait:NAME`` =
    required.

    Those of single NUMA cells (``hw_numa_cpus.0``) are kept as they are. Raises Invalid for a value that is not of its
    property's kind, or longer than check_size allows.
    """
    check_size(properties)
    given = {_OLD_NAMES[name]: value for name, value in properties.items() if name in _OLD_NAMES}
    given |= _of_adapter(str(properties.get(_OLD_ADAPTER) or ""))
    given |= {name: value for name, value in properties.items() if name not in _OLD_NAMES}
    found: dict[str, Value] = {}
    for name, value in given.items():
        if name in IMAGE_PROPERTIES and value is not None:
            found[name] = IMAGE_PROPERTIES[name].read(f"Image property {name}", str(value))
        elif name.startswith(("hw_numa_cpus.", "hw_numa_mem.")):
            found[name] = str(value)
    traits = sorted(name[6:] for name, value in given.items() if name.startswith("trait:") and value == "required")
    if traits:
        found["traits_required"] = tuple(traits)
    return found


def refuse_unknown(properties: Mapping[str, object]) -> None:
    """Refuse a name that says something of the guest's hardware and that Nova does not know: misspelt. Raises
    Invalid."""
    for name in properties:
        if name.startswith("hw_") and name not in NAMES and not _is_one_of_many(name):
            raise errors.Invalid(f"Image property {name[:100]} is not known.")


def refuse_unserved(properties: Mapping[str, Value]) -> None:
    """Refuse, with its name, a property that nobody here obeys. ``properties``: as ``read`` gives them. Raises
    Invalid."""
    for name, value in properties.items():
        if name in IMAGE_PROPERTIES:
            IMAGE_PROPERTIES[name].refuse(f"Image property {name}", value)


def _of_adapter(name: str) -> dict[str, object]:
    """Return what VMware's name of a disk adapter comes to."""
    if not name:
        return {}
    return {"hw_disk_bus": "ide"} if name == "ide" else {"hw_disk_bus": "scsi", "hw_scsi_model": name}
