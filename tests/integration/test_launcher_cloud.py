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
from pathlib import Path
from typing import Any

import psutil
import pytest

from cellcloud.launcher import cli
from cellcloud.launcher.launcher_process import claim
from cellcloud.launcher.process_records import Records
from tests.cloud import PORTS, Cloud, running_cloud, until
from tests.daemons import free_ports

HOSTS = 3


def command(state: Path, *words: str, code: int = 0) -> str:
    """What ``cellcloud`` prints; fails unless it ends with ``code``."""
    argv = [sys.executable, "-m", "cellcloud.launcher.cli", words[0], "--state", str(state), *words[1:]]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def processes(cloud: Cloud) -> dict[str, dict[str, Any]]:
    """Name -> what ``status`` says of it."""
    return {row["name"]: row for row in json.loads(command(cloud.state, "status", "-f", "json"))}


def family(cloud: Cloud) -> list[psutil.Process]:
    """The launcher and every process below it."""
    launcher = psutil.Process(processes(cloud)[cli.LAUNCHER]["pid"])
    return [launcher, *launcher.children(recursive=True)]


def hypervisors(cloud: Cloud) -> set[str]:
    """The ids of the hosts that are listed."""
    return {str(host["id"]) for host in cloud.api("cellcloud-admin").get("/os-hypervisors")["hypervisors"]}


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """A running cloud in many processes."""
    with running_cloud(tmp_path_factory.mktemp("services"), profile="services", hosts=HOSTS) as cloud:
        yield cloud


def test_every_process_is_there_and_well(services: Cloud) -> None:
    rows = processes(services)
    kinds = ("conductor", "scheduler", "consoleauth", "consoleproxy", "metadata", "compute", "broker")
    expected = {f"{cell}.{kind}" for cell in ("east", "west") for kind in kinds}
    assert expected | {"mariadb", "postgresql", "top.api", "top.router", "launcher"} <= rows.keys()
    assert {row["state"] for row in rows.values()} == {"ready"}
    assert {row["health"] for row in rows.values()} <= {"ok", "-"}
    assert len(hypervisors(services)) == 2 * HOSTS


def test_starting_twice_changes_nothing(services: Cloud) -> None:
    before = processes(services)["launcher"]["pid"]
    assert "already" in command(services.state, "up")
    assert processes(services)["launcher"]["pid"] == before


def test_no_secret_is_in_a_process_list_or_a_log_or_readable(services: Cloud) -> None:
    world = services.state / "services-fake"
    known = [path.read_text() for path in (world / "secrets").iterdir()]
    assert len(known) > 8
    texts = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    texts += [path.read_text(errors="replace") for path in (services.state / "log").iterdir()]
    for text in texts:
        assert not [secret for secret in known if secret in text]
    assert stat.S_IMODE(world.stat().st_mode) == 0o700
    for path in [services.clouds_file, *world.glob("**/*.conf"), *(world / "secrets").iterdir()]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_nothing_listens_beyond_this_machine(services: Cloud) -> None:
    ours = {process.pid for process in family(services)}
    listening = {
        each.laddr.ip
        for each in psutil.net_connections("inet")
        if each.pid in ours and each.status == psutil.CONN_LISTEN
    }
    assert "127.0.0.1" in listening
    assert listening <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_a_part_can_be_stopped_and_started_again(services: Cloud) -> None:
    services.stop("west.broker", "postgresql")
    rows = processes(services)
    assert (rows["west.broker"]["state"], rows["west.broker"]["pid"]) == ("held", None)
    assert len(hypervisors(services)) >= HOSTS
    services.start("west.broker", "postgresql")
    rows = processes(services)
    assert (rows["west.broker"]["state"], rows["postgresql"]["state"]) == ("ready", "ready")
    command(services.state, "stop", "nobody", code=1)


