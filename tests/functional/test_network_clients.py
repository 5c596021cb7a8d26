"""The standard clients against the embedded network service: what they make, show, list, change and delete."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from openstack.config import get_cloud_region
from openstack.connection import Connection

from tests.embedded_cloud import PASSWORDS, EmbeddedCloud, make_top_database, served
from tests.network_api import add_member
from tests.openstack_client import run

pytestmark = [
    pytest.mark.filterwarnings("ignore:Support for InfluxDB"),  # of the SDK, at its first use
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),  # of the SDK, for what it does itself
]
EXTERNAL = "router:external"


@dataclass(frozen=True)
class Site:
    """The same cloud by the SDK, as demo and as an administrator, and by commands."""

    cloud: EmbeddedCloud
    demo: Connection
    admin: Connection
    clouds_file: Path

    def command(self, *words: str, who: str = "demo", shown: bool = True) -> Any:
        """Return what a command says, as JSON."""
        environment = {**os.environ, "OS_CLIENT_CONFIG_FILE": str(self.clouds_file)}
        more = ["-f", "json"] if shown else []
        status, said, complained = run(["--os-cloud", who], [*words, *more], environment)
        assert status == 0, (words, complained)
        return json.loads(said) if shown else said


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("clients")
    database = make_top_database(folder / "top.db")
    with served(database, folder) as cloud:
        add_member(cloud, "other")
        who = {"demo": PASSWORDS.demo, "admin": PASSWORDS.admin}
        clouds = {
            name: {
                "auth": {
                    "auth_url": cloud.settings.identity.auth_url,
                    "username": name,
                    "password": password,
                    "project_name": "demo",
                    "user_domain_id": "default",
                    "project_domain_id": "default",
                },
                "region_name": "RegionOne",
            }
            for name, password in who.items()
        }
        path = folder / "clouds.yaml"
        path.write_text(yaml.safe_dump({"clouds": clouds}))
        demo, admin = (
            Connection(config=get_cloud_region(load_envvars=False, load_yaml_config=False, **clouds[name]))
            for name in who
        )
        yield Site(cloud=cloud, demo=demo, admin=admin, clouds_file=path)
        demo.close()
        admin.close()
    database.close()


def test_the_sdk_makes_shows_changes_finds_and_deletes_each_kind(site: Site) -> None:
    sdk, admin = site.demo.network, site.admin.network
    other = site.cloud.project("other")
    outer = admin.create_network(name="outer", **{EXTERNAL: True, "project_id": "f" * 32})
    admin.create_subnet(network_id=outer.id, cidr="203.0.113.0/24", ip_version=4)
    network = sdk.create_network(name="n")
    subnet = sdk.create_subnet(network_id=network.id, cidr="10.1.0.0/24", ip_version=4, name="n")
    port = sdk.create_port(network_id=network.id, name="n", fixed_ips=[{"subnet_id": subnet.id}])
    router = sdk.create_router(name="n", external_gateway_info={"network_id": outer.id})
    sdk.add_interface_to_router(router, subnet_id=subnet.id)
    address = sdk.create_ip(floating_network_id=outer.id, port_id=port.id)
    group = sdk.create_security_group(name="n")
    rule = sdk.create_security_group_rule(
        security_group_id=group.id, direction="ingress", protocol="tcp", port_range_min=1, port_range_max=2
    )
    policy = sdk.create_rbac_policy(
        object_type="network", object_id=network.id, action="access_as_shared", target_project_id=other
    )
    assert (policy.target_project_id, policy.project_id) == (other, site.cloud.project("demo"))
    kinds: list[tuple[str, str, Any, bool]] = [
        ("rbac_policy", "rbac_policies", policy, False),
        ("security_group_rule", "security_group_rules", rule, False),
        ("ip", "ips", address, False),
        ("port", "ports", port, True),
        ("router", "routers", router, True),
        ("subnet", "subnets", subnet, True),
        ("security_group", "security_groups", group, True),
        ("network", "networks", network, True),
    ]
    for kind, many, made, named in kinds:
        assert getattr(sdk, f"get_{kind}")(made.id).id == made.id, kind
        assert [one.id for one in getattr(sdk, many)(id=made.id)] == [made.id], kind
        assert made.id in {one.id for one in getattr(sdk, many)(limit=1)}, kind  # page by page
        if named:
            changed = getattr(sdk, f"update_{kind}")(made.id, description="changed")
            assert (changed.description, changed.revision_number > made.revision_number) == ("changed", True), kind
            assert getattr(sdk, f"find_{kind}")("n", ignore_missing=False).id == made.id, kind
            assert sdk.set_tags(made, ["a", "b"]).tags == ["a", "b"], kind
            assert [one.id for one in getattr(sdk, many)(tags="a,b")] == [made.id], kind
            assert [one.id for one in getattr(sdk, many)(not_tags="a", id=made.id)] == [], kind
    for kind, _, made, _ in kinds:
        if kind == "router":
            sdk.remove_interface_from_router(router, subnet_id=subnet.id)
        getattr(sdk, f"delete_{kind}")(made.id, ignore_missing=False)
        assert getattr(sdk, f"delete_{kind}")(made.id, ignore_missing=True) is None, kind


def test_the_sdk_reads_what_administrators_see(site: Site) -> None:
    sdk = site.admin.network
    network = sdk.create_network(name="counted")
    sdk.create_subnet(network_id=network.id, cidr="10.2.0.0/28", ip_version=4)
    sdk.create_subnet(network_id=network.id, cidr="2001:db8:2::/48", ip_version=6)
    sdk.create_port(network_id=network.id)
    counted = sdk.get_network_ip_availability(network.id)
    assert counted.used_ips == 2
    by_version = {one["ip_version"]: one["total_ips"] for one in counted.subnet_ip_availability}
    assert by_version == {4: 13, 6: (1 << 80) - 2}
    (found,) = sdk.network_ip_availabilities(network_name="counted", ip_version=4)
    assert [one["ip_version"] for one in found.subnet_ip_availability] == [4]
    assert list(site.demo.network.network_ip_availabilities()) == []
    assert list(sdk.agents()) == list(site.demo.network.agents()) == []  # this cloud has no hosts
    project = site.cloud.project("demo")
    assert sdk.get_quota(project).rbac_policies == 10
    assert sdk.get_quota(project, details=True).networks["used"] >= 1
    sdk.update_quota(project, routers=3)
    assert (sdk.get_quota(project).routers, sdk.get_quota_default(project).routers) == (3, 10)
    sdk.delete_quota(project)
    assert {zone.resource for zone in sdk.availability_zones()} == {"network", "router"}
    assert sdk.find_extension("rbac-policies", ignore_missing=False).alias == "rbac-policies"
    assert sdk.find_extension("trunk", ignore_missing=True) is None


COMMANDS: list[tuple[list[str], str, Callable[[Any], Any], Any]] = [
    (["network", "create", "c", "--mtu", "1300"], "demo", lambda it: (it["name"], it["mtu"]), ("c", 1300)),
    (
        ["subnet", "create", "c", "--network", "c", "--subnet-range", "10.3.0.0/24", "--dns-nameserver", "10.3.0.9"],
        "demo",
        lambda it: (it["gateway_ip"], it["dns_nameservers"]),
        ("10.3.0.1", ["10.3.0.9"]),
    ),
    (["network", "list", "--name", "c"], "demo", lambda it: [one["Name"] for one in it], ["c"]),
    (["subnet", "list", "--network", "c", "--ip-version", "4"], "demo", lambda it: [one["Name"] for one in it], ["c"]),
    (["security", "group", "create", "c"], "demo", lambda it: len(it["rules"]), 2),
    (
        [
            "security",
            "group",
            "rule",
            "create",
            "c",
            "--protocol",
            "tcp",
            "--dst-port",
            "22",
            "--remote-ip",
            "10.0.0.0/8",
        ],
        "demo",
        lambda it: (it["protocol"], it["port_range_max"], it["remote_ip_prefix"]),
        ("tcp", 22, "10.0.0.0/8"),
    ),
    (["security", "group", "rule", "list", "c", "--ingress"], "demo", len, 1),
    (
        [
            "port",
            "create",
            "c",
            "--network",
            "c",
            "--fixed-ip",
            "subnet=c,ip-address=10.3.0.7",
            "--security-group",
            "c",
        ],
        "demo",
        lambda it: it["fixed_ips"][0]["ip_address"],
        "10.3.0.7",
    ),
    (["port", "list", "--fixed-ip", "ip-substring=10.3.0.7"], "demo", lambda it: [one["Name"] for one in it], ["c"]),
    (["router", "create", "c"], "demo", lambda it: it["status"], "ACTIVE"),
    (["router", "list", "--name", "c"], "demo", len, 1),
    (["network", "create", "o", "--external", "--share"], "admin", lambda it: it["router:external"], True),
    (
        ["subnet", "create", "o", "--network", "o", "--subnet-range", "198.51.100.0/24"],
        "admin",
        lambda it: it["name"],
        "o",
    ),
    (["network", "rbac", "list", "--type", "network", "--action", "access_as_external"], "admin", bool, True),
    (["floating", "ip", "create", "o"], "demo", lambda it: it["status"], "DOWN"),
    (["floating", "ip", "list", "--network", "o"], "demo", len, 1),
    (
        [
            "network",
            "rbac",
            "create",
            "c",
            "--type",
            "network",
            "--action",
            "access_as_shared",
            "--target-project",
            "other",
        ],
        "admin",
        lambda it: (it["object_type"], it["action"]),
        ("network", "access_as_shared"),
    ),
    (["network", "agent", "list"], "admin", len, 0),
    (["ip", "availability", "list"], "admin", lambda it: {one["Network Name"] for one in it} >= {"c", "o"}, True),
    (["ip", "availability", "show", "c"], "admin", lambda it: (it["network_name"], it["used_ips"]), ("c", 1)),
    (["extension", "list", "--network"], "demo", lambda it: {one["Alias"] for one in it} >= {"router", "agent"}, True),
    (["availability", "zone", "list", "--network"], "demo", lambda it: {one["Zone Name"] for one in it}, {"nova"}),
]
SAID_NOTHING = [
    ["network", "set", "c", "--description", "x", "--tag", "t"],
    ["network", "unset", "c", "--tag", "t"],
    ["subnet", "set", "c", "--host-route", "destination=10.9.0.0/24,gateway=10.3.0.2", "--tag", "t"],
    ["subnet", "unset", "c", "--host-route", "destination=10.9.0.0/24,gateway=10.3.0.2"],
    ["port", "set", "c", "--allowed-address", "ip-address=10.3.0.99", "--disable"],
    ["port", "set", "c", "--no-allowed-address", "--enable"],
    ["router", "add", "subnet", "c", "c"],
    ["router", "set", "c", "--external-gateway", "o", "--route", "destination=10.8.0.0/24,gateway=10.3.0.7"],
    ["router", "unset", "c", "--route", "destination=10.8.0.0/24,gateway=10.3.0.7"],
    ["router", "unset", "c", "--external-gateway"],
    ["router", "remove", "subnet", "c", "c"],
    ["security", "group", "set", "c", "--description", "x"],
    ["port", "delete", "c"],
    ["security", "group", "delete", "c"],
    ["router", "delete", "c"],
    ["subnet", "delete", "c"],
    ["network", "delete", "c"],
]


def test_commands_make_and_show(site: Site) -> None:
    for words, who, look, expected in COMMANDS:
        assert (words, look(site.command(*words, who=who))) == (words, expected)
    for words in SAID_NOTHING:
        site.command(*words, shown=False)
    assert site.command("network", "list", "--name", "c") == []
