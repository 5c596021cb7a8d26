"""What administrators see of the volume services: services, hosts, pools, capabilities; and the zones for everybody."""

from __future__ import annotations

from typing import Any

from cellcloud import errors
from cellcloud.db import volume_hosts as db
from cellcloud.db import volumes as db_volumes
from cellcloud.db.engine import transact
from cellcloud.db.volume_hosts import KnownHost
from cellcloud.embedded.volume.delivery import BINARY
from cellcloud.embedded.volume.relocation import OVERSUBSCRIPTION
from cellcloud.model.block_storage import BACKEND_NAME
from top_api.embedded_api import volume_schemas as schemas
from top_api.embedded_api.error_formats import VOLUME as API
from top_api.embedded_api.volume_calls import flag, full_host, service_of, stamp
from top_api.request_pipeline import Call, Resource

volume_administration = Resource("volume_administration", API)
_SERVICES, _HOSTS = "volume_extension:services", "volume_extension:hosts"
_FREE = "cellcloud:volume_discovery"


def _known(call: Call) -> list[KnownHost]:
    with service_of(call).database.read() as c:
        return db.list_hosts(c)


def _name(known: KnownHost) -> str:
    return f"{known.host.host}@{BACKEND_NAME}"


# ---- services ----------------------------------------------------------------------------------------------------
@volume_administration.route("GET", "/v3/os-services", f"{_SERVICES}:index")
def list_services(call: Call) -> dict[str, Any]:
    host, binary = call.param("host"), call.param("binary")
    found = [
        _service(call, known)
        for known in _known(call)
        if host in (None, "", _name(known), known.host.host) and binary in (None, "", BINARY)
    ]
    return {"services": found}


def _service(call: Call, known: KnownHost) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "binary": BINARY,
        "host": _name(known),
        "zone": known.host.zone,
        "status": "enabled" if known.enabled else "disabled",
        "state": "up" if known.up else "down",
        "updated_at": stamp(known.last_seen),
        "disabled_reason": known.disabled_reason,
        "replication_status": "disabled",
        "active_backend_id": None,
        "frozen": known.frozen,
    }
    if call.version >= (3, 7):
        shown["cluster"] = None
    if call.version >= (3, 49):
        shown["backend_state"] = "up" if known.up else "down"
    return shown


@volume_administration.route("PUT", "/v3/os-services/<verb>", f"{_SERVICES}:update", body=schemas.SERVICE)
def update_service(call: Call, verb: str) -> Any:
    wanted = call.body
    if verb in ("freeze", "thaw"):
        try:
            _set(call, wanted["host"], {"frozen": verb == "freeze"})
        except errors.NotFound as error:
            raise errors.Invalid(error.message) from None
        return None
    changes: dict[str, Any] = {"enabled": verb == "enable", "disabled_reason": None}
    if verb == "disable-log-reason":
        if not wanted.get("disabled_reason", "").strip():
            raise errors.Invalid("Missing required element 'disabled_reason' in request body.")
        changes["disabled_reason"] = wanted["disabled_reason"]
    elif verb not in ("enable", "disable"):
        raise errors.NotFound("Unknown action")
    if wanted.get("binary", BINARY) != BINARY:
        raise errors.NotFound(f"Service {wanted['binary']} could not be found on host {wanted['host']}.")
    _set(call, wanted["host"], changes)
    shown = {
        "host": wanted["host"],
        "service": BINARY,
        "binary": BINARY,
        "disabled": not changes["enabled"],
        "status": "enabled" if changes["enabled"] else "disabled",
    }
    return shown | ({"disabled_reason": changes["disabled_reason"]} if changes["disabled_reason"] else {})


def _set(call: Call, host: str, changes: dict[str, Any]) -> None:
    bare = host.partition("@")[0]
    if not transact(service_of(call).database, lambda c: db.set_host(c, bare, changes)):
        raise errors.NotFound(f"Service {BINARY} could not be found on host {host[:255]}.")


# ---- hosts -------------------------------------------------------------------------------------------------------
@volume_administration.route("GET", "/v3/os-hosts", _HOSTS)
def list_hosts(call: Call) -> dict[str, Any]:
    zone = call.param("zone")
    found = [
        {
            "host_name": _name(known),
            "service": BINARY,
            "zone": known.host.zone,
            "service-status": "available" if known.up else "unavailable",
            "service-state": "enabled",
            "last-update": stamp(known.last_seen),
        }
        for known in _known(call)
        if known.enabled and zone in (None, "", known.host.zone)
    ]
    return {"hosts": found}


