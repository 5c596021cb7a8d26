"""``make parity``: each route at each microversion, with requests made of Nova's schemas, against our validation; and
what we answer, as a member and as an administrator, against Nova's schemas of answers. Ends with what disagrees."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jsonschema.exceptions import best_match
from jsonschema_rs import Draft202012Validator

from cellcloud import errors
from cellcloud.db import top_schema
from cellcloud.db.engine import Database
from tests.api.world import World
from tests.parity import samples
from tests.parity.answers import compare_answers
from tests.parity.published import Method, Published, at, is_valid
from tests.parity.report import VERSIONS, Report, served_at
from tests.parity.routes import ACTIONS, ROUTES
from top_api.microversion import Microversion
from top_api.openapi import answers_of, portable
from top_api.request_pipeline import Action, Actions, Route
from top_api.routes import RESOURCES
from top_api.validation import check_body


def _is_taken(ours: Route | Action, version: Microversion, body: Any) -> bool:
    if isinstance(ours, Action) and not isinstance(body, dict):
        return False
    if ours.body is None:
        return [*body] == [ours.name] if isinstance(ours, Action) else body is None
    try:
        check_body(ours.body, version, body)
    except errors.Invalid:
        return False
    return True


def compare_versions(report: Report, name: str, ours: Route | Action, theirs: list[Method]) -> None:
    for version in VERSIONS:
        served = served_at(theirs, version) is not None
        report.tried += 1
        if served != (ours.since <= version <= ours.until):
            report.note(version, f"{name}: Nova {'has' if served else 'has not'} it")


def compare_bodies(published: Published, report: Report, name: str, ours: Route | Action, theirs: list[Method]) -> None:
    seen: set[tuple[int, int]] = set()
    for version in VERSIONS:
        method = served_at(theirs, version)
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
            wanted = isinstance(value, dict | None) and is_valid(validator, value)
            if wanted != _is_taken(ours, version, value):
                report.note(version, f"{name}: {text}: Nova {'takes' if wanted else 'refuses'} it")


def compare_queries(published: Published, report: Report, name: str, route: Route, theirs: list[Method]) -> None:
    seen: set[int] = set()
    for version in VERSIONS:
        method = served_at(theirs, version)
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


def compare_declared(
    published: Published, report: Report, name: str, ours: Route | Action, theirs: list[Method]
) -> None:
    """Everything that we declare as an answer is one of Nova's."""
    seen: set[str] = set()
    for version in VERSIONS:
        method = served_at(theirs, version)
        schema = None if method is None else at(method.answers, version)
        if schema is None or not ours.since <= version <= ours.until:
            continue
        for _, body in answers_of(ours, version):
            plain = portable(body)
            key = f"{id(schema)} {json.dumps(plain)}"
            if key in seen:
                continue
            seen.add(key)
            validator = published.validator(schema)
            for value in [None] if body is None else samples.spread(plain, _is_ours):
                report.tried += 1
                error = None if is_valid(validator, value) else best_match(validator.iter_errors(value))
                if body is not None and not _is_ours(plain, value):
                    report.note(version, f"{name} declares: no sample of it was found: {value}")
                elif error is not None:
                    place = ".".join(map(str, getattr(error, "absolute_path", ())))
                    said = getattr(error, "message", error)
                    report.note(version, f"{name} declares at {place}: {said[:150]}")


def _is_ours(schema: Any, value: Any) -> bool:
    return Draft202012Validator(schema, validate_formats=True).is_valid(value)


def _pairs(published: Published) -> Iterator[tuple[str, Route | Action, list[Method]]]:
    routes = {
        (r.method, r.path): r for resource in RESOURCES for r in resource.routes if resource.api.prefix == "/v2.1"
    }
    for key, (file, name) in ROUTES.items():
        yield " ".join(key), routes[key], published.methods(file, name)
    for path, named in ACTIONS.items():
        for name, (file, method) in named.items():
            actions = routes["POST", path].rule
            assert isinstance(actions, Actions)
            yield f"action {name}", actions.by_name[name], published.methods(file, method)


def main() -> int:
    published, report, wanted = Published(), Report(), " ".join(sys.argv[1:])
    for name, ours, theirs in _pairs(published):
        if wanted and wanted != name:
            continue
        compare_versions(report, name, ours, theirs)
        compare_bodies(published, report, name, ours, theirs)
        if isinstance(ours, Route):
            compare_queries(published, report, name, ours, theirs)
        compare_declared(published, report, name, ours, theirs)
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
