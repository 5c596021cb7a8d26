"""What OpenStack's documents tell a guest of itself. Shapes: Nova's metadata API."""

from __future__ import annotations

import base64
import ipaddress
import os
import re
from collections.abc import Sequence
from typing import Any

from cellcloud.model.network import FixedIp, Port
from cellcloud.model.server import ServerSpec
from cellcloud.model.volume import AttachedVolume, AttachmentState

METADATA_ADDRESS = "169.254.169.254"
SEED_BYTES = 512
# The versions of the documents that brought a field of meta_data.json.
SINCE = {
    "random_seed": "2013-04-04",
    "project_id": "2015-10-15",
    "devices": "2016-06-30",
    "dedicated_cpus": "2020-10-14",
}
TRUST_SINCE = "2018-08-27"
_BUSES = {"virtio": "pci", "scsi": "scsi", "ide": "ide", "usb": "usb"}  # as Nova calls those of disks


def hostname_of(spec: ServerSpec) -> str:
    """Return the guest's host name: what was asked for, else the server's name made fit for DNS."""
    if spec.hostname:
        return spec.hostname
    name = re.sub(r"[^a-z0-9-]+", "-", spec.name.lower().replace("_", "-").replace(".", "-")).strip("-")[:63]
    return name.strip("-") or f"server-{spec.id}"


def meta_data(spec: ServerSpec, ports: Sequence[Port], *, zone: str, version: str) -> dict[str, Any]:
    """``meta_data.json`` as of one version of the documents. ``random_seed`` is fresh at each call."""
    document: dict[str, Any] = {
        "uuid": spec.id,
        "name": spec.name,
        "hostname": hostname_of(spec),
        "project_id": spec.project_id,
        "availability_zone": zone,
        "launch_index": spec.launch_index,
        "random_seed": base64.b64encode(os.urandom(SEED_BYTES)).decode(),
        "devices": [
            *(_device(port, version) for port in ports if port.tag and not port.is_attaching),
            *(_disk(one) for one in spec.volumes if one.tag and one.state != AttachmentState.ATTACHING),
        ],
        "dedicated_cpus": [],
    }
    if spec.metadata:
        document["meta"] = dict(spec.metadata)
    if spec.keypair is not None:
        key = spec.keypair
        document["public_keys"] = {key.name: key.public_key}
        document["keys"] = [{"name": key.name, "type": key.type, "data": key.public_key}]
    return {name: value for name, value in document.items() if version >= SINCE.get(name, "")}


def _disk(volume: AttachedVolume) -> dict[str, Any]:
    """Return a volume as a guest reads of it: by its serial number. Its place on the bus the guest sees itself."""
    bus = _BUSES.get(volume.bus, "none")
    return {"type": "disk", "bus": bus, "address": "none", "serial": volume.volume_id, "tags": [volume.tag]}


def network_data(ports: Sequence[Port]) -> dict[str, Any]:
    """``network_data.json``: the guest's links, their addresses (by DHCP where their subnet has it, else spelt out) and
    its resolvers.
    """
    links: list[dict[str, Any]] = []
    networks: list[dict[str, Any]] = []
    resolvers: dict[str, None] = {}
    for port in ports:
        link = f"tap{port.id[:11]}"
        links.append(
            {
                "id": link,
                "vif_id": port.id,
                "type": port.vif_type,
                "mtu": port.mtu,
                "ethernet_mac_address": port.mac_address,
            }
        )
        for fixed in port.fixed_ips:
            entry = {"id": f"network{len(networks)}", "link": link, "network_id": port.network_id}
            networks.append(entry | _addressing(fixed))
            resolvers.update(dict.fromkeys(fixed.dns_nameservers))
    services = [{"type": "dns", "address": address} for address in resolvers]
    return {"links": links, "networks": networks, "services": services}


def _addressing(fixed: FixedIp) -> dict[str, Any]:
    version = ipaddress.ip_address(fixed.ip_address).version
    if fixed.enable_dhcp:
        return {"type": f"ipv{version}_dhcp"}
    anywhere = ipaddress.ip_network("0.0.0.0/0" if version == 4 else "::/0")
    route = {"network": str(anywhere.network_address), "netmask": str(anywhere.netmask), "gateway": fixed.gateway_ip}
    return {
        "type": f"ipv{version}",
        "ip_address": fixed.ip_address,
        "netmask": str(ipaddress.ip_network(fixed.cidr).netmask),
        "routes": [route] if fixed.gateway_ip else [],
        "services": [{"type": "dns", "address": address} for address in fixed.dns_nameservers],
    }


def _device(port: Port, version: str) -> dict[str, Any]:
    device: dict[str, Any] = {"type": "nic", "bus": "none", "address": "none", "mac": port.mac_address}
    if version >= TRUST_SINCE:
        device["vf_trusted"] = False
    return {**device, "tags": [port.tag]}
