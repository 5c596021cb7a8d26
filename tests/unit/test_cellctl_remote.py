"""cellctl and the operators' routes together: one is made to read what the other writes."""

from __future__ import annotations

import datetime as dt
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from werkzeug.serving import make_server

from cell.admin.__main__ import main
from cellcloud import errors
from cellcloud.clients.identity import Caller
from cellcloud.context import RequestContext
from cellcloud.model.cell import Finding
from cellcloud.model.host import Host
from cellcloud.model.observed_guests import UnknownGuest
from cellcloud.model.run import RunRecord, TimelineEntry
from cellcloud.model.server import ServerRecord
from tests.functional.router_world import FakeCell, Line, World, open_lines, open_world
from tests.unit.test_cellctl import FakeSource
from tests.unit.test_cellctl import make_server as make_record
from top_api.adapters import Adapters
from top_api.app import create_app
from top_api.request_pipeline import Answer, Call, Resource
from top_api.service_api_definition import WebApi

AT = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)


class TellingCell(FakeCell):
    """A cell that also answers what operators ask. ``unknown``: guests of the west that no record accounts for."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.unknown = {
            server_id: UnknownGuest(
                host="west-1",
                server_id=server_id,
                generation=3,
                power_state=1,
                project_id="demo",
                reason="no record",
                removal=False,
                first_seen=AT,
            )
            for server_id in ("g1", "g2")
        }

    def list_hosts(self, context: RequestContext) -> list[Host]:
        return FakeSource().list_hosts(None)

    def list_runs(self, context: RequestContext, server_id: str | None, unfinished: bool) -> list[RunRecord]:
        return [FakeSource().get_operation(f"run-{self.name}")]

    def get_run(self, context: RequestContext, run_id: str) -> RunRecord:
        if run_id != f"run-{self.name}":
            raise errors.NotFound("No such run.")
        return FakeSource().get_operation(run_id)

    def get_timeline(self, context: RequestContext, server_id: str) -> list[TimelineEntry]:
        return [TimelineEntry(at=AT, kind="step", text="guests.spawn done")]

    def list_unknown_guests(self, context: RequestContext, host: str | None) -> list[UnknownGuest]:
        mine = self.unknown if self.name == "west" else {}
        return [guest for guest in mine.values() if host in (None, guest.host)]

    def adopt_guest(self, context: RequestContext, host: str, server_id: str) -> ServerRecord:
        self.unknown.pop(server_id)
        return make_record(server_id)

    def release_name(self, context: RequestContext, host: str) -> None:
        if self.name == "east":
            raise errors.Conflict(f"The machine that has the name {host} lives.")

    def remove_guest(self, context: RequestContext, host: str, server_id: str) -> None:
        self.unknown[server_id] = replace(self.unknown[server_id], removal=True)

    def check_books(self, context: RequestContext) -> list[Finding]:
        return [Finding(check="claims", severity="ok", subject="-", text="nothing wrong")]


class Identity:
    """Takes the password "right" of anybody; "admin" is one."""

    def validate_token(self, token: str) -> Caller:
        roles = ("admin", "member") if token == "token-admin" else ("member",)
        return Caller(
            user_id=token,
            user_name="n",
            project_id="p",
            project_name="demo",
            roles=roles,
            expires_at=dt.datetime(2099, 1, 1, tzinfo=dt.UTC),
        )


def sign_in(url: list[str]) -> Resource:
    resource = Resource("sign_in", WebApi(prefix="/identity/v3"))

    @resource.route("POST", "/auth/tokens", None)
    def issue(call: Call) -> Answer:
        user = call.body["auth"]["identity"]["password"]["user"]
        if user["password"] != "right":
            raise errors.Unauthenticated
        endpoint = {"interface": "public", "region_id": "R", "region": "R", "url": f"{url[0]}/v2.1", "id": "e"}
        token = {
            "methods": ["password"],
            "expires_at": "2099-01-01T00:00:00.000000Z",
            "issued_at": "2026-01-01T00:00:00.000000Z",
            "user": {"id": "u", "name": "n", "domain": {"id": "default", "name": "Default"}},
            "catalog": [{"type": "compute", "name": "nova", "id": "c", "endpoints": [endpoint]}],
        }
        return Answer(status=201, body={"token": token}, headers={"X-Subject-Token": f"token-{user['name']}"})

    return resource


@pytest.fixture(scope="module")
def lines() -> Iterator[list[Line]]:
    with open_lines("east", "west") as made:
        yield made


@pytest.fixture
def world(tmp_path: Path, lines: list[Line]) -> Iterator[World]:
    with open_world(tmp_path, lines) as made:
        for line in lines:
            line.cell = TellingCell(line.name)
        yield made


@pytest.fixture
def clouds(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The API served on loopback, and a clouds.yaml for it."""
    with serving_api(world, tmp_path / "clouds.yaml", monkeypatch):
        yield tmp_path / "clouds.yaml"


