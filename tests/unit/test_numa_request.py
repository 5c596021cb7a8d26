"""What flavors and images ask of a host's topology, and what they must not ask."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellcloud import errors
from cellcloud.model import image_properties, numa_request
from cellcloud.model.flavor import Flavor
from cellcloud.model.numa import ANY_PAGES, LARGE_PAGES, SMALL_PAGES, GuestCell, GuestNuma, TopologyRequest
from cellcloud.model.pci import PciRequest

Texts = Mapping[str, str]


def ask(specs: Texts, image: Texts | None = None, *, vcpus: int = 4, memory_mb: int = 1024) -> TopologyRequest:
    flavor = Flavor(id="f", name="f", vcpus=vcpus, memory_mb=memory_mb, root_gb=1, extra_specs=dict(specs))
    return numa_request.topology_request(flavor, image_properties.read(image or {}))


def cells(specs: Texts, image: Texts | None = None, **sizes: int) -> tuple[GuestCell, ...]:
    asked = ask(specs, image, **sizes).guest
    assert asked is not None
    return asked.cells


DEDICATED = {"hw:cpu_policy": "dedicated"}


@pytest.mark.parametrize(
    "specs",
    [
        {},
        {"hw:cpu_policy": "shared"},
        {"hw:numa_cpus.0": "0-3", "hw:numa_mem.0": "1024"},
        {"hw:mem_page_size": "0"},
        {"hw:pmem": " , "},
        {"resources:VCPU": "4"},
        {"resources:PCPU": "many"},
        {"hw:numa_nodes": ""},
    ],
)
def test_not_all_that_speaks_of_cpus_asks_for_a_topology(specs: Texts) -> None:
    assert ask(specs) == TopologyRequest()


def test_cpus_and_memory_are_divided_equally() -> None:
    assert cells({"hw:numa_nodes": "2"}) == (
        GuestCell(id=0, cpuset=(0, 1), memory=512),
        GuestCell(id=1, cpuset=(2, 3), memory=512),
    )
    assert cells({"hw:pmem": "4GB"}) == (GuestCell(id=0, cpuset=(0, 1, 2, 3), memory=1024),)


@pytest.mark.parametrize("where", ["flavor", "image"])
def test_cpus_and_memory_are_divided_as_listed(where: str) -> None:
    mark = ":" if where == "flavor" else "_"
    listed = {"numa_nodes": "2", "numa_cpus.0": "0-3,^2", "numa_mem.0": "768", "numa_cpus.1": "2", "numa_mem.1": "256"}
    texts = {f"hw{mark}{name}": value for name, value in listed.items()}
    found = cells(texts) if where == "flavor" else cells({}, texts)
    assert [(part.cpuset, part.memory) for part in found] == [((0, 1, 3), 768), ((2,), 256)]


@pytest.mark.parametrize(
    ("specs", "image", "size"),
    [
        ({"hw:mem_page_size": "small"}, {}, SMALL_PAGES),
        ({"hw:mem_page_size": "large"}, {}, LARGE_PAGES),
        ({"hw:mem_page_size": "any"}, {}, ANY_PAGES),
        ({"hw:mem_page_size": "any"}, {"hw_mem_page_size": "2MB"}, 2048),
        ({"hw:mem_page_size": "large"}, {"hw_mem_page_size": "1048576"}, 1048576),
        ({"hw:mem_page_size": "1GiB"}, {}, 1048576),
        ({"hw:mem_page_size": "2Mb"}, {}, 256),
    ],
)
def test_page_sizes(specs: Texts, image: Texts, size: int) -> None:
    assert cells(specs, image)[0].pagesize == size


@pytest.mark.parametrize(
    ("specs", "image", "policy", "threads", "dedicated"),
    [
        (DEDICATED, {}, "dedicated", None, (0, 1, 2, 3)),
        (DEDICATED, {"hw_cpu_policy": "shared"}, "dedicated", None, (0, 1, 2, 3)),
        ({}, {"hw_cpu_policy": "dedicated", "hw_cpu_thread_policy": "isolate"}, "dedicated", "isolate", (0, 1, 2, 3)),
        ({"resources:PCPU": "4"}, {}, "dedicated", None, (0, 1, 2, 3)),
        (
            {"resources1:PCPU": "4", "trait:HW_CPU_HYPERTHREADING": "forbidden"},
            {},
            "dedicated",
            "isolate",
            (0, 1, 2, 3),
        ),
        (DEDICATED, {"trait:HW_CPU_HYPERTHREADING": "required"}, "dedicated", "require", (0, 1, 2, 3)),
        ({"hw:cpu_policy": "mixed", "hw:cpu_dedicated_mask": "^0"}, {}, "mixed", None, (1, 2, 3)),
        ({"hw:cpu_policy": "mixed", "hw:cpu_realtime": "yes"}, {"hw_cpu_realtime_mask": "0"}, "mixed", None, (0,)),
        (
            DEDICATED | {"hw:cpu_thread_policy": "prefer"},
            {"hw_cpu_thread_policy": "isolate"},
            "dedicated",
            "prefer",
            None,
        ),
    ],
)
def test_cpu_policies(
    specs: Texts, image: Texts, policy: str, threads: str | None, dedicated: tuple[int, ...] | None
) -> None:
    (found,) = cells(specs, image)
    assert (found.cpu_policy, found.cpu_thread_policy) == (policy, threads)
    assert dedicated is None or found.pcpuset == dedicated
    assert sorted(found.cpuset + found.pcpuset) == [0, 1, 2, 3]


def test_emulator_threads_and_threads_on_the_host() -> None:
    asked = ask(DEDICATED | {"hw:emulator_threads_policy": "isolate", "hw:cpu_thread_policy": "require"})
    assert isinstance(asked.guest, GuestNuma)
    assert asked.guest.emulator_threads_policy == "isolate"
    assert asked.needs_threads
    assert ask({"resources:PCPU": "5", "hw:emulator_threads_policy": "isolate"}).guest is not None


MASK = "hw:cpu_dedicated_mask"
REFUSED: list[tuple[Texts, Texts]] = [
    ({"hw:numa_nodes": "abc"}, {}),
    ({"hw:numa_nodes": "0"}, {}),
    ({"hw:numa_nodes": "-1"}, {}),
    ({"hw:numa_nodes": "2.0"}, {}),
    ({"hw:numa_nodes": "1" + "0" * 30}, {}),
    ({"hw:numa_nodes": "9" * 5000}, {}),
    ({"hw:numa_nodes": "3"}, {}),
    ({"hw:numa_nodes": "2"}, {"hw_numa_nodes": "2"}),
    ({"hw:numa_nodes": "1", "hw:numa_cpus.0": "0-3"}, {}),
    ({"hw:numa_nodes": "1", "hw:numa_mem.0": "1024"}, {}),
    ({"hw:numa_nodes": "1", "hw:numa_cpus.0": "0-3", "hw:numa_mem.0": "1025"}, {}),
    ({"hw:numa_nodes": "1", "hw:numa_cpus.0": "0-2", "hw:numa_mem.0": "1024"}, {}),
    ({"hw:numa_nodes": "1", "hw:numa_cpus.0": "0-4", "hw:numa_mem.0": "1024"}, {}),
    ({"hw:numa_nodes": "1", "hw:numa_cpus.0": "0-99999999999999", "hw:numa_mem.0": "1024"}, {}),
    ({"hw:numa_nodes": "1", "hw:numa_cpus.0": "3-0", "hw:numa_mem.0": "1024"}, {}),
    ({"hw:numa_nodes": "1", "hw:numa_cpus.0": "zero", "hw:numa_mem.0": "1024"}, {}),
    ({"hw:numa_nodes": "1", "hw:numa_cpus.0": "0-3", "hw:numa_mem.0": "1024"}, {"hw_numa_cpus.0": "0-3"}),
    ({"hw:numa_nodes": "1", "hw:numa_cpus.0": "0-3", "hw:numa_mem.0": "much"}, {}),
    (
        {
            "hw:numa_nodes": "2",
            "hw:numa_cpus.0": "0-2",
            "hw:numa_cpus.1": "2-3",
            "hw:numa_mem.0": "512",
            "hw:numa_mem.1": "512",
        },
        {},
    ),
    (
        {
            "hw:numa_nodes": "2",
            "hw:numa_cpus.0": "0-2",
            "hw:numa_cpus.1": "3",
            "hw:numa_mem.0": "-512",
            "hw:numa_mem.1": "1536",
        },
        {},
    ),
    ({"hw:mem_page_size": "huge"}, {}),
    ({"hw:mem_page_size": "-2MB"}, {}),
    ({"hw:mem_page_size": "1b"}, {}),
    ({"hw:mem_page_size": "1" + "0" * 30}, {}),
    ({"hw:mem_page_size": "9" * 400 + "B"}, {}),
    ({"hw:mem_page_size": "\u00b2"}, {}),
    ({}, {"hw_mem_page_size": "2MB"}),
    ({"hw:mem_page_size": "2MB"}, {"hw_mem_page_size": "2MB"}),
    ({"hw:cpu_policy": "selfish"}, {}),
    ({}, {"hw_cpu_policy": "selfish"}),
    ({"hw:cpu_policy": "shared"}, {"hw_cpu_policy": "dedicated"}),
    ({"hw:cpu_policy": "mixed", MASK: "^0"}, {"hw_cpu_policy": "dedicated"}),
    ({"hw:cpu_policy": "mixed"}, {}),
    ({"hw:cpu_policy": "mixed", MASK: "0-3"}, {}),
    ({"hw:cpu_policy": "mixed", MASK: "^0-3"}, {}),
    ({"hw:cpu_policy": "mixed", MASK: "3-9"}, {}),
    ({"hw:cpu_policy": "mixed", MASK: "^0", "hw:cpu_realtime": "1", "hw:cpu_realtime_mask": "^0"}, {}),
    (DEDICATED | {MASK: "^0"}, {}),
    ({MASK: "^0"}, {}),
    (DEDICATED | {"resources:PCPU": "4"}, {}),
    ({"resources:PCPU": "4", "resources:VCPU": "4"}, {}),
    ({"resources:PCPU": "3"}, {}),
    ({"hw:cpu_thread_policy": "prefer"}, {}),
    (DEDICATED | {"hw:cpu_thread_policy": "loose"}, {}),
    (DEDICATED | {"hw:cpu_thread_policy": "require"}, {"hw_cpu_thread_policy": "isolate"}),
    (DEDICATED | {"hw:cpu_thread_policy": "require", "trait:HW_CPU_HYPERTHREADING": "required"}, {}),
    ({"hw:emulator_threads_policy": "isolate"}, {}),
    (DEDICATED | {"hw:emulator_threads_policy": "alone"}, {}),
    ({"hw:cpu_realtime": "yes", "hw:cpu_realtime_mask": "^0"}, {}),
    (DEDICATED | {"hw:cpu_realtime": "yes"}, {}),
    ({"hw:locked_memory": "true"}, {}),
    ({"hw:locked_memory": "true", "hw:mem_page_size": "small"}, {"hw_locked_memory": "false"}),
    ({"hw:pmu": "true"}, {"hw_pmu": "false"}),
    ({"hw:vif_multiqueue_enabled": "true"}, {"hw_vif_multiqueue_enabled": "false"}),
    ({"hw:mem_encryption": "true"}, {}),
    ({"hw:mem_encryption": "true"}, {"hw_firmware_type": "uefi", "hw_machine_type": "pc"}),
    ({"hw:mem_encryption": "true", "hw:mem_encryption_model": "amd-sev-snp"}, {"hw_firmware_type": "uefi"}),
    ({"hw:mem_encryption": "true", "hw:mem_encryption_model": "rot13"}, {"hw_firmware_type": "uefi"}),
    ({"hw:mem_encryption": "true"}, {"hw_mem_encryption": "false"}),
    ({"hw:serial_port_count": "2"}, {"hw_serial_port_count": "3"}),
    ({"hw:serial_port_count": "two"}, {}),
    ({"hw:cpu_max_sockets": "2"}, {"hw_cpu_max_sockets": "4"}),
    ({"hw:cpu_max_threads": "2"}, {"hw_cpu_threads": "4"}),
    ({"hw:cpu_cores": "some"}, {}),
    ({"hw:pci_numa_affinity_policy": "close"}, {}),
    ({"hw:pci_numa_affinity_policy": "socket"}, {"hw_pci_numa_affinity_policy": "legacy"}),
]


@pytest.mark.parametrize(("specs", "image"), REFUSED, ids=[f"{one} {two}"[:80] for one, two in REFUSED])
def test_contradictions_and_nonsense_are_refused(specs: Texts, image: Texts) -> None:
    with pytest.raises(errors.Invalid) as refused:
        ask(specs, image)
    assert len(refused.value.message) < 300


def test_no_guest_has_more_cpus_than_can_be_numbered() -> None:
    with pytest.raises(errors.Invalid):
        ask(DEDICATED, vcpus=10**9)
    with pytest.raises(errors.Invalid):
        ask({"hw:numa_nodes": "1"}, vcpus=0)
    assert ask({}, vcpus=10**9) == TopologyRequest()


def test_encrypted_memory_may_be_asked_for_where_firmware_and_machine_can_do_it() -> None:
    able = {"hw_firmware_type": "uefi", "hw_machine_type": "pc-q35-8.2", "hw_firmware_stateless": "true"}
    assert ask({"hw:mem_encryption": "true"}, able) == TopologyRequest()
    tdx = {"hw:mem_encryption": "true", "hw:mem_encryption_model": "intel-tdx"}
    assert ask(tdx, able | {"hw_video_model": "none"}) == TopologyRequest()


def test_devices_are_asked_for_beside_the_cells() -> None:
    flavor = Flavor(id="f", name="f", vcpus=1, memory_mb=64, root_gb=1)
    device = PciRequest(count=2, spec=({"vendor_id": "8086"},))
    assert numa_request.topology_request(flavor, {}, [device]) == TopologyRequest(devices=(device,))
    with pytest.raises(errors.Invalid):
        numa_request.topology_request(flavor, {}, [PciRequest(count=0)])


NAMES = st.sampled_from(
    [
        "numa_nodes",
        "numa_cpus.0",
        "numa_cpus.1",
        "numa_mem.0",
        "numa_mem.1",
        "mem_page_size",
        "cpu_policy",
        "cpu_thread_policy",
        "cpu_realtime",
        "emulator_threads_policy",
        "cpu_dedicated_mask",
        "cpu_realtime_mask",
        "pmem",
        "locked_memory",
        "mem_encryption",
        "pmu",
        "cpu_max_cores",
        "serial_port_count",
        "pci_numa_affinity_policy",
    ]
)
VALUES = st.text(max_size=12) | st.sampled_from(
    [
        "1",
        "2",
        "0",
        "-1",
        "0-1",
        "2-3",
        "^0",
        "512",
        "any",
        "large",
        "2MB",
        "dedicated",
        "mixed",
        "isolate",
        "true",
        "1e9",
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(NAMES, VALUES, max_size=6), st.dictionaries(NAMES, VALUES, max_size=3))
def test_any_text_is_read_or_refused(specs: dict[str, str], image: dict[str, str]) -> None:
    try:
        asked = ask({f"hw:{name}": value for name, value in specs.items()}, {f"hw_{n}": v for n, v in image.items()})
    except errors.Invalid:
        return
    if asked.guest is not None:
        assert sum(part.memory for part in asked.guest.cells) == 1024
        assert sorted(cpu for part in asked.guest.cells for cpu in part.cpuset + part.pcpuset) == [0, 1, 2, 3]