@volume_administration.route("GET", "/v3/os-hosts/<host>", _HOSTS)
def show_host(call: Call, host: str) -> dict[str, Any]:
    known = next((each for each in _known(call) if host in (_name(each), each.host.host)), None)
    if known is None:
        raise errors.NotFound(f"Host {host[:255]} could not be found.")
    with service_of(call).database.read() as c:
        rows = db_volumes.totals_on(c, known.host.cell, known.host.host)
    total = tuple(sum(row[place] for row in rows.values()) for place in range(4))
    found = [("(total)", total), *rows.items()]
    return {"host": [{"resource": _resource(host, project, numbers)} for project, numbers in found]}


def _resource(host: str, project: str, numbers: tuple[int, ...]) -> dict[str, str]:
    names = ("volume_count", "total_volume_gb", "snapshot_count", "total_snapshot_gb")
    return {"host": host, "project": project, **dict(zip(names, map(str, numbers), strict=True))}


# ---- pools -------------------------------------------------------------------------------------------------------
@volume_administration.route("GET", "/v3/scheduler-stats/get_pools", "scheduler_extension:scheduler_stats:get_pools")
def list_pools(call: Call) -> dict[str, Any]:
    detail = flag(call, "detail")
    wanted = call.param("name") if call.version >= (3, 28) else None
    pools = []
    for known in _known(call):
        name = full_host(known.host.host, known.host.cell)
        if wanted in (None, name):
            pools.append({"name": name, **({"capabilities": _pool(call, known)} if detail else {})})
    return {"pools": pools}


def _pool(call: Call, known: KnownHost) -> dict[str, Any]:
    with service_of(call).database.read() as c:
        promised = db_volumes.size_by_host(c).get((known.host.cell, known.host.host), 0)
    return {
        "timestamp": stamp(known.last_seen),
        "volume_backend_name": BACKEND_NAME,
        "vendor_name": "cellcloud",
        "driver_version": "1.0",
        "storage_protocol": "nbd",
        "pool_name": known.host.cell,
        "total_capacity_gb": known.host.total_gb,
        "free_capacity_gb": known.host.free_gb,
        "allocated_capacity_gb": promised,
        "provisioned_capacity_gb": promised,
        "max_over_subscription_ratio": str(OVERSUBSCRIPTION),
        "reserved_percentage": 0,
        "thin_provisioning_support": True,
        "thick_provisioning_support": False,
        "QoS_support": False,
        "multiattach": True,
        "online_extend_support": True,
        "location_info": None,
        "backend_state": "up" if known.up else "down",
    }


@volume_administration.route("GET", "/v3/capabilities/<host>", "volume_extension:capabilities")
def show_capabilities(call: Call, host: str) -> dict[str, Any]:
    if all(host not in (_name(known), known.host.host) for known in _known(call)):
        raise errors.NotFound(f"Can't find service: {host[:255]}")
    return {
        "namespace": f"OS::Storage::Capabilities::{host}",
        "vendor_name": "cellcloud",
        "volume_backend_name": BACKEND_NAME,
        "pool_name": None,
        "driver_version": "1.0",
        "storage_protocol": "nbd",
        "display_name": None,
        "description": None,
        "visibility": None,
        "replication_targets": [],
        "properties": {},
    }


# ---- for everybody -----------------------------------------------------------------------------------------------
@volume_administration.route("GET", "/v3/os-availability-zone", _FREE)
def list_zones(call: Call) -> dict[str, Any]:
    zones: dict[str, bool] = {}
    for known in _known(call):
        zones[known.host.zone] = zones.get(known.host.zone, False) or (known.up and known.enabled)
    found = [{"zoneName": zone, "zoneState": {"available": available}} for zone, available in sorted(zones.items())]
    return {"availabilityZoneInfo": found}


