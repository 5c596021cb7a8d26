from __future__ import annotations

import math
from typing import Any

import pytest

from cell.scheduler.policy.compiled_policy import compile_policy
from cellcloud import errors
from cellcloud.model import codec, scheduling_policy
from cellcloud.model.scheduling_policy import DEFAULT, NOVA_DEFAULT_FILTERS, OPTION_NAMES, WEIGHERS


def test_the_default_is_novas_after_the_rules_of_placement() -> None:
    assert scheduling_policy.parse({}) == DEFAULT
    assert DEFAULT.filters[-5:] == NOVA_DEFAULT_FILTERS
    assert len(WEIGHERS) == 13
    assert DEFAULT.options.io_ops_weight_multiplier == -1.0
    assert {name.partition(".")[0] for name in OPTION_NAMES} == {
        "scheduler",
        "filter_scheduler",
        "metrics",
        "pci",
        "workarounds",
    }


def test_a_policy_is_written_as_it_is_read() -> None:
    document = {
        "filters": ["ComputeFilter", "JsonFilter"],
        "weighers": ["RAMWeigher"],
        "options": {
            "filter_scheduler.ram_weight_multiplier": 2,
            "filter_scheduler.isolated_hosts": ["a"],
            "filter_scheduler.image_props_weight_setting": ["os_distro=2", "os_type=-1"],
            "filter_scheduler.image_properties_default_architecture": "x86_64",
            "metrics.weight_setting": ["cpu.percent=1.5"],
            "metrics.required": False,
            "scheduler.image_metadata_prefilter": True,
        },
    }
    found = scheduling_policy.parse(document)
    assert found.options.image_props_weight_setting == (("os_distro", 2.0), ("os_type", -1.0))
    assert scheduling_policy.parse(scheduling_policy.to_plain(found)) == found
    assert codec.to_plain(scheduling_policy.to_plain(found)) == scheduling_policy.to_plain(found)
    assert compile_policy(found) is compile_policy(scheduling_policy.parse(document))


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "must be an object"),
        ({"filter": []}, "did you mean filters?"),
        ({"filters": "ComputeFilter"}, "must be a list of names"),
        ({"filters": ["ComputeFilters"]}, "did you mean ComputeFilter?"),
        ({"filters": ["ComputeFilter", "ComputeFilter"]}, "names one twice"),
        ({"weighers": [3]}, "must be a list of names"),
        ({"weighers": ["Best"]}, "there is no weigher 'Best'"),
        ({"options": []}, "options must be an object"),
        ({"options": {"filter_scheduler.ram_weight": 1}}, "did you mean filter_scheduler.ram_weight_multiplier?"),
        ({"options": {"filter_scheduler.ram_weight_multiplier": "1"}}, "must be a number"),
        ({"options": {"filter_scheduler.ram_weight_multiplier": True}}, "must be a number"),
        ({"options": {"filter_scheduler.ram_weight_multiplier": math.nan}}, "must be a number"),
        ({"options": {"filter_scheduler.ram_weight_multiplier": 1e300}}, "must be a number"),
        ({"options": {"filter_scheduler.host_subset_size": 0}}, "must be at least 1"),
        ({"options": {"filter_scheduler.host_subset_size": 1.5}}, "must be a whole number"),
        ({"options": {"filter_scheduler.pci_weight_multiplier": -1.0}}, "must be at least 0"),
        ({"options": {"metrics.required": 1}}, "must be true or false"),
        ({"options": {"metrics.weight_setting": ["cpu"]}}, "NAME=NUMBER"),
        ({"options": {"metrics.weight_setting": ["cpu=nan"]}}, "NAME=NUMBER"),
        ({"options": {"filter_scheduler.isolated_hosts": "a"}}, "must be a list of texts"),
        ({"options": {"filter_scheduler.isolated_hosts": [1]}}, "must be a list of texts"),
        ({"options": {"filter_scheduler.image_properties_default_architecture": "z80"}}, "an architecture"),
        ({"options": {"filter_scheduler.aggregate_image_properties_isolation_separator": 1}}, "must be a text"),
    ],
)
def test_what_is_wrong_with_a_policy_is_said(document: Any, said: str) -> None:
    with pytest.raises(errors.Invalid) as caught:
        scheduling_policy.parse(document)
    assert said in caught.value.message
