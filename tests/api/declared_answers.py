"""Every answer of the Compute API is one that its OpenAPI document declares, of the declared form."""

from __future__ import annotations

from functools import cache
from typing import Any

from flask import Flask, Response, g, request
from jsonschema import Draft202012Validator

from top_api.microversion import FIRST, Microversion
from top_api.openapi import describe
from top_api.request_pipeline import Resource
from top_api.routes import RESOURCES

_ROUTES = {
    f"{resource.name}.{route.method}.{route.path}": (resource, route)
    for resource in RESOURCES
    for route in resource.routes
}


@cache
def _operation(endpoint: str, version: Microversion) -> dict[str, Any] | None:
    resource, route = _ROUTES[endpoint]
    only = Resource(resource.name, resource.api)
    only.routes = [route]
    paths = [*describe([only], version)["paths"].values()]
    return paths[0][route.method.lower()] if paths else None


def watch_answers(app: Flask) -> list[str]:
    """Return a list that every answer is noted in that is not as declared."""
    found: list[str] = []

    @app.after_request
    def check(response: Response) -> Response:
        endpoint = "" if request.url_rule is None else request.url_rule.endpoint
        if endpoint in _ROUTES and _ROUTES[endpoint][0].api.prefix == "/v2.1":
            version = g.version or FIRST
            problem = _problem(endpoint, version, response)
            if problem:
                found.append(f"{endpoint} at {version}: {response.status_code} {problem}")
        return response

    return found


def _problem(endpoint: str, version: Microversion, response: Response) -> str:
    """Say what is wrong with an answer; "" for nothing."""
    operation = _operation(endpoint, version)
    if operation is None:
        return "" if 400 <= response.status_code < 500 else "though there is no such route"
    declared = operation["responses"].get(str(response.status_code))
    if declared is None:
        return "is not declared"
    if "content" not in declared:
        return ""
    error = next(_validator(endpoint, version, response.status_code).iter_errors(response.get_json()), None)
    return "" if error is None else f"{error.json_path}: {error.message[:200]}"


@cache
def _validator(endpoint: str, version: Microversion, status: int) -> Draft202012Validator:
    operation = _operation(endpoint, version)
    assert operation is not None
    content = operation["responses"][str(status)]["content"]
    return Draft202012Validator(content["application/json"]["schema"])
