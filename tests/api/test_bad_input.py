"""Bad input: the API's own error form, the right status, nothing changed, nothing of the inside shown."""

from __future__ import annotations

import base64
from io import BytesIO
from typing import Any

import pytest

from cellcloud.db import quotas
from tests.api.world import BIG_IMAGE, DEMO, IMAGE, NETWORK, QUEUED_IMAGE, World
from tests.processor_time import least_seconds

UNKNOWN = "99999999-9999-4999-8999-999999999999"
GOOD: dict[str, Any] = {"name": "vm", "flavorRef": "1", "imageRef": IMAGE}
DISK = {"uuid": IMAGE, "source_type": "image", "destination_type": "local", "boot_index": 0}
NOT_OBEYED = (
    {"disk_bus": "scsi"},
    {"device_type": "cdrom"},
    {"guest_format": "swap"},
    {"no_device": True},
    {"volume_size": 5},
    {"volume_type": "fast"},
)


def refused(world: World, status: int, answer: Any, name: str = "badRequest") -> str:
    assert answer.status_code == status, answer.get_data(as_text=True)[:500]
    body = answer.get_json()
    assert list(body) == [name]
    assert body[name]["code"] == status
    text = answer.get_data(as_text=True)
    assert len(text) < 2000
    for inside in ("Traceback", "/work", ".py", "sqlalchemy", "sqlite"):
        assert inside not in text
    assert world.get("/servers").get_json() == {"servers": []}
    with world.database.read() as connection:
        assert set(quotas.list_usages(connection, DEMO).values()) == {0}
    return str(body[name]["message"])


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"nonsense",
        b"[1, 2]",
        b'"text"',
        b"null",
        b"",
        b'{"server": {"name": "a", "name": "b", "flavorRef": "1"}}',
        b'{"server": {"name": "\\ud800"}}',
        b'{"server": {"name": "a\\u0000b"}}',
        b'{"server": {"name": "\xff"}}',
        b'{"server": NaN}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"server": {"max_count": 1' + b"0" * 5000 + b"}}",
    ],
)
def test_malformed_json(world: World, data: bytes) -> None:
    def ask() -> None:
        refused(world, 400, world.call("POST", "/servers", data=data, content_type="application/json"))

    assert least_seconds(ask) < 0.5


@pytest.mark.parametrize(
    "change",
    [
        {"name": 1},
        {"name": None},
        {"name": ""},
        {"name": " a"},
        {"name": "a" * 256},
        {"name": "a\nb"},
        {"name": "a" * 65536},
        {"flavorRef": None},
        {"flavorRef": {}},
        {"flavorRef": "nothing-like-it"},
        {"imageRef": "not-a-uuid"},
        {"imageRef": UNKNOWN},
        {"imageRef": 5},
        {"imageRef": ""},
        {"imageRef": BIG_IMAGE},
        {"imageRef": QUEUED_IMAGE},
        {"key_name": "no-such-key"},
        {"networks": [{"uuid": UNKNOWN}]},
        {"networks": [{"uuid": "x"}]},
        {"networks": [{}]},
        {"networks": "auto"},
        {"networks": {}},
        {"user_data": "***"},
        {"user_data": "YWJj="},
        {"user_data": base64.b64encode(b"x" * 65536).decode()},
        {"user_data": 7},
        {"metadata": {"k": 1}},
        {"metadata": {"k" * 256: "v"}},
        {"metadata": {"k": "v" * 256}},
        {"metadata": []},
        {"name": "\u00a0"},
        {"name": "a\u0085"},
        {"name": "a\ufffe"},
        {"name": "a\u2028b"},
        {"min_count": 0},
        {"min_count": "0"},
        {"min_count": "00"},
        {"min_count": 1.0},
        {"max_count": "0"},
        {"min_count": "x"},
        {"min_count": 3, "max_count": 2},
        {"max_count": 100000},
        {"max_count": True},
        {"config_drive": "perhaps"},
        {"availability_zone": "no-such-zone"},
        {"security_groups": ["default"]},
        {"unknown_key": 1},
        {"tags": ["a"]},
        {"OS-DCF:diskConfig": "SOMETIMES"},
        {"accessIPv4": "10.0.0.300"},
        {"accessIPv6": "fe80::1%a\nb"},
        {"block_device_mapping_v2": [{"source_type": "volume", "destination_type": "volume", "uuid": UNKNOWN}]},
        {"block_device_mapping_v2": [{"source_type": "blank", "destination_type": "local", "boot_index": 1}]},
        {"block_device_mapping_v2": [DISK, DISK]},
        *({"block_device_mapping_v2": [{**DISK, **more}]} for more in NOT_OBEYED),
    ],
    ids=lambda change: str(change)[:60],
)
def test_a_create_that_cannot_be(world: World, change: dict[str, Any]) -> None:
    message = refused(world, 400, world.post("/servers", {"server": {**GOOD, **change}}))
    assert len(message) < 1200


