"""The embedded image service over HTTP, as Glance answers: members, parts of bytes, patches, what it tells of
itself."""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path
from typing import Any

import pytest

from cellcloud import errors
from cellcloud.embedded.property_protections import PropertyProtections
from tests.unit.test_embedded_api import Api, api, error_of, new_image, patch, upload

__all__ = ["api"]
OLDER = "application/openstack-images-v2.0-json-patch"
IMAGES = "/image/v2/images"
NOWHERE = "00000000-0000-4000-8000-ffffffffffff"


def ids(api: Api, query: str = "", who: str = "demo") -> set[str]:
    return {image["id"] for image in api("GET", f"{IMAGES}?{query}", who=who).get_json()["images"]}


@pytest.fixture
def other(api: Api) -> str:
    """The project that the tenant and the reader are of."""
    return api.cloud.project("other")


# ---- members -------------------------------------------------------------------------------------------------------
def test_a_shared_image_is_offered_accepted_and_rejected(api: Api, other: str) -> None:
    image_id = new_image(api)
    members = f"{IMAGES}/{image_id}/members"
    assert error_of(api("GET", f"{IMAGES}/{image_id}", who="tenant"))[0] == 404
    made = api("POST", members, {"member": other}).get_json()
    assert {name: made[name] for name in ("image_id", "member_id", "status", "schema")} == {
        "image_id": image_id, "member_id": other, "status": "pending", "schema": "/v2/schemas/member"}  # fmt: skip
    assert made.keys() == {"image_id", "member_id", "status", "schema", "created_at", "updated_at"}
    assert api("GET", f"{IMAGES}/{image_id}", who="tenant").status_code == 200  # though it is not in its list
    for status, listed in (("accepted", True), ("rejected", False), ("pending", False)):
        assert api("PUT", f"{members}/{other}", {"status": status, "member": other}, who="tenant").status_code == 200
        assert (image_id in ids(api, who="tenant")) == listed
        assert image_id in ids(api, f"member_status={status}", "tenant")
        assert image_id in ids(api, "member_status=all&visibility=shared", "tenant")
    listed = api("GET", members).get_json()
    assert ([one["member_id"] for one in listed["members"]], listed["schema"]) == ([other], "/v2/schemas/members")
    assert api("GET", f"{members}/{other}", who="reader").get_json()["status"] == "pending"
    assert api("DELETE", f"{members}/{other}").status_code == 204
    assert error_of(api("GET", f"{IMAGES}/{image_id}", who="tenant"))[0] == 404
    assert image_id not in ids(api, "member_status=all", "tenant")


def test_who_may_do_what_with_members(api: Api, other: str) -> None:
    image_id, private = new_image(api), new_image(api, visibility="private")
    members, one = f"{IMAGES}/{image_id}/members", f"{IMAGES}/{image_id}/members/{other}"
    assert api("POST", members, {"member": other}).status_code == 200
    api("POST", members, {"member": "third"})
    cases: list[tuple[str, str, Any, str, int]] = [
        ("POST", members, {"member": other}, "demo", 409),
        ("POST", members, {"member": "x"}, "tenant", 403),
        ("POST", members, {"member": ""}, "demo", 400),
        ("POST", members, {"member": 5}, "demo", 400),
        ("POST", members, {"member": "x" * 256}, "demo", 400),
        ("POST", members, {}, "demo", 400),
        ("POST", members, [], "demo", 400),
        ("PUT", one, {"status": "accepted"}, "demo", 403),  # the owner cannot accept
        ("PUT", one, {"status": "perhaps"}, "tenant", 400),
        ("PUT", one, {}, "tenant", 400),
        ("PUT", one, {"status": "accepted", "member": "third"}, "tenant", 400),
        ("PUT", one, {"status": "accepted", "more": "x"}, "tenant", 400),
        ("PUT", one, {"status": "accepted"}, "reader", 403),
        ("PUT", f"{members}/third", {"status": "accepted"}, "tenant", 404),
        ("GET", f"{members}/third", None, "tenant", 404),
        ("GET", f"{members}/nobody", None, "demo", 404),
        ("DELETE", one, None, "tenant", 403),
        ("DELETE", f"{members}/nobody", None, "demo", 404),
        ("GET", f"{IMAGES}/{NOWHERE}/members", None, "demo", 404),
        ("POST", f"{IMAGES}/{private}/members", {"member": other}, "demo", 403),
        ("GET", f"{IMAGES}/{private}/members", None, "demo", 403),
        ("GET", f"{IMAGES}/{private}/members/{other}", None, "demo", 404),
        ("GET", f"{IMAGES}/{private}/members", None, "tenant", 404),
    ]
    for method, path, body, who, status in cases:
        assert error_of(api(method, path, body, who=who))[0] == status, (method, path, who)
    assert {m["member_id"] for m in api("GET", members, who="tenant").get_json()["members"]} == {other}
    assert api("PUT", one, {"status": "accepted"}, who="admin").get_json()["status"] == "accepted"
    made = [api("POST", members, {"member": f"m{number}"}).status_code for number in range(127)]
    assert made == [200] * 126 + [413]
    assert patch(api, image_id, {"op": "replace", "path": "/visibility", "value": "private"}).status_code == 200
    assert error_of(api("GET", f"{IMAGES}/{image_id}", who="tenant"))[0] == 404
    assert api("DELETE", f"{IMAGES}/{image_id}").status_code == 204


