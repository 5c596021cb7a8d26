"""Who may write which attribute of a port: a bound one stays its server's, whatever is asked and by whom."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from flask.testing import FlaskClient

from cellcloud.model.identity import Grant
from cellcloud.model.network import RequestedNetwork
from tests.embedded_cloud import PASSWORDS, EmbeddedCloud, make_cloud, make_top_database

BOUND = {"cellcloud_index": 0, "cellcloud_owned": True}
LIMITS = {
    "network": 100,
    "subnet": 100,
    "port": 500,
    "router": 10,
    "floatingip": 50,
    "rbac_policy": 10,
    "security_group": 10,
    "security_group_rule": 100,
}
ROLES = ("member", "reader", "tenant", "service", "admin")
OWN_DEVICE = "its own server"  # stands for the id of the server that has the port

# attribute, value, and the answers to a member and a reader of the port's project, a member of another project, the
# service role and an administrator
BOUND_PORT: list[tuple[str, Any, tuple[int, ...]]] = [
    ("name", "n", (200, 403, 404, 200, 200)),
    ("description", "d", (200, 403, 404, 200, 200)),
    ("admin_state_up", True, (200, 403, 404, 200, 200)),
    ("admin_state_up", False, (200, 403, 404, 200, 200)),
    ("security_groups", [], (200, 403, 404, 200, 200)),
    ("security_groups", ["web"], (404, 403, 404, 404, 404)),
    ("port_security_enabled", False, (403, 403, 404, 409, 409)),
    (
        "allowed_address_pairs",
        [{"ip_address": "10.0.0.0/8", "mac_address": "fa:16:3e:00:00:01"}],
        (403, 403, 404, 200, 200),
    ),
    ("fixed_ips", [], (200, 403, 404, 200, 200)),
    ("mac_address", "fa:16:3e:00:00:99", (403, 403, 403, 409, 409)),
    ("device_id", OWN_DEVICE, (200, 403, 404, 200, 200)),
    ("device_id", "", (409, 403, 404, 200, 200)),
    ("device_id", "another server", (409, 403, 404, 409, 409)),
    ("device_owner", "compute:zone", (409, 403, 404, 200, 200)),
    ("device_owner", "", (409, 403, 404, 200, 200)),
    ("device_owner", "network:dhcp", (403, 403, 403, 200, 200)),
    ("binding:host_id", "h2", (403, 403, 403, 200, 200)),
    ("binding:host_id", "h1", (403, 403, 403, 200, 200)),
    ("binding:host_id", "", (403, 403, 403, 200, 200)),
    ("binding:host_id", None, (403, 403, 403, 200, 200)),
    ("binding:profile", BOUND, (403, 403, 403, 200, 200)),
    ("binding:profile", {}, (403, 403, 403, 409, 409)),
    ("binding:profile", None, (403, 403, 403, 409, 409)),
    ("binding:profile", {"cellcloud_index": 1, "cellcloud_owned": True}, (403, 403, 403, 409, 409)),
    ("binding:profile", {"cellcloud_index": 0, "cellcloud_owned": False}, (403, 403, 403, 409, 409)),
    ("binding:profile", {"cellcloud_index": -1}, (400, 403, 400, 400, 400)),
    ("binding:profile", {**BOUND, "cellcloud_placement": 5}, (403, 403, 403, 200, 200)),
    ("binding:profile", {**BOUND, "cellcloud_placement": -1}, (400, 403, 400, 400, 400)),
    ("binding:profile", {**BOUND, "cellcloud_placement": "5"}, (400, 403, 400, 400, 400)),
    ("binding:profile", {"pci_slot": "0000:00:00.0"}, (400, 403, 400, 400, 400)),
    ("binding:vnic_type", "normal", (200, 403, 404, 200, 200)),
    ("binding:vnic_type", "direct", (400, 403, 400, 400, 400)),
    *(
        (name, value, (400, 403, 400, 400, 400))
        for name, value in {
            "binding:vif_type": "ovs",
            "binding:vif_details": {},
            "network_id": "n",
            "project_id": "p",
            "tenant_id": "p",
            "status": "DOWN",
            "id": "i",
        }.items()
    ),
]
FREE_PORT: list[tuple[str, Any, tuple[int, ...]]] = [
    ("device_id", "a router of one's own", (200, 403, 404, 200, 200)),
    ("device_owner", "compute:zone", (200, 403, 404, 200, 200)),
    ("device_owner", "network:dhcp", (403, 403, 403, 200, 200)),
    ("binding:host_id", "h1", (403, 403, 403, 200, 200)),
    ("binding:host_id", None, (403, 403, 403, 200, 200)),
    ("binding:profile", None, (403, 403, 403, 200, 200)),
    ("binding:profile", {}, (403, 403, 403, 200, 200)),
    ("binding:profile", BOUND, (403, 403, 403, 400, 400)),  # which answers the request of no server
]
NEW_PORT: list[tuple[str, Any, tuple[int, ...]]] = [
    ("binding:host_id", "h1", (403, 403, 403, 201, 201)),
    ("binding:host_id", "", (403, 403, 403, 201, 201)),
    ("binding:host_id", None, (403, 403, 403, 201, 201)),
    ("binding:profile", {}, (403, 403, 403, 201, 201)),
    ("binding:profile", None, (403, 403, 403, 201, 201)),
    ("binding:profile", BOUND, (403, 403, 403, 400, 400)),
    ("device_owner", "network:dhcp", (403, 403, 403, 201, 201)),
    ("device_id", "d", (201, 403, 201, 201, 201)),
    ("admin_state_up", False, (201, 403, 201, 201, 201)),
]


@dataclass(frozen=True)
class Ports:
    """The network API, asked in every role, and ports to ask for."""

    cloud: EmbeddedCloud
    client: FlaskClient
    tokens: dict[str, str]
    network: str

    def ask(
        self, who: str, method: str, path: str, body: Any = None, *, if_match: str | None = None
    ) -> tuple[int, Any]:
        headers = {"X-Auth-Token": self.tokens[who]} | ({} if if_match is None else {"If-Match": if_match})
        answer = self.client.open(f"/network/v2.0/{path}", method=method, headers=headers, json=body)
        return answer.status_code, answer.get_json() if answer.data else None

    def bind(self) -> tuple[str, str]:
        """A port of project demo that a new server has: its id and the server's."""
        server_id = str(uuid.uuid4())
        (port,) = self.cloud.networks.ensure_ports(
            server_id=server_id,
            project_id=self.cloud.project("demo"),
            host="h1",
            zone="nova",
            hostname="a",
            requested=[RequestedNetwork(network_id=self.network)],
        )
        return port.id, server_id

    def show(self, port_id: str) -> dict[str, Any]:
        """All of it, as far as it is not the time of its last change."""
        status, body = self.ask("admin", "GET", f"ports/{port_id}")
        assert status == 200
        return {name: value for name, value in body["port"].items() if name != "updated_at"}


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ports]:
    directory = tmp_path_factory.mktemp("cloud")
    database = make_top_database(directory / "top.db")
    cloud = make_cloud(database, directory)
    cloud.identity.directory.create_project("other")
    roles = {role.name: role.id for role in cloud.identity.assignments.roles.list_all()}
    tokens = {"member": cloud.token("demo", PASSWORDS.demo), "admin": cloud.token("admin", PASSWORDS.admin, "admin")}
    for name, project, role in (
        ("reader", "demo", "reader"),
        ("tenant", "other", "member"),
        ("service", "other", "service"),
    ):
        user = cloud.identity.accounts.create_user(name, "password")
        cloud.identity.assignments.add_grant(
            Grant(actor_id=user.id, scope_id=cloud.project(project), role_id=roles[role])
        )
        tokens[name] = cloud.token(name, "password", project)
    client = cloud.app().test_client()
    yield Ports(cloud, client, tokens, cloud.network(cloud.project("admin"), "10.9.0.0/16", shared=True).id)
    database.close()


