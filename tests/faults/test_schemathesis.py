"""Any request that the OpenAPI document describes, and many that it does not, from three roles at four microversions:
none ends in a defect, each is answered as the document says, and the books are right afterwards.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from schemathesis import Case, GenerationMode
from schemathesis.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation

from tests.api.world import DEMO, IMAGE
from tests.faults.books import wait_until_right
from tests.faults.one_process import OneProcess, one_process
from top_api.microversion import LAST, Microversion
from top_api.openapi import describe
from top_api.routes import RESOURCES

ROLES = ("member", "reader", "admin")
VERSIONS = (Microversion(2, 1), Microversion(2, 37), Microversion(2, 72), LAST)
LONG, SHORT = 20_000, 192  # requests of all tests of this file
SPARSE = 3  # of so many operations one is asked for in the short form
ORIGIN = "http://localhost/v2.1"
TRIES = 20  # of a request that is answered with 503: the cloud is impatient, and the machine may be busy
RENEWED = 8  # operations that are asked for between two looks at what there is
ODD = ("0", "-1", "9" * 30, "%00", "..", "a/b", "\u00e9" * 300, "None", "1;2", " ")
KNOWN, ODDLY = 0.7, 0.85  # of the words of paths, and of the names in bodies, are of things that there are
CHECKS = [content_type_conformance, response_headers_conformance, response_schema_conformance, status_code_conformance]
GENERATED: dict[str, Any] = {
    "database": None,
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "phases": [Phase.generate],
}


class Things:
    """What there is: made again when it is gone, and named in the requests that are made up."""

    def __init__(self, cloud: OneProcess) -> None:
        self._cloud = cloud
        self.words: dict[str, list[str]] = {}

    def renew(self) -> None:
        """Make what is missing, and look at what there is."""
        ask = self._cloud.ask
        hosts = self._listed("/os-services?binary=nova-compute", "services")
        for one in hosts:
            ask("PUT", f"/v2.1/os-services/{one['id']}", {"status": "enabled", "forced_down": False}, token="admin")
        ask("DELETE", f"/v2.1/os-quota-sets/{DEMO}", token="admin")
        flavor = {"name": "fuzz", "id": "fuzz", "ram": 64, "vcpus": 1, "disk": 1}
        for path, body in (
            ("/os-keypairs", {"keypair": {"name": "fuzz", "public_key": KEY}}),
            ("/flavors", {"flavor": {**flavor, "os-flavor-access:is_public": False}}),
            *(("/flavors", {"flavor": {**flavor, "name": one, "id": one}}) for one in ("1", "2")),
            ("/flavors/fuzz/action", {"addTenantAccess": {"tenant": DEMO}}),
            ("/os-aggregates", {"aggregate": {"name": "fuzz"}}),
        ):
            ask("POST", f"/v2.1{path}", body, token="member" if "keypair" in body else "admin")
        if len(self._listed("/os-server-groups?all_projects=1", "server_groups")) < 3:
            self._cloud.create_group("soft-affinity")
        servers = self._listed("/servers/detail?all_tenants=1", "servers")
        for stale in servers[8:]:
            ask("DELETE", f"/v2.1/servers/{stale['id']}", token="admin")
        fit = [one for one in servers[:8] if one["status"] in ("ACTIVE", "SHUTOFF", "PAUSED")]
        if len(fit) < 3:
            self._cloud.create("fuzz", str(time.monotonic_ns()))
            servers = self._listed("/servers/detail?all_tenants=1", "servers")
        servers = servers[:8]
        actions = [
            action["request_id"]
            for one in servers[:1]
            for action in self._listed(f"/servers/{one['id']}/os-instance-actions", "instanceActions")
        ]
        groups = self._listed("/os-server-groups?all_projects=1", "server_groups")
        aggregates = self._listed("/os-aggregates", "aggregates")
        self.words = {
            "server_id": [one["id"] for one in servers],
            "request_id": actions,
            "flavor_id": ["1", "2", "fuzz"],
            "image_id": [IMAGE, *(image.id for image in self._cloud.images.images.values())],
            "group_id": [one["id"] for one in groups],
            "aggregate_id": [str(one["id"]) for one in aggregates],
            "target": [*(one["id"] for one in hosts), "enable", "disable", "disable-log-reason", "force-down"],
            "identifier": [str(one["id"]) for one in self._listed("/os-hypervisors", "hypervisors")],
            "name": ["fuzz", "default"],
            "key": ["a", "hw:cpu_policy"],
            "tag": ["a"],
            "network": ["private"],
            "project_id": [DEMO],
            "alias": ["os-keypairs"],
            "pattern": ["east"],
            "host": [one["host"] for one in hosts],
            "before": ["2026-11-01 00:00:00"],
            "migration_id": ["1"],
            "token": ["t" * 43],
        }

    def _listed(self, path: str, key: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._cloud.ask("GET", f"/v2.1{path}", token="admin").get_json()[key]
        return found


KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ9vA6XWFRrTIkNMKqI0TQHTPwfYA7RbvcaBVMdDOhwm k"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneProcess]:
    with one_process(tmp_path_factory.mktemp("cloud"), down_time=120.0) as made:
        yield made


@pytest.fixture(scope="module")
def things(cloud: OneProcess) -> Things:
    return Things(cloud)


class Fuzz:
    """One caller at one microversion."""

    def __init__(self, cloud: OneProcess, things: Things, version: Microversion, role: str) -> None:
        self.problems: list[str] = []
        self.sent = 0
        self._cloud, self._things = cloud, things
        self._headers = {"X-Auth-Token": role, "OpenStack-API-Version": f"compute {version}"}
        self.chance = random.Random(f"{version}{role}")

    def run(self, operation: APIOperation[Any, Any, Any, Any], mode: GenerationMode, cases: int) -> None:
        """Send so many requests for one operation."""
        words = [parameter.name for parameter in operation.path_parameters]
        known = {word: self._pick(self._things.words.get(word) or ["x"]) for word in words}
        kind = self.chance.random() if words else 1.0
        path = known if kind < KNOWN else dict.fromkeys(words, self._pick(ODD)) if kind < ODDLY else None

        @seeded(self.chance.randrange(1 << 32))
        @settings(max_examples=cases, **GENERATED)
        @given(case=operation.as_strategy(mode, path_parameters=path))
        def send(case: Case[Any]) -> None:
            self._send(case, mode)

        send()

    def _send(self, case: Case[Any], mode: GenerationMode) -> None:
        if mode is GenerationMode.POSITIVE and isinstance(case.body, dict):
            case.body = self._named(case.body, "")
        self.sent += 1
        for _ in range(TRIES):
            response = case.call(base_url=ORIGIN, app=self._cloud.app, headers=self._headers)
            if response.status_code != 503:
                break
            time.sleep(0.2)
        what = f"{case.method} {case.formatted_path} {case.query} {str(case.body)[:500]} {self._headers}"
        if response.status_code >= 500 and response.status_code != 501:
            self.problems.append(f"{response.status_code} {response.text[:200]} to {what}")
        try:
            case.validate_response(response, checks=CHECKS)
        except FailureGroup as failures:
            self.problems += [f"{failure} to {what}" for failure in failures.exceptions]
        self.problems += [f"{problem} to {what}" for problem in self._cloud.undeclared]
        self._cloud.undeclared.clear()

    def _named(self, value: Any, key: str) -> Any:
        """The same with names of what there is in many places: made up ones are refused at the first look."""
        if isinstance(value, dict):
            return {name: self._named(inner, name) for name, inner in value.items()}
        if isinstance(value, list):
            return [self._named(inner, key) for inner in value]
        known = self._things.words.get(NAMES.get(key, ""), []) or TEXTS.get(key, [])
        return self._pick(known) if known and self.chance.random() < KNOWN else value

    def _pick(self, choices: Sequence[str]) -> str:
        return self.chance.choice(choices)


NAMES = {
    "imageRef": "image_id",
    "rescue_image_ref": "image_id",
    "flavorRef": "flavor_id",
    "server_uuid": "server_id",
    "host": "host",
    "hypervisor_hostname": "host",
    "group": "group_id",
    "same_host": "server_id",
    "different_host": "server_id",
    "tenant": "project_id",
    "key_name": "name",
}
TEXTS = {
    "name": ["a", "b c"],
    "networks": ["auto", "none"],
    "availability_zone": ["nova"],
    "description": ["words"],
    "security_groups": ["default"],
    "user_data": ["YQ=="],
    "binary": ["nova-compute"],
}


def readable(schema: Any) -> Any:
    """The same in words that Schemathesis reads: it takes lists of fixed places for those of older drafts. What checks
    every answer of the cloud sees the places."""
    if isinstance(schema, list):
        return [readable(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    places = {"items": {"anyOf": schema["prefixItems"]}} if "prefixItems" in schema else {}
    return {key: readable(value) for key, value in ({**schema, **places}).items() if key != "prefixItems"}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("version", VERSIONS, ids=str)
def test_no_request_is_answered_with_what_the_document_does_not_say(
    cloud: OneProcess, things: Things, version: Microversion, long: bool
) -> None:
    schema = schemathesis.openapi.from_dict(readable(describe(RESOURCES, version)))
    operations = [
        found.ok()
        for found in schema.get_all_operations()
        if isinstance(found, Ok) and found.ok().tags != ["versions"]  # which are beside the API
    ]
    problems: list[str] = []
    sent = 0
    for place, role in enumerate(ROLES):
        fuzz = Fuzz(cloud, things, version, role)
        first = VERSIONS.index(version) * len(ROLES) + place  # each caller asks for other operations
        chosen = operations if long else operations[first :: SPARSE * len(ROLES) * len(VERSIONS)]
        each = math.ceil((LONG if long else SHORT) / len(VERSIONS) / len(ROLES) / len(chosen) / 2)
        for number, operation in enumerate(chosen):
            if number % RENEWED == 0:
                things.renew()
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                fuzz.run(operation, mode, each)
        problems += fuzz.problems
        sent += fuzz.sent
    print(f"{sent} requests at {version}")
    assert problems == [], "\n\n".join(dict.fromkeys(problems))
    things.renew()  # no host stays as it may have been made
    wait_until_right(cloud.books)
