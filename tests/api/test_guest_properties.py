"""What Nova refuses of a flavor and an image is refused before the 202, and so is, by name, what nobody here obeys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from werkzeug.test import TestResponse

from cellcloud.db import flavors
from cellcloud.db.engine import transact
from cellcloud.model.flavor import Flavor
from tests import guest_samples as samples
from tests.api.world import IMAGE, World

Texts = Mapping[str, str]
OTHER = "33333333-3333-4333-8333-333333333333"


def create(world: World, specs: Texts, image: Texts, **more: object) -> TestResponse:
    """Ask for a server of a new flavor, four vCPUs and 1 GiB, from an image with these properties."""
    with world.database.write() as connection:
        flavors.delete_flavor(connection, "own") if flavors.find_flavor(connection, "own", project_id=None) else None
        made = Flavor(id="own", name="own", vcpus=4, memory_mb=1024, root_gb=1, extra_specs=dict(specs))
        flavors.create_flavor(connection, made)
        flavors.set_extra_specs(connection, "own", dict(specs))
    world.images.images[IMAGE] = replace(world.images.images[IMAGE], properties=dict(image))
    return world.post("/servers", {"server": {"name": "vm", "flavorRef": "own", "imageRef": IMAGE, **more}})


def said(answer: TestResponse) -> str:
    return str(answer.get_json()["badRequest"]["message"])


def test_what_nobody_obeys_is_refused_by_name(world: World) -> None:
    for name, value in (*samples.REFUSED_IMAGE.items(), *samples.UNSERVED_IMAGE):
        answer = create(world, {}, {name: value})
        assert (answer.status_code, name in said(answer)) == (400, True), (name, value)
        assert "is not supported by this cloud" in said(answer)
    for name, value in samples.REFUSED_SPECS.items():
        answer = create(world, {name: value}, {})
        assert (answer.status_code, name in said(answer)) == (400, True), (name, value)
        assert "is not supported by this cloud" in said(answer)


def test_what_does_not_go_together_is_refused_before_it_is_accepted(world: World) -> None:
    for specs, image in samples.TOGETHER:
        answer = create(world, specs, image)
        assert answer.status_code == 400, (specs, image, answer.get_json())
    assert world.get("/servers").get_json() == {"servers": []}


def test_every_action_that_brings_an_image_or_a_flavor_refuses_the_same(world: World) -> None:
    images = [{name: value} for name, value in (*samples.REFUSED_IMAGE.items(), *samples.UNSERVED_IMAGE)]
    images += [image for specs, image in samples.TOGETHER if not specs]
    flavored = [{name: value} for name, value in samples.REFUSED_SPECS.items()]
    flavored += [specs for specs, image in samples.TOGETHER if not image]
    server_id = create(world, {}, {}).get_json()["server"]["id"]
    world.settle()
    path, before = f"/servers/{server_id}/action", world.images.images[IMAGE]
    taken = []
    for image in images:
        world.images.images[OTHER] = replace(before, id=OTHER, properties=dict(image))
        for action in ({"rebuild": {"imageRef": OTHER}}, {"rescue": {"rescue_image_ref": OTHER}}):
            answer = world.post(path, action, version="2.87")
            taken += [] if answer.status_code == 400 else [(action, image, answer.text)]
    for number, specs in enumerate(flavored):
        made = Flavor(id=f"f{number}", name=f"f{number}", vcpus=4, memory_mb=4096, root_gb=9, extra_specs=dict(specs))
        transact(world.database, lambda c, made=made: flavors.create_flavor(c, made))
        transact(world.database, lambda c, made=made: flavors.set_extra_specs(c, made.id, dict(made.extra_specs)))
        answer = world.post(path, {"resize": {"flavorRef": made.id}})
        taken += [] if answer.status_code == 400 else [("resize", specs, answer.text)]
    assert taken == []
    assert world.get(f"/servers/{server_id}").get_json()["server"]["status"] == "ACTIVE"


def test_what_is_obeyed_is_accepted(world: World) -> None:
    world.holding = True
    for name, value in samples.READ_IMAGE.items():
        assert create(world, {}, {name: value}).status_code == 202, name
    for name, one in samples.BUILT_IMAGE.items():
        assert create(world, one.specs, {**one.image, name: one.value}).status_code == 202, name
    for name, one in samples.BUILT_SPECS.items():
        assert create(world, {**one.specs, name: one.value}, one.image).status_code == 202, name
    for name, (value, specs, image) in samples.CHOSEN_IMAGE.items():
        assert create(world, specs, {**image, name: value}).status_code == 202, name
    for name, (value, specs) in samples.CHOSEN_SPECS.items():
        assert create(world, {**specs, name: value}, {}).status_code == 202, name
    assert create(world, {"": "x", "own:thing": "x", "hw:numa_nodes": ""}, {"note": "x"}).status_code == 202


def test_an_image_may_need_a_config_drive_and_own_its_partitions(world: World) -> None:
    def spec(**image: str) -> tuple[bool, str]:
        answer = create(world, {}, image)
        assert answer.status_code == 202
        world.settle()
        server_id = answer.get_json()["server"]["id"]
        found = world.cell_of(server_id).servers[server_id].spec
        return found.config_drive, found.disk_config

    assert spec() == (False, "MANUAL")
    assert spec(img_config_drive="optional") == (False, "MANUAL")
    assert spec(img_config_drive="mandatory", auto_disk_config="true") == (True, "AUTO")
    assert create(world, {}, {"img_config_drive": "sometimes"}).status_code == 400
    refused = create(world, {}, {"auto_disk_config": "disabled"}, **{"OS-DCF:diskConfig": "AUTO"})
    assert refused.status_code == 400


def test_the_root_disk_is_shown_by_the_name_it_has(world: World) -> None:
    for image, name in (({}, "/dev/vda"), ({"hw_disk_bus": "scsi"}, "/dev/sda")):
        server_id = create(world, {}, image).get_json()["server"]["id"]
        shown = world.get(f"/servers/{server_id}", token="admin", version="2.3").get_json()["server"]
        assert shown["OS-EXT-SRV-ATTR:root_device_name"] == name


CATALOGUE_REFUSES = [
    ("hw:wachdog_action", "reset"),
    ("hw:watchdog_action", "explode"),
    ("hw:numa_nodes", "0"),
    ("hw:numa_nodes", "two"),
    ("hw:cpu_policy", "dedicatd"),
    ("hw:cpu_realtime_mask", "0-"),
    ("hw:numa_cpus.x", "0"),
    ("hw:numa_mem.0", "0"),
    ("hw:redirected_usb_ports", "16"),
    ("hw:mem_page_size", "huge"),
    ("hw_rng:alowed", "true"),
    ("hw_video:ram_max_mb", "-1"),
    ("quota:disk_read_iops", "1"),
    ("quota:cpu_shares", "-1"),
    ("os:secure_boot", "optional"),
    ("pci_passthrough:alias", "gpu"),
    ("pci_passthrough:alias", "gpu:x"),
    ("resources:VCPUS", "1"),
    ("resources:VCPU", "some"),
    ("resources1:CUSTOM_", "1"),
    ("trait:HW_CPU_X86_AVX5", "required"),
    ("trait:CUSTOM_A", "forbiden"),
    ("capabilities:hypervisor", "x"),
    ("accel:profile", "x"),
    ("vmware:version", "x"),
    ("hide_hypervisor_id", "maybe"),
    ("group_policy", "both"),
]
CATALOGUE_TAKES = [
    ("hw:watchdog_action", "reset"),
    ("hw:numa_cpus.17", "0-3,^2"),
    ("hw:mem_page_size", "1GB"),
    ("hw:pmem", "6GB,16GB"),
    ("resources_group-1:CUSTOM_GOLD", "1"),
    ("traitA:COMPUTE_NODE", "forbidden"),
    ("capabilities:cpu_info:features", "<in> avx2"),
    ("aggregate_instance_extra_specs:anything", "x"),
    ("unscoped", "anything"),
    ("own:scope", "anything"),
    ("quota:cpu_shares", "10"),
]


def test_misspelt_extra_specs_are_refused_since_2_86(world: World) -> None:
    path = "/flavors/1/os-extra_specs"
    for name, value in CATALOGUE_REFUSES:
        for version, status in (("2.85", 200), ("2.86", 400)):
            posted = world.post(path, {"extra_specs": {name: value}}, token="admin", version=version)
            put = world.call("PUT", f"{path}/{name}", {name: value}, token="admin", version=version)
            assert (posted.status_code, put.status_code) == (status, status), (name, version)
            assert status == 200 or name in said(posted)


def test_extra_specs_of_the_catalogue_are_taken(world: World) -> None:
    path = "/flavors/1/os-extra_specs"
    for name, value in CATALOGUE_TAKES:
        answer = world.post(path, {"extra_specs": {name: value}}, token="admin", version="2.86")
        assert answer.status_code == 200, (name, answer.get_json())
    for table in (samples.BUILT_SPECS, samples.CHOSEN_SPECS, samples.REFUSED_SPECS):
        for name, sample in table.items():
            value = sample if isinstance(sample, str) else getattr(sample, "value", None) or sample[0]  # type: ignore[index]
            answer = world.post(path, {"extra_specs": {name: value}}, token="admin", version="2.86")
            assert answer.status_code == 200, (name, answer.get_json())
