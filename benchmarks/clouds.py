"""A cloud to measure, and a client that costs little."""

from __future__ import annotations

import http.client
import json
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

CLI = [sys.executable, "-m", "cellcloud.launcher.cli"]


@dataclass
class Cloud:
    """``start_seconds``: from the command to its return, which is when the cloud serves."""

    state: Path
    url: str
    start_seconds: float
    auth: dict[str, Any]
    token: str = ""
    ids: dict[str, str] = field(default_factory=dict)
    cafile: str = ""

    def connect(self) -> Client:
        """Return a client with a connection of its own."""
        if not self.token:
            self.token = Client(self.url, "", self.cafile).log_in(self.auth)
        return Client(self.url, self.token, self.cafile)

    def status(self) -> list[dict[str, Any]]:
        """Return what ``cellcloud status`` says of each process."""
        text = subprocess.run(
            [*CLI, "status", "--state", str(self.state), "-f", "json"], check=True, capture_output=True, text=True
        ).stdout
        rows = json.loads(text)
        return rows["processes"] if isinstance(rows, dict) else rows


class Client:
    """One keep-alive connection."""

    def __init__(self, url: str, token: str, cafile: str = "") -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        if cafile:
            trusting = ssl.create_default_context(cafile=cafile)
            self._connection = http.client.HTTPSConnection(
                parts.hostname or "", parts.port, timeout=60, context=trusting
            )
        self._headers = {"X-Auth-Token": token, "Content-Type": "application/json"}
        self._headers["OpenStack-API-Version"] = "compute 2.96"

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any, http.client.HTTPMessage]:
        """Status, decoded body, headers."""
        status, data, headers = self.fetch(method, path, body)
        return status, json.loads(data) if data else None, headers

    def fetch(self, method: str, path: str, body: Any = None) -> tuple[int, bytes, http.client.HTTPMessage]:
        """Status, body, headers."""
        text = None if body is None else json.dumps(body)
        self._connection.request(method, path, text, self._headers)
        answer = self._connection.getresponse()
        return answer.status, answer.read(), answer.headers

    def log_in(self, auth: dict[str, Any]) -> str:
        """Return a token."""
        user = {"name": auth["username"], "password": auth["password"], "domain": {"id": "default"}}
        scope = {"project": {"name": auth["project_name"], "domain": {"id": "default"}}}
        body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}}
        status, answer, headers = self.ask("POST", "/identity/v3/auth/tokens", body)
        assert status == 201, answer
        return str(headers["X-Subject-Token"])

    def create(self, cloud: Cloud, name: str, count: int = 1) -> list[str]:
        """Ids of new servers."""
        body = {
            "server": {
                "name": name,
                "flavorRef": cloud.ids["flavor"],
                "imageRef": cloud.ids["image"],
                "networks": "auto",
                "min_count": count,
                "max_count": count,
                "return_reservation_id": count > 1,
            }
        }
        status, answer, _ = self.ask("POST", "/v2.1/servers", body)
        assert status == 202, answer
        if count == 1:
            return [answer["server"]["id"]]
        reservation = answer["reservation_id"]
        return [one["id"] for one in self.ask("GET", f"/v2.1/servers?reservation_id={reservation}")[1]["servers"]]

    def count(self, status: str) -> int:
        """Servers of a status, page by page."""
        total, path = 0, f"/v2.1/servers?status={status}&limit=1000"
        while path:
            answer = self.ask("GET", path)[1]
            total += len(answer["servers"])
            links = answer.get("servers_links") or []
            path = links[0]["href"].split("/v2.1", 1)[1] if links else ""
            path = f"/v2.1{path}" if path else ""
        return total

    def wait_active(self, wanted: int, seconds: float = 120.0) -> None:
        """Until that many servers are ACTIVE."""
        end = time.monotonic() + seconds
        while (now := self.count("ACTIVE")) < wanted:
            assert time.monotonic() < end, f"{now} of {wanted} servers are ACTIVE, {self.count('ERROR')} in ERROR"
            time.sleep(0.1)

    def wait_gone(self, seconds: float = 120.0) -> None:
        """Until the project has no server."""
        end = time.monotonic() + seconds
        while self.ask("GET", "/v2.1/servers?limit=1")[1]["servers"]:
            assert time.monotonic() < end, "servers are left"
            time.sleep(0.05)

    def delete_all(self, seconds: float = 120.0) -> None:
        """Delete every server of the project and wait until they are gone."""
        end = time.monotonic() + seconds
        while servers := self.ask("GET", "/v2.1/servers?limit=1000")[1]["servers"]:
            for one in servers:
                self.ask("DELETE", f"/v2.1/servers/{one['id']}")
            assert time.monotonic() < end, f"{len(servers)} servers are left"
            time.sleep(0.5)


@contextmanager
def running_cloud(*, profile: str, hosts: int = 10, port: int = 19774) -> Iterator[Cloud]:
    """Start a cloud on the fake driver, stopped and forgotten afterwards."""
    with tempfile.TemporaryDirectory(prefix="cellcloud-bench-") as folder:
        state = Path(folder) / "state"
        clouds = Path(folder) / "clouds.yaml"
        options = ["--profile", profile, "--driver", "fake", "--hosts", str(hosts), "--port", str(port)]
        began = time.monotonic()
        subprocess.run(
            [*CLI, "up", *options, "--state", str(state), "--clouds-file", str(clouds)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        took = time.monotonic() - began
        try:
            known = yaml.safe_load(clouds.read_text())["clouds"]["cellcloud"]
            url = known["auth"]["auth_url"].removesuffix("/identity/v3")
            cafile = known.get("cacert", "")
            cloud = Cloud(state=state, url=url, start_seconds=took, auth=known["auth"], cafile=cafile)
            client = cloud.connect()
            flavors = client.ask("GET", "/v2.1/flavors")[1]["flavors"]
            cloud.ids["flavor"] = next(one["id"] for one in flavors if one["name"] == "m1.tiny")
            cloud.ids["image"] = client.ask("GET", "/image/v2/images?name=tiny")[1]["images"][0]["id"]
            yield cloud
        finally:
            subprocess.run([*CLI, "down", "--state", str(state)], check=True, stdout=subprocess.DEVNULL)
