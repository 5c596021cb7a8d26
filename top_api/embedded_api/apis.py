"""What the embedded services' APIs do their own way: where they are, and the form of their errors."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from top_api.faults import Fault
from top_api.web_api import WebApi

_HEADERS = {"Vary": "X-Auth-Token"}


def _keystone_form(fault: Fault) -> tuple[int, Any]:
    title = HTTPStatus(fault.status).phrase
    return fault.status, {"error": {"code": fault.status, "title": title, "message": fault.message}}


def _glance_form(fault: Fault) -> tuple[int, Any]:
    return fault.status, {"message": fault.message, "code": fault.status}


IDENTITY = WebApi(prefix="/identity", form=_keystone_form, headers=_HEADERS, in_project=False)
IMAGE = WebApi(prefix="/image", form=_glance_form, headers=_HEADERS)
