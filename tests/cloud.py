"""A whole cloud for a test: started by its own command, on ports and a state directory of its own, and ended.

with running_cloud(tmp_path, profile="services", hosts=4) as cloud:
    server_id = cloud.api().create("s")
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import requests
import yaml

from cellcloud import config
from cellcloud.launcher.process_records import Records
from tests.daemons import free_ports

CELLS = ("east", "west")
PORTS = 50  # the API's, and those that keep their distance from it
SERVICES = {
    "compute": ("/v2.1", "2.90"),
    "volume": ("/volume/v3", "3.70"),
    "network": ("/network/v2.0", "2.0"),
}  # where each is, its microversion
OTHERS_NEWS = ("[Note]", "[Warning]", "[warning]", "[INFO]", "LOG:")
Condition = Callable[[], Any]


def until(condition: Condition, seconds: float = 60.0, *, every: float = 0.1, what: str = "") -> Any:
    """The condition's first true value. Fails when there is none in time."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {seconds:.0f} s: {what or 'the condition'}"
        time.sleep(every)
    return value


class Api:
    """The Compute API as one user, and those of volumes and networks; every method may be used from several threads."""

    def __init__(self, cloud: dict[str, Any]) -> None:
        self._auth = cloud["auth"]
        self.verify = cloud.get("cacert", True)
        self.identity = str(self._auth["auth_url"])
        self.url = self.identity.removesuffix("/identity/v3")
        self.token = until(self._log_in, 30.0, what="a token")

    def request(
        self, method: str, path: str, body: Any = None, *, timeout: float = 30.0, service: str = "compute", **more: str
    ) -> Any:
        """One request, never repeated; ``path`` begins behind the service's version, ``more`` are headers."""
        place, version = SERVICES[service]
        return requests.request(
            method,
            f"{self.url}{place}{path}",
            json=body,
            headers={"X-Auth-Token": self.token, "OpenStack-API-Version": f"{service} {version}"} | more,
            timeout=timeout,
            verify=self.verify,
        )

    def get(self, path: str, **options: Any) -> Any:
        """What a GET answers, which must be 200."""
        answer = self.request("GET", path, **options)
        assert answer.status_code == 200, (path, answer.status_code, answer.text)
        return answer.json()

    def server_body(self, name: str, **changes: Any) -> dict[str, Any]:
        """A create's body: the tiny image and flavor, on the shared network."""
        server = {"name": name, "imageRef": self.image_id, "flavorRef": self.flavor_id, "networks": "auto"}
        return {"server": server | changes}

    def create(self, name: str, **changes: Any) -> str:
        """Ask for a server; its id."""
        answer = self.request("POST", "/servers", self.server_body(name, **changes))
        assert answer.status_code == 202, answer.text
        return str(answer.json()["server"]["id"])

    def find(self, server_id: str) -> dict[str, Any] | None:
        """The server as it is shown; None when there is none."""
        answer = self.request("GET", f"/servers/{server_id}")
        assert answer.status_code in (200, 404), answer.text
        return answer.json()["server"] if answer.status_code == 200 else None

    def list_servers(self) -> dict[str, dict[str, Any]]:
        """Every server of the project, by id."""
        return {server["id"]: server for server in self.get("/servers/detail")["servers"]}

    def wait_for(self, server_id: str, status: str, seconds: float = 60.0) -> dict[str, Any]:
        """The server once it is in that status."""

        def reached() -> dict[str, Any] | None:
            server = self.find(server_id)
            return server if server is not None and server["status"] == status else None

        found: dict[str, Any] = until(reached, seconds, what=f"{server_id} {status}")
        return found

    @cached_property
    def image_id(self) -> str:
        answer = requests.get(
            f"{self.url}/image/v2/images?name=tiny",
            headers={"X-Auth-Token": self.token},
            timeout=15,
            verify=self.verify,
        )
        return str(answer.json()["images"][0]["id"])

    @cached_property
    def flavor_id(self) -> str:
        return str(next(flavor["id"] for flavor in self.get("/flavors")["flavors"] if flavor["name"] == "m1.tiny"))

    def _log_in(self) -> str | None:
        domain = {"id": self._auth["user_domain_id"]}
        user = {"name": self._auth["username"], "domain": domain, "password": self._auth["password"]}
        body = {
            "auth": {
                "identity": {"methods": ["password"], "password": {"user": user}},
                "scope": {"project": {"name": self._auth["project_name"], "domain": domain}},
            }
        }
        answer = requests.post(f"{self.identity}/auth/tokens", json=body, timeout=15, verify=self.verify)
        return answer.headers.get("X-Subject-Token") if answer.status_code == 201 else None