@pytest.mark.parametrize(("name", "value", "answers"), BOUND_PORT, ids=lambda value: str(value)[:40])
def test_what_each_role_may_change_of_a_bound_port(
    ports: Ports, name: str, value: Any, answers: tuple[int, ...]
) -> None:
    for who, expected in zip(ROLES, answers, strict=True):
        port_id, server_id = ports.bind()
        before = ports.show(port_id)
        wanted = server_id if value == OWN_DEVICE else value
        status, _ = ports.ask(who, "PUT", f"ports/{port_id}", {"port": {name: wanted}})
        assert (who, status) == (who, expected)
        after = ports.show(port_id)
        if status != 200:
            assert after == before, who
        else:
            assert after.get(name) in (wanted, wanted or ""), who


@pytest.mark.parametrize(("name", "value", "answers"), FREE_PORT, ids=lambda value: str(value)[:40])
def test_what_each_role_may_change_of_a_free_port(
    ports: Ports, name: str, value: Any, answers: tuple[int, ...]
) -> None:
    for who, expected in zip(ROLES, answers, strict=True):
        _, made = ports.ask("member", "POST", "ports", {"port": {"network_id": ports.network}})
        status, _ = ports.ask(who, "PUT", f"ports/{made['port']['id']}", {"port": {name: value}})
        assert (who, status) == (who, expected)
        assert ports.ask("member", "DELETE", f"ports/{made['port']['id']}")[0] == 204


