"""kill -9 of everything that has a part in a move, while a guest's disk is being copied between two real hosts: the
move goes on or is undone, its bytes are what they were, and nothing is left of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.cloud import Api, Cloud, running_cloud, until
from tests.libvirt_node import ON_DISK

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]

CACHE = Path(__file__).parents[2] / ".cache"
DATA = "1M 256M"  # of the disk: some seconds of copying
SECONDS = 200.0  # a move with a death in it, on a busy machine


class Host:
    """One of the cell's two, with its node."""

    def __init__(self, cloud: Cloud, name: str) -> None:
        self.cloud = cloud
        self.name = name
        (self.place,) = cloud.state.glob(f"*/nodes/{name}")

    @property
    def guests(self) -> Path:
        return self.place / "guests"

    def find(self, *words: str) -> list[psutil.Process]:
        """The node's processes with these words in their command line."""
        space = _space_of(json.loads((self.place / "node.json").read_text())["pid"])
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                line = " ".join(process.cmdline())
                if all(word in line for word in words) and _space_of(process.pid) == space:
                    found.append(process)
        return found

    def holds(self) -> list[str]:
        """What it has of guests, whole or in part."""
        places = (self.guests, self.guests / ".aside")
        return [path.name for place in places for path in place.iterdir() if not path.name.startswith(".")]

    def qemu_io(self, server_id: str, command: str) -> str:
        argv = ["qemu-io", "-f", "qcow2", "-c", command, str(self.guests / server_id / "disk")]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr


def _space_of(pid: int) -> str:
    return os.readlink(f"/proc/{pid}/ns/pid")


Victim = Callable[[Host, Host], int]
VICTIMS: dict[str, Victim] = {
    "the source's compute service": lambda source, _: source.cloud.pid(f"{source.name}.compute"),
    "the destination's compute service": lambda _, destination: destination.cloud.pid(f"{destination.name}.compute"),
    "the conductor": lambda source, _: source.cloud.pid(f"{source.name.partition('-')[0]}.conductor"),
    "the source's libvirtd": lambda source, _: source.find("libvirtd")[0].pid,
    "the destination's libvirtd": lambda _, destination: destination.find("libvirtd")[0].pid,
    "who sends": lambda source, _: source.find("disk_transfer", "serve")[0].pid,
    "who fetches": lambda _, destination: destination.find("disk_transfer", "fetch")[0].pid,
}


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    place = tmp_path_factory.mktemp("cloud")
    with running_cloud(place, profile="services", driver="libvirt", hosts=2, cache=CACHE, within=ON_DISK) as made:
        yield made


@pytest.fixture(scope="module")
def admin(cloud: Cloud) -> Api:
    return cloud.api("cellcloud-admin")


@pytest.fixture(scope="module")
def server_id(cloud: Cloud, admin: Api) -> str:
    """A server that is off, with data on its disk."""
    api = cloud.api()
    made = api.create("moved")
    api.wait_for(made, "ACTIVE", SECONDS)
    act(admin, made, {"os-stop": None})
    api.wait_for(made, "SHUTOFF", SECONDS)
    assert "wrote" in Host(cloud, host_of(admin, made)).qemu_io(made, f"write -P 0x5a {DATA}")
    return made


def act(admin: Api, server_id: str, body: dict[str, Any]) -> None:
    answer = admin.request("POST", f"/servers/{server_id}/action", body)
    assert answer.status_code in (202, 204), answer.text


def host_of(admin: Api, server_id: str) -> str:
    return str(admin.get(f"/servers/{server_id}")["server"]["OS-EXT-SRV-ATTR:host"])


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_move_ends_whoever_dies_while_its_disk_is_copied(
    cloud: Cloud, admin: Api, server_id: str, victim: str
) -> None:
    name = host_of(admin, server_id)
    cell, _, number = name.partition("-")
    source, destination = Host(cloud, name), Host(cloud, f"{cell}-{3 - int(number)}")
    act(admin, server_id, {"migrate": None})
    part = destination.guests / server_id / "incoming" / "disk.part"
    until(part.exists, SECONDS, every=0.002, what="a copy")
    (sender,) = source.find("disk_transfer", "serve")
    sender.send_signal(signal.SIGSTOP)
    assert not (destination.guests / server_id / "disk").exists()  # it is stopped in the middle
    until(lambda: VICTIMS[victim](source, destination), 30.0, what=victim)
    os.kill(VICTIMS[victim](source, destination), signal.SIGKILL)
    with suppress(psutil.NoSuchProcess):
        sender.send_signal(signal.SIGCONT)

    def ended() -> str:
        shown = admin.get(f"/servers/{server_id}")["server"]
        over = shown["status"] == "VERIFY_RESIZE" or shown["OS-EXT-STS:task_state"] is None
        return str(shown["status"]) if over else ""

    status = until(ended, SECONDS, every=0.5, what="the end of the move")
    assert status in ("VERIFY_RESIZE", "SHUTOFF")
    if status == "VERIFY_RESIZE":
        act(admin, server_id, {"confirmResize": None})
        admin.wait_for(server_id, "SHUTOFF", SECONDS)
    here, other = (source, destination) if status == "SHUTOFF" else (destination, source)
    assert host_of(admin, server_id) == here.name
    assert "Pattern verification failed" not in (read := here.qemu_io(server_id, f"read -P 0x5a {DATA}"))
    assert "read 268435456/268435456 bytes" in read
    until(lambda: (here.holds(), other.holds()) == ([server_id], []), SECONDS, what="nothing to be left")
    for host in (source, destination):
        until(lambda host=host: not host.find("disk_transfer"), SECONDS, what=f"no copy under way on {host.name}")


def test_the_server_starts_after_all_that(cloud: Cloud, admin: Api, server_id: str) -> None:
    act(admin, server_id, {"os-start": None})
    admin.wait_for(server_id, "ACTIVE", SECONDS)
    admin.request("DELETE", f"/servers/{server_id}")
    hosts = [Host(cloud, path.parent.name) for path in cloud.state.glob("*/nodes/*/guests")]
    until(lambda: not any(host.holds() for host in hosts), SECONDS, what="the server's end")
