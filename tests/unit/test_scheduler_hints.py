"""What a tenant says reaches no decision but through declared fields, under whatever name."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from cell.scheduler.request import scheduling_request as requests
from cell.scheduler.state import host_table
from cellcloud import errors
from cellcloud.model import hints
from cellcloud.model.decision import Shape
from cellcloud.model.host import HostState
from cellcloud.model.scheduling_policy import HINT_FILTERS, NOVA_DEFAULT_FILTERS, PLACEMENT_FILTERS, SchedulingPolicy
from tests.unit.cell_world import make_spec
from tests.unit.selecting import Ask, select

A = "11111111-0000-4000-8000-000000000001"
INNER = sorted(
    {field.name for kind in (requests.SchedulingRequest, requests.ParsedShape, Shape) for field in fields(kind)}
    - {"query", "different_host", "same_host", "group"}
    | {"_nova_check_type", "_cellcloud", "_", "reset_forced_hosts", "source_cell_uuid", "source_node"}
)
HOSTS = [
    HostState(
        host=f"h{number}",
        zone="nova",
        enabled=number != 1,
        up=number != 2,
        capacity={"VCPU": 8, "MEMORY_MB": 8192, "DISK_GB": 100},
        used={},
        generation=1,
    )
    for number in range(4)
]


def placed(**spec: Any) -> tuple[tuple[str, ...], str]:
    made = make_spec(1, **spec)
    asked = Ask(spec=made, alternates=9)
    answer = select(host_table.build(HOSTS), [asked])[0]
    return answer.hosts, answer.malformed


@pytest.mark.parametrize("name", INNER)
def test_a_name_of_the_inside_decides_nothing(name: str) -> None:
    plain = placed()
    assert plain == (("h0", "h3"), "")
    for value in ("rebuild", ["rebuild"], "h1", ["h1"], "true", True, 1, {"a": "b"}):
        assert placed(scheduler_hints={name: value}) == plain, value
    image = make_spec(1).image
    assert placed(metadata={name: "rebuild"}, tags=(name,)) == plain
    assert placed(image=replace(image, properties={**image.properties, name: "rebuild"})) == plain


def test_an_operator_may_keep_hints_for_filters_of_their_own() -> None:
    hints.check({"rack": "7"}, ["rack"])
    for name, further in (("rack", []), ("_rack", ["_rack"])):
        with pytest.raises(errors.Invalid):
            hints.check({name: "7"}, further)


@pytest.mark.parametrize(("name", "rule"), hints.RULES.items())
def test_a_policy_without_the_filter_refuses_its_hint(name: str, rule: str) -> None:
    assert rule in HINT_FILTERS
    values = {"query": '["=", "$host", "h0"]', "build_near_host_ip": "10.0.0.1", "cidr": "/8"}
    spec = make_spec(1, scheduler_hints={name: values.get(name, A)})
    asked = Ask(spec=spec)
    without = SchedulingPolicy(filters=PLACEMENT_FILTERS + NOVA_DEFAULT_FILTERS)
    assert name in select(host_table.build(HOSTS), [asked], without)[0].malformed
    assert select(host_table.build(HOSTS), [asked])[0].malformed == ""