@pytest.mark.parametrize(
    ("place", "tag"), [(place, tag) for place in ("networks", "disk") for tag in ("", "a,b", "a/b", "a" * 61, "a\n")]
)
def test_a_tag_of_a_device_that_is_none(world: World, place: str, tag: str) -> None:
    more = {"networks": [{"uuid": NETWORK, "tag": tag}]}
    if place == "disk":
        more = {"networks": "auto", "block_device_mapping_v2": [{**DISK, "tag": tag}]}
    refused(world, 400, world.post("/servers", {"server": {**GOOD, **more}}, version="2.42"))


@pytest.mark.parametrize("groups", [[], [{}], [{}, {"name": "default"}]])
def test_a_security_group_without_a_name_is_none(world: World, groups: list[Any]) -> None:
    answer = world.post("/servers", {"server": {**GOOD, "security_groups": groups}})
    assert (answer.status_code, answer.get_json()["server"]["security_groups"]) == (202, [{"name": "default"}])


@pytest.mark.parametrize(
    "change",
    [
        {"ram": 512.0},
        {"ram": "2147483648"},
        {"vcpus": "9999999999"},
        {"swap": "9999999999"},
        {"disk": 2**31},
        {"rxtx_factor": "9" * 64},
        {"id": 10**255},
        {"name": "\u00a0"},
        {"description": "\u0085"},
    ],
)
def test_a_flavor_that_no_database_holds(world: World, change: dict[str, Any]) -> None:
    flavor = {"name": "f", "ram": 512, "vcpus": 1, "disk": 1, **change}
    assert world.post("/flavors", {"flavor": flavor}, token="admin", version="2.55").status_code == 400


def test_a_number_as_an_extra_spec_is_as_long_as_its_text(world: World) -> None:
    for value, status in ((10**254, 200), (10**255, 400)):
        body = {"extra_specs": {"k": value}}
        assert world.post("/flavors/1/os-extra_specs", body, token="admin").status_code == status


@pytest.mark.parametrize("limit", ["-2", -2, 5.0, 2**31, "4294967296"])
def test_a_limit_that_is_none(world: World, limit: Any) -> None:
    body = {"quota_set": {"instances": limit, "force": True}}
    assert world.call("PUT", f"/os-quota-sets/{DEMO}", body, token="admin").status_code == 400


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize("project_id", ["class:default", "p" * 256, "a%0Ab", "%20"])
def test_limits_of_what_is_no_project(world: World, method: str, project_id: str) -> None:
    body = {"quota_set": {"instances": 1}} if method == "PUT" else None
    assert world.call(method, f"/os-quota-sets/{project_id}", body, token="admin").status_code == 400


@pytest.mark.parametrize("missing", ["name", "flavorRef"])
def test_a_create_without_what_it_needs(world: World, missing: str) -> None:
    body = {"server": {key: value for key, value in GOOD.items() if key != missing}}
    assert missing in refused(world, 400, world.post("/servers", body))


def test_networks_are_needed_from_2_37(world: World) -> None:
    refused(world, 400, world.post("/servers", {"server": GOOD}, version="2.37"))


def test_two_spellings_of_the_hints_at_once(world: World) -> None:
    hints = {"os:scheduler_hints": {"query": "a"}, "OS-SCH-HNT:scheduler_hints": {"query": "b"}}
    refused(world, 400, world.post("/servers", {"server": GOOD, **hints}))