# ---- hidden, deactivated, given away -------------------------------------------------------------------------------
def test_hidden_images_are_listed_on_demand(api: Api) -> None:
    hidden, shown = new_image(api, os_hidden=True), new_image(api)
    assert api("GET", f"{IMAGES}/{hidden}").get_json()["os_hidden"] is True
    assert ids(api) & {hidden, shown} == {shown}
    assert ids(api, "os_hidden=true") & {hidden, shown} == {hidden}
    assert ids(api, "os_hidden=True") & {hidden, shown} == {hidden}
    assert patch(api, hidden, {"op": "replace", "path": "/os_hidden", "value": False}).status_code == 200
    assert hidden in ids(api, "os_hidden=false")
    assert error_of(patch(api, hidden, {"op": "replace", "path": "/os_hidden", "value": "yes"}))[0] == 400


def test_a_deactivated_image_is_there_and_not_to_be_had(api: Api) -> None:
    image_id = new_image(api)
    assert error_of(api("POST", f"{IMAGES}/{image_id}/actions/deactivate"))[0] == 403  # it has no data
    upload(api, image_id, b"bytes")
    for action, status in (("deactivate", "deactivated"), ("reactivate", "active")):
        for _ in range(2):
            assert api("POST", f"{IMAGES}/{image_id}/actions/{action}").status_code == 204
        assert api("GET", f"{IMAGES}/{image_id}").get_json()["status"] == status
        assert api("GET", f"{IMAGES}/{image_id}/file").status_code == (403 if action == "deactivate" else 200)
        assert api("GET", f"{IMAGES}/{image_id}/file", who="admin").data == b"bytes"
    assert error_of(api("POST", f"{IMAGES}/{image_id}/actions/deactivate", who="tenant"))[0] == 404
    assert error_of(api("POST", f"{IMAGES}/{image_id}/actions/explode"))[0] == 404
    api("POST", f"{IMAGES}/{image_id}/actions/deactivate")
    assert error_of(upload(api, image_id, b"other"))[0] == 409


def test_an_administrator_gives_an_image_to_another_project(api: Api, other: str) -> None:
    image_id = new_image(api, visibility="private")
    give = {"op": "replace", "path": "/owner", "value": other}
    assert error_of(patch(api, image_id, give))[0] == 403
    assert patch(api, image_id, give, who="admin").get_json()["owner"] == other
    assert error_of(api("GET", f"{IMAGES}/{image_id}"))[0] == 404
    assert api("DELETE", f"{IMAGES}/{image_id}", who="tenant").status_code == 204


# ---- parts of the bytes --------------------------------------------------------------------------------------------
DATA = bytes(range(100))


