"""The same request eight times at once, on every route that makes something: whoever loses a race is told so, or finds
it done; nobody gets an error of the server's."""

from __future__ import annotations

import json
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from cellcloud.db.engine import Database
from tests.api.test_resources import KEY
from tests.api.world import DEMO, IMAGE, World
from tests.embedded_cloud import PASSWORDS, make_cloud

TOGETHER = 8
GROUP = {"server_group": {"name": "g", "policy": "affinity"}}
Request = tuple[str, str, Any]  # method, path, body
SERVER = {"server": {"name": "s", "flavorRef": "1", "imageRef": IMAGE, "networks": "auto"}}


@dataclass(frozen=True)
class Clouds:
    """The compute API and the embedded services over one database."""

    compute: World
    services: Flask
    tokens: dict[str, str]

    def flavor(self, number: int) -> str:
        body = _flavor(f"private-{number}", f"private-{number}")
        body["flavor"]["os-flavor-access:is_public"] = False
        return str(self.compute.post("/flavors", body, token="admin").get_json()["flavor"]["id"])

    def together(self, request: Request, headers: dict[str, str]) -> Counter[int]:
        """The statuses of eight of it at once."""
        method, path, body = request
        app = self.compute.app if path.startswith(("/v2.1", "/operator")) else self.services
        if app is self.compute.app:
            headers = {"X-Auth-Token": "admin", "OpenStack-API-Version": "compute 2.90", **headers}
        else:
            headers = {"X-Auth-Token": self.tokens["admin"], **headers}
        barrier = threading.Barrier(TOGETHER)

        def ask(_: int) -> int:
            client = app.test_client()
            barrier.wait()
            data = None if body is None else json.dumps(body)
            kind = "application/openstack-images-v2.1-json-patch" if method == "PATCH" else "application/json"
            return client.open(path, method=method, data=data, content_type=kind, headers=headers).status_code

        with ThreadPoolExecutor(TOGETHER) as pool:
            return Counter(pool.map(ask, range(TOGETHER)))


def _flavor(name: str, flavor_id: str | None = None) -> dict[str, Any]:
    wanted = {"name": name, "ram": 64, "vcpus": 1, "disk": 1} | ({"id": flavor_id} if flavor_id else {})
    return {"flavor": wanted}


@pytest.fixture
def clouds(top_database: Database, tmp_path: Path) -> Iterator[Clouds]:
    services = make_cloud(top_database, tmp_path)
    compute = World(top_database, tmp_path)
    tokens = {"admin": services.token("admin", PASSWORDS.admin, "admin")}
    yield Clouds(compute=compute, services=services.app(), tokens=tokens)
    compute.close()


def _on_server(method: str, rest: str, body: Any = None) -> Callable[[Clouds], Request]:
    return lambda clouds: (method, f"/v2.1/servers/{clouds.compute.create(token='admin')}{rest}", body)


def _image(clouds: Clouds, method: str, rest: str, body: Any = None) -> Request:
    client = clouds.services.test_client()
    headers = {"X-Auth-Token": clouds.tokens["admin"]}
    made = client.post("/image/v2/images", json={"name": "i"}, headers=headers)
    return method, f"/image/v2/images/{made.get_json()['id']}{rest}", body


def _network(clouds: Clouds) -> str:
    client = clouds.services.test_client()
    headers = {"X-Auth-Token": clouds.tokens["admin"]}
    network = client.post("/network/v2.0/networks", json={"network": {"name": "n"}}, headers=headers)
    network_id = str(network.get_json()["network"]["id"])
    subnet = {"network_id": network_id, "cidr": "10.9.0.0/24", "ip_version": 4}
    assert client.post("/network/v2.0/subnets", json={"subnet": subnet}, headers=headers).status_code == 201
    return network_id


def _port(clouds: Clouds) -> Request:
    wanted = {"network_id": _network(clouds), "fixed_ips": [{"ip_address": "10.9.0.77"}]}
    return "POST", "/network/v2.0/ports", {"port": wanted}


def _delete_network(clouds: Clouds) -> Request:
    return "DELETE", f"/network/v2.0/networks/{_network(clouds)}", None


def _delete_group(clouds: Clouds) -> Request:
    made = clouds.compute.post("/os-server-groups", GROUP, token="admin", version="2.90").get_json()["server_group"]
    return "DELETE", f"/v2.1/os-server-groups/{made['id']}", None


def _aggregate(clouds: Clouds, action: dict[str, Any]) -> Request:
    body = {"aggregate": {"name": f"a{uuid.uuid4()}"}}
    made = clouds.compute.post("/os-aggregates", body, token="admin").get_json()["aggregate"]
    return "POST", f"/v2.1/os-aggregates/{made['id']}/action", action


def _grant(clouds: Clouds) -> Request:
    client = clouds.services.test_client()
    headers = {"X-Auth-Token": clouds.tokens["admin"]}
    user = client.post("/identity/v3/users", json={"user": {"name": f"u{uuid.uuid4()}"}}, headers=headers)
    project = client.post("/identity/v3/projects", json={"project": {"name": f"p{uuid.uuid4()}"}}, headers=headers)
    role = client.get("/identity/v3/roles", headers=headers).get_json()["roles"][0]["id"]
    user_id, project_id = user.get_json()["user"]["id"], project.get_json()["project"]["id"]
    return "PUT", f"/identity/v3/projects/{project_id}/users/{user_id}/roles/{role}", None


