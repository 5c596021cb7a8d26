"""How a server looks at each microversion. Built from one record; only whether the group of a server that is shown
alone is still there is asked for."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any

from cellcloud import errors
from cellcloud.clients.floating_ips import Forwarded
from cellcloud.db import server_groups
from cellcloud.model.flavor import Flavor
from cellcloud.model.network import Port
from cellcloud.model.server import ServerRecord
from cellcloud.model.virtual_hardware import device_names
from cellcloud.model.volume import AttachedVolume
from cellcloud.safe_regex import Pattern
from cellcloud.server_states import PowerState
from top_api.request_pipeline import Call
from top_api.views.times import show_microsecond, show_second

_PROGRESSING = frozenset({"ACTIVE", "BUILD", "REBUILD", "RESIZE", "VERIFY_RESIZE", "MIGRATING"})
_FAULTY = frozenset({"ERROR", "DELETED"})


_ID = Pattern(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class ServerView:
    """Shows servers to one caller at one microversion. ``unreachable``: the cells that do not answer now; ``records``:
    those that are going to be shown with their addresses."""

    def __init__(self, call: Call, unreachable: Collection[str] = (), records: Sequence[ServerRecord] = ()) -> None:
        self._floating = floating_of(call, records)
        self._groups_by_id = _names_of_groups(call, records)
        self._version = call.version
        self._call = call
        self._unreachable = unreachable
        self._sees_host = call.allows("os_compute_api:os-extended-server-attributes")
        rule = "os_compute_api:servers:show:host_status"
        self._sees_host_status = call.version >= (2, 16) and call.allows(rule)
        self._sees_unknown_host = call.version >= (2, 16) and call.allows(f"{rule}:unknown-only")
        self._sees_extra_specs = call.version >= (2, 47) and call.allows(
            "os_compute_api:servers:show:flavor-extra-specs"
        )
        self._linked: dict[tuple[str, str], list[dict[str, str]]] = {}
        self._self_url = call.url("servers")
        self._bookmark_url = call.bookmark("servers")

    def brief(self, record: ServerRecord) -> dict[str, Any]:
        """Return an item of GET /servers."""
        return {"id": record.id, "name": record.spec.name, "links": self._links(record.id)}

    def detail(self, record: ServerRecord) -> dict[str, Any]:
        """Return an item of GET /servers/detail."""
        shown = self._plain(record, typed_addresses=True)
        self._extend(shown, record)
        return shown

    def show(self, record: ServerRecord) -> dict[str, Any]:
        """GET /servers/{id}, and from 2.75 the answer to PUT."""
        shown = self.detail(record)
        if self._version >= (2, 71):
            shown["server_groups"] = self._groups(record)
        return shown

    def updated(self, record: ServerRecord) -> dict[str, Any]:
        """Return the answer to PUT: below 2.75 without the extensions' fields."""
        if self._version >= (2, 75):
            return self.show(record)
        shown = self._plain(record, typed_addresses=False)
        if self._version >= (2, 71):
            shown["server_groups"] = self._groups(record)
        return shown

    def rebuilt(self, record: ServerRecord) -> dict[str, Any]:
        """Return the answer to a rebuild: as that to PUT, with what is its own."""
        shown = {key: value for key, value in self.updated(record).items() if key != "OS-EXT-SRV-ATTR:user_data"}
        if self._version >= (2, 54):
            shown["key_name"] = record.spec.keypair.name if record.spec.keypair else None
        if self._version >= (2, 57):
            shown["user_data"] = record.spec.user_data
        return shown

    def _groups(self, record: ServerRecord) -> list[str]:
        """Return the server's group, unless it was deleted since."""
        if record.spec.group is None:
            return []
        with self._call.services.database.read() as connection:
            return list(server_groups.find(connection, [record.spec.group.id]))

    def _links(self, server_id: str) -> list[dict[str, str]]:
        return [
            {"rel": "self", "href": f"{self._self_url}/{server_id}"},
            {"rel": "bookmark", "href": f"{self._bookmark_url}/{server_id}"},
        ]

    def _plain(self, record: ServerRecord, *, typed_addresses: bool) -> dict[str, Any]:
        spec, version, status = record.spec, self._version, record.status
        shown: dict[str, Any] = {
            "id": spec.id,
            "name": spec.name,
            "status": status,
            "tenant_id": spec.project_id,
            "user_id": spec.user_id,
            "metadata": spec.metadata,
            "hostId": host_id_of(record),
            "image": self._image(record),
            "flavor": self._flavor(spec.flavor),
            "created": show_second(record.created_at or spec.created_at),
            "updated": show_second(record.updated_at or record.created_at or spec.created_at),
            "addresses": addresses_of(record, self._floating, typed=typed_addresses),
            "accessIPv4": spec.access_ip_v4,
            "accessIPv6": spec.access_ip_v6,
            "links": self._links(spec.id),
            "OS-DCF:diskConfig": spec.disk_config,
        }
        if status in _PROGRESSING:
            shown["progress"] = record.progress
        if status in _FAULTY and record.fault is not None:
            shown["fault"] = self._fault(record)
        if version >= (2, 9):
            shown["locked"] = record.locked
        if version >= (2, 19):
            shown["description"] = spec.description
        if version >= (2, 26):
            shown["tags"] = list(spec.tags)
        if version >= (2, 63):
            shown["trusted_image_certificates"] = None
        if version >= (2, 73):
            shown["locked_reason"] = record.locked_reason
        return shown

    def _extend(self, shown: dict[str, Any], record: ServerRecord) -> None:
        """Add what extensions show."""
        spec, version = record.spec, self._version
        shown["OS-EXT-AZ:availability_zone"] = record.availability_zone or spec.availability_zone or ""
        shown["config_drive"] = "True" if spec.config_drive else ""
        shown["key_name"] = spec.keypair.name if spec.keypair else None
        shown["OS-SRV-USG:launched_at"] = show_microsecond(record.launched_at)
        shown["OS-SRV-USG:terminated_at"] = show_microsecond(record.terminated_at)
        shown["OS-EXT-STS:task_state"] = record.task_state
        shown["OS-EXT-STS:vm_state"] = record.vm_state
        shown["OS-EXT-STS:power_state"] = record.power_state
        shown["os-extended-volumes:volumes_attached"] = [_volume(one, version >= (2, 3)) for one in record.volumes]
        if spec.security_groups:
            shown["security_groups"] = [{"name": self._groups_by_id.get(one, one)} for one in spec.security_groups]
        if self._sees_host:
            shown["OS-EXT-SRV-ATTR:host"] = record.host
            shown["OS-EXT-SRV-ATTR:hypervisor_hostname"] = record.node or record.host
            shown["OS-EXT-SRV-ATTR:instance_name"] = f"instance-{spec.id}"
            if version >= (2, 3):
                shown |= {
                    "OS-EXT-SRV-ATTR:kernel_id": "",
                    "OS-EXT-SRV-ATTR:launch_index": spec.launch_index,
                    "OS-EXT-SRV-ATTR:ramdisk_id": "",
                    "OS-EXT-SRV-ATTR:reservation_id": spec.reservation_id,
                    "OS-EXT-SRV-ATTR:root_device_name": next(device_names(spec.image.properties)),
                    "OS-EXT-SRV-ATTR:user_data": spec.user_data,
                }
        if version >= (2, 90) or (self._sees_host and version >= (2, 3)):
            shown["OS-EXT-SRV-ATTR:hostname"] = spec.hostname
        if self._sees_host_status or (self._sees_unknown_host and self._host_status(record) == "UNKNOWN"):
            shown["host_status"] = self._host_status(record)
        if version >= (2, 96):
            shown["pinned_availability_zone"] = spec.availability_zone
        if version >= (2, 100):
            shown["scheduler_hints"] = spec.scheduler_hints

    def _host_status(self, record: ServerRecord) -> str:
        if record.host is None:
            return ""
        return "UNKNOWN" if record.cell in self._unreachable else record.host_status

    def _image(self, record: ServerRecord) -> dict[str, Any] | str:
        image = record.spec.image
        if record.spec.is_volume_backed:
            return ""
        shown: dict[str, Any] = {"id": image.id, "links": self._bookmarks("images", image.id)}
        if self._version >= (2, 98):
            shown["properties"] = image.properties
        return shown

    def _flavor(self, flavor: Flavor) -> dict[str, Any]:
        if self._version < (2, 47):
            return {"id": flavor.id, "links": self._bookmarks("flavors", flavor.id)}
        shown = {
            "vcpus": flavor.vcpus,
            "ram": flavor.memory_mb,
            "disk": flavor.root_gb,
            "ephemeral": flavor.ephemeral_gb,
            "swap": flavor.swap_mb,
            "original_name": flavor.name,
        }
        return shown | {"extra_specs": flavor.extra_specs} if self._sees_extra_specs else shown

    def _bookmarks(self, of: str, one: str) -> list[dict[str, str]]:
        """Return the link to what many servers have, made once."""
        known = self._linked.get((of, one))
        if known is None:
            known = self._linked[of, one] = [{"rel": "bookmark", "href": self._call.bookmark(of, one)}]
        return known

    def _fault(self, record: ServerRecord) -> dict[str, Any]:
        fault = record.fault
        assert fault is not None  # noqa: S101 -- asked for only where there is one
        shown = {"code": fault.code, "created": show_second(fault.created), "message": fault.message}
        if self._call.context.is_admin and fault.details:
            shown["details"] = fault.details
        return shown


