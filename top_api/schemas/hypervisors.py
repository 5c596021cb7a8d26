"""Queries of hypervisors, by microversion."""

from __future__ import annotations

from top_api.paging import LIMIT, MARKER
from top_api.schemas.types import BOOLEAN, FQDN
from top_api.validation import Queries

_SINCE = {"limit": (2, 33), "marker": (2, 33), "hypervisor_hostname_pattern": (2, 53), "with_servers": (2, 53)}
LIST = Queries(
    {"limit": LIMIT, "marker": MARKER, "hypervisor_hostname_pattern": FQDN, "with_servers": BOOLEAN},
    since=_SINCE,
    strict_since=(2, 53),
)
SHOW = Queries({"with_servers": BOOLEAN}, since=_SINCE, strict_since=(2, 53))
