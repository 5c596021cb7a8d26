"""Requests: what is malformed is refused with a reason, and what is alike is one shape."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cell.scheduler.request import scheduling_request
from cell.scheduler.request.resources_and_traits import demands_of, root_required
from cell.scheduler.state import host_table
from cellcloud import errors
from cellcloud.model import scheduling_policy
from cellcloud.model.flavor import Flavor
from cellcloud.model.host import HostState
from cellcloud.model.pci import PciRequest
from tests.unit.cell_world import make_spec
from tests.unit.selecting import Ask, select

FLAVOR = Flavor(id="f", name="f", vcpus=4, memory_mb=2048, root_gb=20, ephemeral_gb=5, swap_mb=100)


def make(specs: dict[str, str] | None = None, **values: Any) -> scheduling_request.SchedulingRequest:
    flavor = replace(values.pop("flavor", FLAVOR), extra_specs=specs or {})
    return scheduling_request.make(**{"servers": ["s"], "project_id": "p", "flavor": flavor, "image_id": "i", **values})


def test_equal_requests_share_a_shape() -> None:
    assert make(zone="az1").shape is make(zone="az1", ignore_hosts=("a",)).shape
    assert make(zone="az1").shape is not make(zone="az2").shape
    assert make({"a": "b"}).shape is not make({"a": "c"}).shape
    assert make().plain
    assert not make(hints={"same_host": "x"}).plain


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"specs": {"resources:CUSTOM_X": "some"}}, "whole number from 0"),
        ({"specs": {"resources:VCPU": "-1"}}, "whole number from 0"),
        ({"specs": {"resources:VCPU": str(1 << 60)}}, "whole number from 0"),
        ({"specs": {"resources:no class": "1"}}, "names no resource class"),
        ({"specs": {"trait:CUSTOM_X": "please"}}, "must be required or forbidden"),
        ({"specs": {"hw:cpu_policy": "whatever"}}, "cpu_policy"),
        ({"specs": {"hw:numa_nodes": "x"}}, "NUMA nodes"),
        ({"hints": {"query": "{"}}, "is not JSON"),
        ({"hints": {"query": "[" * 100_000}}, "is not JSON"),
        ({"hints": {"query": '{"a": 1}'}}, "must be a list"),
        ({"hints": {"query": '["~", 1]'}}, "is no operator"),
        ({"hints": {"query": '["=", {"a": 1}]'}}, "may hold lists"),
        ({"hints": {"query": json.dumps(["or", *[["=", "$host", "a"]] * 2000])}}, "too large"),
        ({"hints": {"query": ["a", "b"]}}, "must have one value"),
        ({"hints": {"query": 3}}, "a text or a list of texts"),
        ({"hints": {"same_host": [{"a": "b"}]}}, "a text or a list of texts"),
        ({"hints": {"build_near_host_ip": "here"}}, "is no network"),
        ({"hints": {"build_near_host_ip": "10.0.0.1", "cidr": "/99"}}, "is no network"),
        ({"image_properties": {"hw_architecture": "z80"}}, "hw_architecture"),
        ({"image_properties": {"img_hv_type": "abacus"}}, "img_hv_type"),
        ({"image_properties": {"hw_maxphysaddr_bits": "many"}}, "hw_maxphysaddr_bits"),
        ({"flavor": replace(FLAVOR, memory_mb=-1)}, "an amount that cannot be"),
        ({"claimed": {"VCPU": -1}}, "an amount that cannot be"),
        ({"pci_requests": [PciRequest(count=-1)]}, ""),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_malformed_is_said(values: dict[str, Any], said: str) -> None:
    with pytest.raises(errors.Invalid) as caught:
        make(**values)
    assert said in caught.value.message


def test_a_malformed_request_harms_no_other() -> None:
    def ask(number: int, **hints: object) -> Ask:
        spec = make_spec(number, scheduler_hints=hints)
        return Ask(spec=spec)

    capacity = {"VCPU": 8, "MEMORY_MB": 8192, "DISK_GB": 100}
    host = HostState(host="a", zone="nova", enabled=True, up=True, capacity=capacity, used={}, generation=1)
    answers = select(host_table.build([host]), [ask(1), ask(2, query="{"), ask(3)])
    assert [answer.hosts for answer in answers] == [("a",), (), ("a",)]
    assert [bool(answer.malformed) for answer in answers] == [False, True, False]


def resources(**values: Any) -> list[dict[str, int]]:
    return [dict(demand.resources) for demand in demands_of(make(**values).shape)]


def test_what_is_asked_of_placement() -> None:
    assert resources() == [{"VCPU": 4, "MEMORY_MB": 2048, "DISK_GB": 26}]
    assert resources(volume_backed=True)[0]["DISK_GB"] == 6
    assert resources(specs={"resources:VCPU": "1", "resources:DISK_GB": "0", "resources1:CUSTOM_X": "2"}) == [
        {"VCPU": 1, "MEMORY_MB": 2048, "CUSTOM_X": 2}
    ]
    pinned = {"hw:cpu_policy": "dedicated", "hw:emulator_threads_policy": "isolate", "hw:cpu_thread_policy": "require"}
    first, second = demands_of(make(pinned).shape)
    assert (first.resources["PCPU"], "VCPU" in first.resources, second.resources["VCPU"]) == (5, False, 4)
    assert first.required == {"HW_CPU_HYPERTHREADING"}
    assert second.required == set()
    assert len(demands_of(make(pinned).shape, pinned_only=True)) == 1
    mixed = resources(specs={"hw:cpu_policy": "mixed", "hw:cpu_dedicated_mask": "^0"})
    assert [(one["PCPU"], one["VCPU"]) for one in mixed] == [(3, 1)]
    assert resources(claimed=FLAVOR.resources()) == resources()
    assert resources(claimed={"VGPU": 1})[0]["VGPU"] == 1


def test_what_an_image_asks_for_by_its_traits() -> None:
    shape = make(disk_format="qcow2", image_properties={"hw_vif_model": "virtio", "trait:CUSTOM_X": "required"}).shape
    wide = scheduling_policy.parse(
        {
            "options": {
                "scheduler.image_metadata_prefilter": True,
                "scheduler.query_placement_for_image_type_support": True,
            }
        }
    )
    assert root_required(shape, scheduling_policy.DEFAULT.options) == set()
    assert root_required(shape, wide.options) == {"COMPUTE_IMAGE_TYPE_QCOW2", "COMPUTE_NET_VIF_MODEL_VIRTIO"}
    assert demands_of(shape)[0].required == {"CUSTOM_X"}


HINTS = ["different_host", "same_host", "build_near_host_ip", "cidr", "query", "group", "x"]
JUNK = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), st.lists, max_leaves=5)


@given(st.dictionaries(st.sampled_from(HINTS), JUNK, max_size=3))
def test_any_hints_make_a_request_or_an_error(hints: dict[str, Any]) -> None:
    with contextlib.suppress(errors.Invalid):
        make(hints=hints)


KEYS = st.sampled_from(["hw:numa_nodes", "hw:mem_page_size", "resources:VCPU", "trait:X", "capabilities:a", "b"])


@given(st.dictionaries(KEYS, st.text(max_size=8), max_size=3))
def test_any_extra_specs_make_a_request_or_an_error(specs: dict[str, str]) -> None:
    with contextlib.suppress(errors.Invalid):
        demands_of(make(specs).shape)
