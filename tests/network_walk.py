"""A walk over networks of real guests: who reaches whom on hosts of both cells, from outside, and who must not.

Guests are logged into from this machine, as a user would, by their floating IPs.
"""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import yaml

from tests.cloud import Api, Cloud, until

BOOT_SECONDS = 400.0
CIDR = "10.9.0.0/24"
SSH = ("-q", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=5")
NOBODY = "nobody"


def _ask(api: Api, method: str, url: str, body: Any = None) -> Any:
    headers = {"X-Auth-Token": api.token}
    answer = requests.request(method, url, json=body, headers=headers, timeout=60, verify=api.verify)
    assert answer.status_code < 300, (method, url, answer.status_code, answer.text)
    return answer.json() if answer.content else None


@dataclass
class Tenant:
    """A new project as its administrator: who may say on which host a server shall be."""

    cloud: Cloud
    project: str

    def __post_init__(self) -> None:
        known = yaml.safe_load(self.cloud.clouds_file.read_text())["clouds"]["cellcloud-admin"]
        admin = Api(known)
        made = _ask(admin, "POST", f"{admin.identity}/projects", {"project": {"name": self.project}})["project"]["id"]
        (user,) = _ask(admin, "GET", f"{admin.identity}/users?name=admin")["users"]
        (role,) = _ask(admin, "GET", f"{admin.identity}/roles?name=admin")["roles"]
        _ask(admin, "PUT", f"{admin.identity}/projects/{made}/users/{user['id']}/roles/{role['id']}")
        known["auth"]["project_name"] = self.project
        self.api = Api(known)

    def network(self, method: str, path: str, body: Any = None) -> Any:
        return _ask(self.api, method, f"{self.api.url}/network/v2.0/{path}", body)

    def make(self, kind: str, **fields: Any) -> dict[str, Any]:
        made: dict[str, Any] = self.network("POST", f"{kind}s".replace("_", "-"), {kind: fields})[kind]
        return made

    def list_of(self, kind: str, **wanted: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.network(
            "GET", f"{kind}s?" + "&".join(f"{k}={v}" for k, v in wanted.items())
        )[f"{kind}s"]
        return found

    def lay(self, name: str) -> dict[str, str]:
        """Make a network with a router to the outside, and a group that lets logins and pings in; their ids."""
        (public,) = self.list_of("network", name="public")
        network = self.make("network", name=name)
        subnet = self.make("subnet", name=name, network_id=network["id"], cidr=CIDR, ip_version=4)
        router = self.make("router", name=name, external_gateway_info={"network_id": public["id"]})
        self.network("PUT", f"routers/{router['id']}/add_router_interface", {"subnet_id": subnet["id"]})
        group = self.make("security_group", name=name)
        self.let_in(group["id"], protocol="tcp", port_range_min=22, port_range_max=22)
        self.let_in(group["id"], protocol="icmp")
        return {
            "network": network["id"],
            "subnet": subnet["id"],
            "router": router["id"],
            "group": group["id"],
            "public": public["id"],
        }

    def let_in(self, group: str, **rule: Any) -> str:
        made = self.make("security_group_rule", security_group_id=group, direction="ingress", ethertype="IPv4", **rule)
        return str(made["id"])

    def boot(self, laid: dict[str, str], name: str, host: str, address: str, public_key: str) -> Guest:
        """Start a guest on a host, with that address; it takes logins with that key, and says its name on port 80."""
        port = self.make(
            "port",
            name=name,
            network_id=laid["network"],
            security_groups=[laid["group"]],
            fixed_ips=[{"subnet_id": laid["subnet"], "ip_address": address}],
        )
        script = f"""#!/bin/sh
mkdir -p -m 700 /root/.ssh && echo '{public_key}' >/root/.ssh/authorized_keys
mkdir -p /run/www && echo {name} >/run/www/index.html && httpd -p 80 -h /run/www && echo "serving"
"""
        server = self.api.create(
            name, networks=[{"port": port["id"]}], host=host, user_data=base64.b64encode(script.encode()).decode()
        )
        return Guest(tenant=self, server=server, port=port["id"], name=name, address=address, mac=port["mac_address"])

    def clear(self, laid: dict[str, str], guests: list[Guest], floating: list[str]) -> None:
        """Take all of it away."""
        for address in floating:
            self.network("DELETE", f"floatingips/{address}")
        for guest in guests:
            assert self.api.request("DELETE", f"/servers/{guest.server}").status_code == 204
        for guest in guests:
            until(lambda guest=guest: self.api.find(guest.server) is None, 120, what=f"{guest.name} is gone")
            self.network("DELETE", f"ports/{guest.port}")
        self.network("PUT", f"routers/{laid['router']}/remove_router_interface", {"subnet_id": laid["subnet"]})
        for kind in ("router", "network", "group"):
            self.network("DELETE", f"{'security-group' if kind == 'group' else kind}s/{laid[kind]}")


@dataclass
class Guest:
    tenant: Tenant
    server: str
    port: str
    name: str
    address: str
    mac: str

    def wait_until_it_serves(self) -> None:
        def said() -> bool:
            answer = self.tenant.api.request("POST", f"/servers/{self.server}/action", {"os-getConsoleOutput": {}})
            return "serving" in answer.json().get("output", "")

        self.tenant.api.wait_for(self.server, "ACTIVE", BOOT_SECONDS)
        until(said, BOOT_SECONDS, every=2.0, what=f"{self.name} serves")


@dataclass
class Outside:
    """This machine, as those see it who come to floating IPs."""

    key: Path

    def run(self, address: str, command: str) -> str:
        """What a command says in the guest behind a floating IP; nothing where nobody answers."""
        login = ["ssh", "-i", str(self.key), *SSH, f"root@{address}", command]
        try:
            done = subprocess.run(login, capture_output=True, text=True, check=False, timeout=120)
        except subprocess.TimeoutExpired:
            return ""
        return done.stdout.strip()

    def hear(self, address: str, command: str) -> str:
        """What a command says that says something, however slow the machine is."""
        return str(until(lambda: self.run(address, command), 240, what=command))

    def name_at(self, address: str) -> str:
        """Who serves there."""
        try:
            return requests.get(f"http://{address}/", timeout=0.7).text.strip()
        except requests.RequestException:
            return NOBODY


@contextmanager
def listening() -> Iterator[int]:
    """A service of this machine that takes whoever comes to any of its addresses; its port."""
    with socket.create_server(("0.0.0.0", 0)) as server:  # noqa: S104 - that is what shall be out of reach

        def answer() -> None:
            while True:
                try:
                    one, _ = server.accept()
                except OSError:
                    return
                one.sendall(b"reached\n")
                one.close()

        threading.Thread(target=answer, daemon=True).start()
        yield int(server.getsockname()[1])
        server.shutdown(socket.SHUT_RDWR)


def walk_over_networks(cloud: Cloud, place: Path) -> None:
    """Two tenants with the same addresses, each with a way out."""
    outside = Outside(place / "walker")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(outside.key)], check=True)
    public_key = outside.key.with_suffix(".pub").read_text().strip()
    one, other = Tenant(cloud, "walk-blue"), Tenant(cloud, "walk-red")
    blue, red = one.lay("blue"), other.lay("red")
    near, beside, far = (
        one.boot(blue, f"blue-{host}", host, f"10.9.0.{number}", public_key)
        for number, host in ((11, "east-1"), (12, "east-2"), (13, "west-1"))
    )
    twin = other.boot(red, "red-east-1", "east-1", near.address, public_key)
    door = one.make("floatingip", floating_network_id=blue["public"], port_id=near.port)
    back_door = other.make("floatingip", floating_network_id=red["public"], port_id=twin.port)
    at, twin_at = door["floating_ip_address"], back_door["floating_ip_address"]
    for guest in (near, beside, far, twin):
        guest.wait_until_it_serves()
    until(lambda: outside.run(at, "hostname") == near.name, 120, what="a login by the floating IP")
    until(lambda: outside.run(twin_at, "hostname") == twin.name, 120, what="a login of the other tenant")

    _who_talks_to_whom(outside, at, twin_at, (near, beside, far, twin))
    _a_rule_opens_and_closes(outside, one, blue, at, near)
    _a_guest_is_nobody_else(outside, at, near, beside)
    _nothing_of_the_cloud_is_reached(outside, cloud, at, beside)
    one.network("PUT", f"floatingips/{door['id']}", {"floatingip": {"port_id": far.port}})
    until(
        lambda: outside.run(at, "hostname") == far.name, 120, what="the floating IP at another guest, of another cell"
    )
    one.clear(blue, [near, beside, far], [door["id"]])
    other.clear(red, [twin], [back_door["id"]])