def test_a_name_of_eight_mebibytes(world: World) -> None:
    answer = world.post("/servers", {"server": {**GOOD, "name": "a" * (8 << 20)}})
    refused(world, 413, answer, "overLimit")
    assert answer.headers["Retry-After"]


def test_a_long_body_of_unknown_length(world: World) -> None:
    answer = world.call(
        "POST",
        "/servers",
        input_stream=BytesIO(b"a" * (2 << 20)),
        headers={"Transfer-Encoding": "chunked"},
        content_type="application/json",
        environ_overrides={"wsgi.input_terminated": True, "CONTENT_LENGTH": ""},
    )
    refused(world, 413, answer, "overLimit")


def test_a_body_of_another_kind(world: World) -> None:
    refused(
        world, 415, world.call("POST", "/servers", data=b"<server/>", content_type="application/xml"), "badMediaType"
    )


@pytest.mark.parametrize("server_id", ["x", "..", "%00", "%2e%2e%2fetc", "a" * 5000, "\u0441", "1;drop", "None"])
def test_ids_that_are_no_ids(world: World, server_id: str) -> None:
    answer = world.get(f"/servers/{server_id}")
    assert answer.status_code in (300, 404)


@pytest.mark.parametrize(
    "query",
    [
        "limit=-1", "limit=x", "marker=unknown", "changes-since=yesterday", "sort_key=secret",
        "changes-since=2020-13-01", "sort_dir=up",
        "all_tenants=maybe", "name=%00", "name=(", "ip=%5B", "sort_dir=asc&sort_dir=asc",
    ],
)  # fmt: skip
def test_queries_that_cannot_be(world: World, query: str) -> None:
    refused(world, 400, world.get(f"/servers?{query}"))


@pytest.mark.parametrize("version", ["2.1", "2.75"])
def test_unknown_query_keys_are_refused_from_2_75(world: World, version: str) -> None:
    assert world.get("/servers?what=1", version=version).status_code == (200 if version == "2.1" else 400)


@pytest.mark.parametrize("pattern", ["(a%2B)%2B$", "(.*)*.*(.*)*x", "(a|a|a)*b", "a{900}{900}", ".*.*.*.*.*.*.*x"])
def test_patterns_made_to_burn_time_do_not(world: World, pattern: str) -> None:
    world.create("a" * 255)

    def ask() -> None:
        assert world.get(f"/servers?name={pattern}").status_code in (200, 400)

    assert least_seconds(ask) < 0.5


@pytest.mark.parametrize("body", [{}, {"os-start": None, "os-stop": None}, {"fly": None}, {"reboot": {}}, [], "x"])
def test_actions_that_are_none(world: World, body: Any) -> None:
    server_id = world.create()
    assert world.post(f"/servers/{server_id}/action", body).status_code == 400


@pytest.mark.parametrize(
    ("verb", "more", "version", "status"),
    [
        ("enable", {}, "2.1", 200),
        ("enable", {"disabled_reason": "x"}, "2.1", 400),
        ("enable", {"forced_down": True}, "2.10", 400),
        ("enable", {"forced_down": True}, "2.11", 400),
        ("disable", {"disabled_reason": "x"}, "2.1", 400),
        ("disable-log-reason", {"disabled_reason": "x"}, "2.1", 200),
        ("disable-log-reason", {"disabled_reason": "x", "forced_down": True}, "2.11", 400),
        ("force-down", {"forced_down": True}, "2.11", 200),
        ("force-down", {"forced_down": True, "disabled_reason": "x"}, "2.11", 400),
    ],
)
def test_a_verb_for_a_service_reads_all_that_is_said(
    world: World, verb: str, more: dict[str, Any], version: str, status: int
) -> None:
    body = {"host": "east-1", "binary": "nova-compute", **more}
    assert world.call("PUT", f"/os-services/{verb}", body, token="admin", version=version).status_code == status


def test_a_failure_inside_stays_inside(world: World) -> None:
    def explode(*_: object, **__: object) -> None:
        raise RuntimeError("secret /etc/passwd detail")

    world.images.get_image = explode  # type: ignore[method-assign, assignment]
    answer = world.post("/servers", {"server": GOOD})
    assert answer.status_code == 500
    assert "secret" not in answer.get_data(as_text=True)
    assert answer.get_json()["computeFault"]["code"] == 500
