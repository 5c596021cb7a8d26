"""Version documents: anonymous, without a microversion."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from flask import Response

from top_api.answers import versions as answers
from top_api.faults import json_response
from top_api.microversion import FIRST, LAST
from top_api.request_pipeline import Call, Resource
from top_api.service_api_definition import DISCOVERY

_MEDIA = "application/vnd.openstack.compute+json;version="
_V20 = {"id": "v2.0", "status": "DEPRECATED", "version": "", "min_version": "", "updated": "2011-01-21T11:33:21Z"}
_V21 = {
    "id": "v2.1",
    "status": "CURRENT",
    "version": str(LAST),
    "min_version": str(FIRST),
    "updated": "2013-07-23T11:33:21Z",
}


def _link(base_url: str, path: str) -> dict[str, str]:
    return {"rel": "self", "href": f"{base_url}/{path}/"}


def _document(base_url: str, version: dict[str, str], path: str) -> dict[str, Any]:
    described = {"rel": "describedby", "type": "text/html", "href": "https://docs.openstack.org/"}
    media = {"base": "application/json", "type": _MEDIA + version["id"][1:]}
    return {**version, "links": [_link(base_url, path), described], "media-types": [media]}


def choices(base_url: str, path: str) -> Response:
    """For a first segment that is no version: what there is, with status 300."""
    found = [
        {
            "id": version["id"],
            "status": version["status"],
            "links": [{"rel": "self", "href": f"{base_url}/{segment}/{quote(path.lstrip('/'))}"}],
            "media-types": [{"base": "application/json", "type": _MEDIA + version["id"][1:]}],
        }
        for version, segment in ((_V20, "v2"), (_V21, "v2.1"))
    ]
    return json_response(300, {"choices": found})


versions = Resource("versions", DISCOVERY)


@versions.route("GET", "/", None, answer=answers.LIST)
def list_versions(call: Call) -> dict[str, Any]:
    return {
        "versions": [{**one, "links": [_link(call.base_url, path)]} for one, path in ((_V20, "v2"), (_V21, "v2.1"))]
    }


@versions.route("GET", "/v2.1/", None, answer=answers.ONE)
def show_current(call: Call) -> dict[str, Any]:
    return {"version": _document(call.base_url, _V21, "v2.1")}


@versions.route("GET", "/v2/", None, answer=answers.ONE)
def show_deprecated(call: Call) -> dict[str, Any]:
    return {"version": _document(call.base_url, _V20, "v2")}
