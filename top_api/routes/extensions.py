"""/extensions: the names of what is served, kept for clients that look before they ask."""

from __future__ import annotations

import functools
from typing import Any

from cellcloud import errors
from top_api.answers import extensions as answers
from top_api.request_pipeline import Actions, Call, Resource

extensions = Resource("extensions")
RULE = "os_compute_api:extensions"
_EXTENSIONS: dict[str, tuple[str, str]] = {
    "OS-DCF": ("DiskConfig", ""),
    "OS-EXT-AZ": ("ExtendedAvailabilityZone", ""),
    "OS-EXT-IMG-SIZE": ("ImageSize", "/images"),
    "OS-EXT-IPS": ("ExtendedIps", ""),
    "OS-EXT-IPS-MAC": ("ExtendedIpsMac", ""),
    "OS-EXT-SRV-ATTR": ("ExtendedServerAttributes", ""),
    "OS-EXT-STS": ("ExtendedStatus", ""),
    "OS-FLV-DISABLED": ("FlavorDisabled", ""),
    "OS-FLV-EXT-DATA": ("FlavorExtraData", ""),
    "OS-SCH-HNT": ("SchedulerHints", ""),
    "OS-SRV-USG": ("ServerUsage", ""),
    "os-access-ips": ("AccessIPs", ""),
    "os-admin-actions": ("AdminActions", "os-resetState"),
    "os-admin-password": ("AdminPassword", "changePassword"),
    "os-aggregates": ("Aggregates", "/os-aggregates"),
    "os-attach-interfaces": ("AttachInterfaces", "/servers/<server_id>/os-interface"),
    "os-availability-zone": ("AvailabilityZone", "/os-availability-zone"),
    "os-config-drive": ("ConfigDrive", ""),
    "os-console-auth-tokens": ("ConsoleAuthTokens", "/os-console-auth-tokens"),
    "os-console-output": ("ConsoleOutput", "os-getConsoleOutput"),
    "os-consoles": ("Consoles", "os-getVNCConsole"),
    "os-create-backup": ("CreateBackup", "createBackup"),
    "os-deferred-delete": ("DeferredDelete", "forceDelete"),
    "os-evacuate": ("Evacuate", "evacuate"),
    "os-extended-evacuate-find-host": ("ExtendedEvacuateFindHost", "evacuate"),
    "os-extended-hypervisors": ("ExtendedHypervisors", ""),
    "os-extended-quotas": ("ExtendedQuotas", ""),
    "os-extended-rescue-with-image": ("ExtendedRescueWithImage", "rescue"),
    "os-extended-services": ("ExtendedServices", ""),
    "os-extended-services-delete": ("ExtendedServicesDelete", ""),
    "os-extended-status": ("ExtendedStatus", ""),
    "os-flavor-access": ("FlavorAccess", "/flavors/<flavor_id>/os-flavor-access"),
    "os-flavor-extra-specs": ("FlavorExtraSpecs", "/flavors/<flavor_id>/os-extra_specs"),
    "os-flavor-manage": ("FlavorManage", "/flavors"),
    "os-flavor-rxtx": ("FlavorRxtx", ""),
    "os-flavor-swap": ("FlavorSwap", ""),
    "os-floating-ip-pools": ("FloatingIpPools", "/os-floating-ip-pools"),
    "os-floating-ips": ("FloatingIps", "/os-floating-ips"),
    "os-hosts": ("Hosts", "/os-hosts"),
    "os-hypervisor-status": ("HypervisorStatus", ""),
    "os-hypervisors": ("Hypervisors", "/os-hypervisors"),
    "os-instance-actions": ("InstanceActions", "/servers/<server_id>/os-instance-actions"),
    "os-instance_usage_audit_log": ("OSInstanceUsageAuditLog", "/os-instance_usage_audit_log"),
    "os-keypairs": ("Keypairs", "/os-keypairs"),
    "os-lock-server": ("LockServer", "lock"),
    "os-migrate-server": ("MigrateServer", "migrate"),
    "os-migrations": ("Migrations", "/os-migrations"),
    "os-multiple-create": ("MultipleCreate", ""),
    "os-networks": ("Networks", "/os-networks"),
    "os-pause-server": ("PauseServer", "pause"),
    "os-preserve-ephemeral-rebuild": ("PreserveEphemeralOnRebuild", "rebuild"),
    "os-quota-class-sets": ("QuotaClasses", "/os-quota-class-sets"),
    "os-quota-sets": ("Quotas", "/os-quota-sets"),
    "os-rescue": ("Rescue", "rescue"),
    "os-security-groups": ("SecurityGroups", "/os-security-groups"),
    "os-server-diagnostics": ("ServerDiagnostics", "/servers/<server_id>/diagnostics"),
    "os-server-external-events": ("ServerExternalEvents", "/os-server-external-events"),
    "os-server-group-quotas": ("ServerGroupQuotas", ""),
    "os-server-groups": ("ServerGroups", "/os-server-groups"),
    "os-server-list-multi-status": ("ServerListMultiStatus", ""),
    "os-server-password": ("ServerPassword", "/servers/<server_id>/os-server-password"),
    "os-server-sort-keys": ("ServerSortKeys", ""),
    "os-server-start-stop": ("ServerStartStop", "os-start"),
    "os-services": ("Services", "/os-services"),
    "os-shelve": ("Shelve", "shelve"),
    "os-simple-tenant-usage": ("SimpleTenantUsage", "/os-simple-tenant-usage"),
    "os-suspend-server": ("SuspendServer", "suspend"),
    "os-tenant-networks": ("OSTenantNetworks", "/os-tenant-networks"),
    "os-used-limits": ("UsedLimits", ""),
    "os-used-limits-for-admin": ("UsedLimitsForAdmin", ""),
    "os-user-data": ("UserData", ""),
    "os-user-quotas": ("UserQuotas", ""),
    "os-volumes": ("Volumes", "/os-volumes"),
}
"""Alias -> (Nova's name for it, the path or action that it stands for; "" where it is a part of another)."""


@functools.cache
def _served() -> frozenset[str]:
    """Return the aliases of what this API serves."""
    from top_api.routes import RESOURCES

    offered = {""}
    for resource in RESOURCES:
        for route in resource.routes if resource.name != "gone" else ():
            offered.add(route.path)
            offered.add(route.path.rsplit("/<", 1)[0])
            if isinstance(route.rule, Actions):
                offered |= route.rule.by_name.keys()
    return frozenset(alias for alias, (_, needed) in _EXTENSIONS.items() if needed in offered)


def _shown(alias: str) -> dict[str, Any]:
    name, _ = _EXTENSIONS[alias]
    return {
        "alias": alias,
        "name": name,
        "description": name,
        "namespace": "http://docs.openstack.org/compute/ext/fake_xml",
        "updated": "2014-12-03T00:00:00Z",
        "links": [],
    }


@extensions.route("GET", "/extensions", RULE, answer=answers.LIST)
def list_extensions(call: Call) -> dict[str, Any]:
    return {"extensions": [_shown(alias) for alias in sorted(_served())]}


@extensions.route("GET", "/extensions/<alias>", RULE, answer=answers.ONE)
def show(call: Call, alias: str) -> dict[str, Any]:
    if alias not in _served():
        raise errors.NotFound(f"No extension {alias[:64]} was found.")
    return {"extension": _shown(alias)}
