"""The README's story in both profiles: the standard client, real guests, and a browser on a guest's console.

The tests of one profile share a cloud and a server and follow each other: what one leaves is where the next begins.
"""

from __future__ import annotations

import configparser
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
import yaml

from cellcloud.launcher.guest_image import ensure_guest_image
from cellcloud.launcher.layout import Choices, DriverChoice, Layout, Profile
from cellcloud.launcher.process_records import Records
from tests import openstack_client
from tests.browser import Console, open_browser
from tests.cloud import Api, until
from tests.daemons import free_ports
from tests.libvirt_node import ON_DISK
from tests.web_site import web_site

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]

CACHE = Path(__file__).parents[2] / ".cache"
PROGRAMS = Path(sys.executable).parent
PORTS = 60
BOOT_SECONDS = 240.0  # some ten alone, many times that on a busy machine
USER_DATA = '#!/bin/sh\necho "marker of $(hostname)"\n'
NETWORK, GATEWAY = "private", "10.100.0.1"
SSH = ("-q", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=20")


class Story:
    """One cloud in a directory of its own, and what a newcomer has at hand."""

    def __init__(self, place: Path, profile: str) -> None:
        self.place = place
        self.profile = profile
        self.state = place / "state"
        self.clouds_file = place / "clouds.yaml"
        self._first_port = free_ports(PORTS)

    # ---- the cloud ---------------------------------------------------------------------------------------------
    def cellcloud(self, word: str, *choices: str, fails: bool = False) -> str:
        """What ``cellcloud WORD`` prints; it must succeed, unless it may fail."""
        return _run(str(PROGRAMS / "cellcloud"), word, "--state", str(self.state), *choices, fails=fails)

    def up(self, *, fails: bool = False) -> str:
        choices = ["--profile", self.profile, "--port", str(self._first_port), "--cache", str(CACHE)]
        return self.cellcloud("up", *choices, "--clouds-file", str(self.clouds_file), fails=fails)

    @property
    def launcher(self) -> psutil.Process:
        """The process that holds all the others; in the embedded profile the only one."""
        record = Records(self.state / "run").find("launcher")
        assert record is not None
        return psutil.Process(record.pid)

    def processes(self) -> list[psutil.Process]:
        """The launcher and all below it, among them what runs in the nodes."""
        return [self.launcher, *self.launcher.children(recursive=True)]

    def control_plane(self) -> list[psutil.Process]:
        """The processes that may die without a guest noticing; the launcher first."""
        others = [record for record in Records(self.state / "run").list_all() if record.is_alive()]
        return [self.launcher, *(psutil.Process(each.pid) for each in others if each.name != "launcher")]

    @cached_property
    def prefix(self) -> str:
        """What the names of this cloud's network devices on the machine begin with."""
        choices = Choices(state=self.state, cache=CACHE, profile=Profile(self.profile), driver=DriverChoice.LIBVIRT)
        return Layout(choices).prefix

    def node(self, host: str) -> dict[str, Any]:
        """What the launcher wrote of a hypervisor host: its first process and its network namespace."""
        path = self.state / f"{self.profile}-libvirt" / "nodes" / host / "node.json"
        record: dict[str, Any] = json.loads(path.read_text())
        return record

    def namespace(self, host: str) -> str:
        """Where the guests' network is on that host."""
        return f"{self.node(host)['namespace']}.{self.private}"

    @cached_property
    def private(self) -> str:
        return str(self.ask("network", "show", "private")["id"])

    # ---- the client --------------------------------------------------------------------------------------------
    def openstack(self, *words: str, cloud: str = "cellcloud", fails: bool = False) -> str:
        """What the client prints."""
        around = os.environ | {"OS_CLIENT_CONFIG_FILE": str(self.clouds_file), "NO_COLOR": "1"}
        done = openstack_client.run(["--os-cloud", cloud], words, around)
        assert done.status == 0 or fails, f"openstack {' '.join(words)}:\n{done.said}{done.complained}"
        return done.said if done.status == 0 else ""

    def ask(self, *words: str, cloud: str = "cellcloud") -> Any:
        """The same, as data."""
        return json.loads(self.openstack(*words, "-f", "json", cloud=cloud))

    def ask_as_admin(self, *words: str) -> Any:
        return self.ask(*words, cloud="cellcloud-admin")

    @cached_property
    def api(self) -> Api:
        """For looking again and again: each command of the client takes a fifth of a second of the processor."""
        return Api(yaml.safe_load(self.clouds_file.read_text())["clouds"]["cellcloud"])

    # ---- guests ------------------------------------------------------------------------------------------------
    @property
    def key(self) -> Path:
        return self.place / "k.pem"

    def import_image(self, name: str) -> None:
        """Give the image service the tiny guest once more: staged, or fetched by it from a site that it may ask."""
        tiny, form = ensure_guest_image(CACHE), {"disk_format": "qcow2", "container_format": "bare"}
        if self.profile == "embedded":
            words = ["--disk-format", form["disk_format"], "--container-format", form["container_format"]]
            self.openstack("image", "create", *words, "--import", "--file", str(tiny), name)
            self._wait_for_image(name)
            return
        self._allow_the_loopback()
        url, headers = f"{self.api.url}/image/v2/images", {"X-Auth-Token": self.api.token}
        made = requests.post(url, headers=headers, json={"name": name, **form}, timeout=60, verify=self.api.verify)
        assert made.status_code == 201, made.text
        with web_site() as site:
            uri = site.serve("/tiny.qcow2", tiny.read_bytes())
            self.openstack("image", "import", "--method", "web-download", "--uri", uri, name)
            self._wait_for_image(name)

    def _wait_for_image(self, name: str) -> None:
        until(lambda: self.ask("image", "show", name)["status"] == "active", what=f"the image {name}", every=1.0)

    def _allow_the_loopback(self) -> None:
        """Let images come from this machine, at any port."""
        path = self.state / f"{self.profile}-libvirt" / "top" / "cellcloud.conf"
        options = configparser.RawConfigParser()
        options.read(path)
        if not options.has_section("adapters"):
            options.add_section("adapters")
        options["adapters"].update({"web_download_networks": "127.0.0.1/32", "web_download_ports": ""})
        with path.open("w") as file:
            options.write(file)
        self.cellcloud("stop", "top.api")
        self.cellcloud("start", "top.api")

    def create(self, name: str, *options: str, image: str = "tiny") -> Guest:
        """A server as the README starts one, once it is ACTIVE."""
        script = self.place / "f.sh"
        script.write_text(USER_DATA)
        words = ["--image", image, "--flavor", "m1.tiny", "--key-name", "k", "--user-data", str(script), *options]
        made = self.ask("server", "create", *words, "--wait", name)
        assert made["status"] == "ACTIVE"
        return Guest(self, made)


class Guest:
    """One server with the guest behind it."""

    def __init__(self, story: Story, shown: dict[str, Any]) -> None:
        self._story = story
        self.id = str(shown["id"])
        self.name = str(shown["name"])
        (self.address,) = shown["addresses"][NETWORK]

    @cached_property
    def host(self) -> str:
        return str(self._story.ask_as_admin("server", "show", self.id)["OS-EXT-SRV-ATTR:host"])

    def status(self) -> str:
        return str(self._story.ask("server", "show", self.name)["status"])

    def wait_for_status(self, status: str) -> None:
        self._story.api.wait_for(self.id, status, 120)

    def wait_for_console(self, text: str) -> str:
        """What the guest has written to its serial console, once ``text`` is there."""

        def is_there() -> bool:
            answer = self._story.api.request("POST", f"/servers/{self.id}/action", {"os-getConsoleOutput": {}})
            return text in answer.json()["output"]

        until(is_there, BOOT_SECONDS, every=0.5, what=f"{text!r} on the console")
        return self._story.openstack("console", "log", "show", self.name)

    def ssh(self, command: str, *, fails: bool = False) -> str:
        """Run a command in the guest: from its host's side of its network, with the key given at its creation."""
        login = ["ssh", "-i", str(self._story.key), *SSH, f"root@{self.address}", command]
        return _run("ip", "netns", "exec", self._story.namespace(self.host), *login, fails=fails, timeout=60)

    def boot_id(self, *, other_than: str = "") -> str:
        """Names one boot of the guest; waits until it answers, or until a new boot does."""

        def read() -> str:
            seen = self.ssh("cat /proc/sys/kernel/random/boot_id", fails=True).strip()
            return seen if seen != other_than else ""

        return str(until(read, BOOT_SECONDS, every=0.5, what=f"an answer of {self.name}"))


def _run(*argv: str, fails: bool = False, timeout: float = 300.0) -> str:
    """What a program prints. It must succeed, unless it may fail: then nothing stands for failure."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=timeout)
    assert done.returncode == 0 or fails, f"{' '.join(argv)}:\n{done.stdout}{done.stderr}"
    return done.stdout if done.returncode == 0 else ""


@contextmanager
def _told(story: Story) -> Iterator[Story]:
    """The cloud from its first start to its end, after which nothing of it may be left but its state."""
    story.up()
    prefix, family = story.prefix, story.processes()
    try:
        assert f"{prefix}-east" in _leftovers(story.place, prefix)
        yield story
    finally:
        family = [*family, *story.processes()]
        said = story.cellcloud("down", "--guests")
    assert said == "The cloud is down.\n"
    assert [process for process in family if _lives(process)] == []
    assert _leftovers(story.place, prefix) == []


def _lives(process: psutil.Process) -> bool:
    """Whether it still does anything; one that nobody has waited for does not."""
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _leftovers(place: Path, prefix: str) -> list[str]:
    """What of a cloud is still on the machine: devices, namespaces, mounts, rules, processes."""
    found = [name for name in psutil.net_if_addrs() if name.startswith(prefix)]
    found += [path.name for path in Path("/run/netns").glob(f"{prefix}-*")]
    found += [line for line in Path("/proc/mounts").read_text().splitlines() if str(place) in line or prefix in line]
    found += [line for line in _run("nft", "list", "ruleset").splitlines() if prefix in line]
    for process in psutil.process_iter(["cmdline", "cwd"]):
        told = [*(process.info["cmdline"] or []), process.info["cwd"] or ""]
        if any(str(place) in word for word in told) and process.pid != os.getpid():
            found.append(str(process))
    return found


@pytest.fixture(scope="module", params=["embedded", "services"])
def story(request: pytest.FixtureRequest) -> Iterator[Story]:
    # no deeper: a unix socket's path has room for 107 bytes
    place = Path(tempfile.mkdtemp(prefix="story-", dir=ON_DISK))
    try:
        with _told(Story(place, request.param)) as told:
            yield told
    finally:
        shutil.rmtree(place)


@pytest.fixture(scope="module")
def vm1(story: Story) -> Guest:
    """The server of the story, from an image that was imported."""
    story.import_image("imported")
    story.key.write_text(story.openstack("keypair", "create", "k"))
    story.key.chmod(0o600)
    return story.create("vm1", image="imported")


def test_what_a_newcomer_finds(story: Story) -> None:
    assert stat.S_IMODE(story.clouds_file.stat().st_mode) == 0o600
    assert [image["Name"] for image in story.ask("image", "list")] == ["tiny"]
    assert story.ask("image", "show", "tiny")["status"] == "active"
    assert "m1.tiny" in [flavor["Name"] for flavor in story.ask("flavor", "list")]
    assert story.ask("flavor", "show", "m1.tiny")["vcpus"] == 1
    assert {network["Name"] for network in story.ask("network", "list")} == {NETWORK, "public"}
    assert story.ask("network", "show", NETWORK)["status"] == "ACTIVE"
    zones = story.ask("availability", "zone", "list", "--compute")
    assert [(zone["Zone Name"], zone["Zone Status"]) for zone in zones] == [("nova", "available")]
    assert story.ask("server", "list") == []


def test_what_the_administrator_finds(story: Story) -> None:
    services = story.ask_as_admin("compute", "service", "list")
    assert {(service["Status"], service["State"]) for service in services} == {("enabled", "up")}
    kinds = {service["Binary"] for service in services}
    assert {"nova-compute", "nova-conductor", "nova-scheduler", "nova-consoleauth", "nova-metadata"} <= kinds
    hosts = story.ask_as_admin("hypervisor", "list")
    assert {host["Hypervisor Hostname"] for host in hosts} == {"east-1", "west-1"}
    shown = story.ask_as_admin("hypervisor", "show", "east-1")
    assert (shown["hypervisor_type"], shown["state"]) == ("QEMU", "up")
    assert story.openstack("hypervisor", "list", fails=True) == ""


def test_a_guest_comes_up_with_what_its_cell_knows_of_it(story: Story, vm1: Guest) -> None:
    assert "k" in [key["Name"] for key in story.ask("keypair", "list")]
    said = vm1.wait_for_console(f"{vm1.name} login:")
    for line in (f"address of eth0: {vm1.address}/16", "metadata from the network", "marker of vm1"):
        assert line in said
    assert vm1.boot_id()
    assert vm1.ssh("hostname").strip() == "vm1"
    assert story.ask("keypair", "show", "k")["name"] == "k"
    assert vm1.id in vm1.ssh("wget -q -O - http://169.254.169.254/openstack/latest/meta_data.json")
    (listed,) = story.ask("server", "list")
    assert (listed["Name"], listed["Status"], listed["Networks"]) == ("vm1", "ACTIVE", {NETWORK: [vm1.address]})


def test_its_console_is_shown_in_a_browser_once(story: Story, vm1: Guest, tmp_path: Path) -> None:
    url = story.ask("console", "url", "show", "vm1")["url"]
    with open_browser() as browser:
        console = Console(browser, url)
        console.wait_until_connected()
        before = until(console.count_lit_pixels, what="letters on the screen")
        console.type("root\n")
        until(lambda: "login" in vm1.ssh("ps -o comm,tty | grep ' 4,1$'"), what="a question for the password")
        console.type("tiny\n")
        until(lambda: "sh" in vm1.ssh("ps -o comm,tty | grep ' 4,1$'"), what="a shell on the screen")
        console.type("touch /run/typed-in-the-browser\n")
        until(lambda: vm1.ssh("ls /run/typed-in-the-browser", fails=True), what="what was typed")
        assert console.count_lit_pixels() > before
        console.save(tmp_path / "console.png")
        again = Console(browser, url)
        assert again.wait_until_refused() == "Failed to connect to server"


def test_its_power(story: Story, vm1: Guest) -> None:
    first = vm1.boot_id()
    story.openstack("server", "stop", "vm1")
    vm1.wait_for_status("SHUTOFF")
    assert vm1.status() == "SHUTOFF"
    assert vm1.ssh("echo here", fails=True) == ""
    story.openstack("server", "start", "vm1")
    vm1.wait_for_status("ACTIVE")
    vm1.boot_id(other_than=first)
    actions = [action["Action"] for action in story.ask("server", "event", "list", "vm1")]
    assert actions == ["start", "stop", "create"]


def test_guests_outlive_the_control_plane(story: Story, vm1: Guest) -> None:
    boot, old = vm1.boot_id(), story.control_plane()
    old[0].send_signal(signal.SIGKILL)
    until(lambda: not _lives(old[0]), 10)
    assert vm1.boot_id() == boot
    story.up()
    assert [process for process in old if _lives(process)] == []
    vm1.wait_for_status("ACTIVE")
    assert vm1.boot_id() == boot
    story.openstack("server", "reboot", "--hard", "--wait", "vm1")
    vm1.boot_id(other_than=boot)


def test_guests_run_on_while_the_cloud_is_down(story: Story, vm1: Guest) -> None:
    boot, old = vm1.boot_id(), story.control_plane()
    said = story.cellcloud("down")
    assert "1 guests run on" in said
    assert [process for process in old if _lives(process)] == []
    assert vm1.boot_id() == boot
    story.up()
    vm1.wait_for_status("ACTIVE")
    assert vm1.boot_id() == boot


def test_a_start_that_fails_leaves_guests_alone(story: Story, vm1: Guest) -> None:
    """The world's directory cannot be written, as on a broken disk."""
    boot = vm1.boot_id()
    story.cellcloud("down")
    top_file = story.state / f"{story.profile}-libvirt" / "top" / "cellcloud.conf"
    top_file.rename(top_file.with_suffix(".kept"))
    top_file.mkdir()
    assert story.up(fails=True) == ""
    assert vm1.boot_id() == boot
    top_file.rmdir()
    story.up()
    assert vm1.boot_id() == boot


def test_guests_that_ran_run_again_after_a_stop_of_everything(story: Story, vm1: Guest) -> None:
    vm1.ssh("echo kept >/root/note; sync")
    boot = vm1.boot_id()
    story.cellcloud("down", "--guests")
    story.up()
    vm1.wait_for_status("ACTIVE")
    vm1.boot_id(other_than=boot)
    assert vm1.ssh("cat /root/note").strip() == "kept"


def test_deleted_it_leaves_nothing(story: Story, vm1: Guest) -> None:
    guests = story.state / f"{story.profile}-libvirt" / "nodes" / vm1.host / "guests"
    assert (guests / vm1.id).exists()
    story.openstack("server", "delete", "--wait", "vm1")
    assert story.ask("server", "list") == []
    assert story.ask_as_admin("port", "list") == []
    node = ["nsenter", f"--target={story.node(vm1.host)['pid']}", "--net", "--"]
    assert [path.name for path in guests.iterdir() if not path.name.startswith(".")] == []
    assert "cct-" not in _run(*node, "ip", "-json", "link")
    assert not Path("/run/netns", story.namespace(vm1.host)).exists()
    story.openstack("keypair", "delete", "k")
    assert story.ask("keypair", "list") == []
