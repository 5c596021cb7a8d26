"""What cannot be true of a host is refused by one set of bounds, be it stored by a conductor or read by a scheduler."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from cellcloud.model.host import HostFacts, HostReport, HostState, Metric
from cellcloud.model.host_report_validation import (
    MOST,
    MOST_CAPACITY,
    MOST_RATIO,
    find_report_defect,
    find_state_defect,
)
from cellcloud.model.numa import NumaCell
from cellcloud.model.pci import PciPool

FACTS = HostFacts(
    hypervisor_hostname="m", hypervisor_type="QEMU", hypervisor_version=1, host_ip="", vcpus=8, memory_mb=8, disk_gb=8
)
REPORT = HostReport(host="h", facts=FACTS)
STATE = HostState(host="h", zone="nova", enabled=True, up=True, capacity={}, used={}, generation=1)


def cell(number: int, **values: object) -> NumaCell:
    return replace(NumaCell(id=number, cpuset=(number,), pcpuset=(), memory=1), **values)  # type: ignore[arg-type]


def pools(count: int) -> tuple[PciPool, ...]:
    return (PciPool(vendor_id="8086", product_id="10ed", count=count),)


def test_a_plain_host_is_believed_by_both() -> None:
    assert find_report_defect(REPORT) is None
    assert find_state_defect(STATE) is None


@pytest.mark.parametrize("ratio", [0, -1, 0.0, math.nan, math.inf, MOST_RATIO * 1.001])
def test_ratios_have_one_bound(ratio: float) -> None:
    assert find_report_defect(replace(REPORT, cpu_ratio=ratio)) is not None
    assert find_state_defect(replace(STATE, cpu_allocation_ratio=ratio)) is not None


@pytest.mark.parametrize(
    "details",
    [
        {"metrics": (Metric(name="m", value=math.nan),)},
        {"metrics": (Metric(name="m", value=math.inf),)},
        {"numa": (cell(0), cell(0))},
        {"numa": (cell(0, memory=-1),)},
        {"numa": (cell(0, memory=MOST_CAPACITY + 1),)},
        {"numa": tuple(cell(number) for number in range(65))},
        {"pci_pools": pools(-1)},
        {"pci_pools": pools(MOST + 1)},
        {"pci_pools": pools(1) * 2},
    ],
)
def test_details_have_one_bound(details: dict[str, object]) -> None:
    said = find_report_defect(replace(REPORT, facts=replace(FACTS, **details)))  # type: ignore[arg-type]
    assert said is not None
    assert find_state_defect(replace(STATE, **details)) == said  # type: ignore[arg-type]


def test_what_is_stored_of_the_largest_machine_is_believed_when_it_is_read() -> None:
    largest = replace(FACTS, vcpus=MOST, memory_mb=MOST, disk_gb=MOST, resources={"CUSTOM_A": MOST})
    ratios = {"cpu_ratio": MOST_RATIO, "memory_ratio": MOST_RATIO, "disk_ratio": MOST_RATIO}
    report = replace(REPORT, facts=largest, **ratios)  # type: ignore[arg-type]
    assert find_report_defect(report) is None
    capacity = {name: total * MOST_RATIO for name, (total, _, _) in report.inventory.items()}
    assert find_state_defect(replace(STATE, capacity=capacity, used=capacity, vcpus=MOST, memory_mb=MOST)) is None
    assert float(MOST_CAPACITY * 1024) == MOST_CAPACITY * 1024
    assert find_report_defect(replace(report, facts=replace(largest, memory_mb=MOST + 1))) is not None
    assert find_state_defect(replace(STATE, capacity={"MEMORY_MB": MOST_CAPACITY + 1})) is not None
