"""What a flavor and an image ask of a guest, checked as a whole: before a server is accepted, and where it is built.

A cell's scheduler asks the same functions again, with what only it knows: the policy's names of devices, and what a
host has.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from cellcloud import errors
from cellcloud.model import extra_specs, flavor_image_conflicts, image_properties, numa_request, pci
from cellcloud.model.flavor import Flavor
from cellcloud.model.image import Image
from cellcloud.model.numa import GuestNuma, Placed
from cellcloud.model.property_value_types import Value
from cellcloud.model.server import ServerSpec
from cellcloud.model.virtual_hardware import Machine, machine_of

KEPT = 512  # of tens of kilobytes at most
Pairs = tuple[tuple[str, str], ...]
NOT_ALONE = {
    "img_hv_requested_version": ("hw_architecture", "img_hv_type", "hw_vm_mode"),
    "hw_maxphysaddr_bits": (
        "hw_architecture",
        "img_hv_type",
        "hw_vm_mode",
        "hw_maxphysaddr_mode",
        "hw:maxphysaddr_mode",
    ),
}
"""Image properties -> those beside which they are looked at, as in Nova."""
LISTS = ("hw:numa_cpus.", "hw:numa_mem.", "hw_numa_cpus.", "hw_numa_mem.")


def asks_for_place(flavor: Flavor, image: Image) -> bool:
    """Return whether such a guest lies on NUMA cells of its host, or has devices of it. Raises Invalid."""
    if not flavor.extra_specs and not image.properties:
        return False
    return bool(flavor.extra_specs.get("pci_passthrough:alias")) or _guest(flavor, image) is not None


def is_placed(spec: ServerSpec) -> bool:
    """Return whether a guest has the cells and as many devices as its flavor and image ask for. Raises Invalid."""
    placed = spec.placed or Placed()
    aliased = spec.flavor.extra_specs.get("pci_passthrough:alias")
    devices = sum(count for _, count in pci.read_aliased(aliased)) if aliased else 0
    guest = _guest(spec.flavor, spec.image)
    fits = placed.guest is None if guest is None else numa_request.is_of(placed, guest)
    return fits and sum(pool.count for pool in placed.devices) == devices


def _guest(flavor: Flavor, image: Image) -> GuestNuma | None:
    return numa_request.guest_numa(flavor, image_properties.read(image.properties))


def check(flavor: Flavor, image: Image) -> Machine:
    """Return the machine asked for. Raises Invalid for what cannot be read, is not offered, contradicts itself, or
    contradicts what the other says; what was refused once is not read again."""
    image_properties.refuse_unknown(image.properties)
    image_properties.check_size(image.properties)
    properties = image_properties.known(image.properties)
    found = _read(flavor.vcpus, flavor.memory_mb, tuple(flavor.extra_specs.items()), tuple(properties.items()))
    if isinstance(found, str):
        raise errors.Invalid(found)
    return found


@lru_cache(maxsize=KEPT)
def _read(vcpus: int, memory_mb: int, specs: Pairs, given: Pairs) -> Machine | str:
    """Return the machine, or why there is none."""
    flavor = Flavor(id="", name="", vcpus=vcpus, memory_mb=memory_mb, root_gb=0, extra_specs=dict(specs))
    try:
        properties = image_properties.read(dict(given))
        image_properties.refuse_unserved(properties)
        extra_specs.refuse_unserved(flavor.extra_specs)
        flavor_image_conflicts.check(flavor, properties)
        _check_whole(flavor, properties)
        extra_specs.read(flavor.extra_specs)
        aliased = flavor.extra_specs.get("pci_passthrough:alias")
        if aliased:
            pci.read_aliased(aliased)
        return machine_of(flavor, properties)
    except errors.Invalid as error:
        return error.message


def _check_whole(flavor: Flavor, properties: Mapping[str, Value]) -> None:
    """Refuse what means nothing without something else, which is not asked for. Raises Invalid."""
    for name, beside in NOT_ALONE.items():
        if name in properties and not any(one in properties or one in flavor.extra_specs for one in beside):
            raise errors.Invalid(f"Image property {name} goes only with one of: {', '.join(beside)}.")
    if numa_request.guest_numa(flavor, properties) is None:
        for name in (*flavor.extra_specs, *properties):
            if name.startswith(LISTS):
                raise errors.Invalid(f"{name[:100]} goes only with a number of NUMA nodes.")
