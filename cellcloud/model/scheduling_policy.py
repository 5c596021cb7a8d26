"""Scheduling policy: which filters and weighers a cell's schedulers use, and their settings. Data, not options.

A policy is a JSON document with up to three keys, each with a default:

    filters   names of filters, in the order they are asked
    weighers  names of weighers, in the order their scores are added up
    options   Nova's option names (``group.option``) to values; absent ones have Nova's defaults

Source of names, defaults and bounds: Nova's ``[scheduler]``, ``[filter_scheduler]`` and ``[metrics]`` options.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

from cellcloud import errors
from cellcloud.model.pci import parse_aliases

PLACEMENT_FILTERS = (
    "ResourceClassFilter",
    "TraitsFilter",
    "AvailabilityZoneFilter",
    "TenantAggregateFilter",
    "IsolatedAggregateFilter",
)
NOVA_FILTERS = (
    "AggregateImagePropertiesIsolation",
    "AggregateInstanceExtraSpecsFilter",
    "AggregateIoOpsFilter",
    "AggregateMultiTenancyIsolation",
    "AggregateNumInstancesFilter",
    "AggregateTypeAffinityFilter",
    "AllHostsFilter",
    "ComputeCapabilitiesFilter",
    "ComputeFilter",
    "DifferentHostFilter",
    "ImagePropertiesFilter",
    "IoOpsFilter",
    "IsolatedHostsFilter",
    "JsonFilter",
    "MetricsFilter",
    "NUMATopologyFilter",
    "NumInstancesFilter",
    "PciPassthroughFilter",
    "SameHostFilter",
    "ServerGroupAffinityFilter",
    "ServerGroupAntiAffinityFilter",
    "SimpleCIDRAffinityFilter",
)
NOVA_DEFAULT_FILTERS = (
    "ComputeFilter",
    "ComputeCapabilitiesFilter",
    "ImagePropertiesFilter",
    "ServerGroupAntiAffinityFilter",
    "ServerGroupAffinityFilter",
)
HINT_FILTERS = ("DifferentHostFilter", "SameHostFilter", "SimpleCIDRAffinityFilter", "JsonFilter")
"""Asked only where a tenant gave their hint, which a policy without them refuses."""
TOPOLOGY_FILTERS = ("NUMATopologyFilter", "PciPassthroughFilter")
"""Asked only where a flavor or an image asks for NUMA cells, dedicated CPUs, pages or devices."""
WEIGHERS = (
    "NumInstancesWeigher",
    "CrossCellWeigher",
    "MetricsWeigher",
    "CPUWeigher",
    "BuildFailureWeigher",
    "ServerGroupSoftAffinityWeigher",
    "ServerGroupSoftAntiAffinityWeigher",
    "RAMWeigher",
    "DiskWeigher",
    "PCIWeigher",
    "ImagePropertiesWeigher",
    "IoOpsWeigher",
    "HypervisorVersionWeigher",
)
"""In an order in which Nova adds them up: it has them as its directory lists them."""
_ARCHITECTURE_NAMES = """
    aarch64 alpha armv6 armv7l armv7b cris i686 ia64 lm32 m68k microblaze microblazeel mips mips64 mips64el mipsel
    parisc parisc64 ppc ppc64 ppc64le ppcemb ppcle s390 s390x sh4 sh4eb sparc sparc64 unicore32 x86_64 xtensa xtensaeb
"""
ARCHITECTURES = frozenset(_ARCHITECTURE_NAMES.split())


@dataclass(frozen=True, kw_only=True)
class Options:
    """Nova's options by their own names; those of ``[metrics]`` begin with ``metrics_``."""

    max_attempts: int = 3
    limit_tenants_to_placement_aggregate: bool = False
    placement_aggregate_required_for_tenants: bool = False
    query_placement_for_image_type_support: bool = False
    enable_isolated_aggregate_filtering: bool = False
    image_metadata_prefilter: bool = False
    host_subset_size: int = 1
    max_io_ops_per_host: int = 8
    max_instances_per_host: int = 50
    ram_weight_multiplier: float = 1.0
    cpu_weight_multiplier: float = 1.0
    disk_weight_multiplier: float = 1.0
    hypervisor_version_weight_multiplier: float = 1.0
    num_instances_weight_multiplier: float = 0.0
    io_ops_weight_multiplier: float = -1.0
    image_props_weight_multiplier: float = 0.0
    image_props_weight_setting: tuple[tuple[str, float], ...] = ()
    pci_weight_multiplier: float = 1.0
    soft_affinity_weight_multiplier: float = 1.0
    soft_anti_affinity_weight_multiplier: float = 1.0
    build_failure_weight_multiplier: float = 1000000.0
    cross_cell_move_weight_multiplier: float = 1000000.0
    shuffle_best_same_weighed_hosts: bool = False
    image_properties_default_architecture: str | None = None
    isolated_images: tuple[str, ...] = ()
    isolated_hosts: tuple[str, ...] = ()
    restrict_isolated_hosts_to_isolated_images: bool = True
    aggregate_image_properties_isolation_namespace: str | None = None
    aggregate_image_properties_isolation_separator: str = "."
    metrics_weight_multiplier: float = 1.0
    metrics_weight_setting: tuple[tuple[str, float], ...] = ()
    metrics_required: bool = True
    metrics_weight_of_unavailable: float = -10000.0
    disable_fallback_pcpu_query: bool = False
    pci_alias: tuple[str, ...] = ()

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash(tuple(getattr(self, item.name) for item in fields(self)))