def _volume(one: AttachedVolume, with_goes: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {"id": one.volume_id}
    return shown | {"delete_on_termination": one.delete_on_termination} if with_goes else shown


def floating_of(call: Call, records: Sequence[ServerRecord]) -> Forwarded:
    """Return the floating IPs that lead to these servers; none while the network service does not answer."""
    ports = [port.id for record in records for port in record.ports]
    if not ports:
        return {}
    projects = {record.spec.project_id for record in records}
    project_id = projects.pop() if len(projects) == 1 else None
    try:
        return call.services.networks.floating_ip_client.list_forwarded(ports, project_id)
    except errors.TryLater:
        return {}


def _names_of_groups(call: Call, records: Sequence[ServerRecord]) -> dict[str, str]:
    """Return the names of security groups that servers were asked for with by their ids."""
    ids = {one for record in records for one in record.spec.security_groups if _ID.matches(one)}
    try:
        return call.services.networks.security_group_client.list_names(sorted(ids)) if ids else {}
    except errors.TryLater:
        return {}


def addresses_of(record: ServerRecord, forwarded: Forwarded, *, typed: bool = True) -> dict[str, list[dict[str, Any]]]:
    """Network name -> addresses, floating ones behind the others; empty while the server is being built."""
    found: dict[str, list[dict[str, Any]]] = {}
    behind: dict[str, list[dict[str, Any]]] = {}
    for port in record.ports:
        fixed = [ip.ip_address for ip in port.fixed_ips]
        floating = [forwarded[port.id, address] for address in fixed if (port.id, address) in forwarded]
        found.setdefault(port.network_name, []).extend(_addresses_of_port(port, fixed, "fixed", typed))
        behind.setdefault(port.network_name, []).extend(_addresses_of_port(port, floating, "floating", typed))
    return {name: [*shown, *behind[name]] for name, shown in found.items()}


def _addresses_of_port(port: Port, addresses: Sequence[str], kind: str, typed: bool) -> list[dict[str, Any]]:
    shown = []
    for address in addresses:
        entry: dict[str, Any] = {"version": _family(address), "addr": address}
        if typed:
            entry |= {"OS-EXT-IPS:type": kind, "OS-EXT-IPS-MAC:mac_addr": port.mac_address}
        shown.append(entry)
    return shown


@lru_cache(maxsize=4096)
def _family(address: str) -> int:
    return ipaddress.ip_address(address).version


def host_id_of(record: ServerRecord) -> str:
    """Return the host, unreadable and different for each project; empty while there is none."""
    return hashed_host(record.spec.project_id, record.host)


def hashed_host(project_id: str, host: str | None) -> str:
    """Return a host as a project sees it; empty where there is none."""
    return _hashed(project_id, host) if host else ""


@lru_cache(maxsize=4096)
def _hashed(project_id: str, host: str) -> str:
    return hashlib.sha224((project_id + host).encode()).hexdigest()


def power_state_of(name: str) -> int | None:
    """Return the number that clients may filter by, given as number or name."""
    if name.isdecimal() and len(name) < 6:
        return int(name)
    return next((int(state) for state in PowerState if state.name.lower() == name.lower()), None)
