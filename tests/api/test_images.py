"""The image proxy: what clients of before 2.36 ask Nova about images, and of before 2.39 about their metadata."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from cellcloud.model.image import Image
from tests.api.world import DEMO, OTHER, World
from top_api.schemas.images import LIST

SERVER = "11111111-0000-4000-8000-000000000001"
ROUTES = [
    ("GET", "/images", None, "2.35"),
    ("GET", "/images/detail", None, "2.35"),
    ("GET", "/images/{id}", None, "2.35"),
    ("GET", "/images/{id}/metadata", None, "2.38"),
    ("POST", "/images/{id}/metadata", {"metadata": {"k": "v"}}, "2.38"),
    ("PUT", "/images/{id}/metadata", {"metadata": {"k": "v"}}, "2.38"),
    ("PUT", "/images/{id}/metadata/k", {"meta": {"k": "w"}}, "2.38"),
    ("GET", "/images/{id}/metadata/k", None, "2.38"),
    ("DELETE", "/images/{id}/metadata/k", None, "2.38"),
    ("DELETE", "/images/{id}", None, "2.35"),
]


def make(world: World, data: bytes = b"", **fields: Any) -> str:
    """An image of the member's project."""
    image = Image(id=str(uuid.uuid4()), **{"name": "mine", "owner": DEMO, "disk_format": "raw", **fields})
    world.images.create_image(image)
    if data:
        world.images.upload(image.id, [data], project_id=DEMO, is_admin=False)
    return image.id


def test_each_route_is_there_until_its_last_microversion_and_not_after(world: World) -> None:
    image_id = make(world)
    for method, path, body, last in ROUTES:
        at = path.format(id=image_id)
        beyond = f"2.{int(last[2:]) + 1}"
        assert world.call(method, at, body, version=beyond).status_code == 404, (method, path)
        answer = world.call(method, at, body, version=last)
        assert answer.status_code == (204 if method == "DELETE" else 200), (method, path, answer.text)
    assert world.get(f"/images/{image_id}").status_code == 404


def test_an_image_is_shown_as_nova_does(world: World) -> None:
    properties = {"instance_uuid": SERVER, "auto_disk_config": "True"}
    image_id = make(world, b"x" * 1024, min_ram=64, min_disk=2, properties=properties)
    shown = world.get(f"/images/{image_id}").get_json()["image"]
    assert shown.pop("created") <= shown.pop("updated")
    assert shown == {
        "id": image_id,
        "name": "mine",
        "minRam": 64,
        "minDisk": 2,
        "metadata": properties,
        "status": "ACTIVE",
        "progress": 100,
        "OS-EXT-IMG-SIZE:size": 1024,
        "OS-DCF:diskConfig": "AUTO",
        "server": {
            "id": SERVER,
            "links": [
                {"rel": "self", "href": f"http://localhost/v2.1/servers/{SERVER}"},
                {"rel": "bookmark", "href": f"http://localhost/servers/{SERVER}"},
            ],
        },
        "links": [
            {"rel": "self", "href": f"http://localhost/v2.1/images/{image_id}"},
            {"rel": "bookmark", "href": f"http://localhost/images/{image_id}"},
            {
                "rel": "alternate",
                "type": "application/vnd.openstack.image",
                "href": f"http://localhost/image/v2/images/{image_id}",
            },
        ],
    }
    waiting = world.get(f"/images/{make(world)}").get_json()["image"]
    assert (waiting["status"], waiting["progress"], "server" in waiting) == ("SAVING", 25, False)