def test_new_volumes_follow_their_servers_from_cell_to_cell(services: Cloud) -> None:
    """They lie in both cells, and then in the server's; one that was used stays there."""
    api, admin = services.api(), services.api("cellcloud-admin")
    server = api.create("with-volumes")
    api.wait_for(server, "ACTIVE")
    home = str(admin.get(f"/servers/{server}")["server"]["OS-EXT-SRV-ATTR:host"]).partition("-")[0]

    def show(volume: str) -> dict[str, Any]:
        found: dict[str, Any] = admin.get(f"/volumes/{volume}", service="volume")["volume"]
        return found

    def ask(method: str, path: str, body: Any, status: int, service: str = "compute") -> Any:
        answer = api.request(method, path, body, service=service)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    def cell_of(volume: str) -> str:
        return str(show(volume)["os-vol-host-attr:host"]).rpartition("#")[2]

    wanted = {"volume": {"size": 1}}
    made = [str(ask("POST", "/volumes", wanted, 202, "volume")["volume"]["id"]) for _ in range(2)]
    until(lambda: all(show(one)["status"] == "available" for one in made), what="volumes")
    assert {cell_of(one) for one in made} == {"east", "west"}
    at = f"/servers/{server}/os-volume_attachments"
    for one in made:
        ask("POST", at, {"volumeAttachment": {"volumeId": one}}, 200)
    until(lambda: all(show(one)["status"] == "in-use" for one in made), what="volumes in use")
    assert {cell_of(one) for one in made} == {home}
    ask("DELETE", f"/servers/{server}", None, 204)
    until(lambda: all(show(one)["status"] == "available" for one in made), what="volumes that are given back")
    ask("DELETE", f"/volumes/{made[1]}", None, 202, "volume")

    snapshot = ask("POST", "/snapshots", {"snapshot": {"volume_id": made[0]}}, 202, "volume")["snapshot"]["id"]
    until(lambda: admin.get(f"/snapshots/{snapshot}", service="volume")["snapshot"]["status"] == "available")
    other = "west" if home == "east" else "east"
    copy = {"volume": {"snapshot_id": snapshot}, "OS-SCH-HNT:scheduler_hints": {"cell": other}}
    said = ask("POST", "/volumes", copy, 400, "volume")
    assert f"The source is in cell {home}, not in {other}." in said["badRequest"]["message"]


def test_what_a_killed_launcher_leaves_is_ended_by_down(services: Cloud) -> None:
    """Runs last: it ends the cloud of this module."""
    before = family(services)
    os.kill(before[0].pid, signal.SIGKILL)
    command(services.state, "status", code=cli.NOT_RUNNING)
    assert any(process.is_running() for process in before[1:])
    command(services.state, "down")
    assert psutil.wait_procs(before, timeout=30)[1] == []
    assert "No cloud" in command(services.state, "down")


def test_one_process_keeps_its_state(tmp_path: Path) -> None:
    with running_cloud(tmp_path, profile="embedded", hosts=HOSTS) as cloud:
        assert list(processes(cloud)) == ["launcher"]
        server_id = cloud.api().create("kept")
        cloud.api().wait_for(server_id, "ACTIVE")
        before = hypervisors(cloud)
        assert len(before) == 2 * HOSTS
        os.kill(cloud.pid(cli.LAUNCHER), signal.SIGKILL)
        choices = ["--driver", "fake", "--hosts", str(HOSTS), "--port", str(cloud.port)]
        cloud.command("up", *choices, "--clouds-file", str(cloud.clouds_file))
        assert hypervisors(cloud) == before
        assert cloud.api().get(f"/servers/{server_id}")["server"]["name"] == "kept"


def test_starts_at_once_end_in_one_cloud_and_say_so(tmp_path: Path) -> None:
    """Whoever comes second waits for the first one's start and is told the truth of it."""
    port, file = free_ports(PORTS), tmp_path / "clouds.yaml"
    words = [
        "up",
        "--state",
        str(tmp_path / "state"),
        "--driver",
        "fake",
        "--port",
        str(port),
        "--clouds-file",
        str(file),
    ]
    argv = [sys.executable, "-m", "cellcloud.launcher.cli", *words]
    starts = [subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    try:
        told = [start.communicate(timeout=120) for start in starts]
        assert [start.returncode for start in starts] == [0, 0, 0], told
        served = [said for said, _ in told if f"The cloud serves at http://127.0.0.1:{port}." in said]
        joined = [said for said, _ in told if f"A cloud runs here already (process {_pid(tmp_path)}), at" in said]
        assert (len(served), len(joined)) == (1, 2), told
        assert f"--state {tmp_path / 'state'}" in served[0] or f"STATE={tmp_path / 'state'}" in served[0]
        assert f"{port}" in served[0].splitlines()[-1]
    finally:
        command(tmp_path / "state", "down")


def test_who_waits_for_a_start_that_fails_is_told(tmp_path: Path) -> None:
    lock = claim(tmp_path / "run")
    assert lock is not None
    argv = [sys.executable, "-m", "cellcloud.launcher.cli", "up", "--state", str(tmp_path), "--driver", "fake"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as waiting:
        assert waiting.stdout is not None
        assert "under way" in waiting.stdout.readline()
        lock.close()
        assert waiting.communicate(timeout=120)[1].startswith("cellcloud: The other start failed")
        assert waiting.returncode == 1


def _pid(place: Path) -> int:
    launcher = Records(place / "state" / "run").find(cli.LAUNCHER)
    assert launcher is not None
    return launcher.pid


def test_what_cannot_work_is_said(tmp_path: Path) -> None:
    """A taken port, a command line that makes no sense, and no cloud."""
    port = free_ports(1)
    with socket.create_server(("127.0.0.1", port)):
        assert command(tmp_path, "up", "--driver", "fake", "--port", str(port), code=1) == ""
    command(tmp_path, "up", "--profile", "other", code=2)
    command(tmp_path, "status", code=cli.NOT_RUNNING)
