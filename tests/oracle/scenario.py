"""A scenario of the oracle as our own records: hosts, aggregates, policy, requests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from cell.scheduler.request import scheduling_request as requests
from cell.scheduler.request.scheduling_request import SchedulingRequest
from cell.scheduler.state.host_table import HostTable
from cellcloud.model import scheduling_policy
from cellcloud.model.flavor import Flavor
from cellcloud.model.host import Aggregate, HostedServer, HostState, Metric
from cellcloud.model.numa import MemoryPages, NumaCell
from cellcloud.model.pci import PciPool, PciRequest
from cellcloud.model.placement_messages import Destination, PlacedGroup
from cellcloud.model.scheduling_policy import NOVA_DEFAULT_FILTERS, WEIGHERS, SchedulingPolicy

Json = dict[str, Any]
UP_SECONDS = 60
FULL = (
    *NOVA_DEFAULT_FILTERS,
    "NUMATopologyFilter",
    "PciPassthroughFilter",
    "AggregateInstanceExtraSpecsFilter",
    "AggregateMultiTenancyIsolation",
    "AggregateImagePropertiesIsolation",
    "AggregateTypeAffinityFilter",
    "AggregateIoOpsFilter",
    "AggregateNumInstancesFilter",
    "DifferentHostFilter",
    "SameHostFilter",
    "SimpleCIDRAffinityFilter",
    "IsolatedHostsFilter",
    "JsonFilter",
)
FILTER_LISTS = {"default": NOVA_DEFAULT_FILTERS, "full": FULL}
_NAMES_AS_THEY_ARE = """
    host node uuid cell vcpus vcpus_used memory_mb memory_mb_used free_ram_mb local_gb local_gb_used free_disk_gb
    disk_available_least cpu_allocation_ratio ram_allocation_ratio disk_allocation_ratio hypervisor_type
    hypervisor_version host_ip cpu_info
"""


def table_of(scenario: Json) -> HostTable:
    """The hosts in their given order, which is that of Nova's lists."""
    found = HostTable()
    found.set_aggregates(aggregates_of(scenario))
    for given in scenario["hosts"]:
        found.set_host(host_of(given))
    assert not found.quarantined, found.quarantined
    return found


def aggregates_of(scenario: Json) -> list[Aggregate]:
    return [
        Aggregate(id=one["id"], uuid=one["uuid"], name=one["name"], metadata=one["metadata"], hosts=tuple(one["hosts"]))
        for one in scenario["aggregates"]
    ]


def host_of(given: Json) -> HostState:
    return HostState(
        zone="",
        enabled=not given["service"]["disabled"],
        up=given["service"]["seconds_since_heartbeat"] <= UP_SECONDS,
        capacity={},
        used={},
        generation=0,
        traits=tuple(given["traits"]),
        supported_instances=tuple(tuple(one) for one in given["supported_instances"]),
        stats=given["stats"] or {},
        metrics=tuple(Metric(**one) for one in given["metrics"]),
        numa=None if given["numa"] is None else tuple(cell_of(one) for one in cells_in(given["numa"])),
        pci_pools=tuple(PciPool(**one) for one in given["pci_pools"]),
        hosted=tuple(HostedServer(uuid=one["uuid"], image_props=one["image_props"]) for one in given["instances"]),
        **{name: given[name] for name in _NAMES_AS_THEY_ARE.split()},
    )


def cells_in(numa: Any) -> Iterable[Json]:
    return numa["cells"] if isinstance(numa, dict) else numa


def cell_of(given: Json) -> NumaCell:
    return NumaCell(
        id=given["id"],
        cpuset=tuple(sorted(given["cpuset"])),
        pcpuset=tuple(sorted(given["pcpuset"])),
        memory=given["memory"],
        cpu_usage=given["cpu_usage"],
        memory_usage=given["memory_usage"],
        pinned_cpus=tuple(sorted(given["pinned_cpus"])),
        siblings=tuple(tuple(sorted(one)) for one in given["siblings"]),
        socket=given["socket"],
        mempages=tuple(MemoryPages(**one) for one in given["mempages"]),
    )


def policy_of(scenario: Json, filters: Iterable[str]) -> SchedulingPolicy:
    return scheduling_policy.parse(
        {"filters": list(filters), "weighers": list(WEIGHERS), "options": scenario["options"]}
    )


def request_of(given: Json) -> SchedulingRequest:
    """Raises Invalid where flavor and image cannot be. NUMA cells are fitted with Nova's mistakes."""
    request = _request_of(given)
    return replace(request, topology=replace(request.topology, literal=True))


def _request_of(given: Json) -> SchedulingRequest:
    flavor, image, group = given["flavor"], given["image"], given["instance_group"]
    return requests.make(
        servers=given["instance_uuids"],
        project_id=given["project_id"],
        flavor=Flavor(
            id=flavor["flavorid"],
            name=flavor["name"],
            vcpus=flavor["vcpus"],
            memory_mb=flavor["memory_mb"],
            root_gb=flavor["root_gb"],
            ephemeral_gb=flavor["ephemeral_gb"],
            swap_mb=flavor["swap"],
            extra_specs=flavor["extra_specs"],
        ),
        image_id=image["id"],
        disk_format=image["disk_format"],
        image_properties=image["properties"],
        zone=given["availability_zone"],
        hints=given["scheduler_hints"],
        pci_requests=[pci_request_of(one) for one in given["pci_requests"]],
        rebuild=given["rebuild"],
        checks_forced="_nova_check_type" in given["scheduler_hints"],  # a name inside Nova's conductor
        group=None if group is None else group_of(group),
        ignore_hosts=tuple(given["ignore_hosts"]),
        force_hosts=tuple(given["force_hosts"]),
        force_nodes=tuple(given["force_nodes"]),
        destination=None if given["requested_destination"] is None else destination_of(given["requested_destination"]),
    )


def pci_request_of(given: Json) -> PciRequest:
    return PciRequest(
        count=given["count"],
        spec=tuple(given["spec"]),
        numa_policy=given["numa_policy"],
        alias_name=given["alias_name"],
        request_id=given["request_id"],
    )


def group_of(given: Json) -> PlacedGroup:
    return PlacedGroup(
        policy=given["policy"],
        members=tuple(given["members"]),
        hosts=tuple(given["hosts"]),
        max_server_per_host=int((given["rules"] or {}).get("max_server_per_host", 1)),
    )


def destination_of(given: Json) -> Destination:
    return Destination(
        host=given.get("host"),
        node=given.get("node"),
        cell=given.get("cell"),
        allow_cross_cell_move=bool(given.get("allow_cross_cell_move")),
    )
