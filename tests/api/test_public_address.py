"""Every link of every service leads where the client can go: by option, through a listed proxy, or as it came."""

from __future__ import annotations

import datetime as dt
import json
import re
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from cellcloud import config, errors
from cellcloud.db import flavors, server_index
from cellcloud.db.engine import Database
from cellcloud.embedded.bootstrap import bootstrap
from cellcloud.model.image import Image
from cellcloud.model.server import ServerRecord
from tests.api.declared_answers import watch_answers
from tests.embedded_cloud import PASSWORDS
from tests.workflows.world import make_spec
from top_api.adapters import make_adapters
from top_api.app import create_app
from top_api.public_address import PublicAddress
from top_api.routes import RESOURCES

AT = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
PROXY, STRANGER = "10.9.8.7", "10.9.9.7"
FORWARDED = {
    "X-Forwarded-For": "192.0.2.1",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "cloud.example",
    "X-Forwarded-Prefix": "/east",
}
ADDRESS = re.compile(r"https?://[^\s\"'/]+(?:/east|/cloud)?")


class Client:
    """The API in front of embedded services, asked by one peer with the same headers each time."""

    def __init__(self, database: Database, folder: Path, peer: str, headers: dict[str, str], **top: Any) -> None:
        settings = config.load()
        settings = replace(settings, state_dir=folder, top=replace(settings.top, **top))
        outside = make_adapters(settings, database)
        app = create_app(settings, database=database, adapters=outside, dispatch=lambda made: None)
        self._undeclared = watch_answers(app)
        self._client: FlaskClient = app.test_client()
        self._peer, self._headers = peer, {"Host": "inner:8774", **headers}
        self.token = ""

    def ask(self, method: str, path: str, body: Any = None, **environ: str) -> TestResponse:
        headers = {**self._headers, "X-Auth-Token": self.token, "OpenStack-API-Version": "compute 2.90"}
        answer = self._client.open(
            path, method=method, json=body, headers=headers, environ_overrides={"REMOTE_ADDR": self._peer, **environ}
        )
        assert self._undeclared == []
        return answer

    def sign_in(self) -> TestResponse:
        user = {"name": "demo", "domain": {"id": "default"}, "password": PASSWORDS.demo}
        scope = {"project": {"name": "demo", "domain": {"id": "default"}}}
        auth = {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}
        answer = self.ask("POST", "/identity/v3/auth/tokens", {"auth": auth})
        self.token = answer.headers["X-Subject-Token"]
        return answer


@pytest.fixture
def database(top_database: Database) -> Iterator[Database]:
    bootstrap(top_database, PASSWORDS)
    with top_database.write() as connection:
        flavors.ensure_starters(connection)
    return top_database


def addresses(answer: TestResponse) -> set[str]:
    """Scheme, host and prefix of every URL of an answer, but for documentation's."""
    text = answer.get_data(as_text=True).replace("\\/", "/")
    words = [text, answer.headers.get("Location", ""), answer.headers.get("WWW-Authenticate", "")]
    return {found for word in words for found in ADDRESS.findall(word) if "openstack.org" not in found}


def _who(client: Client) -> tuple[str, str]:
    told = json.loads(client.ask("GET", "/identity/v3/auth/tokens", HTTP_X_SUBJECT_TOKEN=client.token).get_data())
    return told["token"]["project"]["id"], told["token"]["user"]["id"]


def _add_a_server(database: Database, project: str, user: str) -> str:
    """Two servers of the caller's; the id of one."""
    ids = [str(uuid.UUID(int=number)) for number in (1, 2)]
    specs = [make_spec(one, project_id=project, user_id=user, image=Image(id=one)) for one in ids]
    records = [
        ServerRecord(spec=spec, version=1, generation=1, vm_state="active", cell="east", created_at=AT, launched_at=AT)
        for spec in specs
    ]
    with database.write() as connection:
        server_index.insert_records(connection, records)
    return ids[0]


def _compute_lists() -> list[str]:
    """Every list of the Compute API that needs no id, a page of one."""
    plain = [one for resource in RESOURCES for one in resource.routes if one.method == "GET" and "<" not in one.path]
    return sorted({f"/v2.1{one.path}?limit=1" for one in plain})