@pytest.mark.parametrize(("name", "value", "answers"), NEW_PORT, ids=lambda value: str(value)[:40])
def test_what_each_role_may_give_a_new_port(ports: Ports, name: str, value: Any, answers: tuple[int, ...]) -> None:
    for who, expected in zip(ROLES, answers, strict=True):
        status, _ = ports.ask(who, "POST", "ports", {"port": {"network_id": ports.network, name: value}})
        assert (who, status) == (who, expected)


def test_a_bound_port_and_what_it_stands_on_are_deleted_by_nobody_who_may_not_bind(ports: Ports) -> None:
    port_id, server_id = ports.bind()
    before = ports.show(port_id)
    (subnet,) = {ip["subnet_id"] for ip in before["fixed_ips"]}
    for path, answers in (
        (f"ports/{port_id}", (409, 403, 404)),
        (f"subnets/{subnet}", (403, 403, 403, 403, 409)),
        (f"networks/{ports.network}", (403, 403, 403, 403, 409)),
    ):
        for who, expected in zip(ROLES, answers, strict=False):
            assert (path, who, ports.ask(who, "DELETE", path)[0]) == (path, who, expected)
    hidden = {"network": {"shared": False}}
    assert ports.ask("admin", "PUT", f"networks/{ports.network}", hidden)[0] == 409
    assert ports.show(port_id) == before
    assert [port.id for port in ports.cloud.networks.list_ports(server_id)] == [port_id]


def test_who_may_bind_releases_a_port_as_a_whole(ports: Ports) -> None:
    for who in ("service", "admin"):
        _, made = ports.ask("member", "POST", "ports", {"port": {"network_id": ports.network, "name": who}})
        path = f"ports/{made['port']['id']}"
        lent = {"device_id": "server", "device_owner": "compute:nova", "binding:host_id": "h1"}
        lent |= {"binding:profile": {"cellcloud_index": 0}}
        assert ports.ask(who, "PUT", path, {"port": lent})[0] == 200
        assert ports.ask("member", "DELETE", path)[0] == 409
        kept = {"device_id": "", "binding:host_id": "h1"}
        assert ports.ask(who, "PUT", path, {"port": kept})[0] == 400
        status, body = ports.ask(who, "PUT", path, {"port": {"device_id": ""}})
        assert status == 200
        free = {name: body["port"][name] for name in lent}
        assert free == {"device_id": "", "device_owner": "", "binding:host_id": "", "binding:profile": {}}
        assert ports.ask("member", "DELETE", path)[0] == 204


def test_a_port_goes_to_no_earlier_placement(ports: Ports) -> None:
    path = f"ports/{ports.bind()[0]}"
    for number, status in ((7, 200), (6, 409), (7, 200), (8, 200)):
        profile = {"binding:profile": {**BOUND, "cellcloud_placement": number}}
        assert ports.ask("service", "PUT", path, {"port": profile})[0] == status
    assert ports.ask("service", "PUT", path, {"port": {"binding:profile": BOUND}})[0] == 409
    assert ports.ask("admin", "GET", path)[1]["port"]["binding:profile"]["cellcloud_placement"] == 8


def test_a_port_is_changed_and_deleted_at_the_revision_that_is_asked_for(ports: Ports) -> None:
    _, made = ports.ask("member", "POST", "ports", {"port": {"network_id": ports.network}})
    port_id, name = made["port"]["id"], {"port": {"name": "n"}}
    path = f"ports/{port_id}"
    assert made["port"]["revision_number"] == 1
    status, changed = ports.ask("member", "PUT", path, name, if_match="revision_number=1")
    assert (status, changed["port"]["revision_number"]) == (200, 2)
    for method in ("PUT", "DELETE"):
        status, said = ports.ask("member", method, path, name, if_match="revision_number=1")
        assert (method, status, said["NeutronError"]["type"]) == (method, 412, "RevisionNumberConstraintFailed")
        for senseless in ("revision_number=x", "revision_number=1, revision_number=2"):
            assert ports.ask("member", method, path, name, if_match=senseless)[0] == 400
    for revision, found in ((2, [port_id]), (1, [])):
        listed = ports.ask("member", "GET", f"ports?id={port_id}&revision_number={revision}")[1]["ports"]
        assert [one["id"] for one in listed] == found
    assert ports.ask("member", "DELETE", path, if_match="revision_number=2")[0] == 204


