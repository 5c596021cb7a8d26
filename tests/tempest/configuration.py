"""What Tempest is told about a cloud: which of its features there are, and what to use."""

from __future__ import annotations

import configparser
from pathlib import Path
from typing import Any

import requests
import yaml

from tests.cloud import Api, Cloud

FEATURES = {
    "resize": True,
    "pause": True,
    "suspend": True,
    "shelve": True,
    "snapshot": True,
    "cold_migration": True,
    "live_migration": False,
    "rescue": True,
    "stable_rescue": True,
    "console_output": True,
    "vnc_console": True,
    "serial_console": True,
    "spice_console": False,
    "change_password": False,
    "personality": False,
    "disk_config": True,
    "interface_attach": True,
    "attach_encrypted_volume": False,
    "swap_volume": False,
}
VOLUME_FEATURES = {
    "backup": False,
    "snapshot": True,
    "clone": True,
    "manage_snapshot": False,
    "manage_volume": False,
    "extend_attached_volume": False,
    "volume_image_dep_tests": True,
    "volume_revert": True,
    "multi_backend": False,
}


def write(cloud: Cloud, path: Path, lock_path: Path) -> None:
    """Write Tempest's option file for that cloud; it makes its own projects and users as the administrator."""
    auth = yaml.safe_load(cloud.clouds_file.read_text())["clouds"]["cellcloud-admin"]["auth"]
    api = cloud.api("cellcloud-admin")
    sections: dict[str, dict[str, Any]] = {
        "oslo_concurrency": {"lock_path": lock_path},
        "auth": {
            "use_dynamic_credentials": True,
            "create_isolated_networks": False,
            "tempest_roles": "member",
            "admin_username": auth["username"],
            "admin_password": auth["password"],
            "admin_project_name": auth["project_name"],
            "admin_domain_name": "Default",
        },
        "identity": {
            "uri_v3": auth["auth_url"],
            "auth_version": "v3",
            "region": "RegionOne",
            "v3_endpoint_type": "public",
            "ca_certificates_file": api.verify if isinstance(api.verify, str) else "",
        },
        "identity-feature-enabled": {"trust": False, "access_rules": True},
        "network": {
            "public_network_id": _external_network(api),
            "floating_network_name": "public",
            "project_network_cidr": "10.101.0.0/16",
            "project_network_mask_bits": 28,
            "project_network_v6_cidr": "2001:db8:1::/48",
        },
        "network-feature-enabled": {"ipv6": True, "ipv6_subnet_attributes": True, "api_extensions": _extensions(api)},
        "service_available": {"neutron": True, "cinder": True, "swift": False, "glance": True, "nova": True},
        "compute": {
            "image_ref": api.image_id,
            "image_ref_alt": _second_image(api),
            "fixed_network_name": "private",
            "flavor_ref": 42,
            "flavor_ref_alt": 84,
            "min_microversion": "2.1",
            "max_microversion": "latest",
            "min_compute_nodes": 2,
            "build_interval": 1,
            "build_timeout": 120,
        },
        "compute-feature-enabled": FEATURES,
        "image": {"disk_formats": "raw", "container_formats": "bare"},  # its data are of no other format
        "image-feature-enabled": {"image_format_enforcement": False},
        "volume": {
            "catalog_type": "volumev3",
            "min_microversion": "3.0",
            "max_microversion": "latest",
            "storage_protocol": "nbd",
            "vendor_name": "cellcloud",
            "disk_format": "raw",
            "build_interval": 1,
            "build_timeout": 60,
        },
        "volume-feature-enabled": VOLUME_FEATURES,
        "validation": {"run_validation": False},
    }
    written = configparser.ConfigParser(interpolation=None)
    written.read_dict({name: {key: str(value) for key, value in options.items()} for name, options in sections.items()})
    with path.open("w") as file:
        written.write(file)


def _extensions(api: Api) -> str:
    """Return the extensions of the network service."""
    url = f"{api.url}/network/v2.0/extensions"
    answer = requests.get(url, headers={"X-Auth-Token": api.token}, timeout=60, verify=api.verify)
    answer.raise_for_status()
    return ",".join(one["alias"] for one in answer.json()["extensions"])


def _external_network(api: Api) -> str:
    """Make a network with floating IPs that a router leads to from the network of servers; return its id."""
    root, headers = f"{api.url}/network/v2.0", {"X-Auth-Token": api.token}

    def ask(method: str, path: str, body: Any = None) -> Any:
        answer = requests.request(method, f"{root}/{path}", headers=headers, json=body, timeout=60, verify=api.verify)
        answer.raise_for_status()
        return answer.json()

    def make(kind: str, **fields: Any) -> str:
        return str(ask("POST", f"{kind}s", {kind: fields})[kind]["id"])

    network_id = make("network", name="public", **{"router:external": True, "is_default": True})
    make("subnet", network_id=network_id, cidr="203.0.113.0/24", ip_version=4)
    router_id = make("router", name="router", external_gateway_info={"network_id": network_id})
    (inner,) = ask("GET", "subnets?name=private-subnet")["subnets"]
    ask("PUT", f"routers/{router_id}/add_router_interface", {"subnet_id": inner["id"]})
    return network_id


def _second_image(api: Api) -> str:
    """Make another image with the bytes of the first; return its id."""

    def ask(method: str, path: str, **options: Any) -> requests.Response:
        headers = {"X-Auth-Token": api.token, "Content-Type": options.pop("type", "application/json")}
        url = f"{api.url}/image/v2/images{path}"
        answer = requests.request(method, url, headers=headers, timeout=60, verify=api.verify, **options)
        answer.raise_for_status()
        return answer

    first = ask("GET", f"/{api.image_id}").json()
    fields = {key: first[key] for key in ("disk_format", "container_format", "min_disk", "min_ram")}
    made = ask("POST", "", json={"name": "second", "visibility": "public", **fields}).json()["id"]
    data = ask("GET", f"/{api.image_id}/file").content
    ask("PUT", f"/{made}/file", data=data, type="application/octet-stream")
    return str(made)