@pytest.mark.parametrize(
    ("headers", "first", "last"),
    [
        ({"Range": "bytes=0-9"}, 0, 9),
        ({"Range": "bytes=90-"}, 90, 99),
        ({"Range": "bytes=99-1000"}, 99, 99),
        ({"Range": "bytes=-10"}, 90, 99),
        ({"Range": "bytes=-1000"}, 0, 99),
        ({"Range": "bytes=50-50"}, 50, 50),
        ({"Content-Range": "bytes 3-7/*"}, 3, 7),
        ({"Content-Range": "bytes 3-7/100"}, 3, 7),
    ],
)
def test_a_part_of_an_image(api: Api, headers: dict[str, str], first: int, last: int) -> None:
    image_id = new_image(api)
    upload(api, image_id, DATA)
    answer = api("GET", f"{IMAGES}/{image_id}/file", headers=headers)
    assert (answer.status_code, answer.data) == (206, DATA[first : last + 1])
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/100"
    assert answer.headers["Content-Length"] == str(last - first + 1)
    assert answer.headers["Content-MD5"] == hashlib.md5(DATA, usedforsecurity=False).hexdigest()
    assert answer.content_type == "application/octet-stream"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Range": "bytes=100-"}, 416),
        ({"Range": "bytes=100-200"}, 416),
        ({"Range": f"bytes={'9' * 30}-"}, 416),
        ({"Range": "bytes=9-1"}, 416),
        ({"Range": "bytes=-0"}, 416),
        ({"Range": "bytes=-"}, 416),
        ({"Range": "bytes=a-b"}, 416),
        ({"Range": "lines=0-1"}, 416),
        ({"Range": ""}, 416),
        ({"Range": "bytes=0-1,3-4"}, 400),
        ({"Content-Range": "bytes 90-100/*"}, 416),
        ({"Content-Range": "bytes 100-101/200"}, 416),
        ({"Content-Range": "bytes */100"}, 416),
    ],
)
def test_a_part_that_is_not_there(api: Api, headers: dict[str, str], status: int) -> None:
    image_id = new_image(api)
    upload(api, image_id, DATA)
    assert error_of(api("GET", f"{IMAGES}/{image_id}/file", headers=headers))[0] == status


def test_a_reader_finishes_though_the_image_is_deleted(api: Api) -> None:
    image_id, data = new_image(api), bytes(3 << 20)
    upload(api, image_id, data)
    answer = api("GET", f"{IMAGES}/{image_id}/file", buffered=False)
    assert api("DELETE", f"{IMAGES}/{image_id}").status_code == 204
    assert sum(len(piece) for piece in answer.response) == len(data)
    assert error_of(api("GET", f"{IMAGES}/{image_id}/file"))[0] == 404


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"X-Openstack-Image-Size": "5"}, 204),
        ({"X-Openstack-Image-Size": "4"}, 400),
        ({"X-Openstack-Image-Size": "6"}, 400),
        ({"X-Openstack-Image-Size": "-1"}, 400),
        ({"X-Openstack-Image-Size": "five"}, 400),
        ({"X-Image-Meta-Store": "file"}, 204),
        ({"X-Image-Meta-Store": "elsewhere"}, 400),
    ],
)
def test_what_an_upload_says_of_itself(api: Api, headers: dict[str, str], status: int) -> None:
    image_id = new_image(api)
    path = f"{IMAGES}/{image_id}/file"
    answer = api("PUT", path, data=b"bytes", content_type="application/octet-stream", headers=headers)
    assert answer.status_code == status
    assert api("GET", f"{IMAGES}/{image_id}").get_json()["status"] == ("active" if status == 204 else "queued")


