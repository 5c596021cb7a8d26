"""What once was: nova-network, cells of the first kind, agents and other relics answer 410 at every microversion."""

from __future__ import annotations

from typing import Any

from top_api.faults import GONE, Gone
from top_api.request_pipeline import Call, Resource
from top_api.response_schema import NEVER

gone = Resource("gone")
_PATHS: dict[str, tuple[str, ...]] = {
    "/os-agents": ("GET", "POST"),
    "/os-agents/<x>": ("PUT", "DELETE"),
    "/os-cells": ("GET", "POST"),
    "/os-cells/capacities": ("GET",),
    "/os-cells/detail": ("GET",),
    "/os-cells/info": ("GET",),
    "/os-cells/sync_instances": ("POST",),
    "/os-cells/<x>": ("GET", "PUT", "DELETE"),
    "/os-cells/<x>/capacities": ("GET",),
    "/os-certificates": ("POST",),
    "/os-certificates/<x>": ("GET",),
    "/os-cloudpipe": ("GET", "POST"),
    "/os-cloudpipe/<x>": ("PUT",),
    "/os-fixed-ips/<x>": ("GET",),
    "/os-fixed-ips/<x>/action": ("POST",),
    "/os-floating-ip-dns": ("GET",),
    "/os-floating-ip-dns/<x>": ("PUT", "DELETE"),
    "/os-floating-ip-dns/<x>/entries/<y>": ("GET", "PUT", "DELETE"),
    "/os-floating-ips-bulk": ("GET", "POST"),
    "/os-floating-ips-bulk/<x>": ("GET", "PUT"),
    "/os-fping": ("GET",),
    "/os-fping/<x>": ("GET",),
    "/os-networks": ("POST",),
    "/os-networks/add": ("POST",),
    "/os-networks/<x>": ("DELETE",),
    "/os-networks/<x>/action": ("POST",),
    "/os-security-group-default-rules": ("GET", "POST"),
    "/os-security-group-default-rules/<x>": ("GET", "DELETE"),
    "/os-tenant-networks": ("POST",),
    "/os-tenant-networks/<x>": ("DELETE",),
    "/servers/<x>/consoles": ("GET", "POST"),
    "/servers/<x>/consoles/<y>": ("GET", "DELETE"),
    "/servers/<x>/os-virtual-interfaces": ("GET",),
}


def _answer(call: Call, **_: str) -> Any:
    raise Gone(GONE)


for path, methods in _PATHS.items():
    for method in methods:
        gone.route(method, path, "cellcloud:gone", also=(410,), answer=NEVER)(_answer)
