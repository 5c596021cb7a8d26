"""The top's database is put back while the cloud runs, and nobody says so: servers show all that they showed before."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.world import IMAGE
from tests.cloud import CELLS, until
from tests.faults.books import wait_until_right
from tests.faults.one_process import OneProcess, one_process
from top_api.microversion import LAST

DATA = base64.b64encode(b"#cloud-config\n" + b"x" * 40_000).decode()
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBWnAC7H3vj3qBqUUvXfKZQ1dG8Q4kVQwQ8rZ4uVb0pS me"
ASKED: dict[str, Any] = {
    "imageRef": IMAGE,
    "flavorRef": "1",
    "networks": "auto",
    "description": "what it is for",
    "key_name": "mine",
    "metadata": {"role": "web", "tier": "1"},
    "tags": ["blue", "green"],
    "user_data": DATA,
    "config_drive": True,
    "accessIPv4": "192.0.2.1",
    "accessIPv6": "2001:db8::1",
    "OS-DCF:diskConfig": "AUTO",
}


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[OneProcess]:
    with one_process(tmp_path) as made:
        yield made


def ask(cloud: OneProcess, method: str, path: str, body: Any = None, token: str = "member") -> Any:
    headers = {"X-Auth-Token": token, "OpenStack-API-Version": f"compute {LAST[0]}.{LAST[1]}"}
    answer = cloud._client.open(f"/v2.1{path}", method=method, json=body, headers=headers)
    assert answer.status_code < 300, answer.text
    return answer.get_json(silent=True)


def create(cloud: OneProcess, name: str, **more: Any) -> str:
    made = ask(cloud, "POST", "/servers", {"server": ASKED | {"name": name} | more})
    return str(made["server"]["id"])


def text(number: int) -> str:
    return base64.b64encode(b"%d" % number).decode()


def change(cloud: OneProcess, server_id: str, name: str) -> None:
    cloud.wait_for(server_id, "ACTIVE")
    new = {"name": name, "description": "another", "hostname": name, "accessIPv4": "192.0.2.9"}
    ask(cloud, "PUT", f"/servers/{server_id}", {"server": new})
    ask(cloud, "PUT", f"/servers/{server_id}/tags/red")
    ask(cloud, "POST", f"/servers/{server_id}/metadata", {"metadata": {"tier": "2", "new": "é"}})
    cloud.stop(server_id)
    cloud.wait_for(server_id, "SHUTOFF")
    ask(cloud, "POST", f"/servers/{server_id}/action", {"lock": {"locked_reason": "mine"}})


def shown(cloud: OneProcess) -> dict[str, Any]:
    """Every server, as an administrator and its owner see it."""
    found: dict[str, Any] = {}
    for token, which in (("admin", "?all_tenants=1"), ("member", "")):
        for server in ask(cloud, "GET", f"/servers/detail{which}", token=token)["servers"]:
            found[f"{token} {server['name']}"] = server
    return found


def looks(state_dir: Path) -> int:
    """The number of the mark outside the top's database: what is lost since the last look has none."""
    return int(json.loads((state_dir / "marks" / "top.json").read_text())["number"])


def test_every_field_of_every_server_is_as_it_was(cloud: OneProcess, tmp_path: Path) -> None:
    live, kept = tmp_path / "top.sqlite", tmp_path / "kept.sqlite"
    ask(cloud, "POST", "/os-keypairs", {"keypair": {"name": "mine", "public_key": KEY, "type": "ssh"}})
    old = create(cloud, "old", user_data=text(9))
    changed, gone = create(cloud, "changed"), create(cloud, "gone", user_data=None)
    for server_id in (old, changed, gone):
        cloud.wait_for(server_id, "ACTIVE")
    with sqlite3.connect(live) as source, sqlite3.connect(kept) as copy:
        source.backup(copy)
    seen = looks(tmp_path)
    until(lambda: looks(tmp_path) > seen, 60.0, what="a mark that the copy lacks")
    ask(cloud, "POST", "/os-keypairs", {"keypair": {"name": "later", "public_key": KEY, "type": "ssh"}})
    change(cloud, changed, "changed-anew")
    new = [create(cloud, f"new-{number}", key_name="later", user_data=text(number)) for number in range(3)]
    change(cloud, new[0], "new-0-anew")
    cloud.delete(gone)
    for server_id, status in zip((*new[1:], gone), ("ACTIVE", "ACTIVE", "gone"), strict=True):
        cloud.wait_for(server_id, status)
    before = shown(cloud)
    assert {name.split()[1] for name in before} == {"old", "changed-anew", "new-0-anew", "new-1", "new-2"}
    assert before["admin new-1"]["OS-EXT-SRV-ATTR:user_data"]
    with sqlite3.connect(kept) as source, sqlite3.connect(live, timeout=20) as target:
        source.backup(target)
    until(lambda: shown(cloud) == before, 30.0, what="everything as it was")
    wait_until_right(cloud.books)
    findings = cloud._client.get("/operator/v1/findings", headers={"X-Auth-Token": "admin"}).json["findings"]
    history = next(one["text"] for one in findings if one["check"] == "history" and one["subject"] == "top")
    assert "mark" in history or "a cell has a server that is unknown here" in history  # whoever saw it first
    assert not [one for one in findings if one["check"] == "history" and one["subject"] in CELLS]