# ---- patches -------------------------------------------------------------------------------------------------------
PATCHES: list[tuple[bool, Any, int, str]] = [
    (False, {"path": "/a", "value": "b"}, 400, "Unable to find `op`"),
    (False, {"op": "copy", "path": "/a"}, 400, "Invalid operation: `copy`"),
    (False, {"op": "add", "value": "b"}, 400, "Unable to find 'path'"),
    (False, {"op": "add", "path": "a", "value": "b"}, 400, 'does not start with "/"'),
    (False, {"op": "add", "path": "/a/", "value": "b"}, 400, 'end with "/"'),
    (False, {"op": "add", "path": "/a//b", "value": "b"}, 400, 'contains adjacent "/"'),
    (False, {"op": "add", "path": "/", "value": "b"}, 400, "valid token"),
    (False, {"op": "add", "path": "/a~", "value": "b"}, 400, "recognized escape sequence"),
    (False, {"op": "add", "path": "/a~2", "value": "b"}, 400, "recognized escape sequence"),
    (False, {"op": "add", "path": "/a/b", "value": "b"}, 400, "Invalid JSON pointer for this resource: '/a/b'"),
    (False, {"op": "add", "path": 5, "value": "b"}, 400, "pointer"),
    (False, {"op": "add", "path": "/a"}, 400, 'Operation "add" requires a member named "value".'),
    (False, {"op": "replace", "path": "/name"}, 400, 'Operation "replace" requires'),
    (False, {"op": "replace", "path": "/absent", "value": "b"}, 409, "Property absent does not exist."),
    (False, {"op": "remove", "path": "/absent"}, 409, "Property absent does not exist."),
    (False, {"op": "remove", "path": "/name"}, 403, "Property name may not be removed."),
    (False, {"op": "add", "path": "/checksum", "value": "b"}, 403, "Attribute 'checksum' is read-only."),
    (False, {"op": "replace", "path": "/id", "value": NOWHERE}, 403, "Attribute 'id' is read-only."),
    (False, {"op": "add", "path": "/deleted", "value": "b"}, 403, "Attribute 'deleted' is reserved."),
    (False, {"op": "add", "path": "/os_glance_x", "value": "b"}, 403, "Attribute 'os_glance_x' is reserved."),
    (False, {"op": "add", "path": "/locations/-", "value": {}}, 403, "not allowed to add locations"),
    (False, {"op": "replace", "path": "/locations", "value": []}, 403, "not allowed to update locations"),
    (False, {"op": "remove", "path": "/locations/0"}, 403, "not allowed to remove locations"),
    (False, {"op": "replace", "path": "/locations/0", "value": []}, 400, "Invalid JSON pointer"),
    (False, {"op": "add", "path": "/p", "value": None}, 400, "Invalid input for p"),
    (False, {"op": "add", "path": "/tags", "value": ["x" * 256]}, 400, "Invalid input for tags"),
    (False, {"op": "add", "path": "/tags", "value": [str(n) for n in range(129)]}, 413, "Attempted: 129, Maximum: 128"),
    (False, {"op": "add", "path": "/disk_format", "value": "floppy"}, 400, "Invalid input for disk_format"),
    (False, {"op": "add", "path": "/" + "x" * 256, "value": "b"}, 400, "Invalid input"),
    (False, "add", 400, "Operations must be JSON objects."),
    (True, {"add": "/a", "remove": "/b", "value": "c"}, 400, "must contain only one member"),
    (True, {"value": "c"}, 400, "must contain exactly one member"),
    (True, {"op": "add", "path": "/a", "value": "c"}, 400, "must contain exactly one member"),
    (True, {"add": "/name", "value": "c"}, 409, "Property name already present."),
    (True, {"replace": "/absent", "value": "c"}, 409, "Property absent does not exist."),
    (True, {"add": "/a"}, 400, 'Operation "add" requires a member named "value".'),
]


@pytest.mark.parametrize(("older", "operation", "status", "words"), PATCHES)
def test_a_patch_that_is_refused_changes_nothing(
    api: Api, older: bool, operation: Any, status: int, words: str
) -> None:
    image_id = new_image(api)
    before = api("GET", f"{IMAGES}/{image_id}").get_json()
    first = (
        {"replace": "/name", "value": "changed"} if older else {"op": "replace", "path": "/name", "value": "changed"}
    )
    more = {"content_type": OLDER} if older else {"content_type": OLDER.replace("v2.0", "v2.1")}
    answer = api("PATCH", f"{IMAGES}/{image_id}", [first, operation], **more)
    told, said = error_of(answer)
    assert (told, words in said) == (status, True), said
    assert api("GET", f"{IMAGES}/{image_id}").get_json() == before


