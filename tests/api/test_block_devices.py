"""Servers with disks of their own choice: what is accepted becomes their spec's, and the rest is refused at once."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from typing import Any

import pytest

from cellcloud.db import flavors
from cellcloud.model.flavor import Flavor
from cellcloud.model.server import ServerRecord
from cellcloud.model.volume import AttachedVolume, BlockDevice, DeviceSource, VolumeSnapshot
from tests.api.world import BIG_IMAGE, DEMO, IMAGE, OTHER, World
from top_api.operations.server_in_cell import save_answer

UNKNOWN = str(uuid.UUID(int=77))
NEWEST = "2.100"
MADE = {"source_type": "image", "destination_type": "volume", "uuid": IMAGE, "volume_size": 2, "boot_index": 0}
BLANK = {"source_type": "blank", "destination_type": "volume", "volume_size": 3}
LOCAL = {"source_type": "image", "destination_type": "local", "uuid": IMAGE, "boot_index": 0}
SWAP = {"source_type": "blank", "destination_type": "local", "guest_format": "swap", "volume_size": 64}
EPHEMERAL = {"source_type": "blank", "destination_type": "local", "volume_size": 1}


def create(world: World, *devices: dict[str, Any], image: str = "", version: str = NEWEST, **more: Any) -> Any:
    body = {"name": "vm", "flavorRef": "roomy", "imageRef": image, "networks": "auto", **more}
    if devices:
        body["block_device_mapping_v2"] = list(devices)
    return world.post("/servers", {"server": body}, version=version)


@pytest.fixture
def roomy(world: World) -> World:
    """With a flavor that has room for blank disks, and no root disk."""
    flavor = Flavor(id="roomy", name="roomy", vcpus=1, memory_mb=512, root_gb=0, ephemeral_gb=2, swap_mb=128)
    with world.database.write() as connection:
        flavors.create_flavor(connection, flavor)
    return world


def spec_of(world: World, answer: Any) -> Any:
    assert answer.status_code == 202, answer.text
    world.settle()
    server_id = answer.get_json()["server"]["id"]
    return world.cell_of(server_id).servers[server_id].spec


def test_a_server_boots_from_a_volume_that_is_made_of_an_image(roomy: World) -> None:
    spec = spec_of(roomy, create(roomy, {**MADE, "delete_on_termination": True, "tag": "root"}, BLANK))
    assert spec.is_volume_backed
    assert spec.image.properties == {"os_distro": "debian"}
    assert spec.block_devices == (
        BlockDevice(
            source=DeviceSource.IMAGE,
            is_volume=True,
            source_id=IMAGE,
            boot_index=0,
            size_gb=2,
            delete_on_termination=True,
            tag="root",
        ),
        BlockDevice(source=DeviceSource.BLANK, is_volume=True, size_gb=3),
    )
    shown = roomy.get(f"/servers/{spec.id}", version=NEWEST).get_json()["server"]
    assert shown["image"] == ""


def test_a_server_boots_from_a_volume_and_its_cell_is_the_volumes(roomy: World) -> None:
    for cell in ("east", "west"):
        volume = roomy.volumes.add(project_id=DEMO, bootable=True, cell=cell, image={"hw_disk_bus": "scsi"})
        spec = spec_of(roomy, create(roomy, {"source_type": "volume", "uuid": volume.id, "boot_index": 0}))
        assert roomy.cell_of(spec.id).name == cell
        assert spec.image.properties == {"hw_disk_bus": "scsi"}


def test_a_server_on_a_copy_goes_where_the_snapshot_is(roomy: World) -> None:
    for cell in ("east", "west"):
        volume = roomy.volumes.add(project_id=DEMO, bootable=True, cell=cell)
        snapshot = roomy.volumes.ensure_snapshot(volume.id, mark=cell, name="s")
        disk = {"source_type": "snapshot", "uuid": snapshot.id, "boot_index": 0, "destination_type": "volume"}
        assert roomy.cell_of(spec_of(roomy, create(roomy, disk)).id).name == cell


def test_a_server_goes_where_those_of_its_volumes_are_that_stay(roomy: World) -> None:
    def made_with(*places: tuple[str, bool]) -> Any:
        volumes = [
            roomy.volumes.add(project_id=DEMO, bootable=True, cell=cell, follows=follows) for cell, follows in places
        ]
        disks = [
            {"source_type": "volume", "uuid": volume.id, "boot_index": 0 if number == 0 else None}
            for number, volume in enumerate(volumes)
        ]
        return create(roomy, *disks)

    for places, cell in (
        ([("west", True)], "west"),
        ([("east", True), ("west", False)], "west"),
        ([("east", True), ("west", True)], "east"),
    ):
        assert roomy.cell_of(spec_of(roomy, made_with(*places)).id).name == cell
    assert made_with(("east", False), ("west", False)).status_code == 400


def test_blank_disks_within_the_flavor(roomy: World) -> None:
    more = {**EPHEMERAL, "boot_index": -1}
    spec = spec_of(roomy, create(roomy, {**MADE}, EPHEMERAL, more, SWAP))
    assert [(one.size_mb, one.is_swap) for one in spec.block_devices[1:]] == [(1024, False), (1024, False), (64, True)]
    assert spec.resources()["DISK_GB"] == 3, "no root disk on its host"


def test_the_older_form(roomy: World) -> None:
    volume = roomy.volumes.add(project_id=DEMO, bootable=True)
    older = [
        {"volume_id": volume.id, "device_name": "vda", "delete_on_termination": True},
        {"virtual_name": "swap", "volume_size": 1},
    ]
    spec = spec_of(roomy, create(roomy, version="2.1", networks=[], block_device_mapping=older))
    assert [(one.source, one.boot_index) for one in spec.block_devices] == [("volume", 0), ("blank", None)]
    assert spec.block_devices[0].delete_on_termination


def test_what_the_image_has_anyway_is_no_device(roomy: World) -> None:
    spec = spec_of(roomy, create(roomy, LOCAL, BLANK, image=IMAGE, flavorRef="1"))
    assert spec.image.id == IMAGE
    assert [one.source for one in spec.block_devices] == ["blank"]


VOLUMES: dict[str, dict[str, Any]] = {
    "blank": {},
    "foreign": {"project_id": OTHER, "bootable": True},
    "used": {"status": "in-use", "bootable": True},
    "east": {"cell": "east"},
    "west": {"cell": "west"},
    "encrypted": {"encrypted": True, "bootable": True},
    "shared": {"multiattach": True, "bootable": True},
    "good": {"bootable": True},
}
REFUSED: dict[str, tuple[list[dict[str, Any]], dict[str, Any], str]] = {
    "nothing to boot from": ([], {}, "imageRef"),
    "no root": ([BLANK], {}, "Boot sequence"),
    "two roots": ([MADE, MADE], {}, "Boot sequence"),
    "two roots, one an image": ([MADE, LOCAL], {"image": IMAGE}, "Boot sequence"),
    "no root but an image that is not named": ([BLANK], {"image": IMAGE}, "Boot sequence"),
    "one left out that there is not": (
        [{**MADE, "device_name": "vda", "no_device": True}],
        {"image": IMAGE},
        "left out",
    ),
    "a gap": ([MADE, {**BLANK, "boot_index": 2}], {}, "Boot sequence"),
    "a local disk to boot from": ([MADE, {**EPHEMERAL, "boot_index": 1}], {}, "Boot sequence"),
    "no size": ([{**MADE, "volume_size": None}], {}, "non-zero size"),
    "a blank volume of no size": ([MADE, {**BLANK, "volume_size": 0}], {}, "non-zero size"),
    "a size that is none": ([{**MADE, "volume_size": "x"}], {}, "volume_size"),
    "too small for the image": ([{**MADE, "uuid": "big"}], {}, ""),
    "no uuid": ([{**MADE, "uuid": None}], {}, "Missing device UUID"),
    "a uuid of nothing": ([MADE, {**BLANK, "uuid": UNKNOWN}], {}, "Invalid device UUID"),
    "no such image": ([{**MADE, "uuid": UNKNOWN}], {}, ""),
    "no such volume": ([{"source_type": "volume", "uuid": UNKNOWN, "boot_index": 0}], {}, "failed to get volume"),
    "no such snapshot": ([{"source_type": "snapshot", "uuid": UNKNOWN, "boot_index": 0}], {}, "failed to get snapshot"),
    "another's volume": ([{"source_type": "volume", "uuid": "foreign", "boot_index": 0}], {}, "failed to get volume"),
    "a volume in use": ([{"source_type": "volume", "uuid": "used", "boot_index": 0}], {}, "status"),
    "one that does not boot": ([{"source_type": "volume", "uuid": "blank", "boot_index": 0}], {}, "not bootable"),
    "an encrypted one": ([{"source_type": "volume", "uuid": "encrypted", "boot_index": 0}], {}, "encrypted"),
    "twice the same": ([MADE, *[{"source_type": "volume", "uuid": "blank"}] * 2], {}, "already attached"),
    "of two cells": ([MADE, *({"source_type": "volume", "uuid": one} for one in ("east", "west"))], {}, "cells"),
    "one for several": ([{"source_type": "volume", "uuid": "good", "boot_index": 0}], {"max_count": 2}, "multiple"),
    "shared too early": ([{"source_type": "volume", "uuid": "shared", "boot_index": 0}], {"version": "2.59"}, "2.60"),
    "a type for a volume": ([{"source_type": "volume", "uuid": "good", "volume_type": "t"}], {}, "volume type"),
    "a type for a local disk": ([MADE, {**EPHEMERAL, "volume_type": "t"}], {}, "volume_type"),
    "a volume on the host": ([{**MADE, "source_type": "volume", "destination_type": "local"}], {}, "to local"),
    "an image on the host": ([MADE, {**LOCAL, "boot_index": 1}], {}, "to local"),
    "a bus that is none": ([{**MADE, "disk_bus": "pigeon"}], {}, "Disk bus"),
    "a device that is none": ([{**MADE, "device_type": "floppy"}], {}, "type"),
    "a format": ([MADE, {**EPHEMERAL, "guest_format": "ext4"}], {}, "formatted"),
    "two swaps": ([MADE, SWAP, SWAP], {}, "More than one swap"),
    "too much swap": ([MADE, {**SWAP, "volume_size": 129}], {}, "Swap drive"),
    "too much ephemeral": ([MADE, EPHEMERAL, EPHEMERAL, EPHEMERAL], {}, "Ephemeral"),
    "both forms": ([MADE], {"block_device_mapping": [{"volume_id": UNKNOWN}]}, "syntaxes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_at_once(roomy: World, name: str) -> None:
    devices, more, says = REFUSED[name]
    ids = {name: roomy.volumes.add(**({"project_id": DEMO} | values)).id for name, values in VOLUMES.items()}
    ids["big"] = str(uuid.UUID(int=2))
    answer = create(
        roomy, *({**one, "uuid": ids.get(one.get("uuid") or "", one.get("uuid"))} for one in devices), **more
    )
    assert answer.status_code == 400, answer.text
    assert says in answer.text
    assert roomy.get("/servers").get_json()["servers"] == []
    assert roomy.volumes.attachments == {}


def test_a_volume_takes_the_place_of_the_images_disk(roomy: World) -> None:
    blank = {**BLANK, "boot_index": "0"}
    for disk in (MADE, blank):
        spec = spec_of(roomy, create(roomy, disk, image=IMAGE))
        assert (spec.is_volume_backed, spec.image.id, spec.image.properties) == (True, "", {"os_distro": "debian"})
        assert roomy.get(f"/servers/{spec.id}", version=NEWEST).get_json()["server"]["image"] == ""


MAPPED = str(uuid.UUID(int=78))
OWN = (
    {"source_type": "snapshot", "destination_type": "volume", "snapshot_id": UNKNOWN, "boot_index": 0,
     "device_name": "/dev/vda", "volume_size": 2, "delete_on_termination": True, "image_id": None, "connection": {}},
    {"source_type": "snapshot", "destination_type": "volume", "snapshot_id": UNKNOWN, "device_name": "/dev/vdb",
     "boot_index": None, "volume_size": 1},
)  # fmt: skip


def mapped(world: World, own: Any, **properties: str) -> World:
    """With an image of a server that is on volumes, and a snapshot of one of these."""
    known = world.volumes.add(project_id=DEMO)
    snapshot = VolumeSnapshot(id=UNKNOWN, volume_id=known.id, status="available", size_gb=1, project_id=DEMO)
    world.volumes.snapshots[UNKNOWN] = snapshot
    text = own if isinstance(own, str) else json.dumps(own)
    said = {"block_device_mapping": text, "bdm_v2": "True", "hw_disk_bus": "scsi"} | properties
    image = replace(world.images.images[IMAGE], id=MAPPED, size=0, properties=said)
    world.images.images[MAPPED] = image
    return world


@pytest.mark.parametrize(
    ("asked", "disks"),
    [
        ((), [(0, True, 2), (None, False, 1)]),
        (({**LOCAL, "uuid": MAPPED},), [(0, True, 2), (None, False, 1)]),
        (({**BLANK, "device_name": "vdb"},), [(None, False, 3), (0, True, 2)]),
        (({**BLANK, "device_name": "/dev/vda", "boot_index": 0},), [(0, False, 3), (None, False, 1)]),
        (({"device_name": "/dev/vdb", "no_device": True},), [(0, True, 2)]),
    ],
)
def test_an_image_says_which_disks_its_servers_have(roomy: World, asked: Any, disks: Any) -> None:
    spec = spec_of(mapped(roomy, OWN), create(roomy, *asked, image=MAPPED))
    assert [(one.boot_index, one.delete_on_termination, one.size_gb) for one in spec.block_devices] == disks
    assert (spec.image.id, spec.image.properties) == ("", {"hw_disk_bus": "scsi"})


def test_an_image_says_it_in_the_older_form(roomy: World) -> None:
    own = [{"device_name": "/dev/sdx", "snapshot_id": UNKNOWN}, {"device_name": "vdb", "volume_id": UNKNOWN}]
    mapped(roomy, own[:1], bdm_v2="", root_device_name="/dev/sdx")
    (root,) = spec_of(roomy, create(roomy, image=MAPPED)).block_devices
    assert (root.source, root.boot_index) == ("snapshot", 0)


def test_an_image_is_made_a_volume_of_that_is_none(roomy: World) -> None:
    spec = spec_of(mapped(roomy, OWN), create(roomy, {**MADE, "uuid": MAPPED}))
    assert [one.source for one in spec.block_devices] == ["snapshot", "snapshot"]


@pytest.mark.parametrize(
    "own",
    [
        "no JSON",
        "[" * 5000,
        "{}",
        [1],
        [{**OWN[0], "boot_index": []}],
        [{**OWN[0], "boot_index": "x"}],
        [{**OWN[0], "volume_size": "x"}],
        [{**OWN[0], "volume_size": -1}],
        [{**OWN[0], "device_type": {}}],
        [{**OWN[0], "disk_bus": "pigeon"}],
        [{**OWN[0], "source_type": "else"}],
        [{**OWN[0], "destination_type": "else"}],
        [{**OWN[0], "snapshot_id": str(uuid.UUID(int=79))}],
        [{**OWN[0], "snapshot_id": "../.."}],
        [OWN[1]],
        [OWN[0]] * 33,
        [OWN[0], OWN[0]],
    ],
)
def test_an_image_that_says_nonsense_is_refused(roomy: World, own: Any) -> None:
    answer = create(mapped(roomy, own), image=MAPPED)
    assert answer.status_code == 400, answer.text


def test_a_snapshot_to_boot_from(roomy: World) -> None:
    known = roomy.volumes.add(project_id=DEMO)
    snapshot = VolumeSnapshot(id=UNKNOWN, volume_id=known.id, status="available", size_gb=1, project_id=DEMO)
    roomy.volumes.snapshots[UNKNOWN] = snapshot
    spec = spec_of(roomy, create(roomy, {"source_type": "snapshot", "uuid": UNKNOWN, "boot_index": 0}))
    assert [(one.source, one.is_volume) for one in spec.block_devices] == [("snapshot", True)]


@pytest.mark.parametrize(
    ("action", "version", "says"),
    [
        ({"createBackup": {"name": "b", "backup_type": "daily", "rotation": 1}}, NEWEST, "Backup is not supported"),
        ({"rebuild": {"imageRef": BIG_IMAGE}}, "2.92", "different image for a volume-backed"),
        ({"rebuild": {"imageRef": BIG_IMAGE}}, NEWEST, "Volume is smaller"),
        ({"rescue": {"rescue_image_ref": IMAGE}}, "2.86", "volume-backed"),
        ({"rescue": {"rescue_image_ref": IMAGE}}, NEWEST, "volume-backed"),
        ({"rescue": None}, NEWEST, "volume-backed"),
    ],
)
def test_what_is_not_done_to_a_server_on_a_volume(roomy: World, action: Any, version: str, says: str) -> None:
    answer = roomy.post(f"/servers/{on_a_volume(roomy).id}/action", action, version=version)
    assert answer.status_code == 400, answer.text
    assert says in answer.text


def on_a_volume(world: World, **values: Any) -> ServerRecord:
    """A server with a root volume, as its cell tells of it."""
    spec = spec_of(world, create(world, MADE))
    known = {"project_id": DEMO, "status": "in-use", "size_gb": 2, "image": {"image_id": IMAGE}}
    volume = world.volumes.add(**(known | values))
    root = AttachedVolume(id=UNKNOWN, volume_id=volume.id, device="/dev/vda", boot_index=0)
    cell = world.cell_of(spec.id)
    save_answer(world.database, cell.change(spec.id, volumes=(root,)), cell.name)
    return cell.servers[spec.id]


def act(world: World, server_id: str, action: Any, version: str = NEWEST) -> Any:
    answer = world.post(f"/servers/{server_id}/action", action, version=version)
    assert answer.status_code == 202, answer.text
    return world.cell_of(server_id)


def test_it_is_rebuilt_by_writing_its_root_volume(roomy: World) -> None:
    record = on_a_volume(roomy, image={})
    cell = act(roomy, record.id, {"rebuild": {"imageRef": IMAGE}}, "2.93")
    assert cell.arguments["reimage"] == IMAGE
    assert cell.arguments["spec_changes"]["image"]["id"] == ""


@pytest.mark.parametrize("status", ["extending", "available"])
def test_it_is_not_rebuilt_while_its_volumes_are_not_in_use(roomy: World, status: str) -> None:
    body = {"rebuild": {"imageRef": IMAGE}}
    answer = roomy.post(f"/servers/{on_a_volume(roomy, status=status).id}/action", body, version="2.93")
    assert (answer.status_code, "status must be 'in-use'" in answer.text) == (400, True)


def test_below_2_93_it_is_rebuilt_from_the_image_that_it_has(roomy: World) -> None:
    record = on_a_volume(roomy)
    cell = act(roomy, record.id, {"rebuild": {"imageRef": IMAGE, "name": "rebuilt"}}, "2.92")
    assert "reimage" not in cell.arguments


def test_an_image_of_it_has_no_bytes_and_is_for_whoever_may(roomy: World) -> None:
    record = on_a_volume(roomy)
    mine = {"block_device_mapping": "[]", "mine": "yes"}
    answer = roomy.post(
        f"/servers/{record.id}/action", {"createImage": {"name": "i", "metadata": mine}}, version=NEWEST
    )
    assert answer.status_code == 202, answer.text
    image = roomy.images.get_image(answer.get_json()["image_id"], project_id=DEMO, is_admin=False)
    assert (image.disk_format, image.min_disk, image.properties["mine"]) == ("raw", 0, "yes")
    assert "block_device_mapping" not in image.properties


def test_it_is_put_away_without_an_image(roomy: World) -> None:
    cell = act(roomy, on_a_volume(roomy).id, {"shelve": None})
    assert "image" not in cell.arguments