_EXTENSIONS = {
    "os-availability-zone": "AvailabilityZones",
    "os-extended-services": "ExtendedServices",
    "os-extended-snapshot-attributes": "ExtendedSnapshotAttributes",
    "os-hosts": "Hosts",
    "os-quota-class-sets": "QuotaClasses",
    "os-quota-sets": "Quotas",
    "os-services": "Services",
    "os-snapshot-actions": "SnapshotActions",
    "os-types-extra-specs": "TypesExtraSpecs",
    "os-types-manage": "TypesManage",
    "os-used-limits": "UsedLimits",
    "os-vol-host-attr": "VolumeHostAttribute",
    "os-vol-image-meta": "VolumeImageMetadata",
    "os-vol-mig-status-attr": "VolumeMigStatusAttribute",
    "os-vol-tenant-attr": "VolumeTenantAttribute",
    "os-volume-actions": "VolumeActions",
    "os-volume-transfer": "VolumeTransfer",
    "os-volume-type-access": "VolumeTypeAccess",
    "os-admin-actions": "AdminActions",
    "capabilities": "Capabilities",
    "scheduler-stats": "Scheduler_stats",
}


@volume_administration.route("GET", "/v3/extensions", _FREE)
def list_extensions(call: Call) -> dict[str, Any]:
    return {"extensions": [_extension(alias) for alias in _EXTENSIONS]}


@volume_administration.route("GET", "/v3/extensions/<alias>", _FREE)
def show_extension(call: Call, alias: str) -> dict[str, Any]:
    if alias not in _EXTENSIONS:
        raise errors.NotFound("There is no such extension.")
    return {"extension": _extension(alias)}


def _extension(alias: str) -> dict[str, Any]:
    name = _EXTENSIONS[alias]
    return {"alias": alias, "name": name, "description": name, "updated": "2016-01-01T00:00:00+00:00", "links": []}


@volume_administration.route("GET", "/v3/resource_filters", _FREE, since=(3, 33))
def list_resource_filters(call: Call) -> dict[str, Any]:
    wanted = call.param("resource")
    known = {
        "volume": ["name", "status", "metadata", "bootable", "availability_zone", "size", "created_at", "updated_at"],
        "snapshot": ["name", "status", "volume_id", "metadata", "availability_zone"],
        "attachment": ["volume_id", "status", "instance_id", "attach_status"],
        "message": ["resource_uuid", "resource_type", "event_id", "request_id", "message_level"],
        "pool": ["name"],
        "volume_type": ["is_public", "extra_specs"],
    }
    found = [{"resource": kind, "filters": names} for kind, names in known.items() if wanted in (None, kind)]
    return {"resource_filters": found}


# ---- messages ----------------------------------------------------------------------------------------------------
@volume_administration.route("GET", "/v3/messages", "message:get_all", since=(3, 3))
def list_messages(call: Call) -> dict[str, Any]:
    """Return what went wrong with volumes of the project: one message each that is in error."""
    with service_of(call).database.read() as c:
        failed = db_volumes.list_failed(c, call.context.project_id)
    return {"messages": [_message(call, each) for each in failed]}


@volume_administration.route("GET", "/v3/messages/<message_id>", "message:get", since=(3, 3))
def show_message(call: Call, message_id: str) -> dict[str, Any]:
    with service_of(call).database.read() as c:
        found = [each for each in db_volumes.list_failed(c, call.context.project_id) if each.id == message_id]
    if not found:
        raise errors.NotFound(f"Message {message_id[:64]} could not be found.")
    return {"message": _message(call, found[0])}


@volume_administration.route("DELETE", "/v3/messages/<message_id>", "message:delete", since=(3, 3), status=204)
def delete_message(call: Call, message_id: str) -> None:
    def work(c: Any) -> bool:
        known = [each for each in db_volumes.list_failed(c, call.context.project_id) if each.id == message_id]
        return bool(known) and db_volumes.update_volume(c, message_id, {"reason": ""})

    if not transact(service_of(call).database, work):
        raise errors.NotFound(f"Message {message_id[:64]} could not be found.")


def _message(call: Call, failed: db_volumes.FailedVolume) -> dict[str, Any]:
    root = f"{call.base_url}/volume/v3/messages/{failed.id}"
    return {
        "id": failed.id,
        "event_id": "VOLUME_VOLUME_001_001",
        "user_message": failed.reason,
        "message_level": "ERROR",
        "resource_type": "VOLUME",
        "resource_uuid": failed.id,
        "request_id": f"req-{failed.id}",
        "created_at": stamp(failed.at),
        "guaranteed_until": stamp(failed.at),
        "links": [{"rel": "self", "href": root}, {"rel": "bookmark", "href": root}],
    }