@dataclass(frozen=True, kw_only=True)
class SchedulingPolicy:
    """Hashable: equal policies choose equally. ``filters`` of Placement's rules come first, as in Nova."""

    filters: tuple[str, ...] = PLACEMENT_FILTERS + HINT_FILTERS + TOPOLOGY_FILTERS + NOVA_DEFAULT_FILTERS
    weighers: tuple[str, ...] = WEIGHERS
    options: Options = field(default_factory=Options)

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.filters, self.weighers, self.options))


DEFAULT = SchedulingPolicy()

_SCHEDULER = frozenset(name for name in Options.__dataclass_fields__ if "placement" in name) | {
    "max_attempts",
    "enable_isolated_aggregate_filtering",
    "image_metadata_prefilter",
}
_LEAST = {
    "max_attempts": 1,
    "host_subset_size": 1,
    "max_io_ops_per_host": 0,
    "max_instances_per_host": 1,
    "pci_weight_multiplier": 0.0,
    "soft_affinity_weight_multiplier": 0.0,
    "soft_anti_affinity_weight_multiplier": 0.0,
}


def _nova_name(name: str) -> str:
    if name.startswith("metrics_"):
        return f"metrics.{name.removeprefix('metrics_')}"
    if name == "pci_alias":
        return "pci.alias"
    if name == "disable_fallback_pcpu_query":
        return f"workarounds.{name}"
    return f"{'scheduler' if name in _SCHEDULER else 'filter_scheduler'}.{name}"


OPTION_NAMES: Mapping[str, str] = {_nova_name(item.name): item.name for item in fields(Options)}
"""Nova's ``group.option`` -> the field of Options."""


def parse(document: object) -> SchedulingPolicy:
    """Read a policy document. Raises Invalid that names the key and says what it must be."""
    if not isinstance(document, Mapping):
        raise errors.Invalid("A scheduling policy must be an object.")
    _known("key", document, ("filters", "weighers", "options"))
    options = document.get("options", {})
    if not isinstance(options, Mapping):
        raise errors.Invalid("Scheduling policy: options must be an object.")
    _known("option", options, tuple(OPTION_NAMES))
    return SchedulingPolicy(
        filters=_names(document, "filters", DEFAULT.filters, PLACEMENT_FILTERS + NOVA_FILTERS),
        weighers=_names(document, "weighers", WEIGHERS, WEIGHERS),
        options=Options(**{OPTION_NAMES[name]: _option(name, value) for name, value in options.items()}),
    )


def to_plain(policy: SchedulingPolicy) -> dict[str, Any]:
    """Return the document that ``parse`` reads as this policy; options that have their default are left out."""
    return {
        "filters": list(policy.filters),
        "weighers": list(policy.weighers),
        "options": {
            name: _plain(getattr(policy.options, attribute))
            for name, attribute in OPTION_NAMES.items()
            if getattr(policy.options, attribute) != getattr(DEFAULT.options, attribute)
        },
    }


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [item if isinstance(item, str) else f"{item[0]}={item[1]!r}" for item in value]
    return value


def _known(what: str, given: Mapping[Any, Any], names: Sequence[str]) -> None:
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(str(name), names, n=1)
            hint = f"; did you mean {near[0]}?" if near else "."
            raise errors.Invalid(f"Scheduling policy: there is no {what} {str(name)[:100]!r}{hint}")


def _names(document: Mapping[str, Any], key: str, default: tuple[str, ...], known: Sequence[str]) -> tuple[str, ...]:
    given = document.get(key, default)
    if not isinstance(given, list | tuple) or not all(isinstance(name, str) for name in given):
        raise errors.Invalid(f"Scheduling policy: {key} must be a list of names.")
    _known(key.removesuffix("s"), dict.fromkeys(given), known)
    if len(set(given)) != len(given):
        raise errors.Invalid(f"Scheduling policy: {key} names one twice.")
    return tuple(given)


def _option(name: str, value: Any) -> Any:
    """Return the value as its field holds it. A flag is true or false, a number finite and within Nova's bounds."""
    attribute = OPTION_NAMES[name]
    default = getattr(DEFAULT.options, attribute)
    if isinstance(default, bool):
        return _of_kind(name, value, bool, "true or false")
    if isinstance(default, int | float):
        return _number(name, value, whole=isinstance(default, int), least=_LEAST.get(attribute))
    if isinstance(default, tuple):
        items = _of_kind(name, value, (list, tuple), "a list of texts")
        texts = tuple(_of_kind(name, item, str, "a list of texts") for item in items)
        if attribute == "pci_alias":
            parse_aliases(texts)
        return tuple(_ratio(name, text) for text in texts) if attribute.endswith("_setting") else texts
    if value is None and default is None:
        return None
    if attribute == "image_properties_default_architecture" and value not in ARCHITECTURES:
        raise errors.Invalid(f"Scheduling policy: {name} must be an architecture such as x86_64.")
    return _of_kind(name, value, str, "a text")


def _of_kind(name: str, value: Any, kind: type | tuple[type, ...], wanted: str) -> Any:
    if not isinstance(value, kind):
        raise errors.Invalid(f"Scheduling policy: {name} must be {wanted}.")
    return value


def _number(name: str, value: Any, *, whole: bool, least: float | None) -> int | float:
    kind = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kind) or not math.isfinite(value) or abs(value) > 2**53:
        raise errors.Invalid(f"Scheduling policy: {name} must be a {'whole ' if whole else ''}number.")
    if least is not None and value < least:
        raise errors.Invalid(f"Scheduling policy: {name} must be at least {least}.")
    return int(value) if whole else float(value)


def _ratio(name: str, text: str) -> tuple[str, float]:
    key, _, ratio = text.partition("=")
    try:
        number = float(ratio)
    except ValueError:
        number = math.nan
    if not key or not math.isfinite(number):
        raise errors.Invalid(f"Scheduling policy: {name} must be a list of NAME=NUMBER, not {text[:100]!r}.")
    return key, number
