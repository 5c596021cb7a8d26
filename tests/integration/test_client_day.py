"""A day of the standard clients on one cloud of real guests, with two hosts in each cell.

Each walk has servers of its own, and all of them go at once. What a guest says on its console tells how often the disk
has booted that it runs from, and that it counts on: Linux only where that matters.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import openstack
import psutil
import pytest

from tests import counting_guest, network_walk, openstack_client
from tests.cloud import Api, Cloud, running_cloud, until
from tests.libvirt_node import ON_DISK
from tests.serial_console import serial_console

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Support for InfluxDB"),  # of the SDK, at its first use
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),  # of the SDK, for what it does itself
]

CACHE = Path(__file__).parents[2] / ".cache"
BOOT_SECONDS = 400.0  # some ten alone, many times that on a busy machine
ADMIN = "cellcloud-admin"
VERSION = "2.96"
USER_DATA = """#!/bin/sh
timeout 60 wget -q -O - --post-data="of $(hostname)" http://169.254.169.254/openstack/latest/password
if [ -b /dev/vdb ]; then
    echo "the old disk has booted $(hexdump -s 512 -n 4 -e '1/4 "%d"' /dev/vdb) times"
fi
(n=0; while sleep 1; do n=$((n + 1)); echo "tick $n" >/dev/ttyS0; done) &
"""


class Day:
    """The cloud, and the commands that are given to it."""

    def __init__(self, cloud: Cloud, place: Path) -> None:
        self.cloud = cloud
        self.place = place
        self.user_data = place / "user-data.sh"
        self.user_data.write_text(USER_DATA)
        key = place / "id"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        self.public_key = key.with_suffix(".pub")
        self.counter = counting_guest.build(place)

    # ---- the clients -------------------------------------------------------------------------------------------
    def run(self, *words: str, cloud: str = "cellcloud", version: str = VERSION) -> openstack_client.Answer:
        around = os.environ | {"OS_CLIENT_CONFIG_FILE": str(self.cloud.clouds_file), "NO_COLOR": "1"}
        return openstack_client.run(["--os-cloud", cloud, "--os-compute-api-version", version], words, around)

    def openstack(self, *words: str, cloud: str = "cellcloud", version: str = VERSION) -> str:
        """What the client prints."""
        done = self.run(*words, cloud=cloud, version=version)
        assert done.status == 0, f"openstack {' '.join(words)}:\n{done.said}{done.complained}"
        return done.said

    def ask(self, *words: str, cloud: str = "cellcloud", version: str = VERSION) -> Any:
        """The same, as data."""
        return json.loads(self.openstack(*words, "-f", "json", cloud=cloud, version=version))

    def administer(self, *words: str) -> str:
        return self.openstack(*words, cloud=ADMIN)

    def ask_as_admin(self, *words: str) -> Any:
        return self.ask(*words, cloud=ADMIN)

    def refusal(self, *words: str, cloud: str = "cellcloud") -> str:
        """What the client complains of, which must fail."""
        done = self.run(*words, cloud=cloud)
        assert done.status != 0, f"openstack {' '.join(words)}:\n{done.said}"
        return done.complained

    def cellctl(self, *words: str) -> str:
        around = os.environ | {"OS_CLIENT_CONFIG_FILE": str(self.cloud.clouds_file)}
        run = [sys.executable, "-m", "cell.admin", *words]
        done = subprocess.run(run, capture_output=True, text=True, timeout=120, check=False, env=around)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @cached_property
    def api(self) -> Api:
        """For looking again and again: each command of the client takes a fifth of a second of the processor."""
        return self.cloud.api()

    def connect(self, cloud: str = "cellcloud") -> Any:
        """The SDK."""
        files = openstack.config.OpenStackConfig(config_files=[str(self.cloud.clouds_file)])
        return openstack.connection.Connection(
            config=files.get_one(cloud=cloud, compute_default_microversion=VERSION), app_name="day"
        )

    # ---- servers -----------------------------------------------------------------------------------------------
    def create(self, name: str, *options: str, image: str = "counter", says: str = "boot 1 of this disk") -> str:
        """A server's id, once its guest has said that it is up."""
        words = ["--image", image, "--flavor", "day.small", *options]
        made = self.ask("server", "create", *words, "--wait", name)
        assert made["status"] == "ACTIVE"
        self.wait_for_console(made["id"], says)
        return str(made["id"])

    def console(self, server: str) -> str:
        return self.openstack("console", "log", "show", server)

    def wait_for_console(self, server: str, text: str) -> str:
        """What the guest has written to its serial console, once ``text`` is there."""

        def is_there() -> str:
            answer = self.api.request("POST", f"/servers/{server}/action", {"os-getConsoleOutput": {}})
            assert answer.status_code == 200, answer.text
            return str(answer.json()["output"]) if text in answer.json()["output"] else ""

        return str(until(is_there, BOOT_SECONDS, every=2.0, what=f"{text!r} on the console of {server}"))

    def ticks(self, server: str) -> int:
        """How far the guest has counted in this boot."""
        return max((int(number) for number in re.findall(r"tick (\d+)\b", self.console(server))), default=0)

    def wait_for_status(self, server: str, status: str) -> None:
        self.api.wait_for(server, status, 200)

    def host_of(self, server: str) -> str:
        return str(self.ask_as_admin("server", "show", server)["OS-EXT-SRV-ATTR:host"])


