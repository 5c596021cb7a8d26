"""The OpenAPI 3.1 document of the Compute API at one microversion, made of the routes' own declarations."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from top_api.faults import NAMES, STATUS
from top_api.microversion import FIRST, LAST, Microversion
from top_api.request_pipeline import Action, Actions, Resource, Route
from top_api.response_schema import NEVER, Components, body_at
from top_api.service_api_definition import COMPUTE, DISCOVERY
from top_api.validation import Schema, Versioned

_BRACES = str.maketrans("<>", "{}")
_ONLY_RE2 = (r"\p{", r"\x{")  # which ECMA's regular expressions write differently
_ALWAYS = (400, 406, 429, 500, 503)
_WITH_BODY = (404, 409, 413, 415)
_FAULTS = sorted({*(code for _, code in STATUS), 405})
_PARAMETERS = "#/components/parameters/"


def describe(resources: Iterable[Resource], version: Microversion) -> dict[str, Any]:
    """Return the document of every route of the Compute API that exists at that microversion.

    A pattern that only RE2 reads stands as ``x-re2-pattern``; it is for the whole text, as ours all are. What an
    action answers stands with its body, as ``x-responses``: no answer is the same for all of them.
    """
    resources = [resource for resource in resources if resource.api in (COMPUTE, DISCOVERY)]
    schemas: Components = {}
    parameters: dict[str, Any] = {}
    paths: dict[str, dict[str, Any]] = {}
    for resource in resources:
        for route in resource.routes:
            if route.since <= version <= route.until:
                path = paths.setdefault(route.path.translate(_BRACES), {})
                path[route.method.lower()] = _operation(resource, route, version, schemas, parameters)
                if resource.api is DISCOVERY:
                    path["servers"] = [{"url": "/"}]
    return {
        "openapi": "3.1.0",
        "info": {"title": "Compute API", "version": str(version), "license": {"name": "Apache-2.0"}},
        "servers": [{"url": COMPUTE.prefix}],
        "security": [{"token": []}],
        "tags": [{"name": name} for name in sorted({each.name for each in resources})],
        "paths": dict(sorted(paths.items())),
        "components": {
            "securitySchemes": {"token": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"}},
            "headers": {"request_id": {"description": "Of this request.", "schema": {"type": "string"}}},
            "parameters": dict(sorted(parameters.items())),
            "responses": {str(status): _fault(status) for status in _FAULTS},
            "schemas": {name: portable(schema) for name, schema in sorted(schemas.items())},
        },
    }


def _operation(
    resource: Resource, route: Route, version: Microversion, schemas: Components, parameters: dict[str, Any]
) -> dict[str, Any]:
    words = [word.strip("<>") for word in route.path.split("/") if word.startswith("<")]
    actions = [*_at(route.rule, version)] if isinstance(route.rule, Actions) else []
    described: dict[str, Any] = {
        "operationId": "_".join([route.method.lower(), *re.findall(r"[a-z0-9_]+", route.path.lower())]),
        "tags": [resource.name],
        "parameters": [
            *({"name": word, "in": "path", "required": True, "schema": {"type": "string"}} for word in words),
            *_query(route, version, parameters),
        ],
        "responses": {
            **{str(status): _success(bodies) for status, bodies in _successes(route, actions, version, schemas)},
            **{str(status): {"$ref": f"#/components/responses/{status}"} for status in errors_of(route, version)},
        },
    }
    if route.rule is None:
        described["security"] = []
    elif isinstance(route.rule, str):
        described["x-policy"] = route.rule
    body = (
        {"oneOf": [_body_of(action, version, schemas) for action in actions]}
        if actions
        else route.body and portable(_schema(route.body, version))
    )
    if body:
        described["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return described


def _query(route: Route, version: Microversion, parameters: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Refer to each parameter; one that two routes take in two ways is shared by none of them."""
    for name, repeated, schema in route.query.known(version):
        plain = portable(schema)
        shape = {"type": "array", "items": plain} if repeated else plain
        parameter = {"name": name, "in": "query", "required": False, "schema": shape}
        key = re.sub(r"[^\w.-]", "_", name)
        yield {"$ref": _PARAMETERS + key} if parameters.setdefault(key, parameter) == parameter else parameter


def _at(actions: Actions, version: Microversion) -> Iterator[Action]:
    return (action for action in actions.by_name.values() if action.since <= version <= action.until)


