"""/extensions: a fixed list, kept for clients that look before they ask."""

from __future__ import annotations

from typing import Any

from cellcloud import errors
from top_api.request_pipeline import Call, Resource

extensions = Resource("extensions")
RULE = "os_compute_api:extensions"
_NAMES = {
    "flavors": "Flavors", "images": "Images", "ips": "Ips", "limits": "Limits", "server-metadata": "Server Metadata",
    "servers": "Servers", "versions": "Versions", "OS-DCF": "DiskConfig", "OS-EXT-AZ": "ExtendedAvailabilityZone",
    "OS-EXT-IPS": "ExtendedIps", "OS-EXT-IPS-MAC": "ExtendedIpsMac", "OS-EXT-SRV-ATTR": "ExtendedServerAttributes",
    "OS-EXT-STS": "ExtendedStatus", "OS-FLV-DISABLED": "FlavorDisabled", "OS-FLV-EXT-DATA": "FlavorExtraData",
    "OS-SCH-HNT": "SchedulerHints", "OS-SRV-USG": "ServerUsage", "os-admin-actions": "AdminActions",
    "os-admin-password": "AdminPassword", "os-availability-zone": "AvailabilityZone", "os-config-drive": "ConfigDrive",
    "os-console-output": "ConsoleOutput", "os-consoles": "Consoles", "os-flavor-access": "FlavorAccess",
    "os-flavor-extra-specs": "FlavorExtraSpecs", "os-flavor-manage": "FlavorManage", "os-hosts": "Hosts",
    "os-hypervisors": "Hypervisors", "os-instance-actions": "InstanceActions", "os-keypairs": "Keypairs",
    "os-lock-server": "LockServer", "os-multiple-create": "MultipleCreate", "os-quota-sets": "Quotas",
    "os-remote-consoles": "Consoles", "os-services": "Services", "os-user-data": "UserData",
}  # fmt: skip


def _shown(alias: str) -> dict[str, Any]:
    return {
        "alias": alias,
        "name": _NAMES[alias],
        "description": _NAMES[alias],
        "namespace": "http://docs.openstack.org/compute/ext/fake_xml",
        "updated": "2014-12-03T00:00:00Z",
        "links": [],
    }


@extensions.route("GET", "/extensions", RULE)
def list_extensions(call: Call) -> dict[str, Any]:
    return {"extensions": [_shown(alias) for alias in sorted(_NAMES)]}


@extensions.route("GET", "/extensions/<alias>", RULE)
def show(call: Call, alias: str) -> dict[str, Any]:
    if alias not in _NAMES:
        raise errors.NotFound(f"No extension {alias[:64]} was found.")
    return {"extension": _shown(alias)}
