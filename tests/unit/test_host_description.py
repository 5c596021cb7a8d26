"""What hosts say of their cells, pages, threads and devices, by the texts that libvirt writes."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cell.compute.__main__ import make_drivers
from cell.compute.drivers.host_description import HostDescription, HostShare, describe
from cell.compute.drivers.pci_devices import pools_of
from cellcloud import config, errors
from cellcloud.model.host_report_validation import find_topology_defect
from cellcloud.model.numa import MemoryPages, NumaCell, Topology
from cellcloud.model.pci import PciPool
from tests.host_texts import capabilities, node_device

NOTHING = HostShare()
EVERY_DEVICE = HostShare.parse("", "", ['{"address": "*:*:*.*"}'])
NIC = ("8086", "10fb")
DEVICES = [
    node_device("0000:00:1f.2", ids=("8086", "2922")),
    node_device("0000:41:00.0", numa=0),
    node_device("0000:41:00.1", numa=0),
    node_device("0000:81:00.0", ids=NIC, numa=1, functions=["0000:81:10.0", "0000:81:10.2"]),
    node_device("0000:81:00.1", ids=NIC, numa=1, functions=[]),
    node_device("0000:81:10.0", ids=("8086", "10ed"), numa=1, parent="0000:81:00.0"),
    node_device("0000:81:10.2", ids=("8086", "10ed"), numa=1, parent="0000:81:00.0"),
]


def test_cells_threads_and_pages_are_those_of_the_machine() -> None:
    host = describe(capabilities(huge={2048: 256, 1048576: 1}), (), NOTHING)
    assert host.cells == (
        NumaCell(
            id=0,
            cpuset=(0, 1, 4, 5),
            memory=4096,
            siblings=((0, 4), (1, 5)),
            socket=0,
            mempages=(
                MemoryPages(size_kb=4, total=655360),
                MemoryPages(size_kb=2048, total=256),
                MemoryPages(size_kb=1048576, total=1),
            ),
        ),
        NumaCell(
            id=1,
            cpuset=(2, 3, 6, 7),
            memory=4096,
            siblings=((2, 6), (3, 7)),
            socket=1,
            mempages=host.cells[0].mempages,
        ),
    )
    assert (host.resources, host.traits) == ({}, ("HW_CPU_HYPERTHREADING",))
    assert describe(capabilities(threads=1), (), NOTHING).traits == ()


@pytest.mark.parametrize(
    ("shared", "dedicated", "cells", "resources"),
    [
        ("", "", [((0, 1, 4, 5), ()), ((2, 3, 6, 7), ())], {}),
        ("0-1", "", [((0, 1), ()), ((), ())], {}),
        ("", "2-3,6-7", [((), ()), ((), (2, 3, 6, 7))], {"PCPU": 4}),
        ("0-1,4-5", "2-7,^4,^5", [((0, 1, 4, 5), ()), ((), (2, 3, 6, 7))], {"PCPU": 4}),
        ("0,4", "1,5,2,6", [((0, 4), (1, 5)), ((), (2, 6))], {"PCPU": 4}),
    ],
)
def test_cpus_are_shared_or_dedicated_or_neither(
    shared: str, dedicated: str, cells: object, resources: Mapping[str, int]
) -> None:
    host = describe(capabilities(), (), HostShare.parse(shared, dedicated, []))
    assert [(cell.cpuset, cell.pcpuset) for cell in host.cells] == cells
    assert host.resources == resources
    named = [{cpu for core in cell.siblings for cpu in core} for cell in host.cells]
    assert named == [{*cell.cpuset, *cell.pcpuset} for cell in host.cells]  # others' threads are nobody's


@pytest.mark.parametrize(
    "machine", [{"cells": 1, "cores": 1, "threads": 1}, {"cells": 8, "cores": 32, "memory_mib": 65536}]
)
def test_what_machines_say_can_be_true(machine: Mapping[str, Any]) -> None:
    share = HostShare.parse("", "0", ['{"vendor_id": "*"}'])
    host = describe(capabilities(**machine, huge={2048: 128}), DEVICES, share)
    assert find_topology_defect(Topology(cells=host.cells, pools=pools_of(host.devices))) is None
    assert len(host.cells) == machine["cells"]


def test_a_machine_that_tells_of_no_cells_has_none() -> None:
    assert describe("<capabilities><host/></capabilities>", DEVICES, NOTHING) == HostDescription()


@pytest.mark.parametrize(
    ("specs", "addresses"),
    [
        ([], []),
        (['{"vendor_id": "10DE"}'], ["0000:41:00.0", "0000:41:00.1"]),
        (['{"product_id": "10ed"}'], ["0000:81:10.0", "0000:81:10.2"]),
        (['{"address": "0000:41:00.1"}'], ["0000:41:00.1"]),
        (['{"address": "*:81:10.*"}', '{"address": "0000:00:1F.2"}'], ["0000:00:1f.2", "0000:81:10.0", "0000:81:10.2"]),
        (['{"vendor_id": "8086", "product_id": "10fb"}'], ["0000:81:00.0", "0000:81:00.1"]),
        (['{"vendor_id": "8086", "address": "0000:81:*.*"}'], ["0000:81:00.1", "0000:81:10.0", "0000:81:10.2"]),
    ],
)
def test_devices_are_offered_as_named_and_never_with_a_part_of_themselves(specs: list[str], addresses: object) -> None:
    """The last: one function of which others are offered would be given twice."""
    host = describe(capabilities(), DEVICES, HostShare.parse("", "", specs))
    assert [device.address for device in host.devices] == addresses


def test_devices_of_a_kind_are_one_pool() -> None:
    host = describe(capabilities(), DEVICES, EVERY_DEVICE)

    def pool(ids: tuple[str, str], count: int, numa: int | None, kind: str) -> PciPool:
        return PciPool(vendor_id=ids[0], product_id=ids[1], count=count, numa_node=numa, tags={"dev_type": kind})

    assert pools_of(host.devices) == (
        pool(("8086", "2922"), 1, None, "type-PCI"),
        pool(("10de", "1eb8"), 2, 0, "type-PCI"),
        pool(NIC, 1, 1, "type-PF"),
        pool(("8086", "10ed"), 2, 1, "type-VF"),
    )


@pytest.mark.parametrize(
    ("shared", "dedicated", "devices"),
    [
        ("0-x", "", []),
        ("", "5-1", []),
        ("0-3", "3-4", []),
        ("", "99999999", []),
        ("", "", ["not JSON"]),
        ("", "", ["{}"]),
        ("", "", ['{"vendor_id": 4318}']),
        ("", "", ['{"vendor_id": "10d"}']),
        ("", "", ['{"address": "81:00"}']),
        ("", "", ['{"vendor_id": "10de", "physical_network": "a"}']),
        ("", "", ['{"devname": "eth0"}']),
    ],
)
def test_options_that_cannot_be_obeyed_are_refused(shared: str, dedicated: str, devices: list[str]) -> None:
    with pytest.raises(errors.Misconfigured):
        HostShare.parse(shared, dedicated, devices)


@pytest.mark.parametrize(("shared", "dedicated"), [("0-8", ""), ("", "8"), ("0", "1,9")])
def test_cpus_that_are_not_there_close_the_host(shared: str, dedicated: str) -> None:
    with pytest.raises(errors.HostRefused, match="has no CPUs"):
        describe(capabilities(), (), HostShare.parse(shared, dedicated, []))


def test_fake_hosts_are_as_their_file_describes_them(tmp_path: Path) -> None:
    path = tmp_path / "host.xml"
    path.write_text(f"<host>{capabilities(cells=4)}{''.join(DEVICES)}</host>")
    options = tmp_path / "cellcloud.conf"
    options.write_text(
        f"[DEFAULT]\nstate_dir = {tmp_path}\n[compute]\ndriver = fake\nfake_hosts = 2\ncpu_shared_set = 0-7\n"
        f"cpu_dedicated_set = 8-15\nfake_host_description = {path}\n"
        'pci_device_spec = {"vendor_id": "10de"}\npci_device_spec = {"product_id": "10ed"}\n'
    )
    with contextlib.ExitStack() as let_go:
        for driver in make_drivers(config.load(options), let_go).values():
            facts = driver.get_facts()
            assert (facts.vcpus, facts.memory_mb, facts.resources) == (8, 4 * 4096, {"PCPU": 8})
            assert [cell.id for cell in facts.numa or ()] == [0, 1, 2, 3]
            assert sum(pool.count for pool in facts.pci_pools) == 4
            assert "HW_CPU_HYPERTHREADING" in facts.traits
    for text in ("<host/>", "not XML"):
        path.write_text(text)
        with pytest.raises(errors.Misconfigured), contextlib.ExitStack() as let_go:
            make_drivers(config.load(options), let_go)
