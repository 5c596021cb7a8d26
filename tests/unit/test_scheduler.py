from __future__ import annotations

from dataclasses import replace

import pytest

from cell.scheduler import snapshot
from cell.scheduler.select import select
from cellcloud.context import RequestContext
from cellcloud.model.host import HostState
from cellcloud.model.placement import SelectRequest
from tests.unit.cell_world import make_spec

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


def request(number: int = 1, *, spec: dict[str, object] | None = None, **values: object) -> SelectRequest:
    made = make_spec(number, **(spec or {}))
    asked = SelectRequest(server_id=made.id, resources=made.flavor.resources(), spec=made, seed=number)
    return replace(asked, **values)  # type: ignore[arg-type]


def choose(states: list[HostState], *requests: SelectRequest) -> list[tuple[str, ...]]:
    return [answer.hosts for answer in select(snapshot.build(states), requests)]


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
        ({}, {}, {"a", "b"}, {"status": 2}),
        ({"availability_zone": "other"}, {}, {"b"}, {"status": 2, "zone": 1}),
        ({"host": "a"}, {}, {"a"}, {"status": 2, "requested_host": 1}),
        ({"host": "nobody"}, {}, set(), {"status": 2, "requested_host": 2}),
        ({"host": "down"}, {}, set(), {"status": 2, "requested_host": 2}),
        ({}, {"exclude": ("a", "gone")}, {"b"}, {"status": 2, "exclude": 1}),
        ({}, {"resources": {"MEMORY_MB": 9000}}, set(), {"status": 2, "MEMORY_MB": 2}),
        ({}, {"resources": {"VCPU": 9, "MEMORY_MB": 9000}}, set(), {"status": 2, "MEMORY_MB": 2}),
        ({}, {"resources": {"VGPU": 1}}, set(), {"status": 2, "resource_class": 2}),
        ({}, {"resources": {"VCPU": -1}}, set(), {"status": 2, "resource_class": 2}),
        ({}, {"resources": {"VCPU": 1 << 70}}, set(), {"status": 2, "resource_class": 2}),
        ({}, {"resources": {"VGPU": 0}}, {"a", "b"}, {"status": 2}),
    ],
)
def test_rules(spec: dict[str, object], values: dict[str, object], hosts: set[str], refused: dict[str, int]) -> None:
    states = [state("a"), state("b", zone="other"), state("down", up=False), state("off", enabled=False)]
    answer = select(snapshot.build(states), [request(spec=spec, **values)])[0]
    assert set(answer.hosts) == hosts
    if not hosts:
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


def test_different_seeds_spread_over_equal_hosts() -> None:
    states = [state(f"h{number}") for number in range(50)]
    assert len({choose(states, request(1, seed=seed))[0][0] for seed in range(40)}) > 20


def test_no_hosts_at_all() -> None:
    assert choose([], request()) == [()]