# ---- the walks ---------------------------------------------------------------------------------------------------
def walk_through_a_servers_life(day: Day) -> None:
    """What its guest is told and tells, its memory, its console, what is said of it, and all that is shown of it."""
    day.openstack("server", "group", "create", "--policy", "anti-affinity", "apart")
    group = day.ask("server", "group", "show", "apart")
    assert (group["policy"], group["members"]) == ("anti-affinity", [])
    options = ["--key-name", "k", "--property", "role=web", "--tag", "blue", "--description", "of a day"]
    options += ["--user-data", str(day.user_data), "--config-drive", "True", "--hint", f"group={group['id']}"]
    server = day.create("life", *options, image="tiny", says="tick 1\n")
    shown = day.ask("server", "show", "life")
    assert (shown["properties"], shown["tags"], shown["description"]) == ({"role": "web"}, ["blue"], "of a day")
    assert (shown["config_drive"], shown["key_name"]) == ("True", "k")
    for said in ("metadata from the config drive", "hostname life"):
        assert said in day.console("life")
    program = day.connect().compute
    until(lambda: program.get_server_password(server) == "of life", what="the password that the guest has posted")
    program.clear_server_password(server)
    assert not program.get_server_password(server)
    assert [each["ID"] for each in day.ask("server", "group", "list")] == [group["id"]]
    assert day.ask("server", "group", "show", "apart")["members"] == [server]

    day.openstack("server", "pause", "life")
    day.wait_for_status(server, "PAUSED")
    assert day.ticks("life") == day.ticks("life")
    day.openstack("server", "unpause", "life")
    day.wait_for_status(server, "ACTIVE")
    day.openstack("server", "suspend", "life")
    day.wait_for_status(server, "SUSPENDED")
    counted = day.ticks("life")
    day.openstack("server", "resume", "life")
    day.wait_for_status(server, "ACTIVE")
    day.wait_for_console(server, f"tick {counted + 2}\n")
    assert day.console("life").count("running user data") == 1

    day.openstack("server", "lock", "--reason", "not now", "life")
    assert "locked" in day.refusal("server", "stop", "life")
    assert [each["Name"] for each in day.ask("server", "list", "--locked")] == ["life"]
    assert day.ask("server", "show", "life")["locked_reason"] == "not now"
    day.openstack("server", "unlock", "life")

    assert day.ask_as_admin("server", "show", "--diagnostics", server)["state"] == "running"
    assert "nodes" in day.ask_as_admin("server", "show", "--topology", server)["topology"]
    url = day.ask("console", "url", "show", "life")
    assert (url["protocol"], url["type"]) == ("vnc", "novnc")
    _use_the_serial_console(day, server)
    (port,) = day.ask("port", "list", "--server", server)
    assert port["Status"] == "ACTIVE"
    day.openstack("server", "set", "--property", "more=1", "--tag", "green", "--name", "lived", "life")
    day.openstack("server", "set", "--description", "nearly over", "lived")
    day.openstack("server", "unset", "--property", "role", "--tag", "blue", "lived")
    shown = day.ask("server", "show", "lived")
    assert (shown["properties"], shown["tags"], shown["description"]) == ({"more": "1"}, ["green"], "nearly over")
    day.openstack("server", "unset", "--description", "lived")
    assert not day.ask("server", "show", "lived")["description"]
    events = [event["Action"] for event in day.ask("server", "event", "list", "lived")]
    assert events == ["unlock", "lock", "resume", "suspend", "unpause", "pause", "create"]
    first = day.ask("server", "event", "list", "lived", "--long")[-1]
    details = day.ask("server", "event", "show", "lived", first["Request ID"])
    assert (details["action"], details["events"][0]["result"]) == ("create", "Success")
    day.openstack("server", "delete", "--wait", "lived")
    assert day.ask("server", "group", "show", "apart")["members"] == []
    day.openstack("server", "group", "delete", "apart")


