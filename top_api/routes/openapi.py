"""/openapi.json: what the API is, for tools that read OpenAPI documents."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from top_api.microversion import LAST, Microversion, parse
from top_api.openapi import describe
from top_api.request_pipeline import Call, Resource
from top_api.validation import Queries

_VERSION = {"type": "string", "maxLength": 16, "pattern": r"latest|[1-9]\d{0,3}\.(0|[1-9]\d{0,5})"}


def describing(resources: Sequence[Resource]) -> Resource:
    """Return a resource with the document of the others, open to everybody. ``?microversion=``: the newest without."""
    described = tuple(resources)
    openapi = Resource("openapi")

    @cache
    def document(version: Microversion) -> dict[str, Any]:
        return describe(described, version)

    @openapi.route("GET", "/openapi.json", None, query=Queries({"microversion": _VERSION}))
    def show(call: Call) -> dict[str, Any]:
        asked = call.param("microversion")
        return document(parse(asked) if asked else LAST)

    return openapi
