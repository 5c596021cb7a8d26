"""What a flavor and an image may not ask of a guest's machine, NUMA aside, because they contradict each other.

Source of the rules: the checks of Nova's API before it schedules (_validate_flavor_image_numa_pci and what it calls).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from oslo_utils import strutils

from cellcloud import errors
from cellcloud.model.flavor import Flavor
from cellcloud.model.pci import NUMA_POLICIES

Properties = Mapping[str, object]
ENCRYPTION_MODELS = ("amd-sev", "amd-sev-es", "amd-sev-snp", "intel-tdx")
STATELESS_MODELS = ("amd-sev-snp", "intel-tdx")
DEFAULT_ENCRYPTION = "amd-sev"
CPU_DIMENSIONS = ("sockets", "cores", "threads")
MOST_OF_DIMENSION = 65536


def check(flavor: Flavor, image: Properties) -> None:
    """Check that the flavor and the image do not contradict each other. Raises Invalid for the first contradiction."""
    _check_memory(flavor, image)
    for name in ("pmu", "virtio_packed_ring"):
        _agreed_flag(flavor, image, name)
    if flavor.vcpus > 1:
        _agreed_flag(flavor, image, "vif_multiqueue_enabled")
    _check_serial_ports(flavor, image)
    _check_cpu_topology(flavor, image)
    pci_numa_policy(flavor, image)


def pci_numa_policy(flavor: Flavor, image: Properties) -> str | None:
    """Return how near PCI devices of aliases that say nothing themselves must be. Raises Invalid."""
    own = choice("hw:pci_numa_affinity_policy", flavor.extra_specs, NUMA_POLICIES)
    asked = choice("hw_pci_numa_affinity_policy", image, NUMA_POLICIES)
    if own and asked and own != asked:
        raise errors.Invalid(f"The image's PCI NUMA affinity policy {asked!r} is not the flavor's {own!r}.")
    return own or asked


def choice(name: str, values: Properties, allowed: Sequence[str]) -> str | None:
    """One of ``allowed``, or None when it is not set. Raises Invalid."""
    value = values.get(name)
    if not value:
        return None
    if value not in allowed:
        raise errors.Invalid(f"{name} must be one of {', '.join(allowed)}, not {str(value)[:100]!r}.")
    return str(value)


def flag(value: object) -> bool:
    """Return True for what Nova takes as such in an extra spec; anything else is False."""
    return bool(strutils.bool_from_string(value))


def _agreed_flag(flavor: Flavor, image: Properties, name: str) -> bool | None:
    """Return what flavor or image say; None when neither does. Raises Invalid when they disagree."""
    own, asked = flavor.extra_specs.get(f"hw:{name}"), image.get(f"hw_{name}")
    if own is not None and asked is not None and flag(own) != flag(asked):
        raise errors.Invalid(f"The image's hw_{name} is not the flavor's hw:{name}.")
    value = asked if own is None else own
    return None if value is None else flag(value)


def _check_memory(flavor: Flavor, image: Properties) -> None:
    """Locked memory needs a page size; encrypted memory needs the firmware and machine that can do it."""
    locked = _agreed_flag(flavor, image, "locked_memory")
    sized = flavor.extra_specs.get("hw:mem_page_size") or image.get("hw_mem_page_size")
    if locked and not sized:
        raise errors.Invalid("Locked memory needs a memory page size.")
    if not _agreed_flag(flavor, image, "mem_encryption"):
        return
    own = choice("hw:mem_encryption_model", flavor.extra_specs, ENCRYPTION_MODELS)
    asked = choice("hw_mem_encryption_model", image, ENCRYPTION_MODELS)
    if own and asked and own != asked:
        raise errors.Invalid(f"The image's memory encryption model {asked!r} is not the flavor's {own!r}.")
    model = own or asked or DEFAULT_ENCRYPTION
    if image.get("hw_firmware_type") != "uefi":
        raise errors.Invalid("Memory encryption needs the image property hw_firmware_type=uefi.")
    if "q35" not in str(image.get("hw_machine_type") or "q35"):
        raise errors.Invalid("Memory encryption needs a machine of type q35.")
    if model in STATELESS_MODELS and not flag(image.get("hw_firmware_stateless")):
        raise errors.Invalid(f"Memory encryption by {model} needs the image property hw_firmware_stateless=true.")
    if model == "intel-tdx" and image.get("hw_video_model") != "none":
        raise errors.Invalid("Memory encryption by intel-tdx needs the image property hw_video_model=none.")


def _check_serial_ports(flavor: Flavor, image: Properties) -> None:
    own = _number(flavor.extra_specs, "hw:serial_port_count")
    asked = _number(image, "hw_serial_port_count")
    if own and asked > own:
        raise errors.Invalid(f"The image asks for {asked} serial ports, and the flavor allows {own}.")


def _check_cpu_topology(flavor: Flavor, image: Properties) -> None:
    """Check that an image's sockets, cores and threads stay below its own and the flavor's limits."""
    for dimension in CPU_DIMENSIONS:
        limit = _number(flavor.extra_specs, f"hw:cpu_max_{dimension}")
        own_limit = _number(image, f"hw_cpu_max_{dimension}")
        if limit and own_limit > limit:
            raise errors.Invalid(f"The image allows {own_limit} {dimension}, and the flavor {limit}.")
        most = own_limit or limit or MOST_OF_DIMENSION
        _number(flavor.extra_specs, f"hw:cpu_{dimension}")
        if _number(image, f"hw_cpu_{dimension}") > most:
            raise errors.Invalid(f"The image asks for more than {most} {dimension}.")


def _number(values: Properties, name: str) -> int:
    """0 when it is not set. Raises Invalid when it is not a whole number."""
    try:
        return int(str(values.get(name) or 0))
    except ValueError:
        raise errors.Invalid(f"{name} must be a whole number, not {str(values.get(name))[:100]!r}.") from None