def _use_the_serial_console(day: Day, server: str) -> None:
    """Typed into a websocket, it reaches the guest, whose answer comes back and is in the console's log as well."""
    url = day.ask("console", "url", "show", "--serial", server)
    assert (url["protocol"], url["type"]) == ("serial", "serial")
    with serial_console(url["url"]) as console:
        console.wait_for("login: ", nudge=True)
        for asked, answer in (("login: ", "root"), ("Password: ", "tiny"), ("# ", "echo $((6 * 7000))")):
            console.wait_for(asked)
            console.type(answer)
        console.wait_for("42000")
    assert "42000" in day.console(server)
    with pytest.raises(Exception, match="403"), serial_console(url["url"]):  # a token opens once
        pass


def walk_off_and_on(day: Day) -> None:
    """The disk goes through each way to a new boot; what was said before can be read while it is off."""
    server = day.create("switch")
    day.openstack("server", "stop", "switch")
    day.wait_for_status(server, "SHUTOFF")
    assert "boot 1 of this disk" in day.console("switch")
    assert "is not ready" in day.refusal("console", "url", "show", "switch")
    day.openstack("server", "start", "switch")
    day.wait_for_console(server, "boot 2 of this disk")
    day.openstack("server", "reboot", "--soft", "--wait", "switch")
    day.wait_for_console(server, "boot 3 of this disk")
    day.openstack("server", "reboot", "--hard", "--wait", "switch")
    day.wait_for_console(server, "boot 4 of this disk")
    events = [event["Action"] for event in day.ask("server", "event", "list", "switch")]
    assert events == ["reboot", "reboot", "start", "stop", "create"]
    day.openstack("server", "delete", "--wait", "switch")


def walk_from_host_to_host(day: Day) -> None:
    """By a resize that is reverted, one that is confirmed, and an administrator's word: the bytes in the root disk go
    along, and come back as they were."""
    server = day.create("mover")
    first = day.host_of(server)
    day.openstack("server", "resize", "--flavor", "day.large", "--wait", "mover")
    shown = day.ask("server", "show", "mover")
    assert (shown["status"], shown["flavor"]["original_name"]) == ("VERIFY_RESIZE", "day.large")
    assert day.host_of(server) == _beside(first)
    day.wait_for_console(server, "boot 2 of this disk")
    day.openstack("server", "resize", "revert", "mover")
    day.wait_for_status(server, "ACTIVE")
    shown = day.ask_as_admin("server", "show", server)
    assert (shown["OS-EXT-SRV-ATTR:host"], shown["flavor"]["original_name"]) == (first, "day.small")
    day.wait_for_console(server, "boot 2 of this disk")

    day.openstack("server", "resize", "--flavor", "day.large", "--wait", "mover")
    day.wait_for_console(server, "boot 3 of this disk")
    day.openstack("server", "resize", "confirm", "mover")
    day.wait_for_status(server, "ACTIVE")
    assert (day.host_of(server), day.ask("server", "show", "mover")["flavor"]["ram"]) == (_beside(first), 160)
    day.administer("server", "migrate", "--host", first, "--wait", server)
    day.wait_for_console(server, "boot 4 of this disk")
    day.administer("server", "migrate", "confirm", server)
    day.wait_for_status(server, "ACTIVE")
    assert day.host_of(server) == first
    moves = day.ask_as_admin("server", "migration", "list", "--server", server)
    assert [(move["Status"], move["Type"], move["Dest Compute"]) for move in moves] == [
        ("confirmed", "migration", first),
        ("confirmed", "resize", _beside(first)),
        ("reverted", "resize", _beside(first)),
    ]
    day.openstack("server", "delete", "--wait", "mover")