Make = Callable[[Clouds], Request]
# Each with how many of the eight may succeed, None: any number.
ROUTES: dict[str, tuple[Make, int | None]] = {
    "keypair": (lambda _: ("POST", "/v2.1/os-keypairs", {"keypair": {"name": "k", "public_key": KEY}}), 1),
    "flavor by id": (lambda _: ("POST", "/v2.1/flavors", _flavor("f", "f1")), 1),
    "flavor by name": (lambda _: ("POST", "/v2.1/flavors", _flavor("f2")), 1),
    "extra spec": (lambda _: ("POST", "/v2.1/flavors/1/os-extra_specs", {"extra_specs": {"a": "1"}}), None),
    "flavor access": (
        lambda c: ("POST", f"/v2.1/flavors/{c.flavor(1)}/action", {"addTenantAccess": {"tenant": "a" * 32}}),
        1,
    ),
    "server": (lambda _: ("POST", "/v2.1/servers", SERVER), TOGETHER),
    "server deleted": (_on_server("DELETE", ""), None),
    "server renamed": (_on_server("PUT", "", {"server": {"name": "other"}}), None),
    "server metadata": (_on_server("POST", "/metadata", {"metadata": {"a": "1"}}), None),
    "server metadata item": (_on_server("PUT", "/metadata/a", {"meta": {"a": "1"}}), None),
    "server tags": (_on_server("PUT", "/tags", {"tags": ["a", "b"]}), None),
    "server tag": (_on_server("PUT", "/tags/a"), None),
    "server stopped": (_on_server("POST", "/action", {"os-stop": None}), None),
    "server locked": (_on_server("POST", "/action", {"lock": None}), None),
    "server resized": (_on_server("POST", "/action", {"resize": {"flavorRef": "2"}}), None),
    "server rebuilt": (_on_server("POST", "/action", {"rebuild": {"imageRef": IMAGE}}), None),
    "server rescued": (_on_server("POST", "/action", {"rescue": None}), None),
    "server shelved": (_on_server("POST", "/action", {"shelve": None}), None),
    "server's image": (_on_server("POST", "/action", {"createImage": {"name": "i"}}), None),
    "server reset": (_on_server("POST", "/action", {"os-resetState": {"state": "error"}}), None),
    "server group": (lambda _: ("POST", "/v2.1/os-server-groups", GROUP), TOGETHER),
    "server group deleted": (_delete_group, 1),
    "aggregate": (lambda _: ("POST", "/v2.1/os-aggregates", {"aggregate": {"name": "a"}}), 1),
    "aggregate's metadata": (lambda c: _aggregate(c, {"set_metadata": {"metadata": {"a": "1"}}}), None),
    "aggregate's host": (lambda c: _aggregate(c, {"add_host": {"host": "east-1"}}), 1),
    "quota": (lambda _: ("PUT", f"/v2.1/os-quota-sets/{DEMO}", {"quota_set": {"cores": 7}}), None),
    "quota of a class": (
        lambda _: ("PUT", "/v2.1/os-quota-class-sets/default", {"quota_class_set": {"cores": 7}}),
        None,
    ),
    "image": (lambda _: ("POST", "/image/v2/images", {"name": "i", "id": "1" * 8 + "-0000-4000-8000-" + "1" * 12}), 1),
    "image tag": (lambda c: _image(c, "PUT", "/tags/a"), None),
    "image property": (lambda c: _image(c, "PATCH", "", [{"op": "add", "path": "/p", "value": "1"}]), None),
    "image deleted": (lambda c: _image(c, "DELETE", ""), None),
    "network": (lambda _: ("POST", "/network/v2.0/networks", {"network": {"name": "n"}}), TOGETHER),
    "network deleted": (_delete_network, None),
    "port with an address": (_port, 1),
    "user": (lambda _: ("POST", "/identity/v3/users", {"user": {"name": "u"}}), 1),
    "project": (lambda _: ("POST", "/identity/v3/projects", {"project": {"name": "p"}}), 1),
    "grant": (_grant, None),
}


def test_the_same_request_eight_times_at_once_is_never_an_error_of_the_server(clouds: Clouds) -> None:
    wrong: dict[str, Counter[int]] = {}
    for name, (make, winners) in ROUTES.items():
        statuses = clouds.together(make(clouds), {})
        clouds.compute.settle()
        won = sum(count for status, count in statuses.items() if status < 300)
        if max(statuses) >= 500 or (won == 0 if winners is None else won != winners):
            wrong[name] = statuses
    assert not wrong


def test_one_key_makes_one_server(clouds: Clouds) -> None:
    statuses = clouds.together(("POST", "/v2.1/servers", SERVER), {"Idempotency-Key": "same"})
    clouds.compute.settle()
    assert statuses == {202: TOGETHER}
    assert len(clouds.compute.get("/servers", token="admin").get_json()["servers"]) == 1