def test_names_that_need_escapes_and_lines_in_values(api: Api) -> None:
    image_id = new_image(api, name="a\r\nX-Injected: yes")
    changed = patch(api, image_id, {"op": "add", "path": "/a~1b~0c", "value": "x\r\ny"})
    assert changed.get_json()["a/b~c"] == "x\r\ny"
    assert "X-Injected" not in changed.headers
    assert api("PUT", f"{IMAGES}/{image_id}/tags/%0d%0aSet-Cookie:%20x").status_code == 204
    assert api("GET", f"{IMAGES}/{image_id}").get_json()["tags"] == ["\r\nSet-Cookie: x"]
    assert api("DELETE", f"{IMAGES}/{image_id}/tags/%0d%0aSet-Cookie:%20x").status_code == 204


def test_an_image_has_no_more_than_128_properties_and_tags(api: Api) -> None:
    image_id = new_image(api, **{f"p{n}": "" for n in range(128)}, tags=[str(n) for n in range(128)])
    assert error_of(patch(api, image_id, {"op": "add", "path": "/one", "value": "x"}))[0] == 413
    assert error_of(api("PUT", f"{IMAGES}/{image_id}/tags/more"))[0] == 413
    assert api("PUT", f"{IMAGES}/{image_id}/tags/5").status_code == 204  # it is there already
    assert error_of(api("POST", IMAGES, {f"p{n}": "" for n in range(20000)}))[0] == 400


PROTECTIONS = """
[^x_admin_.*]
create = admin
read = admin,Reader
update = admin
delete = admin
[^x_fixed$]
create = @
read = @
update = !
delete = !
[.*]
create = @
read = @
update = @
delete = @
"""


def test_properties_are_protected_by_roles(api: Api, tmp_path: Path) -> None:
    file = tmp_path / "protections.conf"
    file.write_text(PROTECTIONS)
    images, before = api.cloud.images, api.cloud.images.protections
    images.protections = PropertyProtections(str(file))
    try:
        assert error_of(api("POST", IMAGES, {"x_admin_a": "1"}))[0] == 403
        image_id = new_image(api, x_fixed="1", free="1", visibility="private")
        add = {"op": "add", "path": "/x_admin_a", "value": "1"}
        assert error_of(patch(api, image_id, add)) == (403, "Attribute 'x_admin_a' is reserved.")
        assert patch(api, image_id, add, who="admin").get_json()["x_admin_a"] == "1"
        images.protections = PropertyProtections(_without_readers(file))
        assert "x_admin_a" not in api("GET", f"{IMAGES}/{image_id}").get_json()
        assert "x_admin_a" in api("GET", f"{IMAGES}/{image_id}", who="admin").get_json()
        (listed,) = (one for one in api("GET", IMAGES).get_json()["images"] if one["id"] == image_id)
        assert "x_admin_a" not in listed
        for operation in ({"op": "replace", "path": "/x_fixed", "value": "2"}, {"op": "remove", "path": "/x_fixed"}):
            assert error_of(patch(api, image_id, operation))[0] == 403
            assert error_of(patch(api, image_id, operation, who="admin"))[0] == 403
        assert patch(api, image_id, {"op": "remove", "path": "/free"}).status_code == 200
        project = api.cloud.project("demo")
        with pytest.raises(errors.Forbidden):  # nor by way of the Compute API
            images.edit_properties(image_id, lambda known: {}, project_id=project, is_admin=False)
    finally:
        images.protections = before


def _without_readers(file: Path) -> str:
    file.write_text(file.read_text().replace(",Reader", ""))
    return str(file)


@pytest.mark.parametrize(
    "text",
    [
        "[a",
        "[a]\ncreate = @\n",
        PROTECTIONS + "more = @\n",
        PROTECTIONS.replace("create = admin", "create = admin,!"),
        PROTECTIONS.replace("^x_fixed$", "(x"),
        PROTECTIONS + PROTECTIONS,
    ],
)
def test_a_file_of_protections_that_is_not_understood(tmp_path: Path, text: str) -> None:
    file = tmp_path / "protections.conf"
    file.write_text(text)
    with pytest.raises(errors.Misconfigured):
        PropertyProtections(str(file))
    with pytest.raises(errors.Misconfigured):
        PropertyProtections(str(tmp_path / "absent"))