def _beside(host: str) -> str:
    """The other host of its cell."""
    cell, number = host.split("-")
    return f"{cell}-{3 - int(number)}"


def walk_into_images_and_back(day: Day) -> None:
    """What is in the root disk goes into snapshots, backups, and a shelved server's image."""
    server = day.create("twin")
    day.openstack("server", "image", "create", "--name", "photo", "--property", "of=twin", "--wait", "twin")
    photo = day.ask("image", "show", "photo")
    assert (photo["status"], photo["properties"]["of"]) == ("active", "twin")
    copy = day.create("copy", image="photo", says="boot 2 of this disk")
    day.openstack("server", "delete", "--wait", copy)
    day.openstack("image", "delete", "photo")
    assert day.ask("server", "show", "twin")["status"] == "ACTIVE"

    for name in ("monday", "tuesday"):
        day.openstack(
            "server", "backup", "create", "--type", "daily", "--rotate", "1", "--name", name, "--wait", "twin"
        )
    until(lambda: "monday" not in (left := _images(day)) and "tuesday" in left, what="the older backup to go")
    day.openstack("image", "delete", "tuesday")

    day.openstack("server", "shelve", "twin")
    day.wait_for_status(server, "SHELVED_OFFLOADED")
    shown = day.ask_as_admin("server", "show", server)
    assert (shown["status"], shown["OS-EXT-SRV-ATTR:host"]) == ("SHELVED_OFFLOADED", None)
    assert "twin-shelved" in _images(day)
    day.openstack("server", "unshelve", "--wait", "twin")
    day.wait_for_console(server, "boot 2 of this disk")
    until(lambda: "twin-shelved" not in _images(day), what="the shelved server's image to go")
    day.openstack("server", "delete", "--wait", "twin")


def _images(day: Day) -> list[str]:
    return [image["Name"] for image in day.ask("image", "list")]


def walk_to_the_rescue(day: Day) -> None:
    """A rescued server sees its old disk, and finds back to it; a rebuilt one has it no more."""
    server = day.create("patient", "--user-data", str(day.user_data))
    day.openstack("server", "rescue", "--image", "tiny", "--password", "secret", "patient")
    day.wait_for_status(server, "RESCUE")
    day.wait_for_console(server, "the old disk has booted 1 times")
    day.openstack("server", "unrescue", "patient")
    day.wait_for_status(server, "ACTIVE")
    day.wait_for_console(server, "boot 2 of this disk")
    address = day.ask("server", "show", "patient")["addresses"]
    day.openstack("server", "rebuild", "--image", "doctor", "--name", "cured", "--property", "is=new", "--wait", server)
    day.wait_for_status(server, "ACTIVE")
    shown = day.ask("server", "show", "cured")
    assert (shown["properties"], shown["addresses"]) == ({"is": "new"}, address)
    assert shown["image"].startswith("doctor ")
    day.openstack("server", "delete", "--wait", "cured")


def walk_on_a_volume(day: Day) -> None:
    """What a guest wrote to the volume that it boots from outlives its host, its exporter, and its server."""
    root = day.ask("volume", "create", "--image", "counter", "--size", "1", "root")["id"]
    _wait_for_volume(day, root, "available")
    server = _boot_from(day, root, "rooted", boots=1)
    first = day.host_of(server)
    day.administer("server", "migrate", "--host", _beside(first), "--wait", server)
    day.wait_for_console(server, "boot 2 of this disk")
    day.administer("server", "migrate", "confirm", server)
    day.wait_for_status(server, "ACTIVE")
    assert day.host_of(server) == _beside(first)

    for killed in _exporters(root):
        killed.kill()
    counted = day.ticks(server)
    until(lambda: _exporters(root), 60, what="another exporter")
    said = day.wait_for_console(server, f"tick {counted + 5}\n")
    assert "disk error" not in said
    day.openstack("server", "delete", "--wait", server)
    _wait_for_volume(day, root, "available")
    again = _boot_from(day, root, "again", boots=3)
    day.openstack("server", "delete", "--wait", again)
    _wait_for_volume(day, root, "available")
    assert _exporters(root) == []
    day.openstack("volume", "delete", "root")


