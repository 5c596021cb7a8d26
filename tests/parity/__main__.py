"""``make parity``: each route at each microversion, with requests made of Nova's schemas, against our validation; and
what we answer, as a member and as an administrator, against Nova's schemas of answers. Ends with what disagrees."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cellcloud import errors
from cellcloud.db import top_schema
from cellcloud.db.engine import Database
from tests.api.world import DEMO, World
from tests.parity import samples
from tests.parity.published import Method, Published, at, is_valid
from tests.parity.routes import ACTIONS, ON_PURPOSE, ROUTES
from top_api.microversion import LAST, Microversion
from top_api.routes import RESOURCES
from top_api.routes.server_actions import actions
from top_api.routing import Action, Route
from top_api.validation import check_body

VERSIONS = [Microversion(2, minor) for minor in range(1, LAST.minor + 1)]


class Report:
    """Disagreements, each once, with the microversions that have it."""

    def __init__(self) -> None:
        self.tried = 0
        self.found: dict[str, list[Microversion]] = {}

    def note(self, version: Microversion, text: str) -> None:
        self.found.setdefault(text, []).append(version)

    def show(self) -> int:
        left = 0
        meant: Counter[str] = Counter()
        for text, versions in sorted(self.found.items()):
            reason = next((why for part, why in ON_PURPOSE.items() if part in text), None)
            if reason is not None:
                meant[reason] += 1
                continue
            left += 1
            print(f"{versions[0]}..{versions[-1]}  {text}")
        for reason, count in sorted(meant.items()):
            print(f"on purpose, {count}: {reason}")
        print(f"{self.tried} tried, {left} disagree")
        return left


def _of(methods: list[Method], version: Microversion) -> Method | None:
    return next((one for one in methods if one.served[0] <= version <= one.served[1]), None)


def _is_taken(ours: Route | Action, version: Microversion, body: Any) -> bool:
    if not isinstance(body, dict):
        return False
    if ours.body is None:
        return True
    try:
        check_body(ours.body, version, body)
    except errors.Invalid:
        return False
    return True


def compare_bodies(published: Published, report: Report, name: str, ours: Route | Action, theirs: list[Method]) -> None:
    seen: set[tuple[int, int]] = set()
    for version in VERSIONS:
        method = _of(theirs, version)
        schema = None if method is None else at(method.bodies, version)
        mine = id(ours.body.validator(version)) if ours.body is not None else 0
        if schema is None or not ours.since <= version <= ours.until or (id(schema), mine) in seen:
            continue
        seen.add((id(schema), mine))
        validator = published.validator(schema)
        sample = samples.whole(schema, lambda inner, value: is_valid(published.validator(inner), value))
        if not is_valid(validator, sample):
            report.note(version, f"{name}: no sample that Nova takes was found")
        if ours.body is not None:
            for place in samples.prune(sample, ours.body.validator(version).find_error):
                report.note(version, f"{name}: {place} is not taken here")
        for text, value in samples.variants(sample):
            report.tried += 1
            wanted = isinstance(value, dict) and is_valid(validator, value)
            if wanted != _is_taken(ours, version, value):
                report.note(version, f"{name}: {text}: Nova {'takes' if wanted else 'refuses'} it")


def compare_queries(published: Published, report: Report, name: str, route: Route, theirs: list[Method]) -> None:
    seen: set[int] = set()
    for version in VERSIONS:
        method = _of(theirs, version)
        schema = None if method is None else at(method.queries, version)
        if schema is None or not route.since <= version <= route.until or id(schema) in seen:
            continue
        seen.add(id(schema))
        validator = published.validator(schema)
        for text, query in samples.queries(set(schema.get("properties", {})) | {key for key, _ in route.query}):
            report.tried += 1
            wanted = is_valid(validator, query)
            try:
                route.query.read(query, version)
                taken = True
            except errors.Invalid:
                taken = False
            if wanted != taken:
                report.note(version, f"{name}?{text}: Nova {'takes' if wanted else 'refuses'} it")


def compare_answers(published: Published, report: Report, world: World) -> None:
    server_id = world.create("vm", metadata={"a": "b"})
    world.call("PUT", f"/servers/{server_id}/tags/a", version="2.26")
    world.post("/os-keypairs", {"keypair": {"name": "k"}})
    world.post("/flavors/1/os-extra_specs", {"extra_specs": {"hw:cpu_policy": "shared"}}, token="admin")
    action = world.get(f"/servers/{server_id}/os-instance-actions").get_json()["instanceActions"][0]["request_id"]
    for (verb, path), (file, method_name) in ROUTES.items():
        if verb != "GET":
            continue
        for token in ("member", "admin"):
            for version in VERSIONS:
                method = _of(published.methods(file, method_name), version)
                schema = None if method is None else at(method.answers, version)
                if schema is None:
                    continue
                filled = _filled(world, path, server_id, action, version)
                answer = world.get(filled, token=token, version=str(version))
                report.tried += 1
                if answer.status_code != 200:
                    if answer.status_code not in (403, 404):
                        report.note(version, f"{verb} {path} as {token}: {answer.status_code}")
                    continue
                error = next(iter(published.validator(schema).iter_errors(answer.get_json())), None)
                if error is not None:
                    place = ".".join(map(str, error.absolute_path))
                    report.note(version, f"{verb} {path} as {token} answers at {place}: {error.message[:150]}")


def _filled(world: World, path: str, server_id: str, action: str, version: Microversion) -> str:
    values = {"<server_id>": server_id, "<key>": "a", "<network>": "private", "<request_id>": action, "<name>": "k"}
    values |= {"<flavor_id>": "1", "<project_id>": DEMO}
    if "<identifier>" in path:
        listed = world.get("/os-hypervisors", token="admin", version=str(version)).get_json()["hypervisors"]
        values["<identifier>"] = str(listed[0]["id"])
    for word, value in values.items():
        path = path.replace(word, value)
    return path


def _pairs(published: Published) -> Iterator[tuple[str, Route | Action, list[Method]]]:
    routes = {(r.method, r.path): r for resource in RESOURCES for r in resource.routes if resource.prefix == "/v2.1"}
    for key, (file, name) in ROUTES.items():
        yield " ".join(key), routes[key], published.methods(file, name)
    for name, (file, method) in ACTIONS.items():
        yield f"action {name}", actions.by_name[name], published.methods(file, method)


def main() -> int:
    published, report, wanted = Published(), Report(), " ".join(sys.argv[1:])
    for name, ours, theirs in _pairs(published):
        if wanted and wanted != name:
            continue
        compare_bodies(published, report, name, ours, theirs)
        if isinstance(ours, Route):
            compare_queries(published, report, name, ours, theirs)
    if wanted:
        return min(report.show(), 1)
    with TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/top.db")
        with database.write() as connection:
            top_schema.metadata.create_all(connection)
        world = World(database, Path(folder))
        compare_answers(published, report, world)
        world.close()
        database.close()
    return min(report.show(), 1)


if __name__ == "__main__":
    sys.exit(main())
