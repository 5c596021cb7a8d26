"""/os-availability-zone."""

from __future__ import annotations

from typing import Any

from top_api.answers import availability_zones as answers
from top_api.operations.services_and_hosts import list_services
from top_api.request_pipeline import Call, Resource
from top_api.views.times import show_microsecond

availability_zones = Resource("os-availability-zone")
INTERNAL = "internal"


@availability_zones.route(
    "GET", "/os-availability-zone", "os_compute_api:os-availability-zone:list", answer=answers.LIST
)
def list_zones(call: Call) -> dict[str, Any]:
    zones = sorted(call.services.cells.zones().items())
    return {
        "availabilityZoneInfo": [
            {"zoneName": name, "zoneState": {"available": available}, "hosts": None} for name, available in zones
        ]
    }


@availability_zones.route(
    "GET", "/os-availability-zone/detail", "os_compute_api:os-availability-zone:detail", answer=answers.DETAIL
)
def list_zones_in_detail(call: Call) -> dict[str, Any]:
    zones: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in call.services.cells.zones()}
    usable: dict[str, bool] = dict(call.services.cells.zones())
    for service, fresh in list_services(call.services, call.context):
        if service.enabled:
            zones.setdefault(service.zone, {}).setdefault(service.host, {})[service.binary] = {
                "available": service.up and fresh,
                "active": True,  # disabled ones are not shown
                "updated_at": show_microsecond(service.last_seen),
            }
    usable[INTERNAL] = True
    return {
        "availabilityZoneInfo": [
            {
                "zoneName": name,
                "zoneState": {"available": usable.get(name, False)},
                "hosts": hosts if usable.get(name) else None,
            }
            for name, hosts in sorted(zones.items())
        ]
    }
