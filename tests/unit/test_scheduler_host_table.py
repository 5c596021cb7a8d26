"""What a table holds after hosts, aggregates and servers came and went."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cell.scheduler.request import scheduling_request
from cell.scheduler.select.hosts import select_hosts
from cell.scheduler.state import host_table
from cell.scheduler.state.host_columns import Figure
from cell.scheduler.state.host_table import HostTable
from cellcloud.model.allocation import Allocation
from cellcloud.model.flavor import Flavor
from cellcloud.model.host import Aggregate, HostedServer, HostState, Metric
from cellcloud.model.numa import MemoryPages, NumaCell
from cellcloud.model.pci import PciPool

HOLDING = Allocation(resources={"VCPU": 2, "MEMORY_MB": 1024, "DISK_GB": 10}, image_props={"os_distro": "debian"})


def host(name: str, **values: Any) -> HostState:
    made = {
        "host": name,
        "zone": "nova",
        "enabled": True,
        "up": True,
        "capacity": {"VCPU": 8, "MEMORY_MB": 8192, "DISK_GB": 100},
        "used": {"VCPU": 1},
        "generation": 1,
        **values,
    }
    return HostState(**made)


def figures(here: HostTable, position: int = 0) -> dict[str, int]:
    return {figure.name: int(here.columns.figure(figure)[position]) for figure in Figure}


def row(here: HostTable, position: int = 0) -> dict[str, int]:
    return {name: int(here.columns.free[number, position]) for name, number in here.columns.row_of.items()}


def test_figures_follow_from_capacity_and_use_where_nothing_else_is_said() -> None:
    here = host_table.build([host("a", servers=3)])
    assert row(here) == {"VCPU": 7, "MEMORY_MB": 8192, "DISK_GB": 100}
    assert figures(here) == {
        "free_ram_mb": 8192,
        "free_disk_mb": 102400,
        "vcpus_used": 1,
        "num_instances": 3,
        "num_io_ops": 0,
        "failed_builds": 0,
        "vcpus_total": 8,
        "hypervisor_version": 0,
        "pci_weight": 100,
    }


def test_what_is_reported_goes_before_what_follows() -> None:
    said = host(
        "a",
        vcpus=4,
        cpu_allocation_ratio=2.5,
        vcpus_used=3,
        free_ram_mb=-5,
        free_disk_gb=50,
        disk_available_least=20,
        hypervisor_version=8002000,
        stats={"num_instances": "7", "io_workload": "2", "failed_builds": "1", "other": None},
        pci_pools=(PciPool(vendor_id="8086", product_id="10ed", count=3),),
    )
    here = host_table.build([said])
    assert list(figures(here).values()) == [-5, 20480, 3, 7, 2, 1, 4, 8002000, 97]
    assert here.columns.cpu_ratio.tolist() == [2.5]


def test_a_claim_is_taken_once_and_comes_back_whole() -> None:
    here = host_table.build([host("a"), host("b")])
    before = (here.columns.free.copy(), [figures(here, place) for place in range(2)])
    here.claim("s", "a", HOLDING)
    here.claim("s", "b", HOLDING)
    here.claim("t", "gone", HOLDING)
    assert row(here) == {"VCPU": 5, "MEMORY_MB": 7168, "DISK_GB": 90}
    assert here.hosts_of == {"s": (0,)}
    assert here.servers_with(("os_distro", "debian")).tolist() == [1, 0]
    assert (figures(here)["num_instances"], figures(here)["num_io_ops"], figures(here)["vcpus_used"]) == (1, 1, 3)
    for server_id in ("s", "s", "t"):
        here.release(server_id)
    assert np.array_equal(here.columns.free, before[0])
    assert [figures(here, place) for place in range(2)] == before[1]
    assert here.servers_with(("os_distro", "debian")).tolist() == [0, 0]
    assert here.hosts_of.get("s", ()) == ()


def test_what_is_not_added_up_yet_is_not_lost() -> None:
    gold = Allocation(resources={"VCPU": 1, "CUSTOM_GOLD": 2})
    here, there = host_table.build([host("a"), host("b")]), host_table.build([host("a"), host("b")])
    for name, target in (("s", "a"), ("t", "a"), ("u", "b")):
        here.claim(name, target, HOLDING)
        there.claim(name, target, HOLDING)
        assert figures(there)["num_instances"]  # reads after each
    tried = here.copy()
    here.claim("g", "a", gold)  # a resource class that no host has, with others' moves waiting
    there.claim("g", "a", gold)
    here.release("t")
    there.release("t")
    assert row(tried) == {"VCPU": 3, "MEMORY_MB": 6144, "DISK_GB": 80}
    assert row(here) == row(there) == {"VCPU": 4, "MEMORY_MB": 7168, "DISK_GB": 90, "CUSTOM_GOLD": -2}
    assert [figures(here, place) for place in range(2)] == [figures(there, place) for place in range(2)]
    for number in range(6000):  # more than it keeps
        here.claim(f"many-{number}", "b", HOLDING)
    assert row(here, 1)["VCPU"] == 7 - 2 * 6001
    assert figures(here, 1)["num_instances"] == 6001


def test_a_report_without_use_keeps_what_is_noted() -> None:
    here = host_table.build([host("a")])
    here.claim("s", "a", HOLDING)
    more = host("a", capacity={"VCPU": 16, "MEMORY_MB": 8192, "DISK_GB": 100}, used={}, servers=0)
    here.set_host(more, keeps_use=True)
    assert row(here)["VCPU"] == 16 - 1 - 2
    assert figures(here)["num_instances"] == 1
    assert "s" in here.hosted[0]
    here.release("s")
    assert row(here)["VCPU"] == 15
    assert figures(here)["num_io_ops"] == 0, "the report counted what was under way"


def test_servers_that_came_with_a_report_can_be_released() -> None:
    here = host_table.build([host("a", used={"VCPU": 2}, servers=1, hosted=(HostedServer(uuid="old"),))])
    assert here.hosts_of["old"] == (0,)
    here.release("old", HOLDING)
    assert row(here) == {"VCPU": 8, "MEMORY_MB": 9216, "DISK_GB": 110}
    assert here.hosted[0] == {}


def test_a_host_that_is_gone_is_chosen_no_more_and_keeps_no_name() -> None:
    here = host_table.build([host("a", uuid="u1"), host("b")])
    here.remove_host("a")
    here.remove_host("a")
    assert here.present.tolist() == [False, True]
    here.set_host(host("a2", uuid="u1"))
    assert not here.quarantined, "the identity is free again"
    assert here.present.tolist() == [False, True, True]


def test_aggregates_move_only_the_hosts_they_name() -> None:
    here = host_table.build([host("a"), host("b")])
    fast = Aggregate(id=1, uuid="u", metadata={"ssd": "true, false"}, hosts=("a", "nobody"))
    seen = here.changes.count
    here.set_aggregates([fast])
    assert here.changes.since(seen) == {0}
    assert here.host_classes.at(0).metadata == {"ssd": {"true", "false"}}
    assert here.host_classes.at(1).metadata == {}
    here.set_aggregates([replace(fast, hosts=("b",))])
    assert [bool(here.host_classes.at(place).metadata) for place in (0, 1)] == [False, True]
    here.set_host(host("c"))
    here.set_aggregates([])
    assert len({int(code) for code in here.host_classes.ids}) == 1


BAD: list[dict[str, Any]] = [
    {"cpu_allocation_ratio": math.nan},
    {"ram_allocation_ratio": math.inf},
    {"disk_allocation_ratio": 0.0},
    {"cpu_allocation_ratio": -1.0},
    {"capacity": {"VCPU": -1}},
    {"capacity": {"VCPU": 1 << 60}},
    {"capacity": {"VCPU": math.nan}},
    {"used": {"MEMORY_MB": -5}},
    {"vcpus": 1 << 51},
    {"memory_mb": -1},
    {"free_ram_mb": 1 << 60},
    {"free_disk_gb": math.nan},
    {"stats": {"num_instances": "many"}},
    {"stats": {"io_workload": str(10**30)}},
    {"metrics": (Metric(name="cpu.percent", value=math.nan),)},
    {"pci_pools": (PciPool(vendor_id="8086", product_id="10ed", count=-1),)},
    {"numa": (NumaCell(id=0, memory=-1),)},
    {"numa": (NumaCell(id=0, mempages=(MemoryPages(size_kb=4, total=1, used=-2),)),)},
    {"host": ""},
    {"host": "x" * 300},
]


@pytest.mark.parametrize("values", BAD, ids=lambda values: str(values)[:40])
def test_what_cannot_be_is_put_into_quarantine_and_harms_no_other(values: dict[str, Any]) -> None:
    here = host_table.build([host("a"), replace(host("b"), **values)])
    assert here.present.tolist() == [True]
    assert len(here.quarantined) == 1
    assert all(here.quarantined.values())


def test_a_host_comes_into_quarantine_and_out_of_it() -> None:
    here = host_table.build([host("a")])
    here.claim("s", "a", HOLDING)
    here.set_host(host("a", cpu_allocation_ratio=math.nan), keeps_use=True)
    assert here.present.tolist() == [False]
    assert "cpu_allocation_ratio is nan" in here.quarantined["a"]
    here.set_host(host("a", used={}), keeps_use=True)
    assert here.present.tolist() == [True]
    assert not here.quarantined
    assert row(here)["VCPU"] == 5


def test_a_host_under_two_names_counts_once() -> None:
    here = host_table.build([host("a", uuid="u1"), host("b", uuid="u1"), host("c", uuid="u2")])
    assert here.present.tolist() == [True, True]
    assert here.quarantined == {"b": "reports the identity u1 of host a"}
    here.set_host(host("c", uuid="u1"))
    assert here.present.tolist() == [True, False]
    here.remove_host("a")
    here.set_host(host("b", uuid="u1"))
    assert set(here.quarantined) == {"c"}


def test_two_nodes_may_share_a_host() -> None:
    here = host_table.build([host("a", node="n1"), host("a", node="n2"), host("b")])
    assert here.positions.of("a") == (0, 1)
    assert here.positions.of_node("n2") == (1,)
    assert here.positions.like("A") == (0, 1)


def test_equal_hosts_share_a_host_class_and_a_seed_shuffles_them() -> None:
    states = [host(f"h{number:02}") for number in range(50)]
    assert len(set(host_table.build(states).host_classes.ids.tolist())) == 1
    tables = [host_table.build(states, order_seed=seed) for seed in (1, 1, 2)]
    orders = [[state.host for state in table.states] for table in tables]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[2]) == [state.host for state in host_table.build(list(reversed(states))).states]


def test_changes_are_told_until_there_are_too_many() -> None:
    here = host_table.build([host("a"), host("b")])
    start = here.changes.count
    here.claim("s", "b", HOLDING)
    assert here.changes.since(start) == {1}
    for number in range(9000):
        here.claim(f"s{number}", "a", HOLDING)
        here.release(f"s{number}")
    assert here.changes.since(start) is None
    assert here.changes.since(here.changes.count) == set()


WEIRD = st.sampled_from(
    [0, 1, -1, 7, 1 << 49, 1 << 52, 1 << 70, -(1 << 70), 1.5, math.nan, math.inf, -0.0, True, "9", None]
)
FIELDS = [
    "vcpus",
    "vcpus_used",
    "memory_mb",
    "free_ram_mb",
    "free_disk_gb",
    "disk_available_least",
    "cpu_allocation_ratio",
    "ram_allocation_ratio",
    "hypervisor_version",
    "servers",
]


@settings(deadline=None, max_examples=300)
@example(values={}, capacity={"VCPU": None}, stats={})
@example(values={"vcpus": False}, capacity={}, stats={})
@given(
    st.dictionaries(st.sampled_from(FIELDS), WEIRD, max_size=4),
    st.dictionaries(st.sampled_from(["VCPU", "MEMORY_MB", "DISK_GB", "CUSTOM_X"]), WEIRD, max_size=4),
    st.dictionaries(st.sampled_from(["num_instances", "io_workload", "failed_builds"]), st.text(max_size=5)),
)
def test_any_report_is_taken_or_put_into_quarantine(
    values: dict[str, Any], capacity: dict[str, Any], stats: dict[str, str]
) -> None:
    here = host_table.build([host("a"), replace(host("b"), **values, capacity=capacity, stats=stats)])
    assert bool(here.present[0])
    assert ("b" in here.quarantined) == (len(here) == 1)
    flavor = Flavor(id="f", name="f", vcpus=1, memory_mb=1, root_gb=0)
    for number in range(2):
        asked = scheduling_request.make(servers=[f"s{number}"], project_id="p", flavor=flavor, image_id="i")
        assert select_hosts(here, asked).hosts