def test_images_are_listed_filtered_and_paged(world: World) -> None:
    one = make(world, name="one", min_ram=1, properties={"instance_uuid": SERVER, "image_type": "snapshot", "a": "b"})
    two = make(world, b"x" * 512, name="two", min_disk=2)
    make(world, name="theirs", owner=OTHER)
    server_url = f"http://localhost/v2.1/servers/{SERVER}"
    cases = (
        ("", {one, two}),
        ("name=one", {one}),
        ("status=ACTIVE", {two}),
        ("status=saving", set()),
        ("minRam=1", {one}),
        ("minDisk=2", {two}),
        (f"server={SERVER}", {one}),
        (f"server={server_url}", {one}),
        ("type=snapshot", {one}),
        ("property-a=b", {one}),
        ("property-a=c", set()),
        ("changes-since=2020-01-01T00:00:00Z", {one, two}),
        ("changes-since=2999-01-01", set()),
        ("unknown=x", {one, two}),
        ("page_size=1", {one, two}),  # how many are fetched at once: seen by nobody
        ("offset=1", {one, two}),  # of no meaning to Glance, nor to Nova
    )
    tried = {query.partition("=")[0] for query, _ in cases} | {"limit", "marker"}
    assert {key for key, _ in LIST} <= tried
    for query, expected in cases:
        for path in ("/images", "/images/detail"):
            found = world.get(f"{path}?{query}").get_json()["images"]
            assert {image["id"] for image in found} == expected, query
    for query in ("changes-since=yesterday", "minRam=x", "limit=-1", "marker=nowhere"):
        assert world.get(f"/images?{query}").status_code == 400, query
    seen, path = [], "/images/detail?limit=1"
    while path:
        page = world.get(path).get_json()
        seen += [image["id"] for image in page["images"]]
        path = page["images_links"][0]["href"].removeprefix("http://localhost/v2.1") if "images_links" in page else ""
        assert not path or path.startswith("/images/detail?")
    assert seen == [image["id"] for image in world.get("/images").get_json()["images"]]


def test_others_images_are_not_there_and_not_to_be_changed(world: World) -> None:
    hidden, public = make(world, owner=OTHER), make(world, owner=OTHER, visibility="public")
    for method, path, body, _ in ROUTES[2:]:
        answer = world.call(method, path.format(id=hidden), body)
        assert answer.status_code == 404, (method, path)
        if not path.endswith("/k"):
            assert answer.get_json()["itemNotFound"]["message"] == "Image not found."
        if method != "GET" and not path.endswith("/k"):
            assert world.call(method, path.format(id=public), body).status_code == 403
    assert world.get(f"/images/{public}").status_code == 200


@pytest.mark.parametrize("key", ["name", "id", "owner", "status", "size"])
def test_metadata_never_overwrites_what_every_image_has(world: World, key: str) -> None:
    image_id = make(world)
    for method, path, body in (
        ("POST", "metadata", {"metadata": {key: "x"}}),
        ("PUT", "metadata", {"metadata": {key: "x"}}),
        ("PUT", f"metadata/{key}", {"meta": {key: "x"}}),
    ):
        assert world.call(method, f"/images/{image_id}/{path}", body).status_code == 400
    assert world.get(f"/images/{image_id}/metadata").get_json() == {"metadata": {}}


def test_metadata_is_merged_replaced_and_limited(world: World) -> None:
    path = f"/images/{make(world, properties={'a': '1'})}/metadata"
    assert world.post(path, {"metadata": {"b": "2"}}).get_json() == {"metadata": {"a": "1", "b": "2"}}
    assert world.call("PUT", f"{path}/b", {"meta": {"b": "3"}}).get_json() == {"meta": {"b": "3"}}
    assert world.call("PUT", f"{path}/b", {"meta": {"c": "3"}}).status_code == 400
    assert world.get(f"{path}/b").get_json() == {"meta": {"b": "3"}}
    assert world.get(f"{path}/c").status_code == 404
    assert world.call("DELETE", f"{path}/c").get_json()["itemNotFound"]["message"] == "Invalid metadata key"
    assert world.call("DELETE", f"{path}/a").status_code == 204
    assert world.call("PUT", path, {"metadata": {"z": "0"}}).get_json() == {"metadata": {"z": "0"}}
    answer = world.post(path, {"metadata": {f"k{number}": "v" for number in range(128)}})
    assert (answer.status_code, answer.get_json()["forbidden"]["message"]) == (403, "Image metadata limit exceeded")
