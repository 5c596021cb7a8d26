"""What was decided of cells, CPUs, pages and devices is in the guest's definition, on hosts as libvirt has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from cell.compute.driver import check_guest, machine_for
from cell.compute.drivers.fake import FakeDriver
from cell.compute.drivers.fake_hypervisor import FakeHypervisor, described_capacity
from cell.compute.drivers.host_description import HostDescription, HostShare, describe
from cell.compute.drivers.libvirt.disks import Disk
from cell.compute.drivers.libvirt.domain_xml import GuestDefinition
from cell.compute.drivers.libvirt.records import GuestRecords
from cell.compute.drivers.pci_devices import pools_of
from cell.scheduler.filter_rejection import HostRefusal
from cell.scheduler.numa.topology import fit
from cellcloud import errors
from cellcloud.model import image_properties
from cellcloud.model.flavor import Flavor
from cellcloud.model.image import Image
from cellcloud.model.numa import Placed, Topology
from cellcloud.model.numa_request import topology_request
from cellcloud.model.server import ServerSpec
from tests.host_texts import capabilities, node_device

Texts = Mapping[str, str]
Seen = Mapping[str, Sequence[Texts]]
GPU = '{"name": "gpu", "vendor_id": "10de", "product_id": "1eb8"}'
NEAR_GPU = '{"name": "near", "vendor_id": "10de", "product_id": "1eb8", "numa_policy": "required"}'
GPUS = [node_device("0000:41:00.0", numa=0), *(node_device(f"0000:81:00.{n}", numa=1) for n in range(2))]
DEDICATED = {"hw:cpu_policy": "dedicated"}
HALVES = ("0,1,4,5", "2,3,6,7")  # of the default machine: the first cores, and the second cell


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A guest of four vCPUs and 1 GiB on a machine. ``cpus``: shared, dedicated ones. ``seen``: ElementTree's path ->
    the attributes of the elements that are there, in order."""

    specs: Texts = field(default_factory=dict)
    image: Texts = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)
    cpus: tuple[str, str] = ("", "")
    seen: Seen


def pins(**cpus: str) -> list[Texts]:
    return [{"vcpu": name.removeprefix("v"), "cpuset": cpuset} for name, cpuset in cpus.items()]