def _who_talks_to_whom(outside: Outside, at: str, twin_at: str, guests: tuple[Guest, ...]) -> None:
    near, beside, far, twin = guests
    for guest in (beside, far):
        until(
            lambda guest=guest: outside.run(at, f"ping -c 1 -W 2 {guest.address} >/dev/null && echo yes") == "yes",
            60,
            what=f"{guest.name} answers on their network",
        )
        # there is somebody with each of these addresses, on another network
        assert outside.hear(twin_at, f"ping -c 1 -W 1 {guest.address} >/dev/null || echo no") == "no"
    for address, mine in ((at, near), (twin_at, twin)):  # of one host, and one address
        said = outside.hear(address, "wget -q -O - http://169.254.169.254/openstack/latest/meta_data.json")
        assert json.loads(said)["uuid"] == mine.server


def _a_rule_opens_and_closes(outside: Outside, demo: Tenant, blue: dict[str, str], at: str, near: Guest) -> None:
    assert outside.name_at(at) == NOBODY
    rule = demo.let_in(blue["group"], protocol="tcp", port_range_min=80, port_range_max=80)
    until(lambda: outside.name_at(at) == near.name, 60, every=0.05, what="the port is open")
    demo.network("DELETE", f"security-group-rules/{rule}")
    until(lambda: outside.name_at(at) == NOBODY, 60, every=0.05, what="the port is closed")


