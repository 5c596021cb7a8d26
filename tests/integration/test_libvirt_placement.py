"""Guests on a real node run on the CPUs, and have the memory, that were claimed for them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from cell.compute.drivers.blank_qcow2 import blank_qcow2
from cell.compute.drivers.host_description import HostShare
from cell.compute.drivers.libvirt.driver import LibvirtDriver
from cell.scheduler.numa.topology import fit
from cellcloud.model.flavor import Flavor
from cellcloud.model.numa import Placed, Topology
from cellcloud.model.numa_request import topology_request
from cellcloud.model.server import ServerSpec
from cellcloud.server_states import PowerState
from tests.contract.test_driver import IMAGE, OneImage
from tests.libvirt_node import LibvirtNode, make_spec
from tests.unit import test_guest_placement as placements

pytestmark = pytest.mark.timeout(600)
VIRSH = ("virsh", "--quiet", "--connect", "qemu:///system")
SHARED, DEDICATED = "0", "1"  # any machine that runs these tests has two


@pytest.fixture(scope="module")
def node() -> Iterator[LibvirtNode]:
    node = LibvirtNode()
    yield node
    node.close()


@pytest.fixture(scope="module")
def host(node: LibvirtNode) -> Iterator[LibvirtDriver]:
    driver = LibvirtDriver(replace(node.make_options(), share=HostShare.parse(SHARED, DEDICATED, [])))
    driver.connect()
    yield driver
    for guest in driver.list_guests():
        driver.destroy(guest.server_id, guest.generation + 1000)
    driver.close()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> OneImage:
    path = tmp_path_factory.mktemp("images") / "blank"
    path.write_bytes(blank_qcow2(1 << 30))
    return OneImage(path)


def make_server(driver: LibvirtDriver, vcpus: int, specs: Mapping[str, str]) -> ServerSpec:
    """A server, with the place that is its on this host if it asks for one."""
    flavor = Flavor(id="f", name="f", vcpus=vcpus, memory_mb=64, root_gb=1, extra_specs=dict(specs))
    spec = make_spec(str(uuid.uuid4()), IMAGE, flavor=flavor)
    asked = topology_request(flavor, {})
    if asked.guest is None:
        return spec
    facts = driver.get_facts()
    placed = fit(Topology(cells=facts.numa, pools=facts.pci_pools, cpu_ratio=4.0), asked)
    assert isinstance(placed, Placed), placed
    return replace(spec, placed=placed)


def allowed(node: LibvirtNode, server_id: str) -> tuple[dict[int, str], str, str]:
    """Where the kernel lets QEMU's virtual CPUs run, by their numbers, and all its other threads; and its memory."""
    told = node.run(*VIRSH, "qemu-monitor-command", server_id, '{"execute": "query-cpus-fast"}')
    threads = {one["thread-id"]: one["cpu-index"] for one in json.loads(told)["return"]}
    (pid,) = [pid for pid in node.find_pids(f"guest={server_id}") if pid not in threads]
    process = Path(f"/proc/{node.node.pid}/root/proc/{pid}")
    cpus: dict[int, str] = {}
    for task in process.glob("task/*"):
        lines = (task / "status").read_text().splitlines()
        (where,) = [line.split()[1] for line in lines if line.startswith("Cpus_allowed_list:")]
        cpus[int(task.name)] = where
    policies = {line.split()[1] for line in (process / "numa_maps").read_text().splitlines()}
    main = cpus[pid]
    return {number: cpus[thread] for thread, number in threads.items()}, main, ",".join(sorted(policies))


def test_a_host_tells_of_its_cells(host: LibvirtDriver) -> None:
    facts = host.get_facts()
    assert facts.numa is not None
    assert {cpu for cell in facts.numa for cpu in cell.cpuset} == {int(SHARED)}
    assert {cpu for cell in facts.numa for cpu in cell.pcpuset} == {int(DEDICATED)}
    assert (facts.vcpus, facts.resources["PCPU"]) == (1, 1)
    for cell in facts.numa:
        assert 0 < cell.memory <= facts.memory_mb + 1
        assert sum(pages.size_kb * pages.total for pages in cell.mempages) <= (cell.memory + 1) << 10


def test_guests_run_where_they_were_placed(node: LibvirtNode, host: LibvirtDriver, images: OneImage) -> None:
    mixed = make_server(host, 2, {"hw:cpu_policy": "mixed", "hw:cpu_dedicated_mask": "1"})
    plain = make_server(host, 2, {})
    for spec in (mixed, plain):
        assert host.spawn(spec, 1, [], images).power_state == PowerState.RUNNING
    for generation in (2, 3):
        cpus, emulator, memory = allowed(node, mixed.id)
        assert cpus == {0: SHARED, 1: DEDICATED}
        assert emulator == f"{SHARED}-{DEDICATED}"
        assert "bind:0" in memory
        cpus, emulator, memory = allowed(node, plain.id)
        assert (cpus, emulator) == ({0: SHARED, 1: SHARED}, SHARED)
        assert "bind" not in memory
        for spec in (mixed, plain):  # the host alone remembers what was claimed
            host.reboot(spec.id, generation, hard=True, timeout=0.0)


def test_a_dedicated_guest_has_its_emulator_where_it_was_told(
    node: LibvirtNode, host: LibvirtDriver, images: OneImage
) -> None:
    spec = make_server(host, 1, {"hw:cpu_policy": "dedicated", "hw:emulator_threads_policy": "share"})
    host.spawn(spec, 1, [], images)
    cpus, emulator, memory = allowed(node, spec.id)
    assert (cpus, emulator) == ({0: DEDICATED}, SHARED)
    assert "bind:0" in memory


def test_libvirt_takes_every_definition(node: LibvirtNode, host: LibvirtDriver, tmp_path: Path) -> None:
    """Of machines with cells, pages and devices that this one has not: read and kept, and not started."""
    for number, case in enumerate(placements.CASES.values()):
        described, share = placements.host_of(case)
        spec = placements.placed_on(described, placements.spec_of(case.specs, case.image))
        made = placements.definition(tmp_path / str(number), described, share, spec)
        node.run("sh", "-c", "cat >/run/made.xml", text=ET.tostring(made, encoding="unicode"))
        node.run(*VIRSH, "define", "/run/made.xml")
        kept = ET.fromstring(node.run(*VIRSH, "dumpxml", "--inactive", spec.id))  # noqa: S314 -- our libvirtd's
        node.run(*VIRSH, "undefine", spec.id)
        for path, wanted in case.seen.items():  # libvirt has one vcpusched a CPU
            found = kept.findall(path)
            assert len(found) >= len(wanted), path
            assert bool(found) == bool(wanted), path