@dataclass(frozen=True)
class Cloud:
    """A cloud that runs. ``clouds_file``: for the standard clients."""

    state: Path
    port: int
    clouds_file: Path
    driver: str

    @property
    def url(self) -> str:
        """The API's, as the standard clients have it."""
        known = yaml.safe_load(self.clouds_file.read_text())["clouds"]["cellcloud"]["auth"]["auth_url"]
        return str(known).removesuffix("/identity/v3")

    def api(self, name: str = "cellcloud") -> Api:
        """The API as the member of project demo, or as another of the clouds file."""
        return Api(yaml.safe_load(self.clouds_file.read_text())["clouds"][name])

    @property
    def top_file(self) -> Path:
        """The top cell's option file."""
        return self.state / "top" / "cellcloud.conf"

    def cell_file(self, cell: str) -> Path:
        """A cell's option file."""
        return self.state / "cells" / cell / "cellcloud.conf"

    def role_file(self, cell: str, role: str) -> Path:
        """The option file of one of a cell's services."""
        return self.cell_file(cell) if role == "conductor" else self.cell_file(cell).with_name(f"{role}.conf")

    def database_url(self, cell: str | None = None) -> str:
        """Of a cell, or of the top."""
        return config.load(self.top_file).top.connection if cell is None else self.cell_config(cell).cell.connection

    def cell_config(self, cell: str) -> config.Config:
        return config.load(self.cell_file(cell))

    # ---- processes (services profile) --------------------------------------------------------------------------
    @property
    def records(self) -> Records:
        return Records(self.state / "run")

    def pid(self, name: str) -> int:
        """The process of a unit that is ready; 0 when it is not."""
        record = self.records.find(name)
        return record.pid if record is not None and record.state == "ready" and record.is_alive() else 0

    def pids(self) -> dict[str, int]:
        """Every unit that is ready."""
        return {record.name: pid for record in self.records.list_all() if (pid := self.pid(record.name))}

    def api_workers(self) -> list[int]:
        """The processes that answer requests."""
        pid = self.pid("top.api")
        try:
            return [child.pid for child in psutil.Process(pid).children()] if pid else []
        except psutil.NoSuchProcess:
            return []

    def command(self, word: str, *arguments: str) -> None:
        """``cellcloud WORD --state ...``, which must succeed."""
        run = [sys.executable, "-m", "cellcloud.launcher.cli", word, "--state", str(self.state), *arguments]
        done = subprocess.run(run, capture_output=True, text=True, timeout=180, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def stop(self, *names: str) -> None:
        """End units and keep them ended."""
        self.command("stop", *names)

    def start(self, *names: str) -> None:
        """Bring units back, and wait until they are ready."""
        self.command("start", *names)

    def print_logs(self, lines: int = 40) -> None:
        """The end of what each process had to complain about."""
        for path in sorted((self.state / "log").glob("*.log")):
            text = path.read_text(errors="replace").splitlines()
            told = [line for line in text if _complains(line)][-lines:]
            if told:
                print(f"==== {path.name}", *told, sep="\n")


def _complains(line: str) -> bool:
    """Whether it is more than news; lines that are no JSON are tracebacks, or other programs'."""
    try:
        level = str(json.loads(line).get("level", ""))
    except (ValueError, AttributeError):
        return not any(word in line for word in OTHERS_NEWS)
    return level.upper() not in ("INFO", "DEBUG")


@contextmanager
def running_cloud(
    place: Path,
    *,
    profile: str = "services",
    driver: str = "fake",
    hosts: int = 4,
    cache: Path | None = None,
    within: str | None = None,
) -> Iterator[Cloud]:
    """A cloud that serves, ended with the block; its logs are kept in ``place``, and printed when the block fails.
    ``within``: where its state is, if not in the usual place for what is temporary."""
    # no deeper: a unix socket's path has room for 107 bytes
    state = Path(tempfile.mkdtemp(prefix="cloud-", dir=within))
    cloud = Cloud(state=state, port=free_ports(PORTS), clouds_file=place / "clouds.yaml", driver=driver)
    begin = ["--profile", profile, "--driver", driver, "--hosts", str(hosts), "--port", str(cloud.port)]
    begin += ["--clouds-file", str(cloud.clouds_file), *(["--cache", str(cache)] if cache else [])]
    try:
        cloud.command("up", *begin)
        yield cloud
    except BaseException:
        cloud.print_logs()
        raise
    finally:
        family = _family(cloud)
        cloud.command("down", "--guests")
        left = [process for process in family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
        assert not left, left
        shutil.move(state / "log", place / "log")
        shutil.rmtree(state)


def _family(cloud: Cloud) -> list[psutil.Process]:
    """The launcher and all below it."""
    launcher = cloud.records.find("launcher")
    if launcher is None or not psutil.pid_exists(launcher.pid) or launcher.pid == os.getpid():
        return []
    process = psutil.Process(launcher.pid)
    return [process, *process.children(recursive=True)]
