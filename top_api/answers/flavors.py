"""Answers about flavors, their extra specs and who may use them, by microversion."""

from __future__ import annotations

from top_api.answers.types import BOOLEAN, COUNT, LINKS, NUMBER, TEXT, TEXTS, WORD, a_page, only
from top_api.response_schema import FieldParts, Fields, changing, list_of, map_of, nullable, shown_by, since

_BRIEF: FieldParts = {"id": WORD, "name": TEXT, "links": LINKS, "description": since(55, nullable(TEXT))}
_WHOLE = Fields(
    {
        **_BRIEF,
        "ram": COUNT,
        "vcpus": COUNT,
        "disk": COUNT,
        "OS-FLV-EXT-DATA:ephemeral": COUNT,
        "swap": changing({"anyOf": [{"const": ""}, {"type": "integer", "minimum": 1}]}, {75: COUNT}),
        "rxtx_factor": NUMBER,
        "OS-FLV-DISABLED:disabled": BOOLEAN,
        "os-flavor-access:is_public": BOOLEAN,
        "extra_specs": since(61, shown_by("os_compute_api:os-flavor-extra-specs:index", TEXTS)),
    },
    name="Flavor",
)
LIST = a_page("flavors", Fields(_BRIEF, name="FlavorInList"))
DETAIL = a_page("flavors", _WHOLE)
ONE = only("flavor", _WHOLE)
EXTRA_SPECS = only("extra_specs", TEXTS)
EXTRA_SPEC = map_of(TEXT, minProperties=1, maxProperties=1)
ACCESS = only("flavor_access", list_of(Fields({"flavor_id": WORD, "tenant_id": TEXT})))