CASES = {
    "plain, nothing set apart": Case(seen={"vcpu": [{}], "cputune": [], "numatune": [], "cpu/numa": []}),
    "plain, beside dedicated CPUs": Case(
        cpus=HALVES, seen={"vcpu": [{"cpuset": "0,1,4,5"}], "cputune": [], "memoryBacking": []}
    ),
    "two cells that share": Case(
        specs={"hw:numa_nodes": "2"},
        seen={
            "vcpu": [{}],
            "cpu/numa/cell": [
                {"id": "0", "cpus": "0,1", "memory": "512", "unit": "MiB"},
                {"id": "1", "cpus": "2,3", "memory": "512", "unit": "MiB"},
            ],
            "cputune/vcpupin": pins(v0="0,1,4,5", v1="0,1,4,5", v2="2,3,6,7", v3="2,3,6,7"),
            "cputune/emulatorpin": [{"cpuset": "0,1,2,3,4,5,6,7"}],
            "numatune/memory": [{"mode": "strict", "nodeset": "0,1"}],
            "numatune/memnode": [
                {"cellid": "0", "mode": "strict", "nodeset": "0"},
                {"cellid": "1", "mode": "strict", "nodeset": "1"},
            ],
            "memoryBacking": [],
        },
    ),
    "unequal cells": Case(
        specs={
            "hw:numa_nodes": "2",
            "hw:numa_cpus.0": "0,3",
            "hw:numa_mem.0": "768",
            "hw:numa_cpus.1": "1,2",
            "hw:numa_mem.1": "256",
        },
        seen={
            "cpu/numa/cell": [
                {"id": "0", "cpus": "0,3", "memory": "768", "unit": "MiB"},
                {"id": "1", "cpus": "1,2", "memory": "256", "unit": "MiB"},
            ],
            "cputune/vcpupin": pins(v0="0,1,4,5", v1="2,3,6,7", v2="2,3,6,7", v3="0,1,4,5"),
        },
    ),
    "dedicated, whole cores": Case(
        specs=DEDICATED | {"hw:cpu_thread_policy": "require", "hw:cpu_threads": "2"},
        cpus=HALVES,
        seen={
            "cputune/vcpupin": pins(v0="2", v1="6", v2="3", v3="7"),
            "cputune/emulatorpin": [{"cpuset": "2,3,6,7"}],
            "numatune/memory": [{"mode": "strict", "nodeset": "1"}],
            "numatune/memnode": [{"cellid": "0", "mode": "strict", "nodeset": "1"}],
            "cpu/topology": [{"sockets": "2", "cores": "1", "threads": "2"}],
        },
    ),
    "dedicated, isolated on cores without threads": Case(
        specs=DEDICATED | {"hw:cpu_thread_policy": "isolate"},
        machine={"cells": 1, "cores": 8, "threads": 1},
        cpus=("", "0-7"),
        seen={"cputune/vcpupin": pins(v0="0", v1="1", v2="2", v3="3")},
    ),
    "dedicated, a CPU for the emulator": Case(
        specs=DEDICATED | {"hw:emulator_threads_policy": "isolate"},
        machine={"cells": 1, "cores": 8, "threads": 1},
        cpus=("0-1", "2-7"),
        seen={
            "cputune/vcpupin": pins(v0="2", v1="3", v2="4", v3="5"),
            "cputune/emulatorpin": [{"cpuset": "6"}],
        },
    ),
    "dedicated, the emulator where guests share": Case(
        specs=DEDICATED | {"hw:emulator_threads_policy": "share"},
        cpus=HALVES,
        seen={"cputune/emulatorpin": [{"cpuset": "0,1,4,5"}]},
    ),
    "dedicated, in a hurry": Case(
        specs=DEDICATED | {"hw:cpu_realtime": "yes", "hw:cpu_realtime_mask": "^0"},
        machine={"cells": 1, "cores": 8, "threads": 1},
        cpus=("", "4-7"),
        seen={
            "cputune/vcpusched": [{"vcpus": "1,2,3", "scheduler": "fifo", "priority": "1"}],
            "cputune/emulatorpin": [{"cpuset": "4"}],
            "memoryBacking/locked": [{}],
            "memoryBacking/nosharepages": [{}],
        },
    ),
    "some CPUs of its own": Case(
        specs={"hw:cpu_policy": "mixed", "hw:cpu_dedicated_mask": "2-3"},
        machine={"cells": 1, "cores": 8, "threads": 1},
        cpus=("0-3", "4-7"),
        seen={"cputune/vcpupin": pins(v0="0,1,2,3", v1="0,1,2,3", v2="4", v3="5")},
    ),
    "huge pages in both cells": Case(
        specs={"hw:numa_nodes": "2", "hw:mem_page_size": "large"},
        machine={"huge": {2048: 512}},
        seen={
            "memoryBacking/hugepages/page": [{"size": "2048", "unit": "KiB", "nodeset": "0,1"}],
            "memoryBacking/locked": [],
        },
    ),
    "pages of a gigabyte": Case(
        specs={"hw:mem_page_size": "1GB"},
        machine={"huge": {2048: 16, 1048576: 2}},
        seen={"memoryBacking/hugepages/page": [{"size": "1048576", "unit": "KiB", "nodeset": "0"}]},
    ),
    "small pages, asked for": Case(
        specs={"hw:mem_page_size": "small"},
        seen={"memoryBacking": [], "numatune/memnode": [{"cellid": "0", "mode": "strict", "nodeset": "0"}]},
    ),
    "a device anywhere": Case(
        specs={"pci_passthrough:alias": "gpu:1"},
        seen={
            "devices/hostdev": [{"mode": "subsystem", "type": "pci", "managed": "yes"}],
            "devices/hostdev/source/address": [
                {"domain": "0x0000", "bus": "0x41", "slot": "0x00", "function": "0x0"},
            ],
            "cputune": [],
        },
    ),
    "two devices near its memory": Case(
        specs={"hw:numa_nodes": "1", "pci_passthrough:alias": "near:2"},
        seen={
            "numatune/memory": [{"mode": "strict", "nodeset": "1"}],
            "devices/hostdev/source/address": [
                {"domain": "0x0000", "bus": "0x81", "slot": "0x00", "function": "0x0"},
                {"domain": "0x0000", "bus": "0x81", "slot": "0x00", "function": "0x1"},
            ],
        },
    ),
}


