"""The condition of a query hint: in columns it says of each host what it says of one alone, and costs no more for
being long."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cell.scheduler.policy.filters import json_query
from cell.scheduler.policy.filters.interface import FilterContext
from cell.scheduler.request import scheduling_request
from cell.scheduler.state import host_table
from cell.scheduler.state.host_table import HostTable
from cellcloud import errors
from cellcloud.model import hints, scheduling_policy
from cellcloud.model.flavor import Flavor
from tests.processor_time import least_seconds
from tests.unit.test_scheduler import state

FLAVOR = Flavor(id="f", name="f", vcpus=1, memory_mb=1, root_gb=0)
CONTEXT = FilterContext(options=scheduling_policy.DEFAULT.options)


def hosts(count: int) -> HostTable:
    used = ({"VCPU": n % 8, "MEMORY_MB": n % 8000, "DISK_GB": n % 90} for n in range(count))
    return host_table.build(
        [state(f"h{n}", used=one, stats={"size": str(n), "kind": None}) for n, one in enumerate(used)]
    )


FEW = hosts(9)
PLAIN = st.sampled_from([0, 1, 8190, 8185, 2.5, -1, True, False, None, "", "h3", "a", 1 << 60])
NAMED = st.sampled_from(["$free_ram_mb", "$vcpus_used", "$host", "$stats.size", "$stats.kind", "$host.x", "$none"])
SIGNS = st.sampled_from(sorted(hints.QUERY_OPERATORS))
TERMS = st.recursive(
    PLAIN | NAMED, lambda inner: st.tuples(SIGNS, st.lists(inner, max_size=4)).map(lambda one: [one[0], *one[1]])
)
QUERIES = st.tuples(SIGNS, st.lists(TERMS, max_size=4)).map(lambda one: [one[0], *one[1]])


def ask(query: list[Any]) -> scheduling_request.SchedulingRequest:
    return scheduling_request.make(
        servers=["s"], project_id="p", flavor=FLAVOR, image_id="i", hints={"query": json.dumps(query)}
    )


@settings(max_examples=300, deadline=None)
@given(QUERIES)
@example(["<", "$vcpus_used", ["<=", 0, 0]])
@example(["<", "h3", "$free_ram_mb", ["<", 0, 0]])
@example(["=", ["in", "a", "a"], True, ["<", "$free_ram_mb", 9000]])
@example(["and", ["not", "$host"], ["not"]])
@example(["or", ["not", ""], ["=", "$host", "h3"]])
def test_all_hosts_at_once_are_answered_like_each_alone(query: list[Any]) -> None:
    asked = ask(query)
    places = host_table.np.arange(9)
    together = json_query.FILTER.passes(FEW, places, asked, CONTEXT).tolist()
    alone = [json_query.FILTER.refuse_at(FEW, place, asked, CONTEXT) is None for place in range(9)]
    assert together == alone


LONG = [
    ["or", *[["<", "$free_ram_mb", -1]] * 240],
    ["and", *[["<", 0, "$free_ram_mb", 9000]] * 190],
    ["or", *[["=", "$host", "x"]] * 240],
    ["or", *[["<", "$host", 1]] * 240],
    ["or", *[["=", "$stats.size", "$host"]] * 240],
    ["or", *[["<", "$free_ram_mb", 1 << 60]] * 240],
    ["or", *[["=", "$stats.kind", "x"]] * 240],
    ["in", "$host", *["x"] * 900],
    ["or", *[["=", ["not", "$free_ram_mb"], 1]] * 150],
]


@pytest.fixture(scope="module")
def many() -> HostTable:
    return hosts(10_000)


@pytest.mark.parametrize("query", LONG, ids=lambda one: str(one[1])[:40])
def test_a_long_condition_over_many_hosts_takes_a_moment(many: HostTable, query: list[Any]) -> None:
    asked, places = ask(query), host_table.np.arange(10_000)
    json_query.FILTER.passes(many, places, ask(["and", query]), CONTEXT)  # what hosts reported is read once
    assert least_seconds(lambda: json_query.FILTER.passes(many, places, asked, CONTEXT)) < 0.6


def test_a_condition_names_few_attributes() -> None:
    names = [f"$stats.a{number}" for number in range(hints.QUERY_ATTRIBUTES + 1)]
    with pytest.raises(errors.Invalid, match="attributes"):
        ask(["and", ["=", *names]])
    ask(["and", ["=", *names[:-1]], ["=", *names[:-1]]])
