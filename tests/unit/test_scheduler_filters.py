"""Each filter alone on a few hosts, and what it says to those it refuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from cell.scheduler.policy.filters import FILTERS, FilterContext
from cell.scheduler.policy.filters.operators import flaw_of, meets
from cell.scheduler.request import scheduling_request
from cell.scheduler.request.scheduling_request import SchedulingRequest
from cell.scheduler.state import host_table
from cell.scheduler.state.host_table import HostTable
from cellcloud.model import scheduling_policy
from cellcloud.model.flavor import Flavor
from cellcloud.model.host import Aggregate, HostedServer, HostState, Metric
from cellcloud.model.numa import NumaCell
from cellcloud.model.pci import PciPool, PciRequest
from cellcloud.model.placement_messages import PlacedGroup
from cellcloud.model.scheduling_policy import NOVA_FILTERS, PLACEMENT_FILTERS, SchedulingPolicy

HOSTS = ("a", "b", "c")
Hosts = Mapping[str, Mapping[str, Any]]


def world(hosts: Hosts, aggregates: Mapping[str, Mapping[str, str]]) -> HostTable:
    """Hosts a, b and c; ``aggregates``: names of hosts, as "ab", to metadata."""
    states = [
        HostState(
            **{
                "host": name,
                "zone": "nova",
                "enabled": True,
                "up": True,
                "capacity": {"VCPU": 8, "MEMORY_MB": 8192, "DISK_GB": 100},
                "used": {},
                "generation": 1,
                **hosts.get(name, {}),
            }
        )
        for name in HOSTS
    ]
    found = [
        Aggregate(id=number, uuid=f"u{number}", metadata=dict(metadata), hosts=tuple(members))
        for number, (members, metadata) in enumerate(aggregates.items())
    ]
    return host_table.build(states, found)


def ask(specs: Mapping[str, str] | None = None, **values: Any) -> SchedulingRequest:
    flavor = Flavor(id="f", name="small", vcpus=2, memory_mb=1024, root_gb=10, extra_specs=dict(specs or {}))
    return scheduling_request.make(**{"servers": ["s"], "project_id": "p", "flavor": flavor, "image_id": "i", **values})


def answers(name: str, here: HostTable, asked: SchedulingRequest, chosen: SchedulingPolicy) -> dict[str, str]:
    """Host -> why it is refused, "" when it passes; the same by columns and host by host."""
    rule, context = FILTERS[name], FilterContext(chosen.options, here.host_classes.aggregates, asked.servers[0])
    places = np.arange(len(here))
    refusals = [rule.refuse_at(here, place, asked, context) for place in places.tolist()]
    passes = rule.passes(here, places, asked, context)
    assert passes.tolist() == [refusal is None for refusal in refusals]
    assert rule.passes(here, places[::-1], asked, context).tolist() == passes[::-1].tolist()
    if not rule.applies(asked, context):
        assert passes.all()
    return {here.states[place].host: str(refusals[place] or "") for place in places.tolist()}


Q = '["and", [">=", "$free_ram_mb", 4096], ["not", ["=", "$stats.kind", "old"]], ["in", "$host", "a", "b"]]'
MEMBERS = PlacedGroup(policy="anti-affinity", members=("m1", "m2", "m3"), max_server_per_host=2)
CASES: list[tuple[str, Hosts, Mapping[str, Mapping[str, str]], SchedulingRequest, dict[str, Any], dict[str, str]]] = [
    ("AllHostsFilter", {}, {}, ask(), {}, {}),
    (
        "ComputeFilter",
        {"a": {"enabled": False}, "b": {"up": False}},
        {},
        ask(),
        {},
        {"a": "is disabled", "b": "is down"},
    ),
    (
        "AvailabilityZoneFilter",
        {"a": {"zone": "az1"}},
        {"b": {"availability_zone": "az1"}},
        ask(zone="az1"),
        {},
        {"c": "is in zone nova, not in az1"},
    ),
    (
        "TraitsFilter",
        {"a": {"traits": ("CUSTOM_X",)}, "b": {"traits": ("CUSTOM_X", "CUSTOM_Y")}},
        {},
        ask({"trait:CUSTOM_Y": "forbidden"}, image_properties={"trait:CUSTOM_X": "required"}),
        {},
        {"b": "has the trait CUSTOM_Y, which is forbidden", "c": "has not the trait CUSTOM_X"},
    ),
    (
        "TraitsFilter",
        {"a": {"traits": ("COMPUTE_STATUS_DISABLED",)}, "b": {"traits": ("COMPUTE_IMAGE_TYPE_QCOW2",)}},
        {},
        ask(disk_format="qcow2"),
        {"scheduler.query_placement_for_image_type_support": True},
        {"a": "has the trait COMPUTE_STATUS_DISABLED", "c": "has not the trait COMPUTE_IMAGE_TYPE_QCOW2"},
    ),
    (
        "TenantAggregateFilter",
        {},
        {"a": {"filter_tenant_id": "p"}},
        ask(),
        {"scheduler.limit_tenants_to_placement_aggregate": True},
        dict.fromkeys("bc", "is in none of the project's aggregates"),
    ),
    (
        "TenantAggregateFilter",
        {},
        {"a": {"filter_tenant_id": "q"}},
        ask(),
        {
            "scheduler.limit_tenants_to_placement_aggregate": True,
            "scheduler.placement_aggregate_required_for_tenants": True,
        },
        dict.fromkeys("abc", "no aggregate is for the project"),
    ),
    (
        "IsolatedAggregateFilter",
        {},
        {"a": {"trait:CUSTOM_GPU": "required"}, "b": {"trait:CUSTOM_X": "required"}},
        ask({"trait:CUSTOM_X": "required"}),
        {"scheduler.enable_isolated_aggregate_filtering": True},
        {"a": "is kept for servers that require CUSTOM_GPU"},
    ),
    (
        "ResourceClassFilter",
        {"a": {"used": {"MEMORY_MB": 7500}}, "b": {"capacity": {"VCPU": 1, "MEMORY_MB": 9000, "DISK_GB": 9}}},
        {},
        ask(),
        {},
        {"a": "lacks 332 MEMORY_MB: 1024 needed, 692 there", "b": "lacks 1 VCPU: 2 needed, 1 there"},
    ),
    (
        "ResourceClassFilter",
        {"a": {"capacity": {"PCPU": 2, "MEMORY_MB": 2048, "DISK_GB": 10}}, "b": {"used": {"VCPU": 7}}},
        {},
        ask({"hw:cpu_policy": "dedicated"}),
        {},
        {"b": "lacks 1 VCPU: 2 needed, 1 there"},
    ),
    (
        "ResourceClassFilter",
        {"a": {"capacity": {"VCPU": 8, "MEMORY_MB": 2048, "CUSTOM_FPGA": 1}}},
        {},
        ask({"resources:CUSTOM_FPGA": "1", "resources:DISK_GB": "0"}),
        {},
        dict.fromkeys("bc", "lacks 1 CUSTOM_FPGA: 1 needed, 0 there"),
    ),
    (
        "ComputeCapabilitiesFilter",
        {
            "a": {"stats": {"speed": "9"}, "cpu_info": {"features": ["aes", "avx"]}},
            "b": {"stats": {"speed": "slow"}, "cpu_info": {"features": ["aes", "avx"]}},
            "c": {"stats": {"speed": "9"}},
        },
        {},
        ask(
            {
                "capabilities:speed": ">= 5",
                "capabilities:cpu_info:features": "<all-in> aes avx",
                "free_ram_mb": "<= 1e9",
            }
        ),
        {},
        {
            "b": "has slow, not capabilities:speed=>= 5",
            "c": "does not say what extra spec capabilities:cpu_info:features asks for",
        },
    ),
    (
        "ComputeCapabilitiesFilter",
        {"a": {"stats": {"speed": "9"}}},
        {},
        ask({"speed": ">="}),
        {},
        {"a": "extra spec speed is malformed: operator >= has no operand"},
    ),
    (
        "ImagePropertiesFilter",
        {
            "a": {"supported_instances": (("x86_64", "kvm", "hvm"),), "hypervisor_version": 8002000},
            "b": {"supported_instances": (("x86_64", "kvm", "hvm"),), "hypervisor_version": 6002000},
            "c": {"supported_instances": (("aarch64", "kvm", "hvm"),)},
        },
        {},
        ask(image_properties={"architecture": "amd64", "img_hv_requested_version": ">=7.0,<9"}),
        {},
        {"b": "has hypervisor version 6.2.0, not >=7.0,<9", "c": "does not run x86_64 guests"},
    ),
    (
        "ImagePropertiesFilter",
        {
            name: {"supported_instances": (("x86_64", "kvm", "hvm"),), "cpu_info": {"maxphysaddr": {"bits": bits}}}
            for name, bits in (("a", 39), ("b", 46))
        }
        | {"c": {"supported_instances": (("x86_64", "kvm", "hvm"),)}},
        {},
        ask(image_properties={"hw_maxphysaddr_bits": "42"}),
        {"filter_scheduler.image_properties_default_architecture": "x86_64"},
        {"a": "lacks 3 bits of physical address: 42 needed, 39 there"},
    ),
    (
        "AggregateInstanceExtraSpecsFilter",
        {},
        {"ab": {"rack": "r1, r2"}, "a": {"ssd": "true"}},
        ask({"aggregate_instance_extra_specs:rack": "r2", "ssd": "<or> true <or> yes", "other:x": "y"}),
        {},
        {"b": "is in no aggregate with ssd", "c": "is in no aggregate with rack"},
    ),
    (
        "AggregateImagePropertiesIsolation",
        {},
        {"a": {"os_distro": "windows", "no_such_property": "x"}, "b": {"os_distro": "debian,ubuntu"}},
        ask(image_properties={"os_distro": "debian"}),
        {},
        {"a": "is kept for images with os_distro windows, not debian"},
    ),
    (
        "AggregateMultiTenancyIsolation",
        {},
        {"a": {"filter_tenant_id": "q"}, "ab": {"filter_tenant_id2": "r"}, "b": {"filter_tenant_id3": "x, p"}},
        ask(),
        {},
        {"a": "is kept for other projects"},
    ),
    (
        "AggregateTypeAffinityFilter",
        {},
        {"a": {"instance_type": "large"}, "b": {"instance_type": "large, small"}},
        ask(),
        {},
        {"a": "is kept for flavors large"},
    ),
    (
        "IoOpsFilter",
        {"a": {"stats": {"io_workload": "8"}}, "b": {"stats": {"io_workload": "7"}}},
        {"a": {"max_io_ops_per_host": "20"}},
        ask(),
        {},
        {"a": "lacks 1 place for an operation under way: 1 needed, 0 there"},
    ),
    (
        "AggregateIoOpsFilter",
        {name: {"stats": {"io_workload": "5"}} for name in HOSTS},
        {"a": {"max_io_ops_per_host": "5"}, "ab": {"max_io_ops_per_host": "7"}, "c": {"max_io_ops_per_host": "bad"}},
        ask(),
        {},
        {"a": "lacks 1 place for an operation under way: 1 needed, 0 there"},
    ),
    (
        "NumInstancesFilter",
        {"a": {"servers": 3}, "b": {"servers": 9, "stats": {"num_instances": "1"}}},
        {},
        ask(),
        {"filter_scheduler.max_instances_per_host": 2},
        {"a": "lacks 2 place for a server: 1 needed, 0 there"},
    ),
    (
        "AggregateNumInstancesFilter",
        {"a": {"servers": 3}, "b": {"servers": 3}},
        {"a": {"max_instances_per_host": "3"}},
        ask(),
        {},
        {"a": "lacks 1 place for a server: 1 needed, 0 there"},
    ),
    (
        "MetricsFilter",
        {"a": {"metrics": (Metric(name="cpu.percent", value=3.0),)}},
        {},
        ask(),
        {"metrics.weight_setting": ["cpu.percent=1"]},
        dict.fromkeys("bc", "does not report cpu.percent"),
    ),
    (
        "DifferentHostFilter",
        {"a": {"hosted": (HostedServer(uuid="x"),)}},
        {},
        ask(hints={"different_host": ["x", "y"]}),
        {},
        {"a": "has server x"},
    ),
    (
        "SameHostFilter",
        {"a": {"hosted": (HostedServer(uuid="x"),)}},
        {},
        ask(hints={"same_host": "x"}),
        {},
        dict.fromkeys("bc", "has none of the servers asked for"),
    ),
    (
        "ServerGroupAffinityFilter",
        {},
        {},
        ask(group=PlacedGroup(policy="affinity", hosts=("b", "gone"))),
        {},
        dict.fromkeys("ac", "has no member of the server group, which is to stay together"),
    ),
    ("ServerGroupAffinityFilter", {}, {}, ask(group=PlacedGroup(policy="affinity")), {}, {}),
    (
        "ServerGroupAntiAffinityFilter",
        {
            "a": {"hosted": (HostedServer(uuid="m1"), HostedServer(uuid="m2"))},
            "b": {"hosted": (HostedServer(uuid="m3"),)},
        },
        {},
        ask(group=MEMBERS),
        {},
        {"a": "lacks 1 place for a member of the server group: 1 needed, 0 there"},
    ),
    (
        "SimpleCIDRAffinityFilter",
        {"a": {"host_ip": "10.0.0.9"}, "b": {"host_ip": "10.0.1.9"}},
        {},
        ask(hints={"build_near_host_ip": "10.0.0.1"}),
        {},
        {"b": "has address 10.0.1.9, not in 10.0.0.0/24", "c": "has no proper address"},
    ),
    (
        "IsolatedHostsFilter",
        {},
        {},
        ask(),
        {"filter_scheduler.isolated_hosts": ["a", "gone"], "filter_scheduler.isolated_images": ["j"]},
        {"a": "is kept for isolated images"},
    ),
    (
        "IsolatedHostsFilter",
        {},
        {},
        ask(image_id="j"),
        {
            "filter_scheduler.isolated_hosts": ["a"],
            "filter_scheduler.isolated_images": ["j"],
            "filter_scheduler.restrict_isolated_hosts_to_isolated_images": False,
        },
        dict.fromkeys("bc", "is not among the hosts for isolated images"),
    ),
    (
        "JsonFilter",
        {"a": {"free_ram_mb": 5000, "stats": {"kind": "new"}}, "b": {"free_ram_mb": 4000}},
        {},
        ask(hints={"query": Q}),
        {},
        {
            "b": "does not meet the query: has free_ram_mb 4000, host b, stats.kind None",
            "c": "does not meet the query: has free_ram_mb 8192, host c, stats.kind None",
        },
    ),
    (
        "NUMATopologyFilter",
        {"a": {"numa": (NumaCell(id=0, cpuset=(0, 1, 2, 3), memory=4096),)}},
        {},
        ask({"hw:numa_nodes": "1"}),
        {},
        dict.fromkeys("bc", "reports no NUMA topology"),
    ),
    (
        "PciPassthroughFilter",
        {"a": {"pci_pools": (PciPool(vendor_id="8086", product_id="10ed", count=1),)}},
        {},
        ask(pci_requests=[PciRequest(count=1, spec=({"vendor_id": "8086"},))]),
        {},
        {},
    ),
]


@pytest.mark.parametrize(("name", "hosts", "aggregates", "asked", "options", "refused"), CASES)
def test_filter(
    name: str,
    hosts: Hosts,
    aggregates: Mapping[str, Mapping[str, str]],
    asked: SchedulingRequest,
    options: dict[str, Any],
    refused: dict[str, str],
) -> None:
    found = answers(name, world(hosts, aggregates), asked, scheduling_policy.parse({"options": options}))
    if name == "PciPassthroughFilter":
        assert [host for host, why in found.items() if not why] == ["a"]
        return
    assert found == {host: refused.get(host, "") for host in HOSTS}


def test_every_filter_is_tried_here_and_every_name_is_known() -> None:
    assert set(FILTERS) == {*NOVA_FILTERS, *PLACEMENT_FILTERS}
    assert {case[0] for case in CASES} == set(FILTERS)
    assert len(NOVA_FILTERS) == 22


@pytest.mark.parametrize(
    ("value", "requirement", "passes", "flawed"),
    [
        ("5", "= 4", True, False),
        ("4", "= 5", False, False),
        ("5", "== 5.0", True, False),
        ("5", "!= 5", False, False),
        ("x", ">= 5", False, False),
        ("5", "<= x", False, True),
        ("abc", "<in> b", True, False),
        ("abc", "s< b", True, False),
        ("abc", "s== abc", True, False),
        ("v2", "<or> v1 <or> v2", True, False),
        ("v2", "<or>", False, True),
        ("[aes, avx]", "<all-in> aes avx2", False, False),
        ("free text", "free text", True, False),
        ("", "", True, False),
        ("x", "", False, False),
    ],
)
def test_operators(value: str, requirement: str, passes: bool, flawed: bool) -> None:
    assert meets(value, requirement) == passes
    assert (flaw_of(requirement) is not None) == flawed


def test_a_query_that_compares_number_and_text_refuses_the_host_alone() -> None:
    here = world({"a": {"stats": {"size": "7"}}}, {})
    asked = ask(hints={"query": '[">", "$stats.size", 5]'})
    found = answers("JsonFilter", here, asked, scheduling_policy.DEFAULT)
    assert found["a"] == "has values that the query cannot compare"


def test_rebuilds_ask_only_what_an_image_can_change() -> None:
    assert {name for name, rule in FILTERS.items() if rule.on_rebuild} == {
        "ImagePropertiesFilter",
        "AggregateImagePropertiesIsolation",
        "IsolatedHostsFilter",
        "TraitsFilter",  # of the image's alone
    }
