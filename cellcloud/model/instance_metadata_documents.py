"""The documents in which a guest reads about itself: the only writer of them, for metadata service and config drive.

Names, versions and contents as Nova's metadata service and config drive show them.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cellcloud.model.network import Port
from cellcloud.model.openstack_metadata import hostname_of, meta_data, network_data
from cellcloud.model.server import ServerSpec
from cellcloud.model.virtual_hardware import device_names

LATEST = "latest"
# The versions in which documents or their fields were added, oldest first.
OPENSTACK_VERSIONS = (
    "2012-08-10",
    "2013-04-04",
    "2013-10-17",
    "2015-10-15",
    "2016-06-30",
    "2016-10-06",
    "2017-02-22",
    "2018-08-27",
    "2020-10-14",
    "2025-04-04",
    LATEST,
)
EC2_VERSIONS = (
    "1.0",
    "2007-01-19",
    "2007-03-01",
    "2007-08-29",
    "2007-10-10",
    "2007-12-15",
    "2008-02-01",
    "2008-09-01",
    "2009-04-04",
    LATEST,
)
EC2_ON_DRIVE = EC2_VERSIONS[-2:]  # Nova's config_drive_skip_versions leaves out the others
VENDOR_DATA_SINCE, NETWORK_DATA_SINCE, VENDOR_DATA_2_SINCE = "2013-10-17", "2015-10-15", "2016-10-06"
EC2_SINCE = {
    "local-hostname": "2007-01-19",
    "public-hostname": "2007-01-19",
    "public-ipv4": "2007-01-19",
    "instance-type": "2007-08-29",
    "block-device-mapping": "2007-12-15",
    "placement": "2008-02-01",
    "instance-action": "2008-09-01",
}
META_DATA, USER_DATA = "meta_data.json", "user_data"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestFacts:
    """All that the documents are made of. ``zone``: the one the server is in, which need not be one it asked for.

    ``admin_pass`` is known only to whoever builds the guest, so only the config drive shows it.
    """

    spec: ServerSpec
    ports: Sequence[Port]
    zone: str
    admin_pass: str = ""

    @property
    def user_data(self) -> bytes | None:
        """What the user gave, decoded; None when there is none."""
        try:
            return base64.b64decode(self.spec.user_data, validate=False) if self.spec.user_data else None
        except binascii.Error:
            return None


def openstack_documents(facts: GuestFacts, version: str) -> dict[str, bytes]:
    """Return the files of one directory below ``openstack``, in the order in which they are listed."""
    described = meta_data(facts.spec, facts.ports, zone=facts.zone, version=version)
    if facts.admin_pass:
        described["admin_pass"] = facts.admin_pass
    documents = {META_DATA: _json(described)}
    if facts.user_data is not None:
        documents[USER_DATA] = facts.user_data
    if version >= VENDOR_DATA_SINCE:
        documents["vendor_data.json"] = _json({})
    if version >= NETWORK_DATA_SINCE:
        documents["network_data.json"] = _json(network_data(facts.ports))
    if version >= VENDOR_DATA_2_SINCE:
        documents["vendor_data2.json"] = _json({"static": {}})
    return documents


def ec2_meta_data(facts: GuestFacts, version: str) -> dict[str, Any]:
    """Amazon's ``meta-data`` of one version as a tree: texts, lists of texts, and trees."""
    spec = facts.spec
    name = hostname_of(spec)
    addresses = [fixed.ip_address for port in facts.ports for fixed in port.fixed_ips]
    tree: dict[str, Any] = {
        "ami-id": f"ami-{spec.image.id[:8]}",
        "ami-launch-index": str(spec.launch_index),
        "ami-manifest-path": "FIXME",
        "block-device-mapping": _block_devices(spec),
        "hostname": name,
        "instance-action": "none",
        "instance-id": f"i-{spec.id[:8]}",
        "instance-type": spec.flavor.name,
        "local-hostname": name,
        "local-ipv4": next((address for address in addresses if ":" not in address), ""),
        "placement": {"availability-zone": facts.zone},
        "public-hostname": name,
        "public-ipv4": "",
        "reservation-id": spec.reservation_id,
        "security-groups": list(spec.security_groups),
    }
    if spec.keypair is not None:
        tree["public-keys"] = {"0": {"openssh-key": spec.keypair.public_key}}
    return {name: value for name, value in tree.items() if version >= EC2_SINCE.get(name, "")}


def config_drive_files(facts: GuestFacts) -> Iterator[tuple[str, bytes]]:
    """Every file of the config drive: (path, content)."""
    for version in EC2_ON_DRIVE:
        yield f"ec2/{version}/meta-data.json", _json(ec2_meta_data(facts, version))
        if facts.user_data is not None:
            yield f"ec2/{version}/user-data", facts.user_data
    for version in OPENSTACK_VERSIONS:
        for name, content in openstack_documents(facts, version).items():
            yield f"openstack/{version}/{name}", content


def _block_devices(spec: ServerSpec) -> dict[str, str]:
    flavor = spec.flavor
    blank = ["ephemeral0"] * bool(flavor.ephemeral_gb) + ["swap"] * bool(flavor.swap_mb)
    names = device_names(spec.image.properties)
    root = next(names)
    return {"ami": root.removeprefix("/dev/"), "root": root, **dict(zip(blank, names, strict=False))}


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value).encode()