WAYS = {
    "by option": (STRANGER, {}, {"public_url": "https://cloud.example/cloud"}, "https://cloud.example/cloud"),
    "by option, whatever a proxy says": (
        PROXY,
        FORWARDED,
        {"public_url": "https://cloud.example/cloud/", "trusted_proxies": [PROXY]},
        "https://cloud.example/cloud",
    ),
    "through a listed proxy": (PROXY, FORWARDED, {"trusted_proxies": ["10.9.8.0/24"]}, "https://cloud.example/east"),
    "through a proxy nobody listed": (STRANGER, FORWARDED, {"trusted_proxies": ["10.9.8.0/24"]}, "http://inner:8774"),
    "with no proxy listed": (PROXY, FORWARDED, {}, "http://inner:8774"),
    "as it came": (STRANGER, {}, {}, "http://inner:8774"),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_link_leads_where_the_client_can_go(database: Database, tmp_path: Path, way: str) -> None:
    peer, headers, top, expected = WAYS[way]
    client = Client(database, tmp_path, peer, headers, **top)
    anonymous = [
        *(("GET", path) for path in ("/", "/v2.1/", "/v2/", "/v3.7/servers", "/identity/", "/identity/v3")),
        *(("GET", path) for path in ("/image/", "/image/versions", "/network/", "/network/v2.0")),
        *(("GET", path) for path in ("/v2.1/servers", "/identity/v3/users", "/image/v2/images", "/network/v2.0/ports")),
    ]
    seen = {f"{method} {path}": addresses(client.ask(method, path)) for method, path in anonymous}
    seen["log in"] = addresses(client.sign_in())
    flavor = json.loads(client.ask("GET", "/v2.1/flavors?limit=1").get_data())["flavors"][0]["id"]
    made = client.ask("POST", "/image/v2/images", {"name": "i", "disk_format": "raw", "container_format": "bare"})
    assert made.status_code == 201
    seen["image create"] = addresses(made)
    for _ in range(2):
        client.ask("POST", "/network/v2.0/networks", {"network": {"name": "n"}})
    project, user = _who(client)
    server_id = _add_a_server(database, project, user)
    found_somewhere = set()
    for path in (
        *_compute_lists(),
        f"/v2.1/servers/{server_id}",
        f"/v2.1/os-simple-tenant-usage/{project}?limit=1&detailed=1",
    ):
        answer = client.ask("GET", path)
        if answer.status_code == 400:  # it has no pages
            answer = client.ask("GET", path.partition("?")[0])
        assert answer.status_code != 500, (path, answer.text)
        found = addresses(answer)
        found_somewhere |= {path} if found else set()
        seen[path] = found or {expected}
    assert len(found_somewhere) >= 6, found_somewhere
    for path in (
        "/identity/v3/auth/catalog",
        "/identity/v3/projects/"
        + json.loads(client.ask("GET", "/identity/v3/auth/projects").get_data())["projects"][0]["id"],
        "/v2.1/flavors?limit=1",
        f"/v2.1/flavors/{flavor}",
        "/network/v2.0/networks?limit=1",
    ):
        answer = client.ask("GET", path)
        assert answer.status_code == 200, (path, answer.get_data(as_text=True))
        seen[path] = addresses(answer)
    assert {path: found for path, found in seen.items() if found != {expected}} == {}


@pytest.mark.parametrize("path", ["/", "/v2.1/flavors", "/identity/v3", "/image/v2/images", "/network/v2.0/ports"])
@pytest.mark.parametrize("host", ["", "a b", "x/y"])
def test_what_names_no_host_is_refused(database: Database, tmp_path: Path, path: str, host: str) -> None:
    assert Client(database, tmp_path, STRANGER, {"Host": host}).ask("GET", path).status_code == 400


@pytest.mark.parametrize(
    "top", [{"public_url": "cloud.example"}, {"public_url": "ftp://x"}, {"trusted_proxies": ["x"]}]
)
def test_what_is_no_address_is_refused_at_start(top: dict[str, Any]) -> None:
    values = {"public_url": "", "trusted_proxies": []} | top
    with pytest.raises(errors.Misconfigured):
        PublicAddress(lambda environ, start: [], **values)
