"""A property that a cell would have to read is refused when it is too long: at the image, and again at the server."""

from __future__ import annotations

from dataclasses import replace

from cellcloud.model import image_properties
from tests.api.world import IMAGE, World
from tests.unit.test_embedded_api import Api, api, error_of, new_image, patch

__all__ = ["api"]
READ = image_properties.NAMES | {"hw_numa_cpus.0", "hw_numa_mem.0", "hw_numa_mem.77", "trait:CUSTOM_A"}


def test_too_long_a_property_is_refused_at_the_image_and_at_the_server(api: Api, world: World) -> None:
    image_id = new_image(api, name="short")
    for name in READ:
        text = "1" * (image_properties.most_of(name) + 1)
        status, said = error_of(api("POST", "/image/v2/images", {"name": "long", name: text}))
        assert (status, name in said) == (400, True), name
        for change in ("add", "replace"):
            one = {"op": "add", "path": f"/{name}", "value": "1"}
            assert error_of(patch(api, image_id, one, one | {"op": change, "value": text}))[0] == 400, name
        world.images.images[IMAGE] = replace(world.images.images[IMAGE], properties={name: text})
        answer = world.post("/servers", {"server": {"name": "vm", "flavorRef": "1", "imageRef": IMAGE}})
        assert (answer.status_code, name in answer.get_json()["badRequest"]["message"]) == (400, True), name
    assert not READ & api("GET", f"/image/v2/images/{image_id}").get_json().keys()


def test_many_long_properties_are_too_much_together(api: Api, world: World) -> None:
    many = {f"hw_numa_cpus.{number}": "0-1," * 1000 for number in range(5)}
    assert error_of(api("POST", "/image/v2/images", {"name": "long", **many}))[0] == 400
    world.images.images[IMAGE] = replace(world.images.images[IMAGE], properties=many)
    answer = world.post("/servers", {"server": {"name": "vm", "flavorRef": "1", "imageRef": IMAGE}})
    assert answer.status_code == 400


def test_what_no_cell_reads_does_not_travel_to_one(world: World) -> None:
    own = {"os_distro": "debian", "notes": "x" * 60_000, "architecture": "x86_64"}
    world.images.images[IMAGE] = replace(world.images.images[IMAGE], properties=own)
    server_id = world.create()
    assert world.cell_of(server_id).servers[server_id].spec.image.properties == {
        "os_distro": "debian",
        "architecture": "x86_64",
    }
