"""The embedded services over HTTP: the forms clients know, and every bad request answered as one."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from cellcloud.context import REQUEST_ID
from cellcloud.db.listing import Page
from cellcloud.embedded.viewer import Viewer
from cellcloud.model.identity import Grant
from tests.embedded_cloud import MAX_IMAGE, PASSWORDS, EmbeddedCloud, make_cloud, make_top_database

PATCH = "application/openstack-images-v2.1-json-patch"


@dataclass(frozen=True)
class Api:
    """The three APIs, asked by an ordinary member, a reader of another project, and an administrator."""

    cloud: EmbeddedCloud
    client: FlaskClient
    tokens: dict[str, str]

    def __call__(self, method: str, path: str, body: Any = None, *, who: str = "demo", **more: Any) -> TestResponse:
        headers = {"X-Auth-Token": self.tokens.get(who, who), **more.pop("headers", {})}
        if body is not None:
            more |= {"data": json.dumps(body), "content_type": more.pop("content_type", "application/json")}
        return self.client.open(path, method=method, headers=headers, **more)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    directory = tmp_path_factory.mktemp("cloud")
    database = make_top_database(directory / "top.db")
    cloud = make_cloud(database, directory)
    project = cloud.identity.directory.create_project("other").id
    for name, role in (("reader", "reader"), ("tenant", "member"), ("nobody", "")):
        user = cloud.identity.accounts.create_user(name, "password", default_project_id=project)
        for known in cloud.identity.assignments.roles.list_all():
            if known.name == role:
                cloud.identity.assignments.add_grant(Grant(actor_id=user.id, scope_id=project, role_id=known.id))
    tokens = {
        "demo": cloud.token("demo", PASSWORDS.demo),
        "admin": cloud.token("admin", PASSWORDS.admin, "admin"),
        "reader": cloud.token("reader", "password", "other"),
        "tenant": cloud.token("tenant", "password", "other"),
        "nobody": cloud.token("nobody", "password", None),
    }
    yield Api(cloud, cloud.app().test_client(), tokens)
    database.close()


def error_of(response: TestResponse) -> tuple[int, str]:
    """Status and message, in the form of the service that was asked."""
    body = response.get_json()
    if response.request.path.startswith("/identity"):
        assert body["error"]["code"] == response.status_code
        assert set(body["error"]) == {"code", "title", "message"}
        message = body["error"]["message"]
    elif response.request.path.startswith("/network"):
        assert set(body["NeutronError"]) == {"type", "message", "detail"}
        message = body["NeutronError"]["message"]
    else:
        assert set(body) == {"message", "code", "title"}
        assert body["code"] == f"{response.status_code} {body['title']}"
        message = body["message"]
    for leak in ("Traceback", "sqlalchemy", 'File "', "/tmp/", ".py"):
        assert leak not in response.text
    return response.status_code, message


# ---- identity ------------------------------------------------------------------------------------------------------
def auth(**changes: Any) -> dict[str, Any]:
    user = {"name": "demo", "domain": {"name": "Default"}, "password": PASSWORDS.demo}
    identity = {"methods": ["password"], "password": {"user": user}}
    scope = {"project": {"name": "demo", "domain": {"id": "default"}}}
    return {"auth": {"identity": identity, "scope": scope} | changes}


@pytest.mark.parametrize("path", ["/identity", "/identity/", "/identity/v3", "/identity/v3/"])
def test_identity_discovery_needs_no_token(api: Api, path: str) -> None:
    response = api.client.get(path, headers={"Host": "cloud.example:8774"})
    body = response.get_json()
    version = body["version"] if "v3" in path else body["versions"]["values"][0]
    assert response.status_code == (200 if "v3" in path else 300)
    assert version["id"].startswith("v3.")
    assert version["status"] == "stable"
    assert version["links"][0]["href"] == "http://cloud.example:8774/identity/v3/"


def test_a_token_as_keystone_gives_it(api: Api) -> None:
    response = api.client.post("/identity/v3/auth/tokens", json=auth())
    token = response.get_json()["token"]
    assert response.status_code == 201
    assert len(response.headers["X-Subject-Token"]) == 43
    assert token["methods"] == ["password"]
    assert token["user"]["name"] == "demo"
    assert token["project"]["name"] == "demo"
    assert {role["name"] for role in token["roles"]} == {"member", "reader"}
    assert {service["name"] for service in token["catalog"]} == {
        *("nova", "glance", "neutron", "keystone"),
        *("cinder", "cinderv3"),
    }
    assert token["expires_at"].endswith("Z")
    assert len(token["expires_at"]) == 27


def test_scopes(api: Api) -> None:
    def project(scope: Any) -> Any:
        response = api.client.post("/identity/v3/auth/tokens", json=auth(scope=scope))
        assert response.status_code == 201
        return response.get_json()["token"].get("project", {}).get("name")

    assert project({"project": {"id": api.cloud.project("demo")}}) == "demo"
    assert project(None) == "demo"
    assert project("unscoped") is None
    for refused in ({"system": {"all": True}}, {"domain": {"id": "default"}}, {"project": {"id": "x"}}):
        response = api.client.post("/identity/v3/auth/tokens", json=auth(scope=refused))
        assert error_of(response)[0] == 401
        assert "Keystone uri=" in response.headers["WWW-Authenticate"]


def test_a_token_shows_validates_and_ends(api: Api) -> None:
    token = api.cloud.token("demo", PASSWORDS.demo)
    path, subject = "/identity/v3/auth/tokens", {"X-Subject-Token": token}
    for who in ("demo", "admin"):
        shown = api("GET", path, who=who, headers=subject)
        assert (shown.status_code, shown.headers["X-Subject-Token"]) == (200, token)
    assert error_of(api("GET", path, who="tenant", headers=subject))[0] == 403
    assert error_of(api("GET", path, headers={"X-Subject-Token": "unknown"}))[0] == 404
    assert api("HEAD", path, headers=subject).status_code == 200
    assert api("DELETE", path, headers=subject).status_code == 204
    assert error_of(api("GET", path, headers=subject))[0] == 404
    assert error_of(api("GET", path, who=token, headers=subject))[0] == 401


def test_what_members_see_of_identity(api: Api) -> None:
    own = api.cloud.project("demo")
    assert [p["name"] for p in api("GET", "/identity/v3/auth/projects").get_json()["projects"]] == ["demo"]
    assert api("GET", f"/identity/v3/projects/{own}").status_code == 200
    foreign = error_of(api("GET", f"/identity/v3/projects/{api.cloud.project('admin')}"))
    assert foreign == error_of(api("GET", "/identity/v3/projects/absent"))
    for path in ("projects", "users", "roles", "role_assignments", "users/x", "users/x/projects", "roles/x"):
        assert error_of(api("GET", f"/identity/v3/{path}"))[0] == 403
        assert error_of(api("GET", f"/identity/v3/{path}", who=""))[0] == 401


@pytest.mark.parametrize(
    ("kind", "more", "shown"),
    [
        *((kind, {"enabled": False}, {"enabled": False}) for kind in ("project", "user")),
        *((kind, {"domain_id": None, "options": {}}, {"enabled": True}) for kind in ("project", "user")),
        ("project", {"description": None, "parent_id": "default", "is_domain": False, "tags": []}, {"description": ""}),
        *(("project", {name: value}, None) for name, value in (
            ("is_domain", None), ("tags", ["a,b"]), ("options", {"x": True}), ("name", " "),
            ("links", {}))),
        *(("user", {name: value}, None) for name, value in (
            ("federated", []), ("description", 5), ("options", {"multi_factor_auth_enabled": True}), ("name", " "),
            ("original_password", "x"))),
    ],
)  # fmt: skip
def test_what_is_said_of_a_user_or_project_is_kept_or_refused(
    api: Api, kind: str, more: dict[str, Any], shown: dict[str, Any] | None
) -> None:
    name = uuid.uuid4().hex
    made = api("POST", f"/identity/v3/{kind}s", {kind: {"name": name, **more}}, who="admin")
    if shown is None:
        assert error_of(made)[0] == 400
        made = api("POST", f"/identity/v3/{kind}s", {kind: {"name": name}}, who="admin")
        changed = api("PATCH", f"/identity/v3/{kind}s/{made.get_json()[kind]['id']}", {kind: more}, who="admin")
        assert error_of(changed)[0] == 400
        return
    assert made.status_code == 201
    kept = api("GET", f"/identity/v3/{kind}s/{made.get_json()[kind]['id']}", who="admin").get_json()[kind]
    assert {name: kept[name] for name in shown} == shown


def test_administrators_keep_users_projects_and_grants(api: Api) -> None:
    def admin(method: str, path: str, body: Any = None) -> TestResponse:
        return api(method, f"/identity/v3/{path}", body, who="admin")

    project = admin("POST", "projects", {"project": {"name": "p1", "domain_id": "default"}}).get_json()["project"]
    user = admin("POST", "users", {"user": {"name": "u1", "password": "pw"}}).get_json()["user"]
    role = admin("GET", "roles?name=member").get_json()["roles"][0]
    grant = f"projects/{project['id']}/users/{user['id']}/roles/{role['id']}"
    assert error_of(admin("GET", grant))[0] == 404
    assert [admin(method, grant).status_code for method in ("PUT", "PUT", "HEAD")] == [204, 204, 204]
    named = admin("GET", f"role_assignments?user.id={user['id']}&include_names=True").get_json()["role_assignments"]
    assert [(a["user"]["name"], a["scope"]["project"]["name"], a["role"]["name"]) for a in named] == [
        ("u1", "p1", "member")
    ]
    api.cloud.token("u1", "pw", "p1")
    assert error_of(admin("POST", "users", {"user": {"name": "u1"}}))[0] == 409
    assert error_of(admin("POST", "projects", {"project": {"name": "p1"}}))[0] == 409
    assert admin("PATCH", f"users/{user['id']}", {"user": {"enabled": False}}).get_json()["user"]["enabled"] is False
    for path in (grant, f"users/{user['id']}", f"projects/{project['id']}"):
        assert admin("DELETE", path).status_code == 204
        assert error_of(admin("DELETE", path))[0] == 404


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"auth": None},
        {"auth": []},
        {"auth": {"identity": {"methods": "password"}}},
        {"auth": {"identity": {"methods": [1]}}},
        {"auth": {"identity": {"methods": ["password"], "password": {"user": {"name": 1, "password": "x"}}}}},
        {"auth": {"identity": {"methods": ["password"], "password": {"user": {"id": "x", "password": None}}}}},
        {"auth": {"identity": {"methods": ["password"], "password": {"user": {"id": "x\0", "password": "y"}}}}},
        {"auth": {"identity": {"methods": ["password"], "password": {"user": {"id": "x", "password": "y" * 5000}}}}},
        {"auth": {"identity": {"methods": ["token"], "token": {"id": ["x"]}}}},
        {"auth": {"identity": {"methods": ["token"], "token": {"id": "x"}}, "scope": 5}},
        {"auth": {"identity": {"methods": ["token"], "token": {"id": "x"}}, "scope": {"project": {"name": "x"}}}},
    ],
)
def test_a_wrong_token_request(api: Api, body: Any) -> None:
    assert error_of(api.client.post("/identity/v3/auth/tokens", json=body))[0] == 400


def test_unknown_methods_are_refused(api: Api) -> None:
    for methods in (["saml2"], ["password", "totp"], ["token"]):
        given = auth()["auth"]["identity"] | {"methods": methods}
        assert error_of(api.client.post("/identity/v3/auth/tokens", json=auth(identity=given)))[0] == 400
    for methods in (["saml2"], ["password", "totp"]):
        given = auth()["auth"]["identity"] | {"methods": methods, methods[-1]: {}}
        assert error_of(api.client.post("/identity/v3/auth/tokens", json=auth(identity=given)))[0] == 401


# ---- all three -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/identity/v3/auth/tokens"),
        ("POST", "/image/v2/images"),
        ("POST", "/network/v2.0/networks"),
        ("POST", "/network/v2.0/subnets"),
        ("POST", "/network/v2.0/ports"),
    ],
)
def test_bodies_that_are_no_json(api: Api, method: str, path: str) -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    for data in (b"", b"{", b"nonsense", b"\xff\xfe", b'{"a": NaN}', b"[]", b"null", b'"x"', b"1", deep):
        began = time.thread_time()
        assert error_of(api(method, path, data=data, content_type="application/json"))[0] == 400
        assert time.thread_time() - began < 0.5
    huge = b'{"name": "' + b"x" * (8 << 20) + b'"}'
    assert error_of(api(method, path, data=huge, content_type="application/json"))[0] == 413


@pytest.mark.parametrize("root", ["/identity/v3", "/image/v2", "/network/v2.0", "/image", "/network"])
def test_unknown_paths(api: Api, root: str) -> None:
    for path in ("/nothing", "/no/thing", "/%2e%2e/%2e%2e/etc/passwd", "/%00", "/images%00"):
        for method in ("GET", "POST", "DELETE", "PATCH"):
            assert error_of(api(method, root + path))[0] == 404


@pytest.mark.parametrize("path", ["/image/v2/images", "/network/v2.0/networks", "/network/v2.0/ports"])
def test_who_may_ask(api: Api, path: str) -> None:
    forged = {"X-User-Id": "x", "X-Roles": "admin", "X-Project-Id": "x", "X_Roles": "admin", "X-Is-Admin-Project": "1"}
    assert error_of(api("GET", path, who="", headers=forged))[0] == 401
    assert error_of(api("GET", path, who="x" * 43))[0] == 401
    assert error_of(api("GET", path, who="nobody"))[0] == 403
    assert api("GET", path, who="reader").status_code == 200
    assert error_of(api("POST", path, {}, who="reader"))[0] == 403


def test_request_ids(api: Api) -> None:
    good = "req-12345678-1234-1234-1234-123456789012"
    for given_id in (good, "req-x\tevil", "x" * 10000):
        for path in ("/network/v2.0/networks", "/identity/v3/auth/projects", "/image/v2/images", "/image/v2/nothing"):
            response = api("GET", path, headers={"X-OpenStack-Request-ID": given_id})
            assert REQUEST_ID.matches(response.headers["X-OpenStack-Request-ID"])
            assert response.headers["X-OpenStack-Request-ID"] != given_id  # each request has one of its own
            assert response.headers["Vary"] == "X-Auth-Token"


# ---- image ---------------------------------------------------------------------------------------------------------
def new_image(api: Api, **fields: Any) -> str:
    body = {"name": "i", "disk_format": "raw", "container_format": "bare"} | fields
    response = api("POST", "/image/v2/images", body)
    assert response.status_code == 201, response.text
    return str(response.get_json()["id"])


def upload(api: Api, image_id: str, data: bytes, who: str = "demo", kind: str = "application/octet-stream") -> Any:
    return api("PUT", f"/image/v2/images/{image_id}/file", data=data, content_type=kind, who=who)


def patch(api: Api, image_id: str, *operations: dict[str, Any], who: str = "demo") -> TestResponse:
    return api("PATCH", f"/image/v2/images/{image_id}", list(operations), who=who, content_type=PATCH)


def test_an_images_life(api: Api) -> None:
    image_id = new_image(api, my_property="x", tags=["b", "a", "a"])
    shown = api("GET", f"/image/v2/images/{image_id}").get_json()
    assert (shown["status"], shown["size"], shown["my_property"], shown["tags"]) == ("queued", None, "x", ["b", "a"])
    assert api("GET", f"/image/v2/images/{image_id}/file").status_code == 204
    assert upload(api, image_id, b"data").status_code == 204
    shown = api("GET", f"/image/v2/images/{image_id}").get_json()
    assert (shown["status"], shown["size"], shown["virtual_size"], shown["os_hash_algo"]) == (
        "active",
        4,
        512,
        "sha512",
    )
    response = api("GET", f"/image/v2/images/{image_id}/file")
    assert (response.data, response.headers["Content-Length"]) == (b"data", "4")
    changed = patch(
        api,
        image_id,
        {"op": "replace", "path": "/name", "value": "new"},
        {"op": "add", "path": "/a~1b", "value": "c"},
        {"op": "remove", "path": "/my_property"},
    ).get_json()
    assert (changed["name"], changed["a/b"], "my_property" in changed) == ("new", "c", False)
    assert api("PUT", f"/image/v2/images/{image_id}/tags/t").status_code == 204
    assert api("DELETE", f"/image/v2/images/{image_id}/tags/a").status_code == 204
    assert api("GET", f"/image/v2/images/{image_id}").get_json()["tags"] == ["b", "t"]
    assert error_of(upload(api, image_id, b"other"))[0] == 409
    assert api("DELETE", f"/image/v2/images/{image_id}").status_code == 204
    assert error_of(api("GET", f"/image/v2/images/{image_id}"))[0] == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"name": 1}, 400),
        ({"name": "x" * 256}, 400),
        ({"name": "a\0b"}, 400),
        ({"disk_format": "vdi"}, 400),
        ({"container_format": "ova"}, 400),
        ({"visibility": "world"}, 400),
        ({"min_ram": -1}, 400),
        ({"min_ram": 1 << 40}, 400),
        ({"min_disk": "1"}, 400),
        ({"protected": "yes"}, 400),
        ({"tags": "a"}, 400),
        ({"id": "x"}, 400),
        ({"id": "../../../../../../../../etc/cron.d/x"}, 400),
        ({"property": 5}, 400),
        ({"property": None}, 400),
        ({"status": "active"}, 403),
        ({"size": 5}, 403),
        ({"checksum": "x"}, 403),
        ({"locations": []}, 403),
        ({"owner": "somebody"}, 403),
        ({"visibility": "public"}, 403),
        ({f"p{n}": "" for n in range(129)}, 413),
    ],
)
def test_wrong_image_records(api: Api, body: dict[str, Any], status: int) -> None:
    assert error_of(api("POST", "/image/v2/images", body))[0] == status


def test_wrong_patches(api: Api) -> None:
    image_id = new_image(api)
    for operation, status in (
        ({"op": "replace", "path": "/status", "value": "active"}, 403),
        ({"op": "replace", "path": "/owner", "value": "x"}, 403),
        ({"op": "replace", "path": "/id", "value": "x"}, 403),
        ({"op": "add", "path": "/locations/-", "value": {"url": "file:///etc/passwd"}}, 403),
        ({"op": "add", "path": "/tags/-", "value": "x"}, 400),
        ({"op": "add", "path": "/a/b", "value": "x"}, 400),
        ({"op": "add", "path": "/a~2", "value": "x"}, 400),
        ({"op": "add", "path": "/a~", "value": "x"}, 400),
        ({"op": "remove", "path": "/name"}, 403),
        ({"op": "remove", "path": "/absent"}, 409),
        ({"op": "replace", "path": "/absent", "value": "x"}, 409),
        ({"op": "replace", "path": "/visibility", "value": "public"}, 403),
        ({"op": "move", "path": "/name", "from": "/id"}, 400),
        ({"op": "add", "path": "/name"}, 400),
        ({"op": "add", "path": "name", "value": "x"}, 400),
        ({"op": "add", "path": "/name", "value": {"a": 1}}, 400),
    ):
        assert error_of(patch(api, image_id, operation))[0] == status, operation
    assert error_of(api("PATCH", f"/image/v2/images/{image_id}", []))[0] == 415


def test_an_image_is_changed_as_in_the_first_version_of_the_api(api: Api) -> None:
    image_id = new_image(api)

    def older(*operations: dict[str, Any]) -> TestResponse:
        kind = "application/openstack-images-v2.0-json-patch"
        return api("PATCH", f"/image/v2/images/{image_id}", list(operations), who="demo", content_type=kind)

    changed = older({"add": "/hw_rescue_bus", "value": "usb"}, {"replace": "/name", "value": "new"}).get_json()
    assert (changed["hw_rescue_bus"], changed["name"]) == ("usb", "new")
    assert error_of(older({"add": "/hw_rescue_bus", "value": "ide"}))[0] == 409
    assert error_of(older({"add": "/a"}))[0] == 400
    assert error_of(older({"add": "/a", "remove": "/b", "value": "c"}))[0] == 400
    assert "hw_rescue_bus" not in older({"remove": "/hw_rescue_bus"}).get_json()


def test_uploads_that_are_refused_leave_the_image_queued(api: Api) -> None:
    image_id = new_image(api)
    assert error_of(upload(api, image_id, b"x", kind="text/plain"))[0] == 415
    assert error_of(upload(api, image_id, b"QFI\xfb" + bytes(600)))[0] == 415
    assert error_of(upload(api, image_id, b""))[0] == 415
    assert error_of(upload(api, image_id, bytes(MAX_IMAGE + 1)))[0] == 413
    assert error_of(upload(api, image_id, b"x", who="tenant"))[0] == 404
    assert api("GET", f"/image/v2/images/{image_id}").get_json()["status"] == "queued"
    blank = api("POST", "/image/v2/images", {"name": "blank"}).get_json()["id"]
    assert error_of(upload(api, blank, b"x"))[0] == 400
    assert api("GET", f"/image/v2/images/{blank}").get_json()["status"] == "queued"


def test_lists_of_images(api: Api) -> None:
    ids = [new_image(api, name=f"n{n % 2}", visibility="private", kind="k") for n in range(5)]
    mine = "/image/v2/images?kind=k"

    def names(query: str, who: str = "demo") -> list[str]:
        return [i["id"] for i in api("GET", mine + query, who=who).get_json()["images"]]

    assert names("&sort_key=id&sort_dir=asc") == sorted(ids)
    assert names("&sort=name:desc,id:asc") == sorted(ids[1::2]) + sorted(ids[::2])
    assert set(names("&name=n1")) == set(ids[1::2])
    assert set(names(f"&id=in:{ids[0]},{ids[1]}")) == set(ids[:2])
    assert names("", "tenant") == []
    assert set(names("", "admin")) == set(ids)
    walked: list[str] = []
    while page := names(f"&limit=2&sort=created_at:asc,id:asc&marker={walked[-1] if walked else ''}"):
        walked += page
    assert sorted(walked) == sorted(ids)
    for query in ("limit=-1", "limit=x", "marker=absent", "sort_key=password", "sort=x:asc"):
        assert error_of(api("GET", f"/image/v2/images?{query}"))[0] == 400


# ---- network -------------------------------------------------------------------------------------------------------
def private(api: Api) -> str:
    return str(api("GET", "/network/v2.0/networks?name=private").get_json()["networks"][0]["id"])


def test_networks_subnets_and_ports(api: Api) -> None:
    network = api("POST", "/network/v2.0/networks", {"network": {"name": "n"}}).get_json()["network"]
    subnet = api(
        "POST",
        "/network/v2.0/subnets",
        {"subnet": {"network_id": network["id"], "cidr": "10.9.0.0/24", "ip_version": 4}},
    ).get_json()["subnet"]
    assert (subnet["gateway_ip"], subnet["allocation_pools"]) == (
        "10.9.0.1",
        [{"start": "10.9.0.2", "end": "10.9.0.254"}],
    )
    assert api("GET", f"/network/v2.0/networks/{network['id']}").get_json()["network"]["subnets"] == [subnet["id"]]
    body = {"port": {"network_id": network["id"], "fixed_ips": [{"ip_address": "10.9.0.9"}], "name": "p"}}
    port = api("POST", "/network/v2.0/ports", body).get_json()["port"]
    assert port["fixed_ips"] == [{"subnet_id": subnet["id"], "ip_address": "10.9.0.9"}]
    assert "binding:host_id" not in port
    assert error_of(api("POST", "/network/v2.0/ports", body))[0] == 409
    for path in (f"networks/{network['id']}", f"subnets/{subnet['id']}"):
        assert error_of(api("DELETE", f"/network/v2.0/{path}"))[0] == 409
        assert error_of(api("GET", f"/network/v2.0/{path}", who="tenant"))[0] == 404
    query = f"?network_id={network['id']}&fields=id&fields=name"
    assert api("GET", f"/network/v2.0/ports{query}").get_json() == {"ports": [{"id": port["id"], "name": "p"}]}
    assert api("GET", f"/network/v2.0/ports{query}", who="tenant").get_json() == {"ports": []}
    changed = api("PUT", f"/network/v2.0/ports/{port['id']}", {"port": {"name": "q", "description": "d"}})
    assert changed.get_json()["port"]["name"] == "q"
    for path in (f"ports/{port['id']}", f"subnets/{subnet['id']}", f"networks/{network['id']}"):
        assert api("DELETE", f"/network/v2.0/{path}").status_code == 204
        assert error_of(api("DELETE", f"/network/v2.0/{path}"))[0] == 404


def test_a_servers_port_is_its_servers(api: Api) -> None:
    profile = {"cellcloud_index": 0, "cellcloud_owned": True}
    body = {"network_id": private(api), "project_id": api.cloud.project("demo"), "device_id": "server-1"}
    bound = body | {"binding:host_id": "h1", "binding:profile": profile, "device_owner": "compute:nova"}
    assert error_of(api("POST", "/network/v2.0/ports", {"port": bound}))[0] == 403
    port = api("POST", "/network/v2.0/ports", {"port": bound}, who="admin").get_json()["port"]
    assert (port["binding:host_id"], port["binding:profile"], port["status"]) == ("h1", profile, "ACTIVE")
    assert error_of(api("POST", "/network/v2.0/ports", {"port": bound}, who="admin"))[0] == 409
    path = f"/network/v2.0/ports/{port['id']}"
    assert "binding:profile" not in api("GET", path).get_json()["port"]
    for change in ({"device_id": ""}, {"device_id": "server-2"}):
        assert error_of(api("PUT", path, {"port": change}))[0] == 409
    assert error_of(api("PUT", path, {"port": {"binding:host_id": "h2"}}))[0] == 403
    assert error_of(api("DELETE", path))[0] == 409
    assert error_of(api("GET", path, who="tenant")) == error_of(api("GET", path, who="tenant"))
    assert api("DELETE", path, who="admin").status_code == 204


@pytest.mark.parametrize(
    ("subnet", "status"),
    [
        ({"cidr": "10.100.128.0/24"}, 400),
        ({"cidr": "10.0.0.0/8"}, 400),
        ({"cidr": "10.9.0.1/24"}, 400),
        ({"cidr": "10.9.0.0/31"}, 400),
        ({"cidr": "127.0.0.0/24"}, 400),
        ({"cidr": "169.254.0.0/16"}, 400),
        ({"cidr": "168.0.0.0/5", "gateway_ip": "169.254.169.254"}, 400),
        ({"cidr": "0.0.0.0/0"}, 400),
        ({"cidr": "0.0.0.0/1"}, 400),
        ({"cidr": "128.0.0.0/1"}, 400),
        ({"cidr": "224.0.0.0/24"}, 400),
        ({"cidr": "nonsense"}, 400),
        ({"cidr": "fd00::/64"}, 400),
        ({"cidr": "10.9.0.0/24", "ip_version": 6}, 400),
        ({"cidr": "10.9.0.0/24", "gateway_ip": "10.8.0.1"}, 400),
        ({"cidr": "10.9.0.0/24", "gateway_ip": ""}, 400),
        ({"cidr": "10.9.0.0/24", "project_id": "a", "tenant_id": "b"}, 400),
        ({"cidr": "10.9.0.0/24", "gateway_ip": "10.9.0.255"}, 400),
        ({"cidr": "10.9.0.0/24", "allocation_pools": [{"start": "10.9.0.1", "end": "10.9.0.9"}]}, 409),
        ({"cidr": "10.9.0.0/24", "allocation_pools": [{"start": "10.9.0.9", "end": "10.9.0.5"}]}, 400),
        ({"cidr": "10.9.0.0/24", "allocation_pools": [{"start": "10.9.0.9", "end": "10.9.1.5"}]}, 400),
        ({"cidr": "10.9.0.0/24", "dns_nameservers": ["nonsense\nserver=/x/"]}, 400),
        ({"cidr": 5}, 400),
        ({"cidr": "10.9.0.0/24", "surprise": 1}, 400),
        ({"cidr": "10.9.0.0/24", "network_id": "absent"}, 404),
    ],
)
def test_wrong_subnets(api: Api, subnet: dict[str, Any], status: int) -> None:
    network = api.cloud.networks.list_networks(Viewer(project_id="", is_admin=True), Page.of(name=["private"]))[0].id
    body = {"subnet": {"network_id": network, "ip_version": 4} | subnet}
    assert error_of(api("POST", "/network/v2.0/subnets", body, who="admin"))[0] == status


def test_what_members_may_not_do(api: Api) -> None:
    network = private(api)
    for method, path, body in (
        ("POST", "networks", {"network": {"name": "n", "shared": True}}),
        ("POST", "networks", {"network": {"name": "n", "project_id": "other"}}),
        ("PUT", f"networks/{network}", {"network": {"name": "mine"}}),
        ("DELETE", f"networks/{network}", None),
        ("POST", "subnets", {"subnet": {"network_id": network, "cidr": "10.9.0.0/24"}}),
        ("POST", "ports", {"port": {"network_id": network, "device_owner": "network:dhcp"}}),
        ("POST", "ports", {"port": {"network_id": network, "tenant_id": "other"}}),
    ):
        assert error_of(api(method, f"/network/v2.0/{path}", body))[0] == 403, path


@pytest.mark.parametrize(
    "port",
    [
        {},
        {"network_id": 5},
        {"network_id": "x", "fixed_ips": "10.9.0.9"},
        {"network_id": "x", "fixed_ips": [{"ip": "10.9.0.9"}]},
        {"network_id": "x", "mac_address": "00:11:22:33:44"},
        {"network_id": "x", "mac_address": "01:00:5e:00:00:01"},
        {"network_id": "x", "mac_address": "00:00:00:00:00:00"},
        {"network_id": "x", "project_id": "a", "tenant_id": "b"},
        {"network_id": "x", "name": "n" * 256},
        {"network_id": "x", "admin_state_up": "perhaps"},
        {"network_id": "x", "id": "y"},
    ],
)
def test_wrong_ports(api: Api, port: dict[str, Any]) -> None:
    assert error_of(api("POST", "/network/v2.0/ports", {"port": port}))[0] == 400


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("port", {"dns_name": "a"}),
        ("network", {"dns_domain": "a.b."}),
        ("floatingip", {"dns_name": "a", "dns_domain": "a.b."}),
        ("security_group", {"name": "g", "stateful": False}),
    ],
)
def test_what_no_host_would_do_is_refused(api: Api, kind: str, wanted: dict[str, Any]) -> None:
    """There is no DNS service, and every group keeps connections."""
    known = {"port": {"network_id": private(api)}, "floatingip": {"floating_network_id": private(api)}}
    answer = api("POST", f"/network/v2.0/{kind.replace('_', '-')}s", {kind: known.get(kind, {}) | wanted})
    assert error_of(answer)[0] == 400, answer.text
    aliases = {each["alias"] for each in api("GET", "/network/v2.0/extensions").get_json()["extensions"]}
    assert not aliases & {"dns-integration", "stateful-security-group"}


def test_a_port_is_of_its_networks_subnets_and_in_the_default_group(api: Api) -> None:
    network = private(api)
    wrong = {"port": {"network_id": network, "fixed_ips": [{"subnet_id": "absent"}]}}
    assert error_of(api("POST", "/network/v2.0/ports", wrong))[0] == 404
    made = api("POST", "/network/v2.0/ports", {"port": {"network_id": network}}).get_json()["port"]
    assert len(made["security_groups"]) == 1
    again = api("POST", "/network/v2.0/ports", {"port": {"network_id": network}}).get_json()["port"]
    assert again["security_groups"] == made["security_groups"]
    out = api("PUT", f"/network/v2.0/ports/{made['id']}", {"port": {"security_groups": []}})
    assert out.get_json()["port"]["security_groups"] == []


@pytest.mark.parametrize(
    "same", [{"mac_address": "fa:16:3e:00:01:0A"}, {"device_id": "s", "binding:profile": {"cellcloud_index": 1}}]
)
def test_two_ports_of_one_request_are_not_one(api: Api, same: dict[str, Any]) -> None:
    port = {"network_id": private(api), **same}
    assert error_of(api("POST", "/network/v2.0/ports", {"ports": [port, port]}, who="admin"))[0] == 409


def test_many_ports_are_made_together_or_not_at_all(api: Api) -> None:
    network, before = private(api), len(api("GET", "/network/v2.0/ports").get_json()["ports"])
    good, bad = {"network_id": network}, {"network_id": network, "fixed_ips": [{"ip_address": "1.2.3.4"}]}
    assert error_of(api("POST", "/network/v2.0/ports", {"ports": [good, bad]}))[0] == 400
    assert len(api("GET", "/network/v2.0/ports").get_json()["ports"]) == before
    made = api("POST", "/network/v2.0/ports", {"ports": [good] * 3}).get_json()["ports"]
    assert len({port["fixed_ips"][0]["ip_address"] for port in made}) == 3
    walked, marker = [], ""
    while page := api("GET", f"/network/v2.0/ports?limit=2&marker={marker}").get_json()["ports"]:
        walked += page
        marker = page[-1]["id"]
    assert len(walked) == before + 3


KEYS = [
    "network",
    "port",
    "subnet",
    "auth",
    "identity",
    "user",
    "project",
    "name",
    "network_id",
    "cidr",
    "methods",
    "disk_format",
    "tags",
    "options",
    "group",
    "region",
    "credential",
]
BODIES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


@given(BODIES)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_body_breaks_a_route(api: Api, body: Any) -> None:
    for path in (
        "/identity/v3/auth/tokens",
        "/identity/v3/users",
        "/identity/v3/projects",
        "/identity/v3/groups",
        "/identity/v3/regions",
        "/identity/v3/credentials",
        "/image/v2/images",
        "/network/v2.0/networks",
        "/network/v2.0/subnets",
        "/network/v2.0/ports",
    ):
        assert api("POST", path, body, who="admin").status_code < 500


@pytest.mark.parametrize("root", ["/identity", "/image", "/network"])
def test_what_the_version_documents_link_to_answers(api: Api, root: str) -> None:
    """Anonymously where it is a version document, too."""
    todo, seen = [root], set()
    while todo:
        path = todo.pop()
        seen.add(path)
        answer = api("GET", path)
        assert answer.status_code in (200, 300), path
        found = re.findall(r'"href":"http://localhost(/[^"]*)"', answer.text)
        todo += [link for link in found if link not in seen and link not in todo]
    assert len(seen) > 1


def test_identity_compares_names_without_case(api: Api) -> None:
    named = auth(identity={"methods": ["password"], "password": {"user": {
        "name": "DEMO", "domain": {"name": "default"}, "password": PASSWORDS.demo}}},
        scope={"project": {"name": "Demo", "domain": {"name": "DEFAULT"}}})  # fmt: skip
    assert api.client.post("/identity/v3/auth/tokens", json=named).status_code == 201
    assert [u["name"] for u in api("GET", "/identity/v3/users?name=Demo", who="admin").get_json()["users"]] == ["demo"]
    for kind, body in (("users", {"user": {"name": "DEMO"}}), ("projects", {"project": {"name": "DEMO"}})):
        assert api("POST", f"/identity/v3/{kind}", body, who="admin").status_code == 409


def test_the_embedded_services_ask_policy_by_the_names_of_the_real_ones(api: Api) -> None:
    network = {"network": {"name": "n", "shared": True}}
    image = {"name": "i", "visibility": "public", "disk_format": "raw", "container_format": "bare"}
    for method, path, body, rule in (
        ("GET", "/identity/v3/users", None, "identity:list_users"),
        ("GET", "/identity/v3/services", None, "identity:list_services"),
        ("POST", "/image/v2/images", image, "publicize_image"),
        ("POST", "/network/v2.0/networks", network, "create_network:shared"),
        ("GET", "/network/v2.0/quotas", None, "get_quota"),
        ("GET", "/network/v2.0/quotas/somebody", None, "cellcloud:own_network_quota"),
    ):
        answer = api(method, path, body)
        assert answer.status_code == 403, path
        assert f"Policy doesn't allow {rule} to be performed." in answer.get_data(as_text=True)
        assert api(method, path, body, who="admin").status_code in (200, 201), path