def spec_of(specs: Texts, image: Texts, number: int = 1) -> ServerSpec:
    return ServerSpec(
        id=f"11111111-1111-4111-8111-{number:012d}",
        name="vm",
        project_id="p",
        user_id="u",
        flavor=Flavor(id="f", name="f", vcpus=4, memory_mb=1024, root_gb=1, extra_specs=dict(specs)),
        image=Image(id="i", properties=dict(image)),
    )


def placed_on(host: HostDescription, spec: ServerSpec) -> ServerSpec:
    """The spec with the place that a scheduler would choose on the host while it is empty."""
    image = image_properties.read(spec.image.properties)
    asked = topology_request(spec.flavor, image, aliases=(GPU, NEAR_GPU))
    if asked.guest is None and not asked.devices:
        return spec
    found = fit(Topology(cells=host.cells or None, pools=pools_of(host.devices), cpu_ratio=4.0), asked)
    assert isinstance(found, Placed), found
    return replace(spec, placed=found)


def definition(directory: Path, host: HostDescription, share: HostShare, spec: ServerSpec) -> ET.Element:
    records = GuestRecords(directory / "guests")
    records.load()
    records.accept(spec, 1, ())
    made = GuestDefinition(
        spec=spec,
        ports=[],
        disks=[Disk(path=Path("/guest/disk"), format="qcow2")],
        config_drive=None,
        console_log=Path("/guest/console.log"),
        listen="127.0.0.1",
        virt_type="qemu",
        machine=machine_for(spec),
        host_cells={cell.id: cell for cell in host.cells},
        shared_cpus=share.shared,
        host_devices=records.hold_devices(spec.id, host.devices).devices,
    )
    return ET.fromstring(made.to_xml())  # noqa: S314 -- our own


def host_of(case: Case) -> tuple[HostDescription, HostShare]:
    share = HostShare.parse(*case.cpus, ['{"vendor_id": "10de"}'])
    return describe(capabilities(**case.machine), GPUS, share), share


