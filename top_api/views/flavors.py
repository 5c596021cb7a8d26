"""How a flavor looks at each microversion."""

from __future__ import annotations

from typing import Any

from cellcloud.model.flavor import Flavor
from top_api.request_pipeline import Call


def brief(call: Call, flavor: Flavor) -> dict[str, Any]:
    """Return an item of GET /flavors."""
    shown: dict[str, Any] = {"id": flavor.id, "name": flavor.name, "links": call.links("flavors", flavor.id)}
    if call.version >= (2, 55):
        shown["description"] = flavor.description
    return shown


def detail(call: Call, flavor: Flavor) -> dict[str, Any]:
    """Return a whole flavor."""
    shown: dict[str, Any] = {
        "id": flavor.id,
        "name": flavor.name,
        "ram": flavor.memory_mb,
        "vcpus": flavor.vcpus,
        "disk": flavor.root_gb,
        "OS-FLV-EXT-DATA:ephemeral": flavor.ephemeral_gb,
        "swap": flavor.swap_mb if flavor.swap_mb or call.version >= (2, 75) else "",
        "rxtx_factor": flavor.rxtx_factor,
        "OS-FLV-DISABLED:disabled": flavor.disabled,
        "os-flavor-access:is_public": flavor.is_public,
        "links": call.links("flavors", flavor.id),
    }
    if call.version >= (2, 55):
        shown["description"] = flavor.description
    if call.version >= (2, 61) and call.allows("os_compute_api:os-flavor-extra-specs:index"):
        shown["extra_specs"] = flavor.extra_specs
    return shown
