"""Answers about availability zones."""

from __future__ import annotations

from top_api.answers.types import BOOLEAN, MICROSECOND, NULL, TEXT, only
from top_api.response_schema import AnswerShape, Fields, Part, list_of, map_of, nullable

_SERVICE = Fields({"available": BOOLEAN, "active": BOOLEAN, "updated_at": nullable(MICROSECOND)})


def _zones(hosts: Part) -> AnswerShape:
    state = Fields({"available": BOOLEAN})
    return only("availabilityZoneInfo", list_of(Fields({"zoneName": TEXT, "zoneState": state, "hosts": hosts})))


LIST = _zones(NULL)
DETAIL = _zones(nullable(map_of(map_of(_SERVICE))))