# ---- what the service tells of itself --------------------------------------------------------------------------------
def test_what_there_is_to_know_of_the_service(api: Api) -> None:
    created = api("POST", IMAGES, {"name": "n"})
    assert created.headers["OpenStack-image-import-methods"] == "glance-direct,web-download"
    assert created.headers["OpenStack-image-store-ids"] == "file"
    assert created.headers["Location"].endswith(f"/image/v2/images/{created.get_json()['id']}")
    methods = api("GET", "/image/v2/info/import").get_json()["import-methods"]
    assert methods["value"] == ["glance-direct", "web-download"]
    assert api("GET", "/image/v2/info/stores").get_json() == {"stores": [{"id": "file", "default": "true"}]}
    assert error_of(api("GET", "/image/v2/info/stores/detail"))[0] == 403
    assert api("GET", "/image/v2/info/stores/detail", who="admin").get_json()["stores"][0]["type"] == "file"
    assert api("GET", "/image/v2/metadefs/namespaces").get_json()["namespaces"] == []
    usage = api("GET", "/image/v2/info/usage").get_json()["usage"]
    assert usage["image_count_total"]["usage"] >= 1
    assert set(usage) == {"image_size_total", "image_stage_total", "image_count_total", "image_count_uploading"}
    versions = [one["id"] for one in api.client.get("/image/versions").get_json()["versions"]]
    assert versions[0] == "v2.15"


def test_schemas_describe_what_is_shown(api: Api) -> None:
    def schema(kind: str) -> Any:
        return api("GET", f"/image/v2/schemas/{kind}").get_json()

    for kind in ("image", "member", "task"):
        assert schema(kind)["name"] == kind
        assert schema(f"{kind}s")["properties"][f"{kind}s"]["items"] == schema(kind)
    shown = api("GET", f"{IMAGES}/{new_image(api)}").get_json()
    assert set(shown) <= set(schema("image")["properties"])
    for absent in ("metadefs", "x", "memberss", "s"):
        assert error_of(api("GET", f"/image/v2/schemas/{absent}"))[0] == 404
    assert error_of(api("GET", "/image/v2/schemas/metadefs/namespace"))[0] == 404


def test_an_unknown_image_is_unknown_to_every_route(api: Api) -> None:
    for image_id in (NOWHERE, str(uuid.uuid4()), "x", "..%2f..%2fetc%2fpasswd"):
        for method, rest in (
            ("GET", ""),
            ("DELETE", ""),
            ("GET", "/file"),
            ("PUT", "/tags/a"),
            ("DELETE", "/tags/a"),
            ("POST", "/actions/deactivate"),
            ("POST", "/actions/reactivate"),
            ("GET", "/members"),
        ):
            assert error_of(api(method, f"{IMAGES}/{image_id}{rest}"))[0] == 404, (method, image_id, rest)


def test_a_list_has_as_many_as_glances_where_nothing_is_said(api: Api) -> None:
    for _ in range(30):
        new_image(api, name="of many")
    first = api("GET", f"{IMAGES}?name=of+many").get_json()
    assert len(first["images"]) == 25
    rest = api("GET", f"/image{first['next']}").get_json()
    assert len(rest["images"]) == 5
    assert "next" not in rest
    assert len({image["id"] for image in first["images"] + rest["images"]}) == 30
    assert len(ids(api, "name=of+many&limit=1000000")) == 30


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"images/{NOWHERE}/locations"),
        ("POST", f"images/{NOWHERE}/locations"),
        ("GET", "cache"),
        ("DELETE", "cache"),
        ("PUT", f"cache/{NOWHERE}"),
        ("DELETE", f"cache/{NOWHERE}"),
        ("GET", "cached_images"),
        ("GET", "queued_images"),
        ("PUT", f"queued_images/{NOWHERE}"),
        ("POST", "metadefs/resource_types"),
        ("GET", "metadefs/namespaces/OS::Compute"),
        ("GET", "discover"),
    ],
)
def test_what_is_not_offered_is_not_there(api: Api, method: str, path: str) -> None:
    status, _ = error_of(api(method, f"/image/v2/{path}", {} if method == "POST" else None, who="admin"))
    assert status == 404
