"""The fast way to a decision and the slow one give the same answers, whatever happened before."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cell.scheduler.policy.compiled_policy import CompiledPolicy, compile_policy
from cell.scheduler.request import scheduling_request
from cell.scheduler.request.scheduling_request import SchedulingRequest
from cell.scheduler.select import filter_and_weigh, kernel_index
from cell.scheduler.select.filter_and_weigh import Selection
from cell.scheduler.select.hosts import select_hosts
from cell.scheduler.state import host_table
from cell.scheduler.state.host_columns import Figure
from cell.scheduler.state.host_table import HostTable
from cellcloud.model import scheduling_policy
from cellcloud.model.allocation import Allocation
from cellcloud.model.flavor import Flavor
from cellcloud.model.host import Aggregate, HostState
from cellcloud.model.scheduling_policy import NOVA_DEFAULT_FILTERS, PLACEMENT_FILTERS

FLAVORS = [
    Flavor(id="s", name="small", vcpus=1, memory_mb=1024, root_gb=10),
    Flavor(id="l", name="large", vcpus=4, memory_mb=8192, root_gb=40, swap_mb=100),
    Flavor(id="t", name="thin", vcpus=2, memory_mb=512, root_gb=0, extra_specs={"trait:CUSTOM_FAST": "required"}),
    Flavor(id="g", name="gpu", vcpus=2, memory_mb=512, root_gb=0, extra_specs={"resources:CUSTOM_GPU": "1"}),
]
POLICIES: list[dict[str, Any]] = [
    {},
    {"options": {"filter_scheduler.ram_weight_multiplier": -1.5, "filter_scheduler.host_subset_size": 3}},
    {"filters": [*PLACEMENT_FILTERS, *NOVA_DEFAULT_FILTERS, "AggregateIoOpsFilter", "NumInstancesFilter"]},
    {"filters": [*PLACEMENT_FILTERS, "IoOpsFilter"], "weighers": ["DiskWeigher", "NumInstancesWeigher", "PCIWeigher"]},
    {"weighers": [], "options": {"filter_scheduler.max_io_ops_per_host": 1}},
]


def host(number: int, chance: random.Random) -> HostState:
    cpus = chance.choice([4, 8])
    capacity = {"VCPU": 4 * cpus, "MEMORY_MB": cpus * 4096, "DISK_GB": 200}
    if chance.random() < 0.3:
        capacity["CUSTOM_GPU"] = 2
    return HostState(
        host=f"h{number:02}",
        zone=chance.choice(["az1", "az2"]),
        enabled=chance.random() < 0.9,
        up=chance.random() < 0.9,
        capacity=capacity,
        used={"VCPU": chance.randrange(4 * cpus), "MEMORY_MB": 1024 * chance.randrange(cpus)},
        generation=1,
        servers=chance.randrange(4),
        traits=("CUSTOM_FAST",) if chance.random() < 0.5 else (),
        vcpus=cpus if chance.random() < 0.5 else None,
        cpu_allocation_ratio=chance.choice([1.0, 1.5, 4.0, 1.1]),
        hypervisor_version=chance.choice([None, 6002001, 8002000]),
        stats={"io_workload": str(chance.randrange(3)), "failed_builds": str(chance.choice([0, 0, 0, 2]))},
    )


def aggregates(chance: random.Random, hosts: int) -> list[Aggregate]:
    metadata = [{"cpu_weight_multiplier": "2"}, {"ram_weight_multiplier": "oops"}, {"max_io_ops_per_host": "4"}]
    return [
        Aggregate(
            id=number, uuid=f"u{number}", metadata=one, hosts=tuple(f"h{chance.randrange(hosts):02}" for _ in range(4))
        )
        for number, one in enumerate(metadata)
    ]


def ask(number: int, chance: random.Random) -> SchedulingRequest:
    count = chance.choice([1, 1, 1, 3])
    return scheduling_request.make(
        servers=[f"s{number}-{place}" for place in range(count)],
        project_id="p",
        flavor=chance.choice(FLAVORS),
        image_id="i",
        zone=chance.choice([None, "az1", "az2"]),
        alternates=chance.choice([0, 2]),
    )


def state_of(found: HostTable) -> object:
    figures = [found.columns.figure(figure).tolist() for figure in Figure]
    return figures, found.columns.free.tolist(), found.host_classes.ids.tolist(), found.hosted


def both(first: HostTable, second: HostTable, asked: SchedulingRequest, plan: CompiledPolicy, seed: int) -> Selection:
    fast, slow = (
        select_hosts(first, asked, plan.policy, seed),
        filter_and_weigh.select_stepwise(second, asked, plan, seed),
    )
    assert fast == slow
    assert state_of(first) == state_of(second)
    return fast


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), policy_number=st.integers(0, len(POLICIES) - 1), hosts=st.integers(1, 30))
def test_both_ways_agree_with_churn(seed: int, policy_number: int, hosts: int) -> None:
    chance = random.Random(seed)
    states = [host(number, chance) for number in range(hosts)]
    groups = aggregates(chance, hosts)
    first, second = host_table.build(states, groups), host_table.build(states, groups)
    plan = compile_policy(scheduling_policy.parse(POLICIES[policy_number]))
    placed: list[str] = []
    for number in range(25):
        asked = ask(number, chance)
        found = both(first, second, asked, plan, seed + number)
        placed += asked.servers if found.hosts else ()
        step = chance.random()
        if step < 0.3 and placed:
            gone = placed.pop(chance.randrange(len(placed)))
            for one in (first, second):
                one.release(gone)
        elif step < 0.5:
            report = replace(host(chance.randrange(hosts + 2), chance), generation=number)
            for one in (first, second):
                one.set_host(report, keeps_use=step < 0.4)
        elif step < 0.55:
            groups = aggregates(chance, hosts)
            for one in (first, second):
                one.set_aggregates(groups)
        elif step < 0.6:
            lost = f"h{chance.randrange(hosts):02}"
            for one in (first, second):
                one.remove_host(lost)
        elif step < 0.65:
            for one in (first, second):
                one.claim(f"c{number}", f"h{number % hosts:02}", Allocation(resources={"VCPU": 2, "MEMORY_MB": 512}))


@pytest.mark.parametrize("document", POLICIES)
def test_the_index_is_used_where_it_can_be(document: dict[str, Any]) -> None:
    chance = random.Random(3)
    found = host_table.build([host(number, chance) for number in range(20)])
    fast = kernel_index.index_of(found, compile_policy(scheduling_policy.parse(document)))
    asked = scheduling_request.make(servers=["s"], project_id="p", flavor=FLAVORS[0], image_id="i")
    assert fast.select(asked, 0) is not None
    assert fast.select(replace(asked, ignore_hosts=("h01",)), 0) is None
    found.release("s")
    twice = [host_table.build([host(number, random.Random(5)) for number in range(20)]) for _ in range(2)]
    answers = [select_hosts(one, asked, scheduling_policy.parse(document), 7) for one in twice]
    assert answers[0] == answers[1]


def test_more_resource_classes_than_an_index_has_columns() -> None:
    many = {f"CUSTOM_{number}": 1 for number in range(40)}
    states = [host(number, random.Random(number)) for number in range(5)]
    states = [replace(one, enabled=True, up=True, capacity={**one.capacity, **many}) for one in states]
    first, second = host_table.build(states), host_table.build(states)
    for number in range(3):
        asked = scheduling_request.make(servers=[f"s{number}"], project_id="p", flavor=FLAVORS[0], image_id="i")
        assert both(first, second, asked, compile_policy(scheduling_policy.DEFAULT), 0).hosts


def test_a_request_that_nobody_can_meet_is_answered_and_leaves_nothing() -> None:
    found = host_table.build([host(number, random.Random(number)) for number in range(20)])
    before = state_of(found)
    asked = scheduling_request.make(
        servers=[f"s{number}" for number in range(500)], project_id="p", flavor=FLAVORS[1], image_id="i"
    )
    plan = compile_policy(scheduling_policy.DEFAULT)
    assert select_hosts(found, asked, plan.policy).hosts == ()
    assert state_of(found) == before
    one = select_hosts(found, replace(asked, servers=("s",)), plan.policy)
    assert len(one.hosts) == 1