def _a_guest_is_nobody_else(outside: Outside, at: str, near: Guest, beside: Guest) -> None:
    """From another address, or another device's, it reaches nobody; in its own name it still does."""
    try_it = f"ping -c 1 -W 1 {beside.address} >/dev/null && echo reached"
    own = f"ip addr add {near.address}/24 dev eth0"
    falsely = {
        "another address": "ip addr add 10.9.0.77/24 dev eth0; "
        f"ping -I 10.9.0.77 -c 1 -W 1 {beside.address} >/dev/null && echo reached; ip addr del 10.9.0.77/24 dev eth0",
        "another MAC": "ip link set eth0 down; ip link set eth0 address fa:16:3e:99:99:99; ip link set eth0 up; "
        f"{try_it}; ip link set eth0 down; ip link set eth0 address {near.mac}; ip link set eth0 up; "
        "ip route replace default via 10.9.0.1 dev eth0",
        "ARP of another": "arping -U -c 2 -I eth0 -s 10.9.0.12 10.9.0.12 >/dev/null; true",
    }
    for what, command in falsely.items():
        script = f"({command}) >/run/said 2>&1; {own} 2>/dev/null; true"
        outside.run(at, f"nohup sh -c '{script}' >/dev/null 2>&1")
        said = until(lambda: outside.run(at, "echo :; cat /run/said"), 60, what="it is itself again")
        assert "reached" not in said, what
    until(lambda: outside.run(at, try_it) == "reached", 120, what="it reaches others in its own name")


def _nothing_of_the_cloud_is_reached(outside: Outside, cloud: Cloud, at: str, beside: Guest) -> None:
    """Neither what listens on this machine, at any of its addresses, nor hosts; another guest is."""
    world = next(cloud.state.glob("*-libvirt"))
    half = (world / "management").read_text()
    with listening() as port:
        places = [(f"{half}.200.1", port), (f"{half}.1.1", port), (f"{half}.1.1", 8775), (f"{half}.2.1", 8775)]
        places += [(f"{half}.{net}.11", number) for net in (1, 2, 101, 102) for number in (22, 4789, 49152, 5900)]
        tries = "; ".join(f"echo | nc -w 1 {host} {number} && echo {host}:{number}" for host, number in places)
        tries += f"; echo | nc -w 20 {beside.address} 22 | head -c 4; echo"

        def reaches_its_like() -> bool:
            said = set(outside.hear(at, f"({tries}) 2>/dev/null; echo done").split()) - {"done"}
            assert said <= {"SSH-"}
            return bool(said)

        until(reaches_its_like, 240, what="another guest is reached")
    edge = f"{half}.200.1"  # where its way out ends
    until(lambda: outside.run(at, f"ping -c 1 -W 2 {edge} >/dev/null && echo yes") == "yes", 120, what="the edge")
