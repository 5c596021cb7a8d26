"""Every answer of the Compute API is one that its route declares: the status, and the body to the last field."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import cache
from io import BytesIO

from flask import Flask, Response, g, request
from jsonschema_rs import Draft202012Validator

from top_api.answers import versions
from top_api.microversion import FIRST, Microversion
from top_api.openapi import answers_of, errors_of, fault_schema, portable
from top_api.request_pipeline import Action, Actions, Route
from top_api.routes import RESOURCES
from top_api.service_api_definition import COMPUTE, DISCOVERY

ROUTES: dict[str, Route] = {
    f"{resource.name}.{route.method}.{route.path}": route
    for resource in RESOURCES
    if resource.api in (COMPUTE, DISCOVERY)
    for route in resource.routes
}


def watch_answers(app: Flask) -> list[str]:
    """Return a list that every answer is noted in that is not as declared."""
    found: list[str] = []

    @app.after_request
    def check(response: Response) -> Response:
        endpoint = "" if request.url_rule is None else request.url_rule.endpoint
        if endpoint in ROUTES or (not endpoint and (request.path.startswith("/v2.1/") or response.status_code == 300)):
            version, name = g.version or FIRST, _action_of(ROUTES.get(endpoint))
            problem = problem_of(endpoint, name, version, response.status_code, response.get_data())
            if problem:
                found.append(f"{endpoint or request.path} {name} at {version}: {response.status_code} {problem}")
        return response

    return found


def _action_of(route: Route | None) -> str:
    """Return the action that the request's body names, "" for none."""
    sent = request.environ["wsgi.input"]
    if route is None or not isinstance(route.rule, Actions) or not isinstance(sent, BytesIO):
        return ""
    with suppress(ValueError, RecursionError):
        body = json.loads(sent.getvalue())
        return next(iter(body)) if isinstance(body, dict) and len(body) == 1 else ""
    return ""


def problem_of(endpoint: str, name: str, version: Microversion, status: int, data: bytes) -> str:
    """Say what is wrong with an answer, "" for nothing. ``endpoint``: of the route, "" for a path that is none's;
    ``name``: of the action that was asked for."""
    declared = _validators(endpoint, name, version)
    if status not in declared:
        return "is not declared"
    validator = declared[status]
    if validator is None or not data:
        return "has a body" if data else "has no body" if validator else ""
    error = next(validator.iter_errors(json.loads(data)), None)
    return "" if error is None else f"/{'/'.join(map(str, error.instance_path))}: {error.message[:300]}"


@cache
def _validators(endpoint: str, name: str, version: Microversion) -> dict[int, Draft202012Validator | None]:
    """Status -> what its body must be, None: no body, for every status that may be answered with."""
    if not endpoint:
        choices = portable(versions.CHOICES.at(version))
        return {300: _compiled(choices), **{status: _fault(status) for status in (400, 404, 405, 429, 500)}}
    route = ROUTES[endpoint]
    what: Route | Action | None = route
    if isinstance(route.rule, Actions):
        what = route.rule.by_name.get(name)
    faults = {status: _fault(status) for status in errors_of(route, version)}
    if what is None or not (route.since <= version <= route.until and what.since <= version <= what.until):
        return {**faults, 404: _fault(404)}
    successes = {
        status: None if body is None else _compiled(portable(body)) for status, body in answers_of(what, version)
    }
    return {**faults, **successes}


@cache
def _fault(status: int) -> Draft202012Validator:
    return _compiled(fault_schema(status))


def _compiled(schema: object) -> Draft202012Validator:
    return Draft202012Validator(schema, validate_formats=True)