def _body_of(action: Action, version: Microversion, schemas: Components) -> Schema:
    """Return a body with that one action, with the policy rule it asks and what it answers."""
    body = {
        "type": "object",
        "properties": {action.name: {}},
        "required": [action.name],
        "additionalProperties": False,
    }
    if action.body is not None:
        body = portable(_schema(action.body, version))
    answers = {str(status): portable(schema) for status, schema in answers_of(action, version, schemas)}
    return {**body, "title": action.name, "x-policy": action.rule, "x-responses": answers}


def answers_of(
    what: Route | Action, version: Microversion, schemas: Components | None = None
) -> Iterator[tuple[int, Schema | None]]:
    """Yield each status of a success and the schema of its body, None for one without."""
    if what.answer is NEVER:
        return
    body = None if what.answer is None else body_at(what.answer, version, schemas)
    also = (code for code in what.also if code < 400)
    for status in (what.status_at(version), *also):
        yield status, body


def errors_of(route: Route, version: Microversion) -> list[int]:
    """Return the statuses of refusals that the pipeline, or what the route does, may answer with."""
    found = {*_ALWAYS, *(code for code in route.also if code >= 400)}
    if route.rule is not None:
        found |= {401, 403}
    if "<" in route.path or route.since > FIRST or route.until < LAST:
        found.add(404)
    if route.method != "GET":
        found |= {*_WITH_BODY}
    if isinstance(route.rule, Actions):
        found |= {410} if route.rule.gone else set()
        found |= {code for action in _at(route.rule, version) for code in action.also}
    return sorted(found)


def _successes(
    route: Route, actions: Sequence[Action], version: Microversion, schemas: Components
) -> Iterator[tuple[int, list[Schema | None]]]:
    """Yield each status of a success with the bodies that come with it, None for an answer without one."""
    found: dict[int, list[Schema | None]] = {}
    served: Sequence[Route | Action] = actions if isinstance(route.rule, Actions) else [route]
    for what in served:
        for status, body in answers_of(what, version, schemas):
            known = found.setdefault(status, [])
            known += [body] if body not in known else []
    yield from sorted(found.items())


def _success(bodies: Sequence[Schema | None]) -> dict[str, Any]:
    header = {"x-openstack-request-id": {"$ref": "#/components/headers/request_id"}}
    shown: dict[str, Any] = {"description": "Done, or begun.", "headers": header}
    told = [portable(body) for body in bodies if body is not None]
    if told and None not in bodies:
        schema = told[0] if len(told) == 1 else {"anyOf": told}
        shown["content"] = {"application/json": {"schema": schema}}
    return shown


def fault_schema(status: int) -> Schema:
    """Return what the body of an error is."""
    name = "error" if status == 401 else NAMES.get(status, "computeFault")
    fields: Schema = {"code": {"const": status}, "message": {"type": "string"}}
    if status == 401:
        fields["title"] = {"const": "Unauthorized"}
    if status in (413, 503):
        fields["retryAfter"] = {"type": "string", "pattern": "[0-9]+"}
    inner = {"type": "object", "properties": fields, "required": [*fields], "additionalProperties": False}
    outer = {"type": "object", "properties": {name: inner}, "required": [name], "additionalProperties": False}
    return dict(portable(outer))


def _fault(status: int) -> dict[str, Any]:
    schema = fault_schema(status)
    return {"description": schema["required"][0], "content": {"application/json": {"schema": schema}}}


def _schema(versioned: Versioned, version: Microversion) -> Schema:
    return next(schema for since, schema in reversed([*versioned]) if version >= since)


def _is_re2(pattern: str) -> bool:
    return any(each in pattern for each in _ONLY_RE2)


def portable(schema: Any) -> Any:
    """Return a schema as others' tools read it: patterns anchored, and under another key where only RE2 reads them."""
    if isinstance(schema, list):
        return [portable(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    written: Schema = {}
    for key, value in schema.items():
        if key == "pattern" and isinstance(value, str):
            written["x-re2-pattern" if _is_re2(value) else "pattern"] = f"^(?:{value})$"
        elif key == "patternProperties" and isinstance(value, dict):
            if any(_is_re2(pattern) for pattern in value):
                written["x-re2-patternProperties"] = {name: portable(each) for name, each in value.items()}
                written["additionalProperties"] = next(iter(written["x-re2-patternProperties"].values()))
            else:
                written[key] = {f"^(?:{name})$": portable(each) for name, each in value.items()}
        elif key in ("properties", "$defs") and isinstance(value, dict):
            written[key] = {name: portable(each) for name, each in value.items()}
        elif key == "additionalProperties" and "additionalProperties" in written:
            continue
        else:
            written[key] = portable(value) if key not in ("enum", "const", "default", "required") else value
    return written
