"""Version documents, microversions, request ids and the twin routes."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.api.world import DEMO, IMAGE, NETWORK, World

REQUEST_ID = re.compile(r"^req-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")


def test_the_version_list_begins_with_the_deprecated_one(world: World) -> None:
    answer = world.get("/", token=None)
    assert answer.status_code == 200
    versions = answer.get_json()["versions"]
    assert [version["id"] for version in versions] == ["v2.0", "v2.1"]
    assert (versions[0]["status"], versions[0]["version"], versions[0]["min_version"]) == ("DEPRECATED", "", "")
    assert (versions[1]["status"], versions[1]["version"], versions[1]["min_version"]) == ("CURRENT", "2.101", "2.1")
    for version in versions:
        path = version["links"][0]["href"].removeprefix("http://localhost")
        assert world.get(path, token=None).get_json()["version"]["id"] == version["id"]


@pytest.mark.parametrize("path", ["/v2.1", "/v2.1/"])
def test_the_version_document_is_anonymous(world: World, path: str) -> None:
    document = world.call("GET", path, token=None).get_json()["version"]
    assert {link["rel"] for link in document["links"]} == {"self", "describedby"}
    assert document["media-types"]


def test_an_unknown_first_segment_is_offered_the_versions(world: World) -> None:
    answer = world.http.get("/compute/servers")
    assert answer.status_code == 300
    assert [choice["id"] for choice in answer.get_json()["choices"]] == ["v2.0", "v2.1"]


@pytest.mark.parametrize(
    ("headers", "echoed"),
    [
        ({}, "2.1"),
        ({"OpenStack-API-Version": "compute 2.47"}, "2.47"),
        ({"OpenStack-API-Version": "volume 3.1, compute 2.5"}, "2.5"),
        ({"OpenStack-API-Version": "compute latest"}, "2.101"),
        ({"X-OpenStack-Nova-API-Version": "2.9"}, "2.9"),
        ({"OpenStack-API-Version": "volume 3.1"}, "2.1"),
        ({"OpenStack-API-Version": "COMPUTE   2.47 ,volume 3.1"}, "2.47"),
        ({"OpenStack-API-Version": "compute 2.5, compute 2.9"}, "2.9"),
        ({"OpenStack-API-Version": "compute 2.5", "X-OpenStack-Nova-API-Version": "2.9"}, "2.5"),
        ({"OpenStack-API-Version": "volume 3.1", "X-OpenStack-Nova-API-Version": "2.9"}, "2.9"),
        ({"X-OpenStack-Nova-API-Version": "latest"}, "2.101"),
        ({"X-OpenStack-Nova-API-Version": "2.5, 2.9"}, "2.9"),
        ({"OpenStack-API-Version": ""}, "2.1"),
        ({"OpenStack-API-Version": ",, volume"}, "2.1"),
    ],
)
def test_every_answer_echoes_its_microversion(world: World, headers: dict[str, str], echoed: str) -> None:
    answer = world.get("/servers", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["OpenStack-API-Version"] == f"compute {echoed}"
    assert answer.headers["X-OpenStack-Nova-API-Version"] == echoed
    assert "OpenStack-API-Version" in answer.headers["Vary"]
    assert "X-OpenStack-Nova-API-Version" in answer.headers["Vary"]


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("2.102", 406),
        ("1.1", 406),
        ("2.0", 406),
        ("3.1", 406),
        ("two", 400),
        ("2", 400),
        ("", 400),
        ("2.01", 400),
        ("2.1.1", 400),
        ("02.1", 400),
        ("2.-1", 400),
        ("2.1 2.2", 400),
        ("LATEST", 400),
        ("2.99999", 400),
        ("2.\u0661", 400),
        (", volume 3.1", 400),
    ],
)
def test_a_microversion_out_of_range_or_malformed_is_refused(world: World, text: str, status: int) -> None:
    answer = world.get("/servers", headers={"OpenStack-API-Version": f"compute {text}"})
    assert answer.status_code == status
    if status == 406:
        assert "2.1" in answer.get_json()["computeFault"]["message"]


def test_request_ids_are_ours_and_foreign_ones_are_not_repeated(world: World) -> None:
    answer = world.get("/servers", headers={"X-OpenStack-Request-ID": "req-nonsense"})
    ours = answer.headers["x-openstack-request-id"]
    assert REQUEST_ID.match(ours)
    assert answer.headers["x-compute-request-id"] == ours
    assert REQUEST_ID.match(world.get("/nothing", token=None).headers["x-compute-request-id"])


def test_the_project_may_stand_in_the_path(world: World) -> None:
    server_id = world.create()
    answer = world.get(f"/{DEMO}/servers/{server_id}")
    assert answer.status_code == 200
    assert answer.get_json()["server"]["links"][0]["href"] == f"http://localhost/v2.1/{DEMO}/servers/{server_id}"
    refused = world.get(f"/{'f' * 32}/servers")
    assert refused.status_code == 400
    assert "project_id" in refused.get_json()["badRequest"]["message"]


def test_a_route_outside_its_microversions_is_not_found(world: World) -> None:
    server_id = world.create()
    body = {"remote_console": {"protocol": "vnc", "type": "novnc"}}
    assert world.post(f"/servers/{server_id}/remote-consoles", body, version="2.5").status_code == 404
    assert world.post(f"/servers/{server_id}/remote-consoles", body, version="2.6").status_code == 200
    old = {"os-getVNCConsole": {"type": "novnc"}}
    assert world.post(f"/servers/{server_id}/action", old, version="2.6").status_code == 404
    assert world.post(f"/servers/{server_id}/action", old, version="2.5").status_code == 200


def test_methods_that_are_not_there(world: World) -> None:
    answer = world.call("PATCH", "/servers")
    assert answer.status_code == 405
    assert answer.get_json()["badMethod"]["code"] == 405
    assert world.call("OPTIONS", "/servers").status_code == 405


def test_the_api_of_before_2_1_is_served_where_the_list_says(world: World) -> None:
    server = {"name": "vm", "flavorRef": "1", "imageRef": IMAGE, "unknown": 1}
    headers = {"OpenStack-API-Version": "compute 2.90"}
    answer = world.post("/v2/servers", {"server": server, "more": 2}, headers=headers)
    assert answer.status_code == 202
    assert "OpenStack-API-Version" not in answer.headers
    world.settle()
    server_id = answer.get_json()["server"]["id"]
    assert answer.headers["Location"] == f"http://localhost/v2/servers/{server_id}"
    shown = world.get(f"/v2/{DEMO}/servers/{server_id}").get_json()["server"]
    assert shown["links"][0]["href"] == f"http://localhost/v2/{DEMO}/servers/{server_id}"
    assert "description" not in shown
    assert world.post(f"/v2/servers/{server_id}/action", {"reboot": {"type": "HARD", "more": 1}}).status_code == 202
    assert world.post("/v2/servers", {"server": {"name": "vm"}}).status_code == 400
    assert world.post("/servers", {"server": server}).status_code == 400


@pytest.mark.parametrize("segment", ["f" * 32, "abc", "12", "00000000-0000-0000-0000-000000000001"])
def test_another_projects_id_in_the_path_is_refused(world: World, segment: str) -> None:
    for token in ("member", "admin"):
        for root in ("/v2.1", "/v2"):
            assert world.get(f"{root}/{segment}/servers", token=token).status_code == 400


@pytest.mark.parametrize(
    "more",
    [
        {"hostname": "a\nb"},
        {"hostname": 5},
        {"tags": 5},
        {"tags": ["a\n"]},
        {"description": {"a": 1}},
        {"host": "east-1"},
        {"hypervisor_hostname": "east-1"},
        {"trusted_image_certificates": 5},
        {"networks": [{"uuid": NETWORK, "tag": 5}]},
    ],
)
def test_the_api_of_before_2_1_reads_nothing_that_no_schema_has_looked_at(world: World, more: dict[str, Any]) -> None:
    server = {"name": "vm", "flavorRef": "1", "imageRef": IMAGE, "networks": [{"uuid": NETWORK}]}
    ids = []
    for body in (server, server | more):
        answer = world.post("/v2/servers", {"server": body})
        assert answer.status_code == 202, answer.text
        ids.append(answer.get_json()["server"]["id"])
        world.settle()
    plain, other = (world.cell_of(server_id).servers[server_id].spec for server_id in ids)
    names = ("hostname", "tags", "description", "host", "networks")
    assert [getattr(other, name) for name in names] == [getattr(plain, name) for name in names]
    if "networks" not in more:
        assert world.call("PUT", f"/v2/servers/{ids[0]}", {"server": more}).status_code == 200
        assert world.cell_of(ids[0]).servers[ids[0]].spec == plain


def test_names_may_have_spaces_around_them_in_the_api_of_before_2_1(world: World) -> None:
    server = {"name": "  vm ", "flavorRef": "1", "imageRef": IMAGE}
    answer = world.post("/v2/servers", {"server": server})
    assert answer.status_code == 202
    world.settle()
    path = f"/v2/servers/{answer.get_json()['server']['id']}"
    assert world.get(path).get_json()["server"]["name"] == "vm"
    assert world.call("PUT", path, {"server": {"name": " other "}}).get_json()["server"]["name"] == "other"
    assert world.post("/v2/os-keypairs", {"keypair": {"name": " k "}}).get_json()["keypair"]["name"] == "k"
    flavor = {"name": " f ", "ram": 512, "vcpus": 1, "disk": 1}
    assert world.post("/v2/flavors", {"flavor": flavor}, token="admin").get_json()["flavor"]["name"] == "f"
    for body in (server, {**server, "name": "   "}):
        assert world.post("/servers" if body is server else "/v2/servers", {"server": body}).status_code == 400
