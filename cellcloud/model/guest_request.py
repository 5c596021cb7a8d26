"""What a flavor and an image ask of a guest, checked as a whole: before a server is accepted, and where it is built.

A cell's scheduler asks the same functions again, with what only it knows: the policy's names of devices, and what a
host has.
"""

from __future__ import annotations

from cellcloud import errors
from cellcloud.model import extra_specs, guest_checks, image_properties, numa_request, pci
from cellcloud.model.flavor import Flavor
from cellcloud.model.image import Image
from cellcloud.model.machine import Machine, machine_of

LISTS = ("hw:numa_cpus.", "hw:numa_mem.", "hw_numa_cpus.", "hw_numa_mem.")


def check(flavor: Flavor, image: Image) -> Machine:
    """The machine asked for. Raises Invalid for what cannot be read, is not offered, contradicts itself, or contradicts
    what the other says."""
    image_properties.refuse_unknown(image.properties)
    properties = image_properties.read(image.properties)
    image_properties.refuse_unserved(properties)
    extra_specs.refuse_unserved(flavor.extra_specs)
    guest_checks.check(flavor, properties)
    if numa_request.guest_numa(flavor, properties) is None:
        for name in (*flavor.extra_specs, *properties):
            if name.startswith(LISTS):
                raise errors.Invalid(f"{name[:100]} goes only with a number of NUMA nodes.")
    extra_specs.read(flavor.extra_specs)
    aliased = flavor.extra_specs.get("pci_passthrough:alias")
    if aliased:
        pci.read_aliased(aliased)
    return machine_of(flavor, properties)
