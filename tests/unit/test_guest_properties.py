"""Every property is in one class, and the class is true: what a driver obeys is in the definition, what the scheduler
obeys changes what is asked of it, and what only describes changes neither."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from xml.etree import ElementTree as ET

import os_traits
import pytest

from cell.compute.driver import check_guest, machine_for
from cell.compute.drivers.fake import FakeDriver
from cell.compute.drivers.fake_hypervisor import FakeHypervisor
from cell.compute.drivers.libvirt.disks import Disk
from cell.compute.drivers.libvirt.domain_xml import GuestDefinition
from cell.compute.drivers.libvirt.host_facts import TRAITS
from cell.scheduler.select import batches
from cell.scheduler.state import host_table
from cellcloud import errors
from cellcloud.model import extra_specs, image_properties
from cellcloud.model.decision import shape_of
from cellcloud.model.flavor import Flavor
from cellcloud.model.image import Image
from cellcloud.model.property_catalog import EXTRA_SPECS, IMAGE_PROPERTIES, By
from cellcloud.model.property_value_types import word
from cellcloud.model.scheduling_policy import DEFAULT, parse
from cellcloud.model.server import ServerSpec
from cellcloud.model.virtual_hardware import LETTERS, CpuTopology, cpu_topology, device_names
from tests import guest_samples as samples
from tests.libvirt_node import make_port
from tests.unit.selecting import Ask, select
from tests.unit.test_scheduler import state

Texts = Mapping[str, str]
BITS = {"arch": "x86_64", "maxphysaddr": {"bits": 40}}
POLICY = parse(
    {
        "filters": [*DEFAULT.filters, "AggregateInstanceExtraSpecsFilter"],
        "options": {"pci.alias": ['{"name": "gpu", "vendor_id": "10de", "product_id": "1b38"}']},
    }
)


def spec_of(specs: Texts, image: Texts, *, vcpus: int = 4) -> ServerSpec:
    return ServerSpec(
        id="11111111-1111-4111-8111-111111111111",
        name="vm",
        project_id="p",
        user_id="u",
        flavor=Flavor(id="f", name="f", vcpus=vcpus, memory_mb=1024, root_gb=1, extra_specs=dict(specs)),
        image=Image(id="i", properties=dict(image)),
    )


def definition(specs: Texts, image: Texts, virt_type: str = "qemu") -> ET.Element:
    """The domain with two disks, a config drive and an interface."""
    spec = spec_of(specs, image)
    disks = [Disk(path=Path(f"/guest/{name}"), format="qcow2") for name in ("disk", "disk-b")]
    made = GuestDefinition(
        spec=spec,
        ports=[make_port(1)],
        disks=disks,
        config_drive=Path("/guest/config.iso"),
        console_log=Path("/guest/console.log"),
        listen="127.0.0.1",
        virt_type=virt_type,
        machine=machine_for(spec),
    )
    return ET.fromstring(made.to_xml())  # noqa: S314 -- our own


def asked(specs: Texts, image: Texts) -> object:
    """What a scheduler sees of it that decides, and whether a plain host would do."""
    spec = spec_of(specs, image)
    host = state("a", hypervisor_version=7002000, supported_instances=(("x86_64", "qemu", "hvm"),), cpu_info=BITS)
    question = Ask(spec=spec)
    try:
        made = batches.request_of(shape_of(spec), POLICY)
    except errors.Invalid:
        return None  # not whole
    chosen = select(host_table.build([host]), [question], POLICY)[0]
    return chosen.hosts, chosen.refused, made.topology, made.shape.asked


def of(table: Mapping[str, object], by: By) -> set[str]:
    return {name for name in table if getattr(table[name], "by") is by}  # noqa: B009


def test_each_property_has_a_sample_of_its_class() -> None:
    assert of(IMAGE_PROPERTIES, By.DRIVER) == samples.BUILT_IMAGE.keys() | samples.BY_THE_API
    assert of(IMAGE_PROPERTIES, By.SCHEDULER) == samples.CHOSEN_IMAGE.keys()
    assert of(IMAGE_PROPERTIES, By.NOBODY) == samples.REFUSED_IMAGE.keys()
    assert of(IMAGE_PROPERTIES, By.READER) == samples.READ_IMAGE.keys()
    assert of(EXTRA_SPECS, By.DRIVER) == samples.BUILT_SPECS.keys()
    capabilities = {name for name in EXTRA_SPECS if name.startswith("capabilities:")}
    assert of(EXTRA_SPECS, By.SCHEDULER) - capabilities <= samples.CHOSEN_SPECS.keys()
    assert of(EXTRA_SPECS, By.NOBODY) == samples.REFUSED_SPECS.keys()
    assert of(EXTRA_SPECS, By.READER) == set()


def test_the_table_has_every_name_of_novas() -> None:
    assert set(samples.NOVA_IMAGE_PROPERTIES.split()) - IMAGE_PROPERTIES.keys() == set()
    assert set(samples.NOVA_EXTRA_SPECS.split()) - EXTRA_SPECS.keys() == set()


def _built() -> list[tuple[str, str, samples.Built]]:
    return [("image", name, one) for name, one in samples.BUILT_IMAGE.items()] + [
        ("flavor", name, one) for name, one in samples.BUILT_SPECS.items()
    ]


@pytest.mark.parametrize(("where", "name", "sample"), _built(), ids=lambda one: one if isinstance(one, str) else "")
def test_what_the_driver_obeys_is_in_the_definition(where: str, name: str, sample: samples.Built) -> None:
    specs, image = dict(sample.specs), dict(sample.image)
    try:
        plain = definition(specs | sample.unlike, image)
    except errors.GuestFailed:
        plain = ET.Element("domain")  # what is beside it goes only with it
    (image if where == "image" else specs)[name] = sample.value
    check_guest(spec_of(specs, image))
    assert definition(specs, image).find(sample.seen) is not None
    assert plain.find(sample.seen) is None


def test_limits_are_on_every_disk_and_names_follow_the_bus() -> None:
    made = definition({"quota:disk_read_iops_sec": "7"}, {"hw_disk_bus": "sata", "hw_cdrom_bus": "scsi"})
    assert [limit.text for limit in made.findall("devices/disk/iotune/read_iops_sec")] == ["7", "7"]
    assert [one.get("dev") for one in made.findall("devices/disk/target")] == ["sda", "sdb", "sdc"]
    assert [one.get("dev") for one in definition({}, {}).findall("devices/disk/target")] == ["vda", "vdb", "hda"]


@pytest.mark.parametrize(
    "image",
    [{}, *({"hw_disk_bus": bus} for bus in LETTERS), *({"vmware_adaptertype": name} for name in ("ide", "lsiLogic"))],
    ids=str,
)
def test_documents_and_definition_call_disks_alike(image: Texts) -> None:
    inside = definition({}, image).findall("devices/disk[@device='disk']/target")
    assert [f"/dev/{one.get('dev')}" for one in inside] == list(islice(device_names(image), 2))


def test_hosts_have_the_traits_that_images_may_ask_for() -> None:
    assert set(TRAITS) - set(os_traits.get_traits()) == set()
    policy = parse({"options": {"scheduler.image_metadata_prefilter": True}})
    host = state("a", traits=TRAITS)
    for name in ("hw_disk_bus", "hw_cdrom_bus", "hw_video_model", "hw_vif_model"):
        for value in IMAGE_PROPERTIES[name].served or ():
            spec = spec_of({}, {name: str(value)})
            question = Ask(spec=spec)
            assert select(host_table.build([host]), [question], policy)[0].hosts == ("a",), (name, value)


def test_a_guest_on_kvm_is_hidden_from_by_other_means() -> None:
    made = definition({"hw:hide_hypervisor_id": "yes"}, {}, virt_type="kvm")
    assert made.find("features/kvm/hidden[@state='on']") is not None


@pytest.mark.parametrize(("name", "value", "seen"), samples.OLD_NAMES)
def test_old_names_are_obeyed_alike(name: str, value: str, seen: str) -> None:
    check_guest(spec_of({}, {name: value}))
    assert definition({}, {name: value}).find(seen) is not None


@pytest.mark.parametrize("name", samples.CHOSEN_IMAGE)
def test_what_the_scheduler_obeys_of_an_image_changes_what_is_asked(name: str) -> None:
    value, specs, image = samples.CHOSEN_IMAGE[name]
    assert asked(specs, {**image, name: value}) != asked(specs, image)


@pytest.mark.parametrize("name", samples.CHOSEN_SPECS)
def test_what_the_scheduler_obeys_of_a_flavor_changes_what_is_asked(name: str) -> None:
    value, specs = samples.CHOSEN_SPECS[name]
    assert asked({**specs, name: value}, {}) != asked(specs, {})


@pytest.mark.parametrize(
    ("rule", "specs", "image"),
    [
        ("NUMATopologyFilter", {"hw:numa_nodes": "1"}, {}),
        ("NUMATopologyFilter", {}, {"hw_cpu_policy": "dedicated"}),
        ("PciPassthroughFilter", {"pci_passthrough:alias": "gpu:1"}, {}),
        ("ImagePropertiesFilter", {}, {"architecture": "x86_64"}),
        ("ComputeCapabilitiesFilter", {"capabilities:vcpus_total": ">= 1"}, {}),
        ("AggregateInstanceExtraSpecsFilter", {"aggregate_instance_extra_specs:gold": "true"}, {}),
    ],
)
def test_a_policy_that_would_not_obey_refuses(rule: str, specs: Texts, image: Texts) -> None:
    spec = spec_of(specs, image)
    question = Ask(spec=spec)
    without = replace(POLICY, filters=tuple(name for name in POLICY.filters if name != rule))
    assert rule in select(host_table.build([state("a")]), [question], without)[0].malformed
    assert select(host_table.build([state("a")]), [question], POLICY)[0].malformed == ""


def test_capabilities_are_compared() -> None:
    names = {name for name in EXTRA_SPECS if name.startswith("capabilities:")} | {"capabilities:cpu_info:arch"}
    accepted = [name for name in sorted(names) if asked({name: "no such value"}, {}) == asked({}, {})]
    assert accepted == []


def test_what_only_describes_changes_nothing() -> None:
    for name, value in samples.READ_IMAGE.items():
        check_guest(spec_of({}, {name: value}))
        assert ET.tostring(definition({}, {name: value})) == ET.tostring(definition({}, {})), name
        assert asked({}, {name: value}) == asked({}, {}), name


def _refused() -> list[tuple[Texts, Texts]]:
    return [
        *(({}, {name: value}) for name, value in (*samples.REFUSED_IMAGE.items(), *samples.UNSERVED_IMAGE)),
        *(({name: value}, {}) for name, value in samples.REFUSED_SPECS.items()),
        *samples.TOGETHER,
    ]


def test_no_driver_takes_what_none_can_give() -> None:
    driver = FakeDriver(FakeHypervisor(), "a")
    for specs, image in _refused():
        with pytest.raises(errors.GuestFailed):
            driver.spawn(spec_of(specs, image), 1, [], images=None)  # type: ignore[arg-type]  # not asked
    for specs in ({"hw:numa_nodes": "1"}, {"hw:cpu_policy": "dedicated"}, {"pci_passthrough:alias": "gpu:1"}):
        with pytest.raises(errors.GuestFailed):
            driver.spawn(spec_of(specs, {}), 1, [], images=None)  # type: ignore[arg-type]  # not asked
    assert driver.list_guests() == []


def test_words_that_are_none_are_refused_by_name() -> None:
    for name, one in IMAGE_PROPERTIES.items():
        if one.kind is not word:
            with pytest.raises(errors.Invalid, match=name):
                image_properties.read({name: "floppy 9!"})
    for name, one in EXTRA_SPECS.items():
        if one.kind is not word:
            with pytest.raises(errors.Invalid, match=name):
                extra_specs.check(name, "floppy 9!")


@pytest.mark.parametrize(
    ("vcpus", "specs", "image", "found"),
    [
        (6, {}, {}, (6, 1, 1)),
        (8, {"hw:cpu_cores": "4"}, {}, (2, 4, 1)),
        (8, {"hw:cpu_cores": "4"}, {"hw_cpu_threads": "2"}, (4, 1, 2)),
        (8, {"hw:cpu_max_sockets": "2"}, {}, (2, 4, 1)),
        (8, {"hw:cpu_max_sockets": "2", "hw:cpu_max_cores": "2"}, {}, (2, 2, 2)),
        (8, {"hw:cpu_sockets": "8"}, {"hw_cpu_max_sockets": "1"}, (1, 8, 1)),
        (7, {"hw:cpu_cores": "2"}, {}, (7, 1, 1)),
    ],
)
def test_cpu_topologies(vcpus: int, specs: Texts, image: Texts, found: tuple[int, int, int]) -> None:
    spec = spec_of(specs, image, vcpus=vcpus)
    sockets, cores, threads = found
    assert cpu_topology(spec.flavor, image_properties.read(image)) == CpuTopology(
        sockets=sockets, cores=cores, threads=threads
    )
