"""The OpenAPI 3.1 document of the Compute API at one microversion, made of the routes' own declarations."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from top_api.faults import NAMES, STATUS
from top_api.microversion import FIRST, LAST, Microversion
from top_api.request_pipeline import Action, Actions, Resource, Route
from top_api.service_api_definition import COMPUTE
from top_api.validation import Schema, Versioned

_BRACES = str.maketrans("<>", "{}")
_ONLY_RE2 = (r"\p{", r"\x{")  # which ECMA's regular expressions write differently
_ALWAYS = (406, 429, 500, 503)
_WITH_BODY = (400, 413, 415)


def describe(resources: Iterable[Resource], version: Microversion) -> dict[str, Any]:
    """Return the document of every route of the Compute API that exists at that microversion.

    A pattern that only RE2 reads stands as ``x-re2-pattern``; it is for the whole text, as ours all are.
    """
    paths: dict[str, dict[str, Any]] = {}
    for resource in resources:
        if resource.api is not COMPUTE:
            continue
        for route in resource.routes:
            if route.since <= version <= route.until:
                operation = _operation(resource, route, version)
                paths.setdefault(route.path.translate(_BRACES), {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "Compute API", "version": str(version), "license": {"name": "Apache-2.0"}},
        "servers": [{"url": COMPUTE.prefix}],
        "security": [{"token": []}],
        "tags": [{"name": name} for name in sorted({each.name for each in resources if each.api is COMPUTE})],
        "paths": dict(sorted(paths.items())),
        "components": {
            "securitySchemes": {"token": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"}},
            "headers": {"request_id": {"description": "Of this request.", "schema": {"type": "string"}}},
            "responses": {str(status): _fault(status) for status in sorted({*(code for _, code in STATUS), 405})},
        },
    }


def _operation(resource: Resource, route: Route, version: Microversion) -> dict[str, Any]:
    words = [word.strip("<>") for word in route.path.split("/") if word.startswith("<")]
    actions = [*_at(route.rule, version)] if isinstance(route.rule, Actions) else []
    described: dict[str, Any] = {
        "operationId": "_".join([route.method.lower(), *re.findall(r"[a-z0-9_]+", route.path.lower())]),
        "tags": [resource.name],
        "parameters": [
            *({"name": word, "in": "path", "required": True, "schema": {"type": "string"}} for word in words),
            *_query(route, version),
        ],
        "responses": {
            **{str(status): _success(answer, version) for status, answer in _answers(route, actions)},
            **{str(status): {"$ref": f"#/components/responses/{status}"} for status in _errors(route, words)},
        },
    }
    if route.rule is None:
        described["security"] = []
    elif isinstance(route.rule, str):
        described["x-policy"] = route.rule
    body = _any_of(actions, version) if actions else route.body and _portable(_schema(route.body, version))
    if body:
        described["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return described


def _query(route: Route, version: Microversion) -> Iterator[dict[str, Any]]:
    for name, repeated, schema in route.query.known(version):
        plain = _portable(schema)
        shape = {"type": "array", "items": plain} if repeated else plain
        yield {"name": name, "in": "query", "required": False, "schema": shape}


def _at(actions: Actions, version: Microversion) -> Iterator[Action]:
    return (action for action in actions.by_name.values() if action.since <= version <= action.until)


def _any_of(actions: Sequence[Action], version: Microversion) -> Schema:
    """Return what a body with one action is; each says what policy rule it asks."""

    def one(action: Action) -> Schema:
        if action.body is not None:
            return {**_portable(_schema(action.body, version)), "title": action.name, "x-policy": action.rule}
        shape = {"type": "object", "properties": {action.name: {}}, "required": [action.name]}
        return {**shape, "additionalProperties": False, "title": action.name, "x-policy": action.rule}

    return {"oneOf": [one(action) for action in actions]}


def _answers(route: Route, actions: Sequence[Action]) -> Iterator[tuple[int, Versioned | None]]:
    if not actions:
        for code in (route.status, *(code for code in route.also if code < 400)):
            yield code, route.answer
    for status in sorted({action.status for action in actions}):
        answers = [action.answer for action in actions if action.status == status]
        yield status, answers[0] if len(answers) == 1 else None


def _success(answer: Versioned | None, version: Microversion) -> dict[str, Any]:
    header = {"x-openstack-request-id": {"$ref": "#/components/headers/request_id"}}
    shown: dict[str, Any] = {"description": "Done, or begun.", "headers": header}
    if answer is not None:
        shown["content"] = {"application/json": {"schema": _portable(_schema(answer, version))}}
    return shown


def _errors(route: Route, words: Sequence[str]) -> list[int]:
    """Return the statuses of refusals that the pipeline, or what the route does, may answer with."""
    found = {*_ALWAYS, 400}
    if route.rule is not None:
        found |= {401, 403}
    if words or route.since > FIRST or route.until < LAST:
        found.add(404)
    if route.method != "GET":
        found |= {*_WITH_BODY, 404, 409, 410, 501}
    return sorted({*found, *(code for code in route.also if code >= 400)})


def _fault(status: int) -> dict[str, Any]:
    name = NAMES.get(status, "computeFault") if status != 401 else "error"
    fields: Schema = {"code": {"const": status}, "message": {"type": "string"}}
    schema: Schema = {
        "type": "object",
        "properties": {name: {"type": "object", "properties": fields, "required": [*fields]}},
        "required": [name],
    }
    return {"description": name, "content": {"application/json": {"schema": schema}}}


def _schema(versioned: Versioned, version: Microversion) -> Schema:
    return next(schema for since, schema in reversed([*versioned]) if version >= since)


def _is_re2(pattern: str) -> bool:
    return any(each in pattern for each in _ONLY_RE2)


def _portable(schema: Any) -> Any:
    """Return a schema as others' tools read it: patterns anchored, and under another key where only RE2 reads them."""
    if isinstance(schema, list):
        return [_portable(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    written: Schema = {}
    for key, value in schema.items():
        if key == "pattern" and isinstance(value, str):
            written["x-re2-pattern" if _is_re2(value) else "pattern"] = f"^(?:{value})$"
        elif key == "patternProperties" and isinstance(value, dict):
            if any(_is_re2(pattern) for pattern in value):
                written["x-re2-patternProperties"] = {name: _portable(each) for name, each in value.items()}
                written["additionalProperties"] = next(iter(written["x-re2-patternProperties"].values()))
            else:
                written[key] = {f"^(?:{name})$": _portable(each) for name, each in value.items()}
        elif key in ("properties", "$defs") and isinstance(value, dict):
            written[key] = {name: _portable(each) for name, each in value.items()}
        elif key == "additionalProperties" and "additionalProperties" in written:
            continue
        else:
            written[key] = _portable(value) if key not in ("enum", "const", "default", "required") else value
    return written