@contextmanager
def serving_api(world: World, clouds: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Serve the API on loopback, with a clouds.yaml that clients find."""
    unused: Any = None
    identity: Any = Identity()
    url: list[str] = []
    app = create_app(
        world.config,
        database=world.database,
        adapters=Adapters(identity=identity, images=unused, networks=unused, resources=(sign_in(url),)),
        cells=world.cells,
        dispatch=lambda written: None,
    )
    server = make_server("127.0.0.1", 0, app, threaded=True)
    url.append(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    write_clouds(clouds, url[0])
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(clouds))
    yield
    server.shutdown()
    thread.join()
    server.server_close()


def write_clouds(path: Path, url: str, **changes: str) -> None:
    auth = {
        "auth_url": f"{url}/identity/v3",
        "username": "admin",
        "password": "right",
        "project_name": "admin",
        "user_domain_name": "Default",
        "project_domain_name": "Default",
    }
    member = {"auth": auth | {"username": "demo"}, "region_name": "R"}
    admin = {"auth": auth | changes, "region_name": "R"}
    path.write_text(yaml.safe_dump({"clouds": {"cellcloud": member, "cellcloud-admin": admin}}))


def run(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


@pytest.mark.usefixtures("clouds")
def test_every_command_reads_the_api(world: World) -> None:
    (server_id,) = world.accept(zone="zone-east")
    world.deliver()
    for words, expected in (
        (("cell", "list"), ["east", "west", "up"]),
        (("cell", "show", "west"), ["zone-west"]),
        (("host", "list"), ["east-1", "disabled: disk swap"]),
        (("host", "list", "--cell", "west"), ["west"]),
        (("server", "list"), [server_id, "BUILD", "east"]),
        (("server", "show", server_id), ["generation", "m1.tiny"]),
        (("server", "timeline", server_id), ["create accepted", "create settled in cell east", "guests.spawn done"]),
        (("op", "list"), ["run-east", "run-west"]),
        (("op", "list", "--server", server_id), ["run-east"]),
        (("op", "show", "run-west"), ["networks.allocate_ports"]),
        (("doctor", "check"), ["claims", "quota", "nothing wrong"]),
    ):
        result = run(*words)
        assert result.exit_code == 0, result.output
        assert [word for word in expected if word not in result.output] == []
        assert run(*words, "-f", "json").exit_code == 0
    listed = json.loads(run("server", "list", "--cell", "west", "-f", "json").output)
    assert listed == []


@pytest.mark.usefixtures("clouds")
def test_what_a_user_gave_to_the_guest_is_not_shown(world: World) -> None:
    (server_id,) = world.accept()
    told = json.loads(run("server", "show", server_id, "-f", "json").output)
    assert told["spec"]["user_data"] is None


@pytest.mark.usefixtures("clouds")
def test_a_cell_that_does_not_answer_is_a_finding_and_the_rest_is_shown(world: World) -> None:
    world.lines["west"].cut = True
    result = run("doctor", "check")
    assert result.exit_code == 1
    assert "west" in result.output
    assert "does not answer" in result.output
    assert run("host", "list").exit_code == 0
    assert run("host", "list", "--cell", "west").exit_code == 3


@pytest.mark.usefixtures("clouds")
def test_exit_codes_of_the_api() -> None:
    assert run("server", "show", "nope").exit_code == 4
    assert run("cell", "show", "nope").exit_code == 4
    assert run("op", "show", "nope").exit_code == 4
    refused = run("cell", "list", "--cloud", "cellcloud")
    assert refused.exit_code == 1
    assert "--cloud" in refused.output


def test_wrong_credentials_and_no_api_are_told_apart(clouds: Path) -> None:
    url = yaml.safe_load(clouds.read_text())["clouds"]["cellcloud"]["auth"]["auth_url"].removesuffix("/identity/v3")
    write_clouds(clouds, url, password="wrong")
    wrong = run("cell", "list")
    assert wrong.exit_code == 1
    assert "not accepted" in wrong.output
    write_clouds(clouds, "http://127.0.0.1:9")
    away = run("cell", "list")
    assert away.exit_code == 3
    assert "does not answer" in away.output
    assert "Traceback" not in wrong.output + away.output


def test_unknown_guests_are_listed_adopted_and_removed(clouds: Path) -> None:
    for words in (("host", "guests", "west-1"), ("guest", "list"), ("guest", "list", "--cell", "west")):
        shown = json.loads(run(*words, "-f", "json").stdout)
        assert [(guest["cell"], guest["server_id"]) for guest in shown] == [("west", "g1"), ("west", "g2")]
    assert json.loads(run("host", "guests", "east-1", "-f", "json").stdout) == []
    assert json.loads(run("guest", "adopt", "g1", "--host", "west-1", "-f", "json").stdout)["cell"] == "west"
    removed = json.loads(run("guest", "remove", "g2", "--host", "west-1", "-f", "json").stdout)
    assert [(guest["server_id"], guest["removal"]) for guest in removed] == [("g2", True)]
    assert [guest["server_id"] for guest in json.loads(run("guest", "list", "-f", "json").stdout)] == ["g2"]
    for words in (("adopt", "g1", "--host", "west-1"), ("remove", "g2", "--host", "west-2")):
        assert run("guest", *words).exit_code == 4


def test_a_hosts_name_is_given_away(clouds: Path) -> None:
    for words, code, expected in (
        (("east-1", "--cell", "west"), 0, "next machine called east-1"),
        (("east-1", "--cell", "east"), 1, "lives"),
        (("east-1",), 1, "name one"),
        (("east-9",), 4, "No cell has a host"),
    ):
        result = run("host", "release", *words)
        assert (result.exit_code, expected in result.output) == (code, True), result.output