def _boot_from(day: Day, volume: str, name: str, *, boots: int) -> str:
    """A server's id, once its guest has said how often that volume was booted from."""
    made = day.ask("server", "create", "--volume", volume, "--flavor", "day.small", "--wait", name)
    day.wait_for_console(made["id"], f"boot {boots} of this disk")
    return str(made["id"])


def _wait_for_volume(day: Day, volume: str, status: str) -> None:
    def shown() -> str:
        return str(day.api.get(f"/volumes/{volume}", service="volume")["volume"]["status"])

    until(lambda: shown() == status, 120, every=0.5, what=f"volume {volume} {status}")


def _exporters(volume: str) -> list[psutil.Process]:
    """The processes that serve a volume on this machine."""
    found = psutil.process_iter(["name", "cmdline"])
    return [one for one in found if "qemu-storage" in one.info["name"] and volume in str(one.info["cmdline"])]


def walk_with_the_sdk(day: Day) -> None:
    """What a program does: several servers at once, found, changed and deleted again."""
    cloud = day.connect()
    image = cloud.image.find_image("counter", ignore_missing=False)
    flavor = cloud.compute.find_flavor("day.small", ignore_missing=False)
    made = cloud.compute.create_server(
        name="crowd", image_id=image.id, flavor_id=flavor.id, networks="auto", min_count=2, max_count=2, tags=["crowd"]
    )
    cloud.compute.wait_for_server(made, wait=BOOT_SECONDS)
    crowd = list(cloud.compute.servers(tags="crowd"))
    assert sorted(server.name for server in crowd) == ["crowd-1", "crowd-2"]
    one, other = (cloud.compute.wait_for_server(server, wait=BOOT_SECONDS) for server in crowd)
    assert cloud.compute.find_server("crowd-1", ignore_missing=False).id in (one.id, other.id)
    cloud.compute.set_server_metadata(one, said="so")
    assert cloud.compute.get_server_metadata(one).metadata == {"said": "so"}
    cloud.compute.delete_server_metadata(one, ["said"])
    cloud.compute.update_server(one, description="by a program")
    assert cloud.compute.get_server(one).description == "by a program"
    assert {port.device_id for port in cloud.network.ports(device_id=one.id)} == {one.id}
    cloud.compute.stop_server(one)
    cloud.compute.wait_for_server(one, status="SHUTOFF", wait=200)
    assert cloud.compute.get_server_console_output(one)["output"] is not None
    assert [action.action for action in cloud.compute.server_actions(one)] == ["stop", "create"]
    assert len(list(cloud.compute.servers(limit=1))) >= 2
    for server in crowd:
        cloud.compute.delete_server(server)
    for server in crowd:
        cloud.compute.wait_for_delete(server, wait=200)


def walk_over_networks(day: Day) -> None:
    """Two tenants with the same addresses on hosts of both cells, and what outside sees of them."""
    network_walk.walk_over_networks(day.cloud, day.place)


WALKS: tuple[Callable[[Day], None], ...] = (
    walk_from_host_to_host,
    walk_through_a_servers_life,
    walk_off_and_on,
    walk_into_images_and_back,
    walk_to_the_rescue,
    walk_with_the_sdk,
    walk_on_a_volume,
    walk_over_networks,
)


@pytest.fixture(scope="module")
def day() -> Iterator[Day]:
    place = Path(tempfile.mkdtemp(prefix="day-", dir=ON_DISK))
    try:
        with running_cloud(place, profile="embedded", driver="libvirt", hosts=2, cache=CACHE, within=ON_DISK) as cloud:
            yield Day(cloud, place)
    finally:
        shutil.rmtree(place)


@pytest.fixture(scope="module")
def walks(day: Day) -> Iterator[dict[str, Future[None]]]:
    """All of them, under way."""
    for name, memory in (("day.small", 128), ("day.large", 160)):
        day.administer("flavor", "create", "--ram", str(memory), "--disk", "1", name)
    day.openstack("keypair", "create", "--public-key", str(day.public_key), "k")
    for name in ("counter", "doctor"):
        options = ["--disk-format", "raw", "--container-format", "bare", "--file", str(day.counter)]
        day.openstack("image", "create", *options, name)
    with ThreadPoolExecutor(len(WALKS)) as threads:
        yield {walk.__name__: threads.submit(walk, day) for walk in WALKS}


