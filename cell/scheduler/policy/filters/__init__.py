"""The rules that a host must meet, one a file, by the names that policies use."""

from __future__ import annotations

from collections.abc import Mapping

from cell.scheduler.policy.filters import (
    aggregate_extra_specs,
    aggregate_flavor,
    aggregate_image_properties,
    aggregate_multi_tenancy_isolation,
    all_hosts,
    capabilities,
    cidr,
    compute,
    counts,
    image_properties,
    isolated_aggregate,
    isolated_hosts,
    json_query,
    metrics,
    numa_topology,
    pci_passthrough,
    require_tenant_aggregate,
    resource_class,
    server_group,
    server_hints,
    traits,
    zone,
)
from cell.scheduler.policy.filters.interface import FilterContext, HostFilter, TopologyFilter

_ALL: tuple[HostFilter, ...] = (
    all_hosts.FILTER,
    compute.FILTER,
    zone.FILTER,
    traits.FILTER,
    require_tenant_aggregate.FILTER,
    isolated_aggregate.FILTER,
    resource_class.FILTER,
    capabilities.FILTER,
    image_properties.FILTER,
    *server_group.FILTERS,
    *server_hints.FILTERS,
    *counts.FILTERS,
    aggregate_extra_specs.FILTER,
    aggregate_flavor.FILTER,
    aggregate_image_properties.FILTER,
    aggregate_multi_tenancy_isolation.FILTER,
    cidr.FILTER,
    isolated_hosts.FILTER,
    json_query.FILTER,
    metrics.FILTER,
    TopologyFilter(
        "NUMATopologyFilter",
        numa_topology.refuse,
        lambda wanted: wanted.guest is not None or wanted.needs_threads,
    ),
    TopologyFilter("PciPassthroughFilter", pci_passthrough.refuse, lambda wanted: bool(wanted.devices)),
)
FILTERS: Mapping[str, HostFilter] = {one.name: one for one in _ALL}

__all__ = ["FILTERS", "FilterContext", "HostFilter"]
