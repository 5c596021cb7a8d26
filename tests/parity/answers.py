"""What a living API answers, read and write, against Nova's schemas of answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tests.api.world import DEMO, IMAGE, World
from tests.parity import samples
from tests.parity.published import Published, at
from tests.parity.report import VERSIONS, Report, served_at
from tests.parity.routes import ACTIONS, AGGREGATE_ACTION, FLAVOR_ACTION, ROUTES, SERVER_ACTION
from top_api.microversion import Microversion

_SERVER, _FLAVOR, _KEYS, _SERVICE = "/servers/<server_id>", "/flavors/<flavor_id>", "/os-keypairs", "/os-services"
_SPECS, _TAGS, _META = f"{_FLAVOR}/os-extra_specs", f"{_SERVER}/tags", f"{_SERVER}/metadata"
_QUOTAS, _CLASSES = "/os-quota-sets/<project_id>", "/os-quota-class-sets/<name>"


def compare_answers(published: Published, report: Report, world: World) -> None:
    """Ask what can be read as a member and as an administrator, then write one thing after the other."""
    server_id = world.create("vm", metadata={"a": "b"})
    world.call("PUT", f"/servers/{server_id}/tags/a", version="2.26")
    world.post(_KEYS, {"keypair": {"name": "k"}})
    world.post("/flavors/1/os-extra_specs", {"extra_specs": {"hw:cpu_policy": "shared"}}, token="admin")
    action = world.get(f"/servers/{server_id}/os-instance-actions").get_json()["instanceActions"][0]["request_id"]
    values = {"<server_id>": server_id, "<request_id>": action, "<flavor_id>": "1"}
    for version in VERSIONS:
        for token in ("member", "admin"):
            for path in (path for verb, path in ROUTES if verb == "GET"):
                _Asked(published, report, world, version, token).ask("GET", path, values)
        for token in ("member", "admin"):
            _write(_Asked(published, report, world, version, token), server_id)


class _Asked:
    """One caller at one microversion."""

    def __init__(self, published: Published, report: Report, world: World, version: Microversion, token: str) -> None:
        self.version, self.token, self.world = version, token, world
        self._published, self._report = published, report

    def ask(self, verb: str, path: str, values: Mapping[str, str], body: Any = None) -> Any:
        """The answer to a request, or None where it is not served or refused to this caller."""
        file, name = ROUTES[verb, path] if (verb, path) in ROUTES else ACTIONS[path][next(iter(body))]
        method = served_at(self._published.methods(file, name), self.version)
        schema = None if method is None else at(method.answers, self.version)
        if schema is None:
            return None
        self._report.tried += 1
        answer = self.world.call(verb, self._filled(path, values), body, token=self.token, version=str(self.version))
        what = f"{verb} {path} {'' if (verb, path) in ROUTES else next(iter(body))} as {self.token}"
        given = answer.get_json() if answer.data else None
        if answer.status_code not in (200, 201, 202, 204):
            if answer.status_code != 403 and not (verb == "GET" and answer.status_code == 404):
                self._report.note(self.version, f"{what}: {answer.status_code} {given}")
            return None
        error = next(iter(self._published.validator(schema).iter_errors(given)), None)
        if error is not None:
            place = ".".join(map(str, error.absolute_path))
            self._report.note(self.version, f"{what} answers at {place}: {error.message[:150]}")
        return given

    def _filled(self, path: str, values: Mapping[str, str]) -> str:
        defaults = {"<key>": "a", "<tag>": "a", "<network>": "private", "<project_id>": DEMO, "<pattern>": "east",
                    "<name>": "default" if "class" in path else "k", "<alias>": "os-keypairs", "<aggregate_id>": "1",
                    "<flavor_id>": "1", "<before>": "2026-11-01 00:00:00",
                    "<security_group_id>": samples.ID}  # fmt: skip
        if "<identifier>" in path:
            hosts = self.world.get("/os-hypervisors", token="admin", version=str(self.version)).get_json()
            path = path.replace("<identifier>", str(hosts["hypervisors"][0]["id"]))
        for word, value in {**defaults, **values}.items():
            path = path.replace(word, value)
        return path


def _write(caller: _Asked, server_id: str) -> None:
    values = {"<server_id>": server_id}
    for verb, path, body in _about_a_server(caller.version):
        caller.ask(verb, path, values, body)
    new: dict[str, Any] = {"name": "new", "flavorRef": "1", "imageRef": IMAGE}
    if caller.version >= (2, 37):
        new["networks"] = "auto"
    made = caller.ask("POST", "/servers", {}, {"server": new})
    caller.world.settle()
    caller.ask("PUT", _SERVER, {"<server_id>": made["server"]["id"]}, {"server": {"name": "newer"}})
    caller.ask("DELETE", _SERVER, {"<server_id>": made["server"]["id"]})
    key: dict[str, Any] = {"name": "new", "public_key": "ssh-ed25519 " + _PUBLIC_KEY}
    caller.ask("POST", _KEYS, {}, {"keypair": key})
    caller.ask("DELETE", f"{_KEYS}/<name>", {"<name>": "new"})
    if caller.token == "admin":
        for verb, path, body in _about_flavors_and_limits(caller.version):
            caller.ask(verb, path, {"<flavor_id>": "new", "<key>": "hw:cpu_policy"}, body)
        _write_services(caller)
        _write_aggregates(caller)
        _write_server_groups(caller)


_PUBLIC_KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIHTQ9HS7MLGCdHxHZDtHxGZbMVe4Yx1Qz2cBPsWEAQID"


def _about_a_server(version: Microversion) -> Iterator[tuple[str, str, Any]]:
    yield "PUT", _TAGS, {"tags": ["b"]}
    yield "PUT", f"{_TAGS}/<tag>", None
    yield "PUT", f"{_TAGS}/<tag>", None
    yield "GET", f"{_TAGS}/<tag>", None
    yield "DELETE", f"{_TAGS}/<tag>", None
    yield "DELETE", _TAGS, None
    yield "POST", _META, {"metadata": {"c": "d"}}
    yield "PUT", f"{_META}/<key>", {"meta": {"a": "e"}}
    yield "DELETE", f"{_META}/<key>", None
    yield "PUT", _META, {"metadata": {"a": "b"}}
    for action in ("os-stop", "os-start", "lock", "unlock"):
        yield "POST", SERVER_ACTION, {action: None if action != "lock" or version >= (2, 73) else {}}
    yield "POST", SERVER_ACTION, {"os-getConsoleOutput": {"length": 1}}
    yield "POST", SERVER_ACTION, {"os-getVNCConsole": {"type": "novnc"}}
    yield "POST", f"{_SERVER}/remote-consoles", {"remote_console": {"protocol": "vnc", "type": "novnc"}}
    yield "POST", SERVER_ACTION, {"reboot": {"type": "HARD"}}


def _about_flavors_and_limits(version: Microversion) -> Iterator[tuple[str, str, Any]]:
    hidden = {"name": "new", "id": "new", "ram": 1, "vcpus": 1, "disk": 1, "os-flavor-access:is_public": False}
    yield "POST", "/flavors", {"flavor": hidden}
    yield "PUT", _FLAVOR, {"flavor": {"description": "words"}}
    yield "POST", _SPECS, {"extra_specs": {"hw:cpu_policy": "shared"}}
    yield "GET", f"{_SPECS}/<key>", None
    yield "PUT", f"{_SPECS}/<key>", {"hw:cpu_policy": "dedicated"}
    yield "DELETE", f"{_SPECS}/<key>", None
    yield "POST", FLAVOR_ACTION, {"addTenantAccess": {"tenant": DEMO}}
    yield "GET", f"{_FLAVOR}/os-flavor-access", None
    yield "POST", FLAVOR_ACTION, {"removeTenantAccess": {"tenant": DEMO}}
    yield "DELETE", _FLAVOR, None
    yield "PUT", _QUOTAS, {"quota_set": {"cores": 30}}
    yield "DELETE", _QUOTAS, None
    yield "PUT", _CLASSES, {"quota_class_set": {"cores": 30}}


def _write_aggregates(caller: _Asked) -> None:
    """Its host is in no other zone meanwhile: it has a server."""
    made = caller.ask("POST", "/os-aggregates", {}, {"aggregate": {"name": f"a{caller.version}"}})
    values = {"<aggregate_id>": str(made["aggregate"]["id"]) if made else "0"}
    for action in ("add_host", "remove_host"):
        caller.ask("POST", AGGREGATE_ACTION, values, {action: {"host": "east-1"}})
    caller.ask("POST", AGGREGATE_ACTION, values, {"set_metadata": {"metadata": {"a": "b"}}})
    caller.ask("PUT", "/os-aggregates/<aggregate_id>", values, {"aggregate": {"availability_zone": "z"}})
    caller.ask("DELETE", "/os-aggregates/<aggregate_id>", values)


def _write_server_groups(caller: _Asked) -> None:
    new = {"policy": "anti-affinity", "rules": {"max_server_per_host": 2}}
    given = new if caller.version >= (2, 64) else {"policies": ["affinity"]}
    made = caller.ask("POST", "/os-server-groups", {}, {"server_group": {"name": "g", **given}})
    values = {"<group_id>": made["server_group"]["id"] if made else ""}
    caller.ask("GET", "/os-server-groups", {}, None)
    caller.ask("GET", "/os-server-groups/<group_id>", values)
    caller.ask("DELETE", "/os-server-groups/<group_id>", values)


def _write_services(caller: _Asked) -> None:
    """Each verb below 2.53; by UUID from then on. A service that is not nova-compute is removed."""
    path = f"{_SERVICE}/<target>"
    known = caller.world.get(_SERVICE, token="admin", version=str(caller.version)).get_json()["services"]
    compute = next(service for service in known if service["binary"] == "nova-compute")
    if caller.version >= (2, 53):
        for body in ({"status": "disabled", "disabled_reason": "r"}, {"status": "enabled"}, {"forced_down": False}):
            caller.ask("PUT", path, {"<target>": compute["id"]}, body)
    else:
        named = {"host": compute["host"], "binary": "nova-compute"}
        further: dict[str, Any] = {"disable-log-reason": {"disabled_reason": "r"}, "force-down": {"forced_down": False}}
        for verb in ("disable", "disable-log-reason", "enable", *(["force-down"] * (caller.version >= (2, 11)))):
            caller.ask("PUT", path, {"<target>": verb}, {**named, **further.get(verb, {})})
    other = next(service for service in known if service["binary"] == "nova-scheduler")
    caller.ask("DELETE", path, {"<target>": str(other["id"])})
    caller.world.east.removed.clear()
    caller.world.west.removed.clear()
