from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from cell.scheduler.policy.compiled_policy import compile_policy
from cell.scheduler.request import scheduling_request
from cell.scheduler.request.scheduling_request import SchedulingRequest
from cell.scheduler.select import filter_and_weigh
from cell.scheduler.state import host_table
from cell.scheduler.state.host_table import HostTable
from cell.scheduler.why.explainer import Explainer, explain
from cellcloud.model import scheduling_policy
from cellcloud.model.flavor import Flavor
from cellcloud.model.host import HostState
from cellcloud.model.scheduling_policy import NOVA_DEFAULT_FILTERS, PLACEMENT_FILTERS
from tests.oracle.check import OWN_FILE, scenarios_in
from tests.oracle.scenario import FILTER_LISTS, policy_of, request_of, table_of
from tests.processor_time import least_seconds


def host(name: str, *, free: int = 8192, **values: object) -> HostState:
    made: dict[str, object] = {
        "host": name,
        "zone": "nova",
        "enabled": True,
        "up": True,
        "capacity": {"VCPU": 8, "MEMORY_MB": free, "DISK_GB": 100},
        "used": {},
        "generation": 1,
        **values,
    }
    return HostState(**made)  # type: ignore[arg-type]


def ask(memory_mb: int = 4096, **values: object) -> SchedulingRequest:
    flavor = Flavor(id="f", name="f", vcpus=2, memory_mb=memory_mb, root_gb=10)
    return scheduling_request.make(servers=["s"], project_id="p", flavor=flavor, image_id="i", **values)  # type: ignore[arg-type]


def cell() -> HostTable:
    return host_table.build(
        [
            host("big", free=16384),
            host("small"),
            host("full", free=2048),
            host("fuller", free=1024),
            host("down", up=False),
            host("off", enabled=False),
            host("odd", cpu_allocation_ratio=float("nan")),
        ]
    )


def refused(found: Explainer) -> Counter[str]:
    counts: Counter[str] = Counter()
    for group in found.groups:
        counts[group.filter] += group.count
    return counts


def test_who_refused_whom_and_by_how_much() -> None:
    found = explain(cell(), ask())
    assert refused(found) == {"ResourceClassFilter": 2, "ComputeFilter": 2}
    assert [(group.filter, group.count, str(group.refusal)) for group in found.groups] == [
        ("ResourceClassFilter", 2, "lacks 2048 MEMORY_MB: 4096 needed, 2048 there"),
        ("ComputeFilter", 1, "is down"),
        ("ComputeFilter", 1, "is disabled"),
    ]
    assert [(name, refusal.lack) for name, refusal in found.refusals_of("fuller")] == [("ResourceClassFilter", 3072)]
    assert found.refusals_of("big") == ()
    assert "cpu_allocation_ratio is nan" in str(found.refusals_of("odd")[0][1])
    assert found.refusals_of("nobody")[0][0] == "presence"


def test_who_was_best_and_by_what() -> None:
    here = cell()
    found = explain(here, ask())
    assert [here.states[place].host for place in found.ranked] == ["big", "small"]
    memory = next(weight for weight in found.weights(0) if weight.weigher == "RAMWeigher")
    assert (memory.raw, memory.normalised, memory.weighted) == (16384.0, 1.0, 1.0)
    assert found.score(0) - found.score(1) == pytest.approx(0.5)


def test_who_came_nearest_and_what_would_help() -> None:
    miss = explain(cell(), ask()).nearest_miss
    assert miss is not None
    assert miss.host == "full"
    assert miss.change == "full lacks 2048 MEMORY_MB: 4096 needed, 2048 there; with 2048 MEMORY_MB more, it would fit"
    alone = explain(host_table.build([host("off", enabled=False)]), ask()).nearest_miss
    assert alone is not None
    assert alone.change == "off is disabled; enabled, it would fit"
    assert explain(host_table.build([host("a")]), ask()).nearest_miss is None


def test_hosts_ruled_out_by_name_are_not_near() -> None:
    found = explain(cell(), ask(ignore_hosts=("BIG", "small", "full")))
    assert refused(found) == {"names": 3, "ResourceClassFilter": 1, "ComputeFilter": 2}
    assert found.refusals_of("big")[0][0] == "names"
    assert found.nearest_miss is not None
    assert found.nearest_miss.host == "fuller"


def test_it_says_what_choosing_does() -> None:
    """On what the oracle asks: the same counts and the same best host."""
    for scenario in list(scenarios_in(OWN_FILE))[:25]:
        here = table_of(scenario)
        for given, answer in zip(scenario["requests"], scenario["answers"], strict=True):
            if "invalid_request" in answer:
                continue
            asked = request_of(given)
            for filters in FILTER_LISTS.values():
                chosen_policy = policy_of(scenario, filters)
                found = explain(here, asked, chosen_policy)
                ranked = found.ranked.tolist()
                best = filter_and_weigh.select_stepwise(here, asked_alone(asked), compile_policy(chosen_policy), 0)
                if best.hosts:
                    assert best.hosts[0][0] == ranked[0]
                    here.release(asked.servers[0])
                else:
                    assert not ranked
                    assert best.refused == refused(found)
                for place in np.flatnonzero(found.first >= 0)[:5]:
                    position = int(found.places[place])
                    names = [name for name, _ in found._refusals_at(position)]
                    assert names[0] == found.asked[found.first[place]].name


def asked_alone(asked: SchedulingRequest) -> SchedulingRequest:
    return replace(asked, servers=asked.servers[:1])


def test_ten_thousand_hosts_take_less_than_a_moment() -> None:
    chance = random.Random(1)
    states = [
        host(f"h{number:05}", free=chance.randrange(0, 9000), up=chance.random() < 0.9, zone=f"az{number % 3}")
        for number in range(10_000)
    ]
    here = host_table.build(states)
    wide = scheduling_policy.parse(
        {"filters": [*PLACEMENT_FILTERS, *NOVA_DEFAULT_FILTERS, "AggregateIoOpsFilter", "NumInstancesFilter"]}
    )
    asked = ask(memory_mb=8999, zone="az1")
    found = explain(here, asked, wide)
    assert found.groups
    assert found.nearest_miss is not None
    assert found.ranked is not None
    assert least_seconds(lambda: explain(here, asked, wide)) < 0.25, "50 ms"
