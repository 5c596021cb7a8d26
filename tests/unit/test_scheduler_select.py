"""Whole decisions: several servers in one request, alternates, groups, forced hosts, chance."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cell.scheduler.policy.compiled_policy import compile_policy
from cell.scheduler.request import scheduling_request
from cell.scheduler.request.scheduling_request import SchedulingRequest
from cell.scheduler.select import filter_and_weigh
from cell.scheduler.select.filter_and_weigh import Selection
from cell.scheduler.select.hosts import select_hosts
from cell.scheduler.state import host_table
from cell.scheduler.state.host_table import HostTable
from cellcloud.model import scheduling_policy
from cellcloud.model.flavor import Flavor
from cellcloud.model.host import Aggregate, HostedServer, HostState, Metric
from cellcloud.model.numa import NumaCell
from cellcloud.model.pci import PciPool, PciRequest
from cellcloud.model.placement_messages import Destination, PlacedGroup
from cellcloud.model.scheduling_policy import NOVA_DEFAULT_FILTERS, PLACEMENT_FILTERS

FLAVOR = Flavor(id="f", name="f", vcpus=2, memory_mb=1024, root_gb=10)
ALL_FILTERS = [*PLACEMENT_FILTERS, *NOVA_DEFAULT_FILTERS, "NUMATopologyFilter", "PciPassthroughFilter"]


def cell(*hosts: dict[str, Any]) -> HostTable:
    states = [
        HostState(
            **{
                "host": f"h{number}",
                "zone": "nova",
                "enabled": True,
                "up": True,
                "capacity": {"VCPU": 4, "MEMORY_MB": 8192 - number, "DISK_GB": 100},
                "used": {},
                "generation": 1,
                **values,
            }
        )
        for number, values in enumerate(hosts)
    ]
    return host_table.build(states)


def ask(count: int = 1, **values: Any) -> SchedulingRequest:
    made = {"project_id": "p", "flavor": FLAVOR, "image_id": "i", **values}
    return scheduling_request.make(servers=[f"s{number}" for number in range(count)], **made)


def names(here: HostTable, found: Selection) -> list[list[str]]:
    return [[here.states[place].host for place in places] for places in found.hosts]


def decide(here: HostTable, asked: SchedulingRequest, seed: int = 0, **options: Any) -> list[list[str]]:
    plan = compile_policy(scheduling_policy.parse({"filters": ALL_FILTERS, "options": options}))
    return names(here, select_hosts(here, asked, plan.policy, seed))


def test_servers_of_one_request_see_each_other_and_share_their_alternates() -> None:
    here = cell({}, {}, {}, {})
    assert decide(here, ask(3, alternates=2)) == [["h0", "h3"], ["h1", "h3"], ["h2", "h3"]]


def test_all_or_none() -> None:
    here = cell({}, {"enabled": False})
    before = here.columns.free.tolist()
    assert decide(here, ask(3)) == []
    assert here.columns.free.tolist() == before
    assert not any(here.hosted)
    assert decide(here, ask(2)) == [["h0"], ["h0"]]


def test_alternates_are_of_the_same_cell() -> None:
    here = cell({"cell": "c1"}, {"cell": "c2"}, {"cell": "c1"}, {"cell": "c1"})
    assert decide(here, ask(alternates=1)) == [["h0", "h2"]]
    assert decide(here, ask(alternates=5, destination=Destination(cell="c2")))[0] == ["h1"]


def test_a_cell_is_preferred_or_the_only_one() -> None:
    here = cell({"cell": "c1"}, {"cell": "c2"})
    moves = ask(destination=Destination(cell="c2", allow_cross_cell_move=True))
    assert decide(here, moves) == [["h1"]]


def test_forced_hosts_are_asked_nothing() -> None:
    here = cell({}, {"enabled": False}, {"enabled": False, "node": "n2"})
    assert decide(here, ask(force_hosts=("H1",))) == [["h1"]]
    here.release("s0")
    assert decide(here, ask(force_hosts=("h1",), checks_forced=True)) == []
    assert decide(here, ask(force_nodes=("n2",))) == [["h2"]]
    assert decide(here, ask(destination=Destination(host="h2", node="n2"))) == []
    assert decide(here, ask(force_hosts=("nobody",))) == []


def test_a_rebuild_stays_even_on_a_host_that_takes_no_more() -> None:
    here = cell({"enabled": False, "capacity": {}})
    assert decide(here, ask(rebuild=True, destination=Destination(host="h0"))) == [["h0"]]


@pytest.mark.parametrize(
    ("group", "chosen"),
    [
        (PlacedGroup(policy="affinity"), ["h0", "h0"]),
        (PlacedGroup(policy="affinity", hosts=("h2",)), ["h2", "h2"]),
        (PlacedGroup(policy="anti-affinity", members=("s0", "s1", "old")), ["h1", "h2"]),
        (PlacedGroup(policy="anti-affinity", members=("s0", "s1", "old"), max_server_per_host=2), ["h0", "h1"]),
        (PlacedGroup(policy="soft-affinity", members=("s0", "s1", "old")), ["h0", "h0"]),
        (PlacedGroup(policy="soft-anti-affinity", members=("s0", "s1", "old")), ["h1", "h2"]),
    ],
    ids=lambda value: value.policy if isinstance(value, PlacedGroup) else "",
)
def test_groups(group: PlacedGroup, chosen: list[str]) -> None:
    here = cell({"hosted": (HostedServer(uuid="old"),)}, {}, {})
    heavy = {"filter_scheduler.soft_affinity_weight_multiplier": 10.0, "filter_scheduler.ram_weight_multiplier": 0.5}
    heavy["filter_scheduler.soft_anti_affinity_weight_multiplier"] = 10.0
    assert [hosts[0] for hosts in decide(here, ask(2, group=group, alternates=0), **heavy)] == chosen


def test_a_tight_group_is_refused_whole() -> None:
    here = cell({}, {})
    members = PlacedGroup(policy="anti-affinity", members=("s0", "s1", "s2"))
    assert decide(here, ask(3, group=members)) == []
    assert not any(here.hosted)


def test_cells_and_devices_are_taken_and_come_back() -> None:
    numa = (NumaCell(id=0, cpuset=(), pcpuset=(0, 1, 2, 3), memory=4096, siblings=((0,), (1,), (2,), (3,))),)
    pools = (PciPool(vendor_id="8086", product_id="10ed", count=2, numa_node=0),)
    room = {"PCPU": 4, "MEMORY_MB": 8192, "DISK_GB": 100}
    here = cell({"numa": numa, "pci_pools": pools, "capacity": room}, {})
    before = here.topologies.at(0)
    pinned = replace(FLAVOR, extra_specs={"hw:cpu_policy": "dedicated"})
    asked = ask(2, flavor=pinned, pci_requests=[PciRequest(count=1, spec=({"vendor_id": "8086"},))], alternates=0)
    assert decide(here, asked) == [["h0"], ["h0"]]
    cells = here.topologies.at(0).cells or ()
    assert cells[0].pinned_cpus == (0, 1, 2, 3)
    assert here.topologies.at(0).pools[0].count == 0
    assert decide(here, replace(asked, servers=("t",))) == []
    for server_id in asked.servers:
        here.release(server_id)
    assert here.topologies.at(0) == before


def test_chance_is_repeatable_and_stays_among_the_best() -> None:
    def best(seed: int, **options: Any) -> str:
        return decide(cell(*[{} for _ in range(8)]), ask(), seed, **options)[0][0]

    few = {"filter_scheduler.host_subset_size": 3}
    drawn = [best(seed, **few) for seed in range(40)]
    assert set(drawn) == {"h0", "h1", "h2"}
    assert drawn == [best(seed, **few) for seed in range(40)]
    assert {best(seed) for seed in range(5)} == {"h0"}


def test_one_host_without_a_metric_fails_nobody() -> None:
    here = cell({}, {"metrics": (Metric(name="cpu.idle", value=3.0),)})
    options = {"metrics.weight_setting": ["cpu.idle=1"], "metrics.required": True}
    assert decide(here, ask(), **options) == [["h1", "h0"]]


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e300", "9" * 400, "x", ""])
def test_an_absurd_number_in_an_aggregate_says_nothing(value: str) -> None:
    here = cell({}, {})
    names_of = ("ram_weight_multiplier", "cpu_weight_multiplier", "max_io_ops_per_host", "max_instances_per_host")
    here.set_aggregates([Aggregate(id=1, metadata=dict.fromkeys(names_of, value), hosts=("h0", "h1"))])
    counts = ["AggregateIoOpsFilter", "AggregateNumInstancesFilter"]
    plan = compile_policy(scheduling_policy.parse({"filters": [*ALL_FILTERS, *counts]}))
    assert names(here, select_hosts(here, ask(alternates=1), plan.policy)) == [["h0", "h1"]]
    assert names(here, filter_and_weigh.select_stepwise(here, replace(ask(alternates=1), servers=("t",)), plan)) == [
        ["h1", "h0"]
    ]


def test_the_order_of_the_server_before_is_carried_where_nova_carries_it() -> None:
    level = {"filter_scheduler.ram_weight_multiplier": 0.0, "filter_scheduler.disk_weight_multiplier": 0.0}
    level |= {"filter_scheduler.io_ops_weight_multiplier": 0.0}
    plan = compile_policy(scheduling_policy.parse({"weighers": ["CPUWeigher"], "options": level}))
    both = []
    for carries in (True, False):
        here = cell({}, {"capacity": {"VCPU": 6, "MEMORY_MB": 8192, "DISK_GB": 100}})
        found = filter_and_weigh.select_stepwise(here, ask(2, alternates=0), plan, carries_order=carries)
        both.append([hosts[0] for hosts in names(here, found)])
    assert both == [["h1", "h1"], ["h1", "h0"]]
