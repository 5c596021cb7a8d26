from __future__ import annotations

from dataclasses import replace

import pytest

from cell.scheduler.state import host_table
from cellcloud.context import RequestContext
from cellcloud.model import scheduling_policy
from cellcloud.model.host import HostState
from tests.unit.cell_world import make_spec
from tests.unit.selecting import Ask, select

CONTEXT = RequestContext(budget=86_400)


def state(host: str, **values: object) -> HostState:
    found = HostState(
        host=host,
        zone="nova",
        enabled=True,
        up=True,
        capacity={"VCPU": 8, "MEMORY_MB": 8192, "DISK_GB": 100},
        used={"VCPU": 0, "MEMORY_MB": 0, "DISK_GB": 0},
        generation=1,
    )
    return replace(found, **values)  # type: ignore[arg-type]


def request(number: int = 1, *, spec: dict[str, object] | None = None, **values: object) -> Ask:
    made = make_spec(number, **(spec or {}))
    asked = Ask(spec=made, seed=number)
    return replace(asked, **values)  # type: ignore[arg-type]


def choose(states: list[HostState], *requests: Ask) -> list[tuple[str, ...]]:
    return [answer.hosts for answer in select(host_table.build(states), requests)]


def test_the_host_with_the_most_left_comes_first() -> None:
    states = [
        state("half", used={"VCPU": 4, "MEMORY_MB": 4096, "DISK_GB": 50}),
        state("empty"),
        state("fuller", used={"VCPU": 6, "MEMORY_MB": 6144, "DISK_GB": 80}),
        state("full", used={"VCPU": 8, "MEMORY_MB": 8192, "DISK_GB": 100}),
    ]
    assert choose(states, request(alternates=5)) == [("empty", "half", "fuller")]
    assert choose(states, request(alternates=0)) == [("empty",)]


@pytest.mark.parametrize(
    ("spec", "values", "hosts", "refused"),
    [
        ({}, {}, {"a", "b"}, {}),
        ({"availability_zone": "other"}, {}, {"b"}, {}),
        ({"availability_zone": "none"}, {}, set(), {"AvailabilityZoneFilter": 4}),
        ({"host": "a"}, {}, {"a"}, {}),
        ({"host": "nobody"}, {}, set(), {"names": 4}),
        ({"host": "down"}, {}, set(), {"names": 3, "ComputeFilter": 1}),
        ({}, {"exclude": ("a", "gone")}, {"b"}, {}),
        ({}, {"exclude": ("A", "b")}, set(), {"names": 2, "ComputeFilter": 2}),
        ({}, {"resources": {"MEMORY_MB": 9000}}, set(), {"ResourceClassFilter": 4}),
        ({}, {"resources": {"VGPU": 1}}, set(), {"ResourceClassFilter": 4}),
        ({}, {"resources": {"VGPU": 0}}, {"a", "b"}, {}),
    ],
)
def test_rules(spec: dict[str, object], values: dict[str, object], hosts: set[str], refused: dict[str, int]) -> None:
    states = [state("a"), state("b", zone="other"), state("down", up=False), state("off", enabled=False)]
    answer = select(host_table.build(states), [request(spec=spec, **values)])[0]
    assert set(answer.hosts) == hosts
    assert answer.refused == refused


def test_each_request_sees_the_room_the_ones_before_it_took() -> None:
    states = [state(name, capacity={"VCPU": 2, "MEMORY_MB": 8192, "DISK_GB": 100}) for name in ("a", "b", "c")]
    chosen = [hosts[0] if hosts else None for hosts in choose(states, *[request(number) for number in range(8)])]
    assert sorted(filter(None, chosen)) == ["a", "a", "b", "b", "c", "c"]
    assert chosen[6:] == [None, None]


def test_the_same_question_has_the_same_answer() -> None:
    states = [state(f"h{number}") for number in range(20)]
    requests = [request(number) for number in range(30)]
    assert choose(states, *requests) == choose(list(reversed(states)), *requests)


def test_different_seeds_spread_over_equal_hosts_where_the_policy_wants_it() -> None:
    states = [state(f"h{number}") for number in range(50)]
    for option in ({"host_subset_size": 50}, {"shuffle_best_same_weighed_hosts": True}):
        spread = scheduling_policy.parse(
            {"options": {f"filter_scheduler.{name}": value for name, value in option.items()}}
        )
        answers = [select(host_table.build(states), [request(1, seed=seed)], spread)[0] for seed in range(40)]
        assert len({answer.hosts[0] for answer in answers}) > 20
    assert {choose(states, request(1, seed=seed))[0][0] for seed in range(5)} == {"h0"}
    orders = [host_table.build([*states], order_seed=seed) for seed in range(40)]
    assert len({select(built, [request(1)])[0].hosts[0] for built in orders}) > 20


def test_no_hosts_at_all() -> None:
    assert choose([], request()) == [()]
