"""What the embedded services' APIs do their own way: where they are, and the form of their errors."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from cellcloud import errors
from top_api.embedded_api.neutron_exceptions import EXCEPTIONS
from top_api.embedded_api.neutron_values import canonical
from top_api.faults import Fault, compute_form
from top_api.microversion import OF_VOLUMES
from top_api.service_api_definition import WebApi
from top_api.validation import compute_words

_NEUTRON_TYPES = {
    400: "HTTPBadRequest",
    401: "Unauthorized",
    403: "PolicyNotAuthorized",
    404: "HTTPNotFound",
    409: "Conflict",
}
_NEUTRON_ERRORS = {
    errors.QuotaExceeded.__name__: (409, "OverQuota"),
    errors.Stale.__name__: (412, "RevisionNumberConstraintFailed"),
}
_HEADERS = {"Vary": "X-Auth-Token"}


def _keystone_form(fault: Fault) -> tuple[int, Any]:
    title = HTTPStatus(fault.status).phrase
    return fault.status, {"error": {"code": fault.status, "title": title, "message": fault.message}}


def _glance_form(fault: Fault) -> tuple[int, Any]:
    title = HTTPStatus(fault.status).phrase
    return fault.status, {"message": fault.message, "code": f"{fault.status} {title}", "title": title}


def _neutron_name(fault: Fault) -> str:
    for begin, within, name in EXCEPTIONS:
        if fault.message.startswith(begin) and within in fault.message:
            return name
    return _NEUTRON_TYPES.get(fault.status, fault.kind)


def _neutron_form(fault: Fault) -> tuple[int, Any]:
    given = (fault.status, _neutron_name(fault))
    status, kind = _NEUTRON_ERRORS.get(fault.kind, given)
    return status, {"NeutronError": {"type": kind, "message": fault.message, "detail": ""}}


def _cinder_form(fault: Fault) -> tuple[int, Any]:
    if fault.kind == errors.QuotaExceeded.__name__:
        return 413, {"overLimit": {"code": 413, "message": fault.message, "retryAfter": "0"}}
    return compute_form(fault)


IDENTITY = WebApi(
    prefix="/identity", service="identity", root="/identity", form=_keystone_form, headers=_HEADERS, in_project=False
)
IMAGE = WebApi(
    prefix="/image", service="image", root="/image", form=_glance_form, headers=_HEADERS, strict_slashes=True
)
NETWORK = WebApi(
    prefix="/network",
    service="network",
    root="/network",
    form=_neutron_form,
    headers=_HEADERS,
    canonical=canonical,
)
VOLUME = WebApi(
    prefix="/volume",
    service="block-storage",
    root="/volume",
    form=_cinder_form,
    words=compute_words,
    microversions=True,
    versions=OF_VOLUMES,
    strict_slashes=True,
)