@pytest.mark.parametrize("name", CASES)
def test_a_guest_lies_where_it_was_placed(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    host, share = host_of(case)
    spec = placed_on(host, spec_of(case.specs, case.image))
    check_guest(spec)
    if spec.placed is not None:
        host.check(spec.placed)
    made = definition(tmp_path, host, share, spec)
    for path, wanted in case.seen.items():
        found = made.findall(path)
        assert [one.attrib for one in found] == wanted, path
    assert made.findtext("vcpu") == "4"


@pytest.mark.parametrize("name", CASES)
def test_a_fake_host_takes_the_same_guests_and_gives_the_same_devices(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    host, share = host_of(case)
    hypervisor = FakeHypervisor(tmp_path / "hosts")
    driver = FakeDriver(hypervisor, "h", capacity=described_capacity(host))
    facts = driver.get_facts()
    assert (facts.numa, facts.pci_pools) == (host.cells, pools_of(host.devices))
    spec = placed_on(host, spec_of(case.specs, case.image))
    driver.spawn(spec, 1, (), None)  # type: ignore[arg-type]
    given = list(hypervisor.get("h", spec.id).devices)
    addresses = definition(tmp_path, host, share, spec).findall("devices/hostdev/source/address")
    assert len(given) == len(addresses)
    hypervisor.close()
    again = FakeHypervisor(tmp_path / "hosts")
    FakeDriver(again, "h", capacity=described_capacity(host)).spawn(spec, 2, (), None)  # type: ignore[arg-type]
    assert again.get("h", spec.id).devices == given
    again.close()


def test_a_guest_without_the_place_it_asks_for_is_not_made() -> None:
    host, _ = host_of(CASES["two cells that share"])
    for specs in (DEDICATED, {"hw:numa_nodes": "2"}, {"hw:mem_page_size": "small"}, {"pci_passthrough:alias": "gpu:1"}):
        with pytest.raises(errors.GuestFailed, match="has not the NUMA cells, dedicated CPUs or PCI devices"):
            check_guest(spec_of(specs, {}))
    two = placed_on(host, spec_of({"hw:numa_nodes": "2"}, {}))
    for specs in ({"hw:numa_nodes": "1"}, {}, {"hw:numa_nodes": "2", "pci_passthrough:alias": "gpu:1"}):
        with pytest.raises(errors.GuestFailed):
            check_guest(replace(spec_of(specs, {}), placed=two.placed))


def test_a_host_that_has_not_what_was_claimed_refuses() -> None:
    host, _ = host_of(CASES["dedicated, whole cores"])
    placed = placed_on(host, spec_of(DEDICATED, {})).placed
    huge, _ = host_of(CASES["huge pages in both cells"])
    paged = placed_on(huge, spec_of({"hw:mem_page_size": "large"}, {})).placed
    assert placed is not None
    assert paged is not None
    for there, claimed in (
        (HostDescription(), placed),
        (describe(capabilities(), (), HostShare.parse("0,1,4,5", "3,6,7", [])), placed),
        (describe(capabilities(), (), HostShare()), paged),
    ):
        with pytest.raises(errors.HostRefused):
            there.check(claimed)


def test_no_device_is_given_twice(tmp_path: Path) -> None:
    host, _ = host_of(CASES["a device anywhere"])
    specs = [spec_of({"pci_passthrough:alias": "gpu:1"}, {}, number) for number in range(1, 5)]
    pools = pools_of(host.devices)
    near = [replace(pool, count=1) for pool in pools]
    wanted = [near[0], near[1], near[1], near[0]]
    placed = [replace(spec, placed=Placed(devices=(pool,))) for spec, pool in zip(specs, wanted, strict=True)]
    records = GuestRecords(tmp_path / "guests")
    records.load()
    for spec in placed:
        records.accept(spec, 1, ())
    given = [records.hold_devices(spec.id, host.devices).devices for spec in placed[:3]]
    assert given == [("0000:41:00.0",), ("0000:81:00.0",), ("0000:81:00.1",)]
    with pytest.raises(errors.HostRefused):
        records.hold_devices(placed[3].id, host.devices)
    again = GuestRecords(tmp_path / "guests")
    again.load()
    assert [again.hold_devices(spec.id, ()).devices for spec in placed[:3]] == given  # what it has it keeps
    again.begin_removal(placed[0].id, 1)
    again.finish_removal(placed[0].id)
    assert again.hold_devices(placed[3].id, host.devices).devices == given[0]
    moved = replace(placed[3], placed=Placed(devices=(near[1],)))
    again.accept(moved, 2, ())
    with pytest.raises(errors.HostRefused):
        again.hold_devices(moved.id, host.devices)


def test_a_realtime_guest_needs_somewhere_for_its_emulator(tmp_path: Path) -> None:
    case = Case(
        specs=DEDICATED | {"hw:cpu_realtime": "yes", "hw:emulator_threads_policy": "share"}, cpus=("", "0-7"), seen={}
    )
    host, share = host_of(case)
    with pytest.raises(errors.HostRefused, match="emulator"):
        definition(tmp_path, host, share, placed_on(host, spec_of(case.specs, {})))
    asked = topology_request(spec_of(DEDICATED, {}).flavor, {})
    nothing, _ = host_of(Case(seen={}))
    assert isinstance(fit(Topology(cells=nothing.cells), asked), HostRefusal)  # no CPU is set apart there
