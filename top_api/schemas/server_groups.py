"""Bodies and queries of server groups, by microversion."""

from __future__ import annotations

from cellcloud.model.server_group import AFFINITY, ANTI_AFFINITY, SOFT_AFFINITY, SOFT_ANTI_AFFINITY
from top_api.paging import LIMIT
from top_api.schemas.types import NAME, POSITIVE, TEXT, Schema, an_object, only
from top_api.validation import Queries, Versioned

_STRICT = [ANTI_AFFINITY, AFFINITY]
_ALL = [*_STRICT, SOFT_ANTI_AFFINITY, SOFT_AFFINITY]
_RULES = an_object({"max_server_per_host": POSITIVE})


def _policies(names: list[str]) -> Schema:
    one = {"type": "array", "items": {"type": "string", "enum": names}, "minItems": 1, "maxItems": 1}
    return only("server_group", an_object({"name": NAME, "policies": one}, required=("name", "policies")))


_POLICY = {"name": NAME, "policy": {"type": "string", "enum": _ALL}, "rules": _RULES}
CREATE = Versioned(
    _policies(_STRICT),
    ((2, 15), _policies(_ALL)),
    ((2, 64), only("server_group", an_object(_POLICY, required=("name", "policy")))),
)
LIST = Queries({}, repeated={"all_projects": TEXT, "limit": LIMIT, "offset": LIMIT}, strict_since=(2, 75))
