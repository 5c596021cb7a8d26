"""The other resources: flavors, keypairs, limits, quota sets, zones, services, hypervisors, extensions."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from tests.api.world import DEMO, OTHER, World

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGSXS8dJ/0bBcHAGQbbMXNbHMrFbOfVTQrqf5hPCN+kk me@here"
FLAVOR: dict[str, Any] = {"name": "f", "ram": 1024, "vcpus": 2, "disk": 3}


# ---- flavors ---------------------------------------------------------------------------------------------------------
def test_flavors_are_listed_and_shown(world: World) -> None:
    listed = world.get("/flavors").get_json()["flavors"]
    assert {"m1.tiny", "m1.small"} <= {flavor["name"] for flavor in listed}
    assert set(listed[0]) == {"id", "name", "links"}
    shown = world.get("/flavors/1").get_json()["flavor"]
    assert set(shown) == {
        "id", "name", "ram", "vcpus", "disk", "OS-FLV-EXT-DATA:ephemeral", "swap", "rxtx_factor",
        "OS-FLV-DISABLED:disabled", "os-flavor-access:is_public", "links",
    }  # fmt: skip
    assert shown["swap"] == ""
    assert world.get("/flavors/1", version="2.75").get_json()["flavor"]["swap"] == 0
    newest = world.get("/flavors/detail?is_public=None", version="2.61").get_json()["flavors"]
    assert {"description", "extra_specs"} <= set(newest[0])
    assert world.get("/flavors/m1.tiny").status_code == 404
    assert world.get("/flavors?marker=none-such").status_code == 400
    assert world.get("/flavors?minRam=x").status_code == 400
    assert [one["name"] for one in world.get("/flavors?minRam=10000").get_json()["flavors"]] == ["m1.xlarge"]


def test_pages_of_flavors(world: World) -> None:
    page = world.get("/flavors?limit=2").get_json()
    assert len(page["flavors"]) == 2
    link = page["flavors_links"][0]["href"].removeprefix("http://localhost")
    assert not {one["id"] for one in world.get(link).get_json()["flavors"]} & {one["id"] for one in page["flavors"]}


def test_private_flavors(world: World) -> None:
    body = {"flavor": {**FLAVOR, "os-flavor-access:is_public": False}}
    assert world.post("/flavors", body).status_code == 403
    flavor_id = world.post("/flavors", body, token="admin").get_json()["flavor"]["id"]
    assert world.get(f"/flavors/{flavor_id}").status_code == 404
    create = {"server": {"name": "x", "flavorRef": flavor_id, "imageRef": "0" * 32}}
    assert "could not be found" in world.post("/servers", create).get_json()["badRequest"]["message"]
    act = f"/flavors/{flavor_id}/action"
    assert world.post(act, {"addTenantAccess": {"tenant": DEMO}}, token="admin").status_code == 200
    assert world.post(act, {"addTenantAccess": {"tenant": DEMO}}, token="admin").status_code == 409
    assert world.get(f"/flavors/{flavor_id}").status_code == 200
    assert world.get(f"/flavors/{flavor_id}", token="other").status_code == 404
    access = world.get(f"/flavors/{flavor_id}/os-flavor-access", token="admin").get_json()
    assert access == {"flavor_access": [{"flavor_id": flavor_id, "tenant_id": DEMO}]}
    assert world.post(act, {"removeTenantAccess": {"tenant": DEMO}}, token="admin").status_code == 200
    assert world.post(act, {"removeTenantAccess": {"tenant": DEMO}}, token="admin").status_code == 404
    assert world.call("DELETE", f"/flavors/{flavor_id}", token="admin").status_code == 202


def test_flavors_are_managed(world: World) -> None:
    made = world.post("/flavors", {"flavor": {**FLAVOR, "id": "7"}}, token="admin")
    assert made.get_json()["flavor"]["id"] == "7"
    assert world.post("/flavors", {"flavor": {**FLAVOR, "id": "8"}}, token="admin").status_code == 409
    for wrong in ({"ram": 0}, {"vcpus": "x"}, {"name": ""}, {"ram": 1 << 40}, {"huge": 1}):
        assert world.post("/flavors", {"flavor": {**FLAVOR, "name": "g", **wrong}}, token="admin").status_code == 400
    path = "/flavors/7/os-extra_specs"
    assert world.post(path, {"extra_specs": {"a:b": "1", "c": 2}}, token="admin").status_code == 200
    assert world.get(path).get_json() == {"extra_specs": {"a:b": "1", "c": "2"}}
    assert world.get(f"{path}/c").get_json() == {"c": "2"}
    assert world.call("PUT", f"{path}/c", {"c": "3"}, token="admin").get_json() == {"c": "3"}
    assert world.call("DELETE", f"{path}/c", token="admin").status_code == 200
    assert world.get(f"{path}/c").status_code == 404
    answer = world.call("PUT", "/flavors/7", {"flavor": {"description": "d"}}, token="admin", version="2.55")
    assert answer.get_json()["flavor"]["description"] == "d"


# ---- keypairs --------------------------------------------------------------------------------------------------------
def test_keypairs_by_microversion(world: World) -> None:
    first = world.post("/os-keypairs", {"keypair": {"name": "a", "public_key": KEY}})
    assert (first.status_code, set(first.get_json()["keypair"])) == (
        200,
        {"name", "public_key", "fingerprint", "user_id"},
    )
    assert len(first.get_json()["keypair"]["fingerprint"]) == 47
    again = world.post("/os-keypairs", {"keypair": {"name": "a", "public_key": KEY}}, version="2.2")
    assert again.status_code == 409
    second = world.post("/os-keypairs", {"keypair": {"name": "b", "public_key": KEY}}, version="2.2")
    assert (second.status_code, second.get_json()["keypair"]["type"]) == (201, "ssh")
    assert [one["keypair"]["name"] for one in world.get("/os-keypairs").get_json()["keypairs"]] == ["a", "b"]
    assert world.get("/os-keypairs/a").get_json()["keypair"]["deleted"] is False
    assert world.get("/os-keypairs", token="other").get_json() == {"keypairs": []}
    assert world.get("/os-keypairs/a", token="other").status_code == 404
    assert world.call("DELETE", "/os-keypairs/a").status_code == 202
    assert world.call("DELETE", "/os-keypairs/b", version="2.2").status_code == 204
    assert world.call("DELETE", "/os-keypairs/b").status_code == 404


def test_a_generated_pair_fits_together(world: World) -> None:
    made = world.post("/os-keypairs", {"keypair": {"name": "g"}}, version="2.10").get_json()["keypair"]
    private = serialization.load_pem_private_key(made["private_key"].encode(), None)
    public = private.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    assert made["public_key"].startswith(public.decode())
    assert "private_key" not in world.get("/os-keypairs/g").get_json()["keypair"]
    assert world.post("/os-keypairs", {"keypair": {"name": "h"}}, version="2.92").status_code == 400


@pytest.mark.parametrize("user_id", ["demo-user", "u" * 255])
def test_a_generated_certificate_is_its_user_s(world: World, user_id: str) -> None:
    body = {"keypair": {"name": "g", "type": "x509", "user_id": user_id}}
    made = world.post("/os-keypairs", body, version="2.10", token="admin").get_json()["keypair"]
    key, certificate, _ = pkcs12.load_key_and_certificates(base64.b64decode(made["private_key"]), None)
    assert key is not None
    assert certificate is not None
    assert key.public_key() == certificate.public_key()
    assert certificate == x509.load_pem_x509_certificate(made["public_key"].encode())
    assert certificate.fingerprint(hashes.SHA1()).hex(":") == made["fingerprint"]  # noqa: S303 -- as in Nova
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    (principal,) = names.get_values_for_type(x509.OtherName)
    assert principal.value.endswith(f"{user_id}@localhost".encode())
    shown = world.get(f"/os-keypairs/g?user_id={user_id}", version="2.10", token="admin").get_json()["keypair"]
    assert (shown["type"], shown["user_id"], "private_key" in shown) == ("x509", user_id, False)
    assert world.post("/os-keypairs", body, version="2.92", token="admin").status_code == 400


@pytest.mark.parametrize("key", ["", "nonsense", "ssh-rsa AAAA", "ssh-ed25519 !!!", KEY + "\nssh-rsa AAAA"])
def test_keys_that_cannot_be_read(world: World, key: str) -> None:
    assert world.post("/os-keypairs", {"keypair": {"name": "x", "public_key": key}}).status_code == 400


def test_keys_of_others_are_for_administrators(world: World) -> None:
    body = {"keypair": {"name": "theirs", "public_key": KEY, "user_id": "demo-user"}}
    assert world.post("/os-keypairs", body, version="2.10", token="other").status_code == 403
    assert world.post("/os-keypairs", body, version="2.10", token="admin").status_code == 201
    assert world.get("/os-keypairs/theirs").status_code == 200
    assert world.get("/os-keypairs?user_id=demo-user", version="2.10", token="other").status_code == 403


# ---- limits and quota sets -------------------------------------------------------------------------------------------
def test_limits_shrink_with_the_microversion(world: World) -> None:
    world.create()
    old = world.get("/limits?reserved=1").get_json()["limits"]["absolute"]
    assert {"maxImageMeta", "maxPersonality", "maxTotalFloatingIps", "totalSecurityGroupsUsed"} <= set(old)
    assert (old["totalInstancesUsed"], old["totalCoresUsed"], old["totalRAMUsed"]) == (1, 1, 512)
    new = world.get("/limits", version="2.57").get_json()["limits"]["absolute"]
    assert not {"maxImageMeta", "maxPersonality", "maxTotalFloatingIps"} & set(new)
    for project in (OTHER, DEMO, ""):
        assert world.get(f"/limits?tenant_id={project}").status_code == 403
    assert world.get(f"/limits?tenant_id={DEMO}", token="admin").get_json()["limits"]["absolute"] == old


def test_quota_sets(world: World) -> None:
    world.create()
    assert world.get(f"/os-quota-sets/{DEMO}").get_json()["quota_set"]["instances"] == 1000
    assert world.get(f"/os-quota-sets/{OTHER}").status_code == 403
    detail = world.get(f"/os-quota-sets/{DEMO}/detail").get_json()["quota_set"]
    assert detail["instances"] == {"limit": 1000, "in_use": 1, "reserved": 0}
    body = {"quota_set": {"instances": 1}}
    assert world.call("PUT", f"/os-quota-sets/{DEMO}", body).status_code == 403
    assert world.call("PUT", f"/os-quota-sets/{DEMO}", {"quota_set": {"cores": 0}}, token="admin").status_code == 400
    assert world.call("PUT", f"/os-quota-sets/{DEMO}", body, token="admin").get_json()["quota_set"]["instances"] == 1
    assert world.get("/limits").get_json()["limits"]["absolute"]["maxTotalInstances"] == 1
    assert world.call("DELETE", f"/os-quota-sets/{DEMO}", token="admin").status_code == 202
    assert world.get(f"/os-quota-sets/{DEMO}/defaults").get_json()["quota_set"]["instances"] == 1000


# ---- zones, services, hypervisors ------------------------------------------------------------------------------------
def test_zones(world: World) -> None:
    zones = world.get("/os-availability-zone").get_json()["availabilityZoneInfo"]
    assert zones == [
        {"zoneName": f"zone-{name}", "zoneState": {"available": True}, "hosts": None} for name in ("east", "west")
    ]
    detail = world.get("/os-availability-zone/detail", token="admin").get_json()["availabilityZoneInfo"]
    by_name = {zone["zoneName"]: zone for zone in detail}
    assert set(by_name) == {"internal", "zone-east", "zone-west"}
    assert by_name["zone-east"]["hosts"]["east-1"]["nova-compute"]["active"] is True
    assert by_name["zone-east"]["hosts"]["east-1"]["nova-compute"]["available"] is True
    world.east.away = True
    detail = world.get("/os-availability-zone/detail", token="admin").get_json()["availabilityZoneInfo"]
    away = next(zone for zone in detail if zone["zoneName"] == "zone-east")
    assert away["zoneState"]["available"] or away["hosts"] is None
    inside = next(zone for zone in detail if zone["zoneName"] == "internal")["hosts"]
    assert {service["available"] for host in inside.values() for service in host.values()} == {True, False}


def test_services_in_both_shapes(world: World) -> None:
    old = world.get("/os-services?binary=nova-compute", token="admin").get_json()["services"]
    assert set(old[0]) == {
        "id", "binary", "host", "zone", "status", "state", "updated_at", "disabled_reason",
    }  # fmt: skip
    assert isinstance(old[0]["id"], int)
    new = world.get("/os-services?host=east-1&binary=nova-compute", token="admin", version="2.69").get_json()[
        "services"
    ]
    assert new[0]["forced_down"] is False
    path = f"/os-services/{new[0]['id']}"
    body = {"status": "disabled", "disabled_reason": "repair"}
    changed = world.call("PUT", path, body, token="admin", version="2.53").get_json()["service"]
    assert (changed["status"], changed["disabled_reason"]) == ("disabled", "repair")
    assert world.call("PUT", path, {"disabled_reason": "x"}, token="admin", version="2.53").status_code == 400
    verb = {"host": "east-1", "binary": "nova-compute"}
    assert world.call("PUT", "/os-services/enable", verb, token="admin").get_json() == {
        "service": {**verb, "status": "enabled"}
    }
    assert world.call("PUT", "/os-services/explode", verb, token="admin").status_code == 404
    assert world.call("PUT", "/os-services/enable", {**verb, "host": "none"}, token="admin").status_code == 404


@pytest.mark.parametrize("version", ["2.1", "2.53", "2.96"])
def test_a_service_is_deleted_unless_servers_are_on_its_host(world: World, version: str) -> None:
    def services() -> dict[tuple[str, str], Any]:
        found = world.get("/os-services?host=east-1", token="admin", version=version).get_json()["services"]
        return {(service["host"], service["binary"]): service["id"] for service in found}

    compute, conductor = ("east-1", "nova-compute"), ("east-1", "nova-conductor")
    path = f"/os-services/{services()[compute]}"
    assert world.call("DELETE", path, version=version).status_code == 403
    server_id = world.create()
    world.east.servers |= world.west.servers  # whichever has it
    assert server_id in world.east.servers
    assert world.call("DELETE", path, token="admin", version=version).status_code == 409
    assert compute in services()
    world.east.servers.clear()
    assert world.call("DELETE", path, token="admin", version=version).status_code == 204
    assert world.call("DELETE", path, token="admin", version=version).status_code == 404
    other = world.call("DELETE", f"/os-services/{services()[conductor]}", token="admin", version=version)
    assert other.status_code == 204
    assert not services().keys() & {compute, conductor}
    assert world.call("DELETE", "/os-services/east-1", token="admin", version=version).status_code == 400


def test_services_of_a_cell_that_is_away(world: World) -> None:
    world.get("/os-services", token="admin")
    world.east.away = True
    newest = world.get("/os-services?host=east-1", token="admin", version="2.69").get_json()["services"]
    assert {frozenset(service) for service in newest} == {frozenset({"binary", "host", "status"})}
    assert {service["status"] for service in newest} == {"UNKNOWN"}
    old = world.get("/os-services?host=east-1", token="admin").get_json()["services"]
    assert {service["state"] for service in old} == {"down"}


def test_hypervisors_in_three_shapes(world: World) -> None:
    world.create()
    oldest = world.get("/os-hypervisors/detail", token="admin").get_json()["hypervisors"]
    assert isinstance(oldest[0]["id"], int)
    assert isinstance(oldest[0]["cpu_info"], str)
    middle = world.get("/os-hypervisors/detail?with_servers=true", token="admin", version="2.87").get_json()[
        "hypervisors"
    ]
    assert sum(len(host.get("servers", ())) for host in middle) == 1
    assert isinstance(middle[0]["cpu_info"], dict)
    assert middle[0]["memory_mb"] == 8192
    newest = world.get("/os-hypervisors/detail", token="admin", version="2.88").get_json()["hypervisors"]
    assert not {"vcpus", "cpu_info", "memory_mb"} & set(newest[0])
    assert "up 1 day" in newest[0]["uptime"]
    shown = world.get(f"/os-hypervisors/{newest[0]['id']}", token="admin", version="2.88").get_json()["hypervisor"]
    assert shown == newest[0]
    assert world.get(f"/os-hypervisors/{oldest[0]['id']}/uptime", token="admin").status_code == 200
    assert world.get("/os-hypervisors/east-1", token="admin", version="2.88").status_code == 400
    statistics = world.get("/os-hypervisors/statistics", token="admin").get_json()["hypervisor_statistics"]
    assert (statistics["count"], statistics["running_vms"]) == (2, 1)
    assert world.get("/os-hypervisors/statistics", token="admin", version="2.88").status_code == 404
    matching = world.get("/os-hypervisors?hypervisor_hostname_pattern=east", token="admin", version="2.53").get_json()
    assert [host["hypervisor_hostname"] for host in matching["hypervisors"]] == ["east-1"]
    for path in ("/os-hypervisors", "/os-hypervisors/detail"):
        none = world.get(f"{path}?hypervisor_hostname_pattern=none", token="admin", version="2.53")
        assert none.status_code == 404


@pytest.mark.parametrize(
    ("path", "version", "code"),
    [
        *((f"/os-hypervisors/east/{end}", "2.52", 200) for end in ("search", "servers")),
        *((f"/os-hypervisors/nothing/{end}", "2.52", 404) for end in ("search", "servers")),
        *((f"/os-hypervisors/east/{end}", "2.53", 404) for end in ("search", "servers")),
        ("/os-hypervisors/{number}/uptime", "2.52", 200),
        ("/os-hypervisors/{id}/uptime", "2.52", 404),
        ("/os-hypervisors/{number}/uptime", "2.53", 400),
        ("/os-hypervisors/{id}/uptime", "2.53", 200),
        ("/os-hypervisors/{id}/uptime", "2.88", 404),
        ("/os-hypervisors/{number}", "2.52", 200),
        ("/os-hypervisors/{id}", "2.52", 404),
        ("/os-hypervisors/{number}", "2.53", 400),
        ("/os-hypervisors/00000000-0000-4000-8000-000000000000", "2.53", 404),
    ],
)
def test_routes_of_one_hypervisor(world: World, path: str, version: str, code: int) -> None:
    ids = {
        name: world.get("/os-hypervisors", token="admin", version=shown).get_json()["hypervisors"][0]["id"]
        for name, shown in (("number", "2.52"), ("id", "2.53"))
    }
    answer = world.get(path.format(**ids), token="admin", version=version)
    assert answer.status_code == code, answer.text
    if code == 200 and "uptime" in path:
        assert set(answer.get_json()["hypervisor"]) == {"id", "hypervisor_hostname", "state", "status", "uptime"}


def test_servers_of_the_hypervisors_of_a_pattern(world: World) -> None:
    made = {world.create(f"vm{number}"): f"vm{number}" for number in range(6)}
    for path in ("/os-hypervisors/-1/servers", "/os-hypervisors/east/servers"):
        found = world.get(path, token="admin", version="2.52").get_json()["hypervisors"]
        names = ["east-1", "west-1"] if "-1" in path else ["east-1"]
        assert [one["hypervisor_hostname"] for one in found] == names
        for one in found:
            cell = one["hypervisor_hostname"].removesuffix("-1")
            there = {key: name for key, name in made.items() if world.cell_of(key).name == cell}
            assert {server["uuid"]: server["name"] for server in one.get("servers", ())} == there
            assert ("servers" in one) is bool(there)  # as Nova: no key for none
    assert world.get("/os-hypervisors/east/servers").status_code == 403


def test_hypervisors_of_a_cell_that_is_away_are_shown_as_last_known(world: World) -> None:
    world.get("/os-hypervisors", token="admin")
    world.east.away = True
    hosts = world.get("/os-hypervisors", token="admin").get_json()["hypervisors"]
    assert {host["hypervisor_hostname"]: host["state"] for host in hosts} == {"east-1": "down", "west-1": "up"}


def test_extensions(world: World) -> None:
    listed = world.get("/extensions").get_json()["extensions"]
    assert "Hosts" in {extension["name"] for extension in listed}
    assert world.get("/extensions/os-hosts").get_json()["extension"]["alias"] == "os-hosts"
    for alias in ("none", "os-cells", "os-evacuate"):
        assert world.get(f"/extensions/{alias}").status_code == 404
    aliases = {extension["alias"] for extension in listed}
    assert {"os-server-groups", "os-keypairs", "os-pause-server", "OS-SCH-HNT", "os-quota-sets"} <= aliases
    assert "os-evacuate" not in aliases, "what is not served is not named"


# ---- operators -------------------------------------------------------------------------------------------------------
def test_operators_routes(world: World) -> None:
    server_id = world.create()
    for path in ("cells", "cells/east", "hosts", "servers", f"servers/{server_id}", f"servers/{server_id}/timeline",
                 "operations", f"operations?server={server_id}", "findings"):  # fmt: skip
        assert world.get(f"/operator/v1/{path}").status_code == 403
        assert world.get(f"/operator/v1/{path}", token="admin").status_code == 200
    findings = world.get("/operator/v1/findings", token="admin").get_json()["findings"]
    assert {finding["severity"] for finding in findings if finding["check"] == "quota"} == {"ok"}