def test_what_an_administrator_does_meanwhile(day: Day, walks: dict[str, Future[None]]) -> None:
    hosts = {host["Hypervisor Hostname"] for host in day.ask_as_admin("hypervisor", "list")}
    assert hosts == {"east-1", "east-2", "west-1", "west-2"}
    shown = day.ask_as_admin("hypervisor", "show", "east-1")
    assert (shown["state"], shown["status"], shown["service_host"]) == ("up", "enabled", "east-1")
    day.administer("aggregate", "create", "lefts")
    day.administer("aggregate", "set", "--property", "ssd=true", "lefts")
    day.administer("aggregate", "add", "host", "lefts", "east-1")
    assert day.ask_as_admin("aggregate", "show", "lefts")["hosts"] == ["east-1"]
    _fetch_an_image_ahead(day, "lefts")
    zones = {zone["Zone Name"] for zone in day.ask("availability", "zone", "list", "--compute")}
    assert zones == {"nova"}
    day.administer("aggregate", "remove", "host", "lefts", "east-1")
    day.administer("aggregate", "delete", "lefts")
    # from 2.75 on Nova refuses the query that this command sends, and so do we
    limits = {each["Name"]: each["Value"] for each in day.ask("limits", "show", "--absolute", version="2.74")}
    assert limits["max_total_instances"] >= limits["total_instances_used"] >= 0
    day.administer("quota", "set", "--instances", "12", "demo")
    quota = {each["Resource"]: each["Limit"] for each in day.ask("quota", "show", "--compute")}
    assert quota["instances"] == 12
    assert day.ask("usage", "show")["Project"]
    assert "| demo " in day.administer("usage", "list")
    day.administer("flavor", "set", "--property", "gold=1", "day.large")
    day.administer("flavor", "unset", "--property", "gold", "day.large")
    assert day.ask_as_admin("flavor", "show", "day.large")["properties"] == {}


def _fetch_an_image_ahead(day: Day, aggregate: str) -> None:
    """Before any server needs it, its hosts have it."""
    content = os.urandom(1 << 16)
    file = day.place / "ahead"
    file.write_bytes(content)
    options = ["--disk-format", "raw", "--container-format", "bare", "--file", str(file)]
    day.openstack("image", "create", *options, "ahead")
    day.administer("aggregate", "cache", "image", aggregate, "ahead")
    until(lambda: list(day.cloud.state.rglob(hashlib.sha512(content).hexdigest())), what="the image at its hosts")
    day.openstack("image", "delete", "ahead")


@pytest.mark.parametrize("walk", [walk.__name__ for walk in WALKS])
def test_of_each_walk(walks: dict[str, Future[None]], walk: str) -> None:
    walks[walk].result()


def test_a_host_is_taken_out_and_back(day: Day, walks: dict[str, Future[None]]) -> None:
    """Once nobody needs it."""
    for walk in walks.values():
        walk.exception()
    day.administer("compute", "service", "set", "--disable", "--disable-reason", "tea", "west-2", "nova-compute")
    (service,) = day.ask_as_admin("compute", "service", "list", "--long", "--host", "west-2")
    assert (service["Status"], service["Disabled Reason"]) == ("disabled", "tea")
    day.administer("compute", "service", "set", "--enable", "west-2", "nova-compute")


def test_nothing_is_left(day: Day, walks: dict[str, Future[None]]) -> None:
    for walk in walks.values():
        walk.exception()
    assert day.ask("server", "list") == []
    assert day.ask_as_admin("port", "list") == []
    assert sorted(_images(day)) == ["counter", "doctor", "tiny"]
    day.openstack("keypair", "delete", "k")
    day.administer("flavor", "delete", "day.small", "day.large")
    for guests in day.cloud.state.glob("*/nodes/*/guests"):
        assert [path.name for path in guests.iterdir() if not path.name.startswith(".")] == []
    day.cellctl("doctor", "check")
