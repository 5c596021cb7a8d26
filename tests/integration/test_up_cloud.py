"""Whole clouds by the command: started, looked at, taken apart, killed, ended. Guests are pretended ones."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import yaml
from keystoneauth1 import session
from keystoneauth1.identity import v3

from cellcloud.up import cli
from cellcloud.up.processes import Records
from tests.daemons import free_ports

HOSTS = 3
PORTS = 60


@dataclass
class Cloud:
    """A cloud with pretended guests in a directory of its own."""

    place: Path
    profile: str
    port: int

    @property
    def state(self) -> Path:
        return self.place / "state"

    def run(self, *words: str, code: int = 0) -> str:
        """What the command prints; fails unless it ends with ``code``."""
        done = subprocess.run(
            [sys.executable, "-m", "cellcloud.up.cli", words[0], "--state", str(self.state), *words[1:]],
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def up(self) -> str:
        clouds = str(self.place / "clouds.yaml")
        choices = ["--driver", "fake", "--hosts", str(HOSTS), "--port", str(self.port), "--clouds-file", clouds]
        return self.run("up", "--profile", self.profile, *choices)

    def processes(self) -> dict[str, dict[str, object]]:
        """Name -> what ``status`` says of it."""
        return {row["name"]: row for row in json.loads(self.run("status", "-f", "json"))}

    def family(self) -> list[psutil.Process]:
        """Every process of the cloud."""
        launcher = Records(self.state / "run").find(cli.LAUNCHER)
        assert launcher
        process = psutil.Process(launcher.pid)
        return [process, *process.children(recursive=True)]

    def api(self, name: str = "cellcloud-admin") -> session.Session:
        """Signed in with what clouds.yaml says."""
        cloud = yaml.safe_load((self.place / "clouds.yaml").read_text())["clouds"][name]
        return session.Session(auth=v3.Password(**cloud["auth"]), timeout=20)

    def hypervisors(self) -> list[dict[str, object]]:
        answer = self.api().get("/os-hypervisors/detail", endpoint_filter={"service_type": "compute"})
        found: list[dict[str, object]] = answer.json()["hypervisors"]
        return found


def make(place: Path, profile: str) -> Iterator[Cloud]:
    cloud = Cloud(place=place, profile=profile, port=free_ports(PORTS))
    try:
        yield cloud
    finally:
        cloud.run("down")


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """A running cloud in many processes."""
    for cloud in make(tmp_path_factory.mktemp("services"), "services"):
        said = cloud.up()
        assert "serving" in said
        yield cloud


def test_every_process_is_there_and_well(services: Cloud) -> None:
    rows = services.processes()
    kinds = ("conductor", "scheduler", "consoleauth", "consoleproxy", "metadata", "compute", "broker")
    expected = {f"{cell}.{kind}" for cell in ("east", "west") for kind in kinds}
    assert expected | {"mariadb", "postgresql", "top.api", "top.router", "launcher"} <= rows.keys()
    assert {row["state"] for row in rows.values()} == {"ready"}
    assert {row["health"] for row in rows.values()} <= {"ok", "-"}
    assert len(services.hypervisors()) == 2 * HOSTS


def test_starting_twice_changes_nothing(services: Cloud) -> None:
    before = services.processes()["launcher"]["pid"]
    assert "already" in services.up()
    assert services.processes()["launcher"]["pid"] == before


def test_no_secret_is_in_a_process_list_or_a_log_or_readable(services: Cloud) -> None:
    world = services.state / "services-fake"
    known = [path.read_text() for path in (world / "secrets").iterdir()]
    assert len(known) > 8
    lines = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    lines += [path.read_text(errors="replace") for path in (services.state / "log").iterdir()]
    for line in lines:
        assert not [secret for secret in known if secret in line]
    assert stat.S_IMODE(world.stat().st_mode) == 0o700
    for path in [services.place / "clouds.yaml", *world.glob("**/*.conf"), *(world / "secrets").iterdir()]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_nothing_listens_beyond_this_machine(services: Cloud) -> None:
    ours = {process.pid for process in services.family()}
    listening = [
        each.laddr.ip
        for each in psutil.net_connections("inet")
        if each.pid in ours and each.status == psutil.CONN_LISTEN
    ]
    assert listening
    assert set(listening) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_a_part_can_be_stopped_and_started_again(services: Cloud) -> None:
    services.run("stop", "west.broker", "postgresql")
    rows = services.processes()
    assert (rows["west.broker"]["state"], rows["west.broker"]["pid"]) == ("held", None)
    assert len(services.hypervisors()) >= HOSTS
    services.run("start", "west.broker", "postgresql")
    rows = services.processes()
    assert (rows["west.broker"]["state"], rows["postgresql"]["state"]) == ("ready", "ready")
    services.run("stop", "nobody", code=1)


def test_what_a_killed_launcher_leaves_is_ended_by_down(services: Cloud) -> None:
    """Runs last: it ends the cloud of this module."""
    family = services.family()
    os.kill(family[0].pid, signal.SIGKILL)
    services.run("status", code=cli.NOT_RUNNING)
    assert any(process.is_running() for process in family[1:])
    services.run("down")
    gone, alive = psutil.wait_procs(family, timeout=5)
    assert not alive
    assert len(gone) == len(family)
    assert "No cloud" in services.run("down")


def test_one_process_keeps_its_state(tmp_path: Path) -> None:
    for cloud in make(tmp_path, "embedded"):
        cloud.up()
        assert list(cloud.processes()) == ["launcher"]
        before = {str(host["id"]) for host in cloud.hypervisors()}
        assert len(before) == 2 * HOSTS
        os.kill(cloud.family()[0].pid, signal.SIGKILL)
        cloud.up()
        assert {str(host["id"]) for host in cloud.hypervisors()} == before
        family = cloud.family()
        assert "down" in cloud.run("down")
        assert psutil.wait_procs(family, timeout=5)[1] == []


def test_what_cannot_work_is_said(tmp_path: Path) -> None:
    """A taken port, and a command line that makes no sense."""
    for cloud in make(tmp_path, "embedded"):
        with socket.create_server(("127.0.0.1", cloud.port)):
            done = cloud.run("up", "--driver", "fake", "--port", str(cloud.port), code=1)
        assert done == ""
        cloud.run("up", "--profile", "other", code=2)
        cloud.run("status", code=cli.NOT_RUNNING)
