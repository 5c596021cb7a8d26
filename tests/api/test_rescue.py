"""Rescue: what may be asked, what is refused and how, and what the cell is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cellcloud.model import codec
from cellcloud.model.image import Image
from cellcloud.model.run import RunArguments
from tests.api.world import IMAGE, QUEUED_IMAGE, World

RESCUE_IMAGE = "33333333-3333-4333-8333-333333333333"


def rescue(world: World, server_id: str, **given: Any) -> Any:
    return world.post(f"/servers/{server_id}/action", {"rescue": given or None})


def asked(world: World, server_id: str) -> RunArguments:
    return codec.from_plain(world.cell_of(server_id).arguments, RunArguments)


def offer(world: World, **changes: Any) -> None:
    """Let there be an image to rescue from."""
    world.images.images[RESCUE_IMAGE] = replace(Image(id=RESCUE_IMAGE, name="rescue"), **changes)


def test_a_server_is_rescued_from_its_own_image_or_another_and_let_back(world: World) -> None:
    server_id = world.create(config_drive=True)
    offer(world, properties={"hw_rescue_bus": "usb", "of_nobody": "x"})
    for given, image_id in (({}, IMAGE), ({"rescue_image_ref": RESCUE_IMAGE, "adminPass": "secret"}, RESCUE_IMAGE)):
        answer = rescue(world, server_id, **given)
        assert answer.status_code == 200
        password = answer.get_json()["adminPass"]
        assert password == given.get("adminPass", password) != ""
        told = asked(world, server_id)
        assert told.image is not None
        assert (told.image.id, told.admin_pass) == (image_id, password)
        shown = world.get(f"/servers/{server_id}").get_json()["server"]
        assert (shown["status"], shown["OS-EXT-STS:vm_state"], shown["image"]["id"]) == ("RESCUE", "rescued", IMAGE)
        assert world.post(f"/servers/{server_id}/action", {"unrescue": None}).status_code == 202
        assert world.get(f"/servers/{server_id}").get_json()["server"]["status"] == "ACTIVE"
    assert told.image.properties == {"hw_rescue_bus": "usb"}


def test_a_password_goes_nowhere_without_a_drive_to_read_it_from(world: World) -> None:
    server_id = world.create()
    assert rescue(world, server_id, adminPass="secret").get_json() == {"adminPass": "secret"}
    assert "secret" not in str(world.cell_of(server_id).arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"status": "queued"}, f"Requested rescue image '{RESCUE_IMAGE}' is not supported"),
        ({"disk_format": "iso"}, f"Requested rescue image '{RESCUE_IMAGE}' is not supported"),
        ({"properties": {"hw_rescue_device": "floppy"}}, "Requested rescue device 'floppy' is not supported"),
        ({"properties": {"hw_rescue_device": "lun"}}, "Requested rescue device 'lun' is not supported"),
        ({"properties": {"hw_rescue_bus": "fdc"}}, "Requested rescue bus 'fdc' is not supported by"),
        ({"properties": {"hw_rescue_bus": "xen"}}, "Requested rescue bus 'xen' is not supported by"),
        ({"properties": {"hw_rescue_bus": "virtio", "hw_rescue_device": "cdrom"}}, "Requested rescue bus 'virtio'"),
        ({"properties": {"hw_rescue_bus": "none such"}}, "hw_rescue_bus"),
        ({"properties": {"hw_disk_bus": "xen"}}, "hw_disk_bus"),
        ({"properties": {"hw_tpm_model": "tpm-tis"}}, "hw_tpm_model"),
        ({"properties": {"img_block_device_mapping": "[1]"}}, "img_block_device_mapping"),
    ],
)
def test_what_cannot_be_rescued_from_is_refused_at_once(world: World, changes: dict[str, Any], message: str) -> None:
    server_id = world.create()
    offer(world, **changes)
    answer = rescue(world, server_id, rescue_image_ref=RESCUE_IMAGE)
    assert answer.status_code == 400
    assert message in answer.get_json()["badRequest"]["message"]
    assert world.get(f"/servers/{server_id}").get_json()["server"]["status"] == "ACTIVE"


@pytest.mark.parametrize("image_id", [QUEUED_IMAGE, "44444444-4444-4444-8444-444444444444"])
def test_an_image_that_is_not_there_is_no_image_to_rescue_from(world: World, image_id: str) -> None:
    answer = rescue(world, world.create(), rescue_image_ref=image_id)
    assert answer.status_code == 400
    assert answer.get_json()["badRequest"]["message"] == f"Requested rescue image '{image_id}' is not supported"


@pytest.mark.parametrize("given", [{"rescue_image_ref": "x"}, {"other": 1}, {"adminPass": 7}, {"rescue_image_ref": ""}])
def test_bodies_that_are_none(world: World, given: dict[str, Any]) -> None:
    assert rescue(world, world.create(), **given).status_code == 400


def test_the_servers_state_is_looked_at_before_the_image(world: World) -> None:
    server_id = world.create()
    assert rescue(world, server_id).status_code == 200
    answer = rescue(world, server_id, rescue_image_ref=QUEUED_IMAGE)
    assert answer.status_code == 409
    message = f"Cannot 'rescue' instance {server_id} while it is in vm_state rescued"
    assert answer.get_json()["conflictingRequest"]["message"] == message