def test_limits_as_neutron_tells_of_them(ports: Ports) -> None:
    """65 calls of a thousand ports took every address of the shared network; now the first does not take one."""
    project = ports.cloud.project("other")
    for _ in range(3):
        many = {"ports": [{"network_id": ports.network}] * 1000}
        status, body = ports.ask("tenant", "POST", "ports", many)
        assert (status, body["NeutronError"]["type"]) == (409, "OverQuota")
        assert body["NeutronError"]["message"] == "Quota exceeded for resources: ['port']."
    _, shown = ports.ask("tenant", "GET", f"quotas/{project}")
    assert shown == {"quota": LIMITS}
    _, details = ports.ask("admin", "GET", f"quotas/{project}/details.json")
    made = len(ports.ask("tenant", "GET", "ports?fields=id")[1]["ports"])
    assert details["quota"]["port"] == {"limit": 500, "used": made, "reserved": 0}
    assert ports.ask("member", "GET", f"quotas/{project}")[0] == 403
    for number in range(101):
        status, body = ports.ask("tenant", "POST", "networks", {"network": {"name": str(number)}})
    assert (status, body["NeutronError"]["type"]) == (409, "OverQuota")
    network_id = ports.ask("tenant", "GET", "networks?name=0")[1]["networks"][0]["id"]
    for number in range(101):
        subnet = {"network_id": network_id, "cidr": f"10.0.{number}.0/24"}
        status, body = ports.ask("tenant", "POST", "subnets", {"subnet": subnet})
    assert (status, body["NeutronError"]["type"]) == (409, "OverQuota")


@pytest.mark.parametrize(
    ("method", "what", "body", "answers"),
    [
        ("GET", "/{own}", None, (200, 200, 403, 403, 200)),
        ("GET", "/{own}/default", None, (200, 200, 403, 403, 200)),
        ("GET", "/{own}/details", None, (200, 200, 403, 403, 200)),
        ("GET", "", None, (403, 403, 403, 403, 200)),
        ("PUT", "/{own}", {"quota": {"port": 600}}, (403, 403, 403, 403, 200)),
        ("PUT", "/{own}", {"quota": {"port": -1, "force": True}}, (403, 403, 403, 403, 200)),
        ("PUT", "/{own}", {"quota": {"network": 0, "check_limit": True}}, (403, 403, 403, 403, 200)),
        ("PUT", "/{own}", {"quota": {"port": -2}}, (403, 403, 403, 403, 400)),
        ("PUT", "/{own}", {"quota": {"port": "many"}}, (403, 403, 403, 403, 400)),
        ("PUT", "/{own}", {"quota": {"trunk": 5}}, (403, 403, 403, 403, 400)),
        ("DELETE", "/{own}", None, (403, 403, 403, 403, 204)),
    ],
)
def test_who_may_see_and_set_quotas(ports: Ports, method: str, what: str, body: Any, answers: tuple[int, ...]) -> None:
    own = ports.cloud.project("demo")
    for who, expected in zip(ROLES, answers, strict=True):
        status, said = ports.ask(who, method, f"quotas{what.format(own=own)}", body)
        assert (who, status) == (who, expected)
        if (method, status) == ("PUT", 200):
            ((name, limit), *_) = body["quota"].items()
            assert said["quota"][name] == limit
            assert own in [entry["project_id"] for entry in ports.ask("admin", "GET", "quotas")[1]["quotas"]]
    ports.ask("admin", "DELETE", f"quotas/{own}")
    shown = ports.ask("member", "GET", f"quotas/{own}")[1]
    assert shown == {"quota": LIMITS}


def test_ranges_overlap_but_within_a_network(ports: Ports) -> None:
    """As everybody's ranges are their own, no answer tells of another's."""
    for who in ("member", "member", "admin"):
        _, made = ports.ask(who, "POST", "networks", {"network": {"name": "n"}})
        wanted = {"network_id": made["network"]["id"], "cidr": "10.100.0.0/16"}
        assert ports.ask(who, "POST", "subnets", {"subnet": wanted})[0] == 201
        assert ports.ask(who, "POST", "subnets", {"subnet": wanted | {"cidr": "10.100.3.0/24"}})[0] == 400
        assert ports.ask(who, "POST", "ports", {"port": {"network_id": made["network"]["id"]}})[0] == 201
