"""What identity, image and network must do alike: the embedded services, and the real adapters over HTTP."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import subprocess
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from cellcloud import errors
from cellcloud.clients.glance import GlanceClient
from cellcloud.clients.identity import IdentityClient
from cellcloud.clients.image import OWNER_TOO, ImageClient
from cellcloud.clients.keystone import KeystoneClient
from cellcloud.clients.network import NetworkClient
from cellcloud.clients.neutron import NeutronClient
from cellcloud.db.engine import Database
from cellcloud.db.listing import Page
from cellcloud.embedded.identity import Login, Scope
from cellcloud.embedded.viewer import Viewer
from cellcloud.model.identity import (
    DOMAIN,
    PROJECT,
    SYSTEM,
    AccessRule,
    ApplicationCredential,
    Domain,
    Grant,
)
from cellcloud.model.image import Image, ImageQuery
from cellcloud.model.network import NewPort, Port, RequestedNetwork
from cellcloud.model.security_group import SecurityGroup, SecurityGroupRule
from tests.embedded_cloud import EmbeddedCloud, make_cloud, served
from tests.libvirt_node import wait_until

SERVER = "00000000-0000-4000-8000-00000000000{}"
NOWHERE = "00000000-0000-4000-8000-ffffffffffff"


@dataclass(frozen=True)
class Clients:
    cloud: EmbeddedCloud
    identity: IdentityClient
    images: ImageClient
    networks: NetworkClient

    @property
    def demo(self) -> str:
        return self.cloud.project("demo")

    def ensure(
        self, number: int, requested: tuple[RequestedNetwork, ...], *, host: str = "h1", adopt: bool = True
    ) -> tuple[Port, ...]:
        return self.networks.ensure_ports(
            server_id=SERVER.format(number),
            project_id=self.demo,
            host=host,
            zone="nova",
            hostname="vm",
            requested=requested,
            adopt=adopt,
        )

    def default(self) -> tuple[RequestedNetwork, ...]:
        return self.networks.check_networks(self.demo, None, count=1)

    def own_port(self, project: str = "demo") -> str:
        network = self.default()[0].network_id or ""
        new = NewPort(network_id=network, project_id=self.cloud.project(project))
        return self.cloud.networks.create_ports(ADMIN, [new])[0].port.id


ADMIN = Viewer(project_id="", is_admin=True)


@pytest.fixture(params=["embedded", "http"])
def clients(request: pytest.FixtureRequest, top_database: Database, tmp_path: Path) -> Iterator[Clients]:
    if request.param == "embedded":
        cloud = make_cloud(top_database, tmp_path)
        yield Clients(cloud, cloud.identity, cloud.images, cloud.networks)
        return
    with served(top_database, tmp_path) as cloud:
        settings = cloud.settings
        yield Clients(
            cloud,
            KeystoneClient.from_config(settings),
            GlanceClient.from_config(settings),
            NeutronClient.from_config(settings),
        )


# ---- identity ------------------------------------------------------------------------------------------------------
def test_a_token_says_who_holds_it(clients: Clients) -> None:
    caller = clients.identity.validate_token(clients.cloud.token("demo", "demo-password"))
    assert (caller.user_name, caller.project_name, caller.project_id) == ("demo", "demo", clients.demo)
    assert set(caller.roles) == {"member", "reader"}
    assert caller.expires_at.tzinfo is not None


def test_an_administrator_has_the_lesser_roles_too(clients: Clients) -> None:
    caller = clients.identity.validate_token(clients.cloud.token("admin", "admin-password"))
    assert set(caller.roles) == {"admin", "manager", "member", "reader"}


@pytest.mark.parametrize("kind", [PROJECT, DOMAIN, SYSTEM, ""])
def test_a_token_says_what_it_is_for(clients: Clients, kind: str) -> None:
    """The same of each scope, whoever answers; for nothing, it gives no roles."""
    identity = clients.cloud.identity
    domain = identity.directory.domains.create(Domain(id="d" * 32, name="d"))
    project = identity.directory.create_project("p", domain_id=domain.id)
    user = identity.accounts.create_user("u", "password", domain_id=domain.id)
    (role,) = identity.assignments.roles.list_all(name="reader")
    places = {PROJECT: project.id, DOMAIN: domain.id, SYSTEM: "all"}
    scopes = {
        PROJECT: Scope(project_id=project.id),
        DOMAIN: Scope(domain_id=domain.id),
        SYSTEM: Scope(system=True),
        "": Scope(unscoped=True),
    }
    if kind:
        identity.assignments.add_grant(Grant(actor_id=user.id, scope=kind, scope_id=places[kind], role_id=role.id))
    token, _ = identity.issue_token([Login(user_id=user.id, password="password")], scopes[kind])
    caller = clients.identity.validate_token(token)
    assert (caller.user_id, caller.domain_id) == (user.id, domain.id)
    assert (caller.project_id, caller.project_domain_id) == ((project.id, domain.id) if kind == PROJECT else ("", ""))
    assert caller.scope_domain_id == (domain.id if kind == DOMAIN else "")
    assert caller.system == (kind == SYSTEM)
    assert caller.roles == (("reader",) if kind else ())
    assert caller.access_rules is None


def test_rules_of_access_come_with_a_token(clients: Clients) -> None:
    identity = clients.cloud.identity
    token = identity.get_token_facts(clients.cloud.token("demo", "demo-password"))
    rule = AccessRule(id="r", user_id=token.user.id, service="compute", method="GET", path="/v2.1/servers")
    wanted = ApplicationCredential(id="a" * 32, name="a", user_id=token.user.id, project_id=clients.demo)
    made, secret = identity.credentials.create(wanted, token=token, secret=None, rules=[rule])
    issued, _ = identity.issue_token([Login(credential_id=made.id, secret=secret)], Scope())
    caller = clients.identity.validate_token(issued)
    assert caller.access_rules == (("compute", "GET", "/v2.1/servers"),)
    assert (caller.user_name, caller.project_name, set(caller.roles)) == ("demo", "demo", {"member", "reader"})


@pytest.mark.parametrize("token", ["", "unknown", "x" * 43, "a\nb", "é" * 40])
def test_an_unknown_token_is_refused(clients: Clients, token: str) -> None:
    with pytest.raises(errors.Unauthenticated):
        clients.identity.validate_token(token)


def test_a_revoked_token_is_dead_at_once(clients: Clients) -> None:
    token = clients.cloud.token("demo", "demo-password")
    clients.identity.validate_token(token)
    clients.cloud.identity.revoke_token(token)
    with pytest.raises(errors.Unauthenticated):
        clients.identity.validate_token(token)


def test_which_projects_there_are(clients: Clients) -> None:
    found = {
        project_id: clients.identity.has_project(project_id) for project_id in (clients.demo, "f" * 32, "..", "a/b", "")
    }
    assert found == {clients.demo: True, "f" * 32: False, "..": False, "a/b": False, "": False}


def test_the_services_own_token_is_an_administrators(clients: Clients) -> None:
    caller = clients.identity.validate_token(clients.identity.get_token())
    assert {"service", "admin"} <= set(caller.roles)
    assert clients.identity.get_token() == clients.identity.get_token()


# ---- image ---------------------------------------------------------------------------------------------------------
def test_an_image_and_its_bytes(clients: Clients) -> None:
    data = bytes(range(256)) * 9000
    made = clients.cloud.image(data, name="tiny", min_ram=64, properties={"os_distro": "none"}, tags=("a",))
    shown = clients.images.get_image(made.id, project_id=clients.demo, is_admin=False)
    assert shown == made
    assert shown.os_hash_value == hashlib.sha512(data).hexdigest()
    assert shown.checksum == hashlib.md5(data, usedforsecurity=False).hexdigest()
    assert (shown.size, shown.virtual_size, shown.status) == (len(data), len(data), "active")
    assert b"".join(clients.images.open_image(made.id)) == data


@pytest.mark.parametrize("image_id", [NOWHERE, "no-uuid", "a/b", "..", ""])
def test_an_unknown_image(clients: Clients, image_id: str) -> None:
    with pytest.raises(errors.NotFound):
        clients.images.get_image(image_id, project_id=clients.demo, is_admin=True)
    with pytest.raises(errors.NotFound):
        clients.images.open_image(image_id)


@pytest.mark.parametrize(
    ("visibility", "seen"), [("private", False), ("shared", False), ("community", True), ("public", True)]
)
def test_who_sees_an_image(clients: Clients, visibility: str, seen: bool) -> None:
    made = clients.cloud.image(b"x" * 512, visibility=visibility)
    clients.images.get_image(made.id, project_id=clients.demo, is_admin=False)
    clients.images.get_image(made.id, project_id="other", is_admin=True)
    if seen:
        clients.images.get_image(made.id, project_id="other", is_admin=False)
        return
    with pytest.raises(errors.NotFound) as foreign:
        clients.images.get_image(made.id, project_id="other", is_admin=False)
    with pytest.raises(errors.NotFound) as absent:
        clients.images.get_image(NOWHERE, project_id="other", is_admin=False)
    assert foreign.value.message.replace(made.id, "") == absent.value.message.replace(NOWHERE, "")


def test_an_image_without_bytes_cannot_be_opened(clients: Clients) -> None:
    made = clients.cloud.image()
    assert clients.images.get_image(made.id, project_id=clients.demo, is_admin=False).status == "queued"
    with pytest.raises(errors.NotFound):
        clients.images.open_image(made.id)


def snapshot(clients: Clients, number: int, **changes: object) -> Image:
    """A new image without bytes, of a server."""
    properties = {"instance_uuid": SERVER.format(number), "image_type": "backup", "backup_type": "daily"}
    wanted = Image(id=str(uuid.uuid4()), name=f"s{number}", owner=clients.demo, properties=properties)
    return clients.images.ensure_image(replace(wanted, **changes))  # type: ignore[arg-type]  # fields, by name


def test_an_image_of_a_server_is_made_once_and_filled_once(clients: Clients) -> None:
    data = bytes(range(256)) * 9000
    made = snapshot(clients, 1, min_disk=1, tags=("t",))
    assert (made.status, made.owner, made.min_disk, made.tags) == ("queued", clients.demo, 1, ("t",))
    assert clients.images.ensure_image(made) == made
    with pytest.raises(errors.Conflict):
        clients.images.ensure_image(replace(made, properties={}))
    for _ in range(2):
        clients.images.fill_image(made.id, len(data), iter([data[:1000], data[1000:]]))
    shown = clients.images.get_image(made.id, project_id=clients.demo, is_admin=False)
    assert (shown.status, shown.size, shown.properties) == ("active", len(data), made.properties)
    assert b"".join(clients.images.open_image(made.id)) == data
    with pytest.raises(errors.Conflict):
        clients.images.fill_image(made.id, 1, iter([b"x"]))
    for _ in range(2):
        clients.images.discard_image(made.id)
    with pytest.raises(errors.NotFound):
        clients.images.fill_image(made.id, 1, iter([b"x"]))


def test_an_image_of_a_server_on_volumes_has_no_bytes(clients: Clients) -> None:
    said = json.dumps([{"source_type": "snapshot", "snapshot_id": SERVER.format(1)}] * 26)
    made = snapshot(clients, 2)
    clients.images.edit_properties(
        made.id, lambda properties: {**properties, "block_device_mapping": said}, project_id="", is_admin=True
    )
    for _ in range(2):
        clients.images.fill_image(made.id, 0, ())
    shown = clients.images.get_image(made.id, project_id=clients.demo, is_admin=False)
    assert (shown.status, shown.size, shown.properties) == (
        "active",
        0,
        {**made.properties, "block_device_mapping": said},
    )
    with pytest.raises(errors.Invalid):
        clients.images.fill_image(snapshot(clients, 3).id, 0, ())


def test_the_cloud_itself_reads_a_deactivated_image(clients: Clients) -> None:
    made = clients.cloud.image(b"x" * 512)
    clients.cloud.images.deactivate(made.id, project_id="", is_admin=True)
    assert clients.images.get_image(made.id, project_id=clients.demo, is_admin=False).status == "deactivated"
    assert b"".join(clients.images.open_image(made.id)) == b"x" * 512
    clients.images.fill_image(made.id, 512, iter([b"x" * 512]))


def test_a_shared_image_is_seen_by_its_members(clients: Clients) -> None:
    made = snapshot(clients, 1, visibility="shared")
    other = clients.cloud.project("admin")
    who = {"project_id": other, "is_admin": False}
    with pytest.raises(errors.NotFound):
        clients.images.get_image(made.id, **who)  # type: ignore[arg-type]
    clients.cloud.images.members.create_member(made.id, other, project_id=clients.demo, is_admin=False)
    assert clients.images.get_image(made.id, **who).id == made.id  # type: ignore[arg-type]
    offered = snapshot(clients, 2, visibility="shared", owner=other, properties={OWNER_TOO: clients.demo})
    clients.images.get_image(offered.id, project_id=clients.demo, is_admin=False)


@pytest.mark.parametrize(("image_format", "name"), [("vmdk", "vmdk"), ("vhd", "vpc"), ("qcow2", "qcow2")])
def test_bytes_of_other_formats_and_what_is_none_of_them(
    clients: Clients, tmp_path: Path, image_format: str, name: str
) -> None:
    disk = tmp_path / "disk"
    subprocess.run(["qemu-img", "create", "-q", "-f", name, str(disk), "1M"], check=True)
    data, made = disk.read_bytes(), snapshot(clients, 1, disk_format=image_format)
    with pytest.raises(errors.Invalid):
        clients.images.fill_image(made.id, 512, iter([b"x" * 512]))

    def fill() -> bool:
        with suppress(errors.Busy):
            clients.images.fill_image(made.id, len(data), iter([data]))
            return True
        return False

    wait_until(fill)
    shown = clients.images.get_image(made.id, project_id=clients.demo, is_admin=False)
    assert (shown.status, shown.disk_format, shown.size) == ("active", image_format, len(data))
    assert (shown.virtual_size or 0) >= 1 << 20


def test_an_upload_that_breaks_off_leaves_an_image_that_can_be_filled(clients: Clients) -> None:
    made = snapshot(clients, 1)

    def broken() -> Iterator[bytes]:
        yield b"x" * 512
        raise errors.Stale("no more")

    with pytest.raises(errors.Stale):
        clients.images.fill_image(made.id, 1024, broken())

    def fill() -> bool:
        try:
            clients.images.fill_image(made.id, 1024, iter([b"x" * 1024]))
        except errors.Busy:
            return False
        return True

    wait_until(fill)
    assert clients.images.get_image(made.id, project_id=clients.demo, is_admin=False).size == 1024


def test_who_uploads_while_another_does_is_told_to_wait(clients: Clients) -> None:
    made, data, begin = snapshot(clients, 1), b"x" * 1024, threading.Barrier(6)

    def fill() -> type[Exception] | None:
        begin.wait()
        try:
            clients.images.fill_image(made.id, len(data), iter([data]))
        except errors.CellcloudError as error:
            return type(error)
        return None

    with ThreadPoolExecutor(6) as pool:
        told = {each.result() for each in [pool.submit(fill) for _ in range(6)]}
    assert None in told
    assert told <= {None, errors.Busy}
    assert clients.images.get_image(made.id, project_id=clients.demo, is_admin=False).size == len(data)


def test_an_upload_from_which_bytes_are_missing_makes_no_image(clients: Clients) -> None:
    made = snapshot(clients, 1)
    with pytest.raises(errors.CellcloudError):
        clients.images.fill_image(made.id, 1024, iter([b"x" * 512]))
    assert clients.images.get_image(made.id, project_id=clients.demo, is_admin=False).status != "active"


def test_images_are_searched(clients: Clients) -> None:
    public = clients.cloud.image(b"x" * 512, name="public", visibility="public", owner="else")
    mine = [snapshot(clients, number, name=f"a:{number}", min_ram=number) for number in (1, 2, 3)]
    snapshot(clients, 4, owner="else", name="theirs")

    def found(*, is_admin: bool = False, **query: object) -> list[str]:
        asked = ImageQuery(**query)  # type: ignore[arg-type]  # fields, by name
        return sorted(
            image.name for image in clients.images.search_images(asked, project_id=clients.demo, is_admin=is_admin)
        )

    assert found() == ["a:1", "a:2", "a:3", "public"]
    assert found(is_admin=True) == ["a:1", "a:2", "a:3", "public", "theirs"]
    assert found(name="a:2") == ["a:2"]
    assert found(status="active") == ["public"]
    assert found(min_ram=3) == ["a:3"]
    assert found(owner="else", is_admin=True) == ["public", "theirs"]
    assert found(properties=(("instance_uuid", SERVER.format(1)), ("backup_type", "daily"))) == ["a:1"]
    assert found(properties=(("instance_uuid", SERVER.format(1)), ("backup_type", "weekly"))) == []
    assert found(changed_since=dt.datetime(2999, 1, 1, tzinfo=dt.UTC)) == []
    assert found(changed_since=dt.datetime(2020, 1, 1, tzinfo=dt.UTC), status="queued") == ["a:1", "a:2", "a:3"]
    pages, after = [], None
    while page := clients.images.search_images(
        ImageQuery(limit=3, after=after), project_id=clients.demo, is_admin=False
    ):
        pages += [image.id for image in page]
        after = page[-1].id
    assert sorted(pages) == sorted([public.id, *(image.id for image in mine)])
    with pytest.raises(errors.Invalid):
        found(after=NOWHERE)


def test_properties_are_edited_and_images_deleted_by_their_owners(clients: Clients) -> None:
    made = clients.cloud.image(name="mine", properties={"a": "1", "b/c": "2"}, visibility="public")
    who = {"project_id": clients.demo, "is_admin": False}
    edited = clients.images.edit_properties(made.id, lambda known: {**known, "a": "9", "d~": "3"}, **who)  # type: ignore[arg-type]
    assert edited.properties == {"a": "9", "b/c": "2", "d~": "3"}
    assert clients.images.edit_properties(made.id, lambda known: {"a": "9"}, **who).properties == {"a": "9"}  # type: ignore[arg-type]
    for other, error in (("else", errors.Forbidden),):
        with pytest.raises(error):
            clients.images.edit_properties(made.id, lambda known: {}, project_id=other, is_admin=False)
        with pytest.raises(error):
            clients.images.delete_image(made.id, project_id=other, is_admin=False)
    clients.images.delete_image(made.id, **who)  # type: ignore[arg-type]
    with pytest.raises(errors.NotFound):
        clients.images.delete_image(made.id, **who)  # type: ignore[arg-type]


# ---- network: what may be asked for --------------------------------------------------------------------------------
def test_the_one_network_is_the_default(clients: Clients) -> None:
    (wanted,) = clients.default()
    assert wanted.network_id is not None


def test_several_networks_need_a_choice(clients: Clients) -> None:
    clients.cloud.network(clients.demo, "10.9.0.0/24")
    with pytest.raises(errors.Conflict, match="Multiple possible networks"):
        clients.default()


def test_without_networks_there_are_no_ports(clients: Clients) -> None:
    (network,) = clients.cloud.networks.list_networks(ADMIN)
    clients.cloud.networks.delete_network(ADMIN, network.id)
    assert clients.default() == ()
    assert clients.ensure(1, ()) == ()


def test_another_projects_things_are_unknown(clients: Clients) -> None:
    foreign = clients.cloud.network(clients.cloud.project("admin"), "10.9.0.0/24").id
    port = clients.own_port("admin")
    for wanted in (
        RequestedNetwork(network_id=foreign),
        RequestedNetwork(network_id=NOWHERE),
        RequestedNetwork(network_id="../ports"),
        RequestedNetwork(port_id=port),
        RequestedNetwork(port_id=NOWHERE),
    ):
        with pytest.raises(errors.Invalid, match="could not be found"):
            clients.networks.check_networks(clients.demo, [wanted], count=1)


def test_addresses_that_cannot_be_had(clients: Clients) -> None:
    network = clients.default()[0].network_id
    (port,) = clients.ensure(1, clients.default())
    taken = port.fixed_ips[0].ip_address
    for address in (taken, "10.100.0.1", "10.100.0.0", "10.100.255.255", "192.168.0.1", "nonsense", "::1"):
        wanted = RequestedNetwork(network_id=network, fixed_ip=address)
        with pytest.raises(errors.Invalid):
            clients.networks.check_networks(clients.demo, [wanted], count=1)
    free = RequestedNetwork(network_id=network, fixed_ip="10.100.7.7")
    assert clients.networks.check_networks(clients.demo, [free], count=1) == (free,)
    with pytest.raises(errors.Invalid):
        clients.networks.check_networks(clients.demo, [free], count=2)
    assert clients.ensure(2, (free,))[0].fixed_ips[0].ip_address == "10.100.7.7"
    with pytest.raises(errors.Conflict):
        clients.ensure(3, (free,))


# ---- network: ports of servers ---------------------------------------------------------------------------------------
def test_a_port_has_all_that_its_host_needs(clients: Clients) -> None:
    (port,) = clients.ensure(1, clients.default())
    (address,) = port.fixed_ips
    assert (port.network_name, port.mtu, port.owned, port.host_id) == ("private", 1400, True, "h1")
    assert (port.device_id, port.project_id) == (SERVER.format(1), clients.demo)
    assert port.mac_address.startswith("fa:16:3e:")
    assert (address.ip_address, address.cidr, address.gateway_ip) == ("10.100.0.2", "10.100.0.0/16", "10.100.0.1")
    assert clients.networks.list_ports(SERVER.format(1)) == (port,)


def test_whether_a_subnet_has_dhcp_is_told_to_hosts_and_kept_while_they_serve_it(clients: Clients) -> None:
    network = clients.cloud.network(clients.demo, "10.9.0.0/24").id
    (subnet,) = clients.cloud.networks.get_network(ADMIN, network).subnet_ids
    clients.cloud.networks.update_subnet(ADMIN, subnet, {"enable_dhcp": False})
    (port,) = clients.ensure(1, (RequestedNetwork(network_id=network),))
    assert not port.fixed_ips[0].enable_dhcp
    assert clients.networks.list_ports(SERVER.format(1)) == (port,)
    with pytest.raises(errors.Conflict):
        clients.cloud.networks.update_subnet(ADMIN, subnet, {"enable_dhcp": True})
    assert clients.cloud.networks.update_subnet(ADMIN, subnet, {"enable_dhcp": False, "name": "n"}).name == "n"
    private = clients.cloud.networks.list_networks(ADMIN, Page.of(name=["private"]))[0].id
    (leased,) = clients.ensure(2, (RequestedNetwork(network_id=private),))
    assert leased.fixed_ips[0].enable_dhcp


def test_how_many_ports_a_project_may_still_have(clients: Clients) -> None:
    before = clients.networks.count_free_ports(clients.demo)
    assert before == 500
    clients.ensure(1, clients.default() * 2)
    assert clients.networks.count_free_ports(clients.demo) == 498
    with pytest.raises(errors.QuotaExceeded):
        clients.ensure(2, clients.default() * 499)
    clients.networks.delete_ports(SERVER.format(1))
    assert clients.networks.count_free_ports(clients.demo) == 500


def test_servers_that_leave_together_leave_the_others_ports(clients: Clients) -> None:
    for number in range(1, 6):
        clients.ensure(number, clients.default())
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: clients.networks.delete_ports(SERVER.format(number)), range(1, 5)))
    found = clients.networks.list_ports_of([SERVER.format(number) for number in range(1, 6)])
    left = [len(found[SERVER.format(number)]) for number in range(1, 6)]
    assert left == [0, 0, 0, 0, 1]


def test_a_second_call_returns_the_first_ones_ports(clients: Clients) -> None:
    other = clients.cloud.network(clients.demo, "10.9.0.0/24").id
    private = clients.cloud.networks.list_networks(ADMIN, Page.of(name=["private"]))[0].id
    requested = (
        RequestedNetwork(network_id=private, tag="front"),
        RequestedNetwork(network_id=other),
        RequestedNetwork(network_id=private),
    )
    first = clients.ensure(1, requested, adopt=False)
    assert [port.network_id for port in first] == [private, other, private]
    assert [port.tag for port in first] == ["front", None, None]
    assert clients.ensure(1, requested) == first
    moved = clients.ensure(1, requested, host="h2")
    assert [port.id for port in moved] == [port.id for port in first]
    assert {port.host_id for port in moved} == {"h2"}
    assert len(clients.networks.list_ports(SERVER.format(1))) == 3


def test_a_first_attempt_that_is_none_makes_nothing_twice(clients: Clients) -> None:
    first = clients.ensure(1, clients.default() * 2, adopt=False)
    assert clients.ensure(1, clients.default() * 2, adopt=False) == first
    assert clients.networks.list_ports(SERVER.format(1)) == first


def test_what_a_call_that_was_cut_off_has_left_is_completed(clients: Clients) -> None:
    private = clients.default()[0]
    first = clients.ensure(1, (private,))
    both = clients.ensure(1, (private, private))
    assert both[0] == first[0]
    assert len({port.id for port in both}) == 2


def test_deleting_twice_leaves_nothing(clients: Clients) -> None:
    clients.ensure(1, clients.default())
    (kept,) = clients.ensure(2, clients.default())
    clients.networks.delete_ports(SERVER.format(1))
    clients.networks.delete_ports(SERVER.format(1))
    assert clients.networks.list_ports(SERVER.format(1)) == ()
    assert clients.networks.list_ports(SERVER.format(2)) == (kept,)


def test_a_lent_port_goes_back(clients: Clients) -> None:
    port_id = clients.own_port()
    wanted = (RequestedNetwork(port_id=port_id, tag="t"), clients.default()[0])
    assert clients.networks.check_networks(clients.demo, wanted, count=1) == wanted
    with pytest.raises(errors.Invalid):
        clients.networks.check_networks(clients.demo, wanted, count=2)
    lent, made = clients.ensure(1, wanted)
    assert (lent.id, lent.owned, lent.tag, lent.device_id, lent.host_id) == (
        port_id,
        False,
        "t",
        SERVER.format(1),
        "h1",
    )
    assert made.owned
    assert clients.ensure(1, wanted) == (lent, made)
    with pytest.raises(errors.Conflict, match="still in use"):
        clients.networks.check_networks(clients.demo, wanted, count=1)
    with pytest.raises(errors.Conflict, match="still in use"):
        clients.ensure(2, wanted)
    clients.networks.delete_ports(SERVER.format(1))
    clients.networks.delete_ports(SERVER.format(2))
    free = clients.cloud.networks.get_port(ADMIN, port_id)
    assert (free.port.device_id, free.port.host_id, free.device_index, free.device_owner) == ("", "", None, "")
    assert clients.ensure(2, wanted[:1])[0].id == port_id


def test_a_tenant_cannot_slip_a_port_to_a_server(clients: Clients) -> None:
    network = clients.default()[0].network_id or ""
    new = NewPort(network_id=network, project_id=clients.demo, device_id=SERVER.format(1))
    clients.cloud.networks.create_ports(Viewer(project_id=clients.demo), [new])
    assert clients.networks.list_ports(SERVER.format(1)) == ()
    clients.networks.delete_ports(SERVER.format(1))
    assert len(clients.cloud.networks.list_port_records(ADMIN)) == 1


def test_racing_requests_get_different_addresses(clients: Clients) -> None:
    network = RequestedNetwork(network_id=clients.cloud.network(clients.demo, "10.9.0.0/28").id)

    def one(number: int) -> str | None:
        try:
            return clients.ensure(number % 8, (network,))[0].fixed_ips[0].ip_address
        except errors.Conflict:
            return None

    with ThreadPoolExecutor(4) as pool:
        first = list(pool.map(one, range(8)))
        again = list(pool.map(one, range(16)))
    assert None not in first
    assert len(set(first)) == 8
    assert again == first * 2


def test_a_full_subnet_says_so_and_gives_again_what_came_back(clients: Clients) -> None:
    network = RequestedNetwork(network_id=clients.cloud.network(clients.demo, "10.9.0.0/29").id)
    held = {number: clients.ensure(number, (network,))[0].fixed_ips[0].ip_address for number in range(5)}
    assert sorted(held.values()) == [f"10.9.0.{n}" for n in range(2, 7)]
    with pytest.raises(errors.Conflict, match="No more IP addresses"):
        clients.ensure(5, (network,))
    with pytest.raises(errors.Conflict, match="No more IP addresses"):
        clients.ensure(6, (network, network))
    clients.networks.delete_ports(SERVER.format(3))
    assert clients.networks.list_ports(SERVER.format(6)) == ()
    assert clients.ensure(5, (network,))[0].fixed_ips[0].ip_address == held[3]


def test_a_security_group_that_is_not_there(clients: Clients) -> None:
    project = clients.cloud.project("demo")
    clients.networks.check_security_groups(project, ["default"])
    with pytest.raises(errors.Invalid, match="Unable to find security_group"):
        clients.networks.check_security_groups(project, ["default", "web"])


def test_a_security_group_is_named_by_its_name_or_its_id(clients: Clients) -> None:
    groups = clients.cloud.networks.security_groups
    web, twin, _ = groups.create_groups(
        [SecurityGroup(id="", name=name, project_id=clients.demo) for name in ("web", "twin", "twin")]
    )
    for names, bound in (([web.id], [web.id]), (["web", web.id], [web.id]), ([twin.id, "web"], [twin.id, web.id])):
        clients.networks.check_security_groups(clients.demo, names)
        (port,) = clients.networks.ensure_ports(
            server_id=str(uuid.uuid4()),
            project_id=clients.demo,
            host="h1",
            zone="nova",
            hostname="vm",
            requested=clients.default(),
            security_groups=names,
        )
        assert list(port.security_groups) == bound
    with pytest.raises(errors.Conflict, match="Multiple security_group matches found for name 'twin'"):
        clients.networks.check_security_groups(clients.demo, ["twin"])
    with pytest.raises(errors.Conflict):
        groups.delete_group(ADMIN, web.id)
    (port,) = clients.ensure(1, clients.default())
    assert list(port.security_groups) == [groups.ensure_default(clients.demo)]


def test_what_the_compute_api_passes_on_of_security_groups(clients: Clients) -> None:
    groups, mine = clients.networks.security_group_client, clients.demo
    web = groups.create_group(mine, "web", "d")
    assert (web.name, web.description, web.project_id) == ("web", "d", mine)
    rule = SecurityGroupRule(
        id="",
        security_group_id=web.id,
        protocol="tcp",
        port_range_min=80,
        port_range_max=80,
        remote_ip_prefix="10.0.0.0/8",
    )
    made = groups.create_rule(mine, rule)
    with pytest.raises(errors.Conflict, match="already exists"):
        groups.create_rule(mine, rule)
    assert made.id in {one.id for one in groups.get_group(mine, web.id).rules}
    assert groups.update_group(mine, web.id, "www", "").name == "www"
    assert {group.name for group in groups.list_groups(mine)} >= {"default", "www"}
    other = clients.cloud.project("admin")
    groups.create_group(other, "theirs", "")
    assert {group.project_id for group in groups.list_groups(None)} >= {mine, other}
    clients.ensure(1, clients.default())
    server = SERVER.format(1)
    assert groups.change_server(mine, server, add=["www"]) == ("default", "www")
    assert [group.id for group in groups.list_groups_of_server(server)][1] == web.id
    with pytest.raises(errors.Conflict):
        groups.delete_group(mine, web.id)
    assert groups.change_server(mine, server, remove=["default"]) == ("www",)
    for wanted in ({"remove": ["default"]}, {"add": ["absent"]}, {"remove": ["absent"]}):
        with pytest.raises(errors.NotFound):
            groups.change_server(mine, server, **wanted)
    with pytest.raises(errors.Invalid):
        groups.change_server(mine, SERVER.format(2), add=["www"])
    groups.delete_rule(mine, made.id)
    groups.change_server(mine, server, remove=["www"])
    groups.delete_group(mine, web.id)
    for ask in (
        lambda: groups.get_group(mine, web.id),
        lambda: groups.delete_rule(mine, made.id),
        lambda: groups.get_group(other, next(one.id for one in groups.list_groups(mine))),
    ):
        with pytest.raises(errors.NotFound):
            ask()
    default = next(one.id for one in groups.list_groups(mine) if one.is_default)
    with pytest.raises(errors.Conflict):
        groups.delete_group(mine, default)
