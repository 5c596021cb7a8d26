"""What a request asks of Placement in Nova: amounts of resource classes, and traits.

Source: Nova's ResourceRequest and its request filters. Resources of numbered groups count with the rest: a host is one
provider here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from cell.scheduler.request.scheduling_request import SHAPES_KEPT, ParsedShape
from cellcloud.model.scheduling_policy import Options

DISABLED_TRAIT = "COMPUTE_STATUS_DISABLED"
THREADS_TRAIT = "HW_CPU_HYPERTHREADING"
_TRAIT_PREFIXES = {
    "hw_cdrom_bus": "COMPUTE_STORAGE_BUS",
    "hw_disk_bus": "COMPUTE_STORAGE_BUS",
    "hw_video_model": "COMPUTE_GRAPHICS_MODEL",
    "hw_vif_model": "COMPUTE_NET_VIF_MODEL",
    "hw_architecture": "HW_ARCH",
    "hw_emulation_architecture": "COMPUTE_ARCH",
    "hw_viommu_model": "COMPUTE_VIOMMU",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """``resources``: resource class -> amount, none of them 0."""

    resources: Mapping[str, int]
    required: frozenset[str]
    forbidden: frozenset[str]


@lru_cache(maxsize=SHAPES_KEPT)
def demands_of(shape: ParsedShape, *, pinned_only: bool = False) -> tuple[Demand, ...]:
    """Return what a host must give: the first, or else the next. There are two when dedicated CPUs are asked for:
    PCPUs, or VCPUs of hosts that do not tell them apart (unless ``pinned_only``)."""
    policy = _cpu_policy(shape)
    first = _demand(shape, pinned=True)
    if policy != "dedicated" or pinned_only:
        return (first,)
    return first, _demand(shape, pinned=False)


def image_demand(shape: ParsedShape) -> Demand:
    """Return the traits that the image requires, and which of them the flavor forbids.

    Source: Nova's _validate_image_traits_for_rebuild.
    """
    traits = _traits_of_image(shape)
    return Demand(resources={}, required=traits, forbidden=shape.asked.forbidden & traits)


@lru_cache(maxsize=SHAPES_KEPT)
def root_required(shape: ParsedShape, options: Options) -> frozenset[str]:
    """Return the traits that follow from the image, where the policy asks for them."""
    traits: set[str] = set()
    if options.query_placement_for_image_type_support and not shape.volume_backed and shape.disk_format:
        traits.add(f"COMPUTE_IMAGE_TYPE_{shape.disk_format.upper()}")
    if options.image_metadata_prefilter:
        for name, prefix in _TRAIT_PREFIXES.items():
            if name in shape.image_props:
                traits.add(f"{prefix}_{str(shape.image_props[name]).replace('-', '_').upper()}")
    return frozenset(traits)


def _cpu_policy(shape: ParsedShape) -> str | None:
    guest = shape.topology.guest
    return guest.cells[0].cpu_policy if guest is not None and guest.cells else None


def _demand(shape: ParsedShape, *, pinned: bool) -> Demand:
    resources = dict(shape.asked.resources)
    if pinned:
        _pin(shape, resources)
    flavor = shape.flavor
    if "VCPU" not in resources and "PCPU" not in resources:
        resources["VCPU"] = flavor.vcpus
    resources.setdefault("MEMORY_MB", flavor.memory_mb)
    root = 0 if shape.volume_backed else flavor.root_gb
    resources.setdefault("DISK_GB", root + flavor.ephemeral_gb - (-flavor.swap_mb // 1024))
    if shape.claimed and shape.claimed != flavor.resources():
        resources |= shape.claimed
    threads = _thread_trait(shape) if pinned else {}
    return Demand(
        resources={name: amount for name, amount in resources.items() if amount},
        required=shape.asked.required | threads.get("require", frozenset()) | _traits_of_image(shape),
        forbidden=shape.asked.forbidden | threads.get("isolate", frozenset()),
    )


def _traits_of_image(shape: ParsedShape) -> frozenset[str]:
    traits = shape.image_props.get("traits_required")
    return frozenset(traits) if isinstance(traits, tuple) else frozenset()


def _pin(shape: ParsedShape, resources: dict[str, int]) -> None:
    """Ask for PCPUs where CPUs are dedicated. Source: Nova's _translate_pinning_policies."""
    policy, guest = _cpu_policy(shape), shape.topology.guest
    if guest is None or policy not in ("dedicated", "mixed"):
        return
    pinned = shape.flavor.vcpus
    if policy == "mixed":
        pinned = sum(len(cell.pcpuset) for cell in guest.cells)
        resources["VCPU"] = shape.flavor.vcpus - pinned
    resources["PCPU"] = pinned + (guest.emulator_threads_policy == "isolate")


def _thread_trait(shape: ParsedShape) -> dict[str, frozenset[str]]:
    """Return the policy for the threads of a core, and the trait that goes with it."""
    policy = shape.flavor.extra_specs.get("hw:cpu_thread_policy")
    if policy in (None, "prefer"):
        policy = str(shape.image_props.get("hw_cpu_thread_policy", policy))
    return {str(policy): frozenset([THREADS_TRAIT])}
