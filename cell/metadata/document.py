"""What a guest may read about itself, as a tree: OpenStack's documents and Amazon's.

Directories and names as Nova's metadata service shows them.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from cellcloud.model.flavor import Flavor
from cellcloud.model.metadata import hostname_of, meta_data, network_data
from cellcloud.model.server import ServerRecord

# The versions in which documents were added, oldest first.
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
    "latest",
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
    "latest",
)
VENDOR_DATA_SINCE, NETWORK_DATA_SINCE, VENDOR_DATA_2_SINCE = "2013-10-17", "2015-10-15", "2016-10-06"
JSON, TEXT, BINARY = "application/json", "text/plain; charset=utf-8", "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Document:
    """Bytes with their type."""

    content: bytes
    type: str


Leaf = Callable[[], Document]


@dataclass(frozen=True, slots=True)
class Folder:
    """A directory. ``listing`` stands for what its children's names would make."""

    children: Mapping[str, Leaf | Folder]
    listing: str | None = None

    def show(self) -> Document:
        """The names in it, a line each; EC2's own directories end in a slash."""
        return _text("\n".join(self.children) if self.listing is None else self.listing)


def find_document(record: ServerRecord, path: str) -> Document | None:
    """What stands at a path: a document, or a directory's listing. None for a path that is not there.

    The path is taken apart once: what is escaped, doubled or relative in it names nothing.
    """
    if not path.startswith("/"):
        return None
    parts = path[1:].split("/")
    if parts[-1] == "":
        parts.pop()
    node: Leaf | Folder = _root(record)
    for part in parts:
        if not isinstance(node, Folder) or part not in node.children:
            return None
        node = node.children[part]
    if isinstance(node, Folder):
        return node.show()
    return None if path.endswith("/") else node()


def _root(record: ServerRecord) -> Folder:
    openstack = Folder({version: _openstack(record, version) for version in OPENSTACK_VERSIONS})
    ec2 = _ec2(record)
    children = {**dict.fromkeys(EC2_VERSIONS, ec2), "openstack": openstack}
    return Folder(children, "\n".join(EC2_VERSIONS))


def _openstack(record: ServerRecord, version: str) -> Folder:
    spec = replace(record.spec, availability_zone=record.availability_zone or record.spec.availability_zone)
    documents: dict[str, Leaf] = {"meta_data.json": lambda: _json(meta_data(spec, record.ports))}
    documents |= _user_data(record, "user_data")
    if version >= VENDOR_DATA_SINCE:
        documents["vendor_data.json"] = lambda: _json({})
    if version >= NETWORK_DATA_SINCE:
        documents["network_data.json"] = lambda: _json(network_data(record.ports))
    if version >= VENDOR_DATA_2_SINCE:
        documents["vendor_data2.json"] = lambda: _json({})
    return Folder(documents)


def _ec2(record: ServerRecord) -> Folder:
    spec = record.spec
    number = record.id[:8]
    addresses = [fixed.ip_address for port in record.ports for fixed in port.fixed_ips]
    address = next((each for each in addresses if ":" not in each), "")
    values = {
        "ami-id": f"ami-{spec.image.id[:8]}",
        "ami-launch-index": str(spec.launch_index),
        "ami-manifest-path": "FIXED",
        "hostname": hostname_of(spec),
        "instance-action": "none",
        "instance-id": f"i-{number}",
        "instance-type": spec.flavor.name,
        "local-hostname": hostname_of(spec),
        "local-ipv4": address,
        "public-hostname": hostname_of(spec),
        "public-ipv4": "",
        "reservation-id": spec.reservation_id,
        "security-groups": "\n".join(spec.security_groups),
    }
    folders = {
        "block-device-mapping": _texts(_devices(spec.flavor)),
        "placement": _texts({"availability-zone": record.availability_zone or ""}),
    }
    if spec.keypair is not None:
        key = Folder({"openssh-key": _leaf(spec.keypair.public_key)})
        folders["public-keys"] = Folder({"0": key}, f"0={spec.keypair.name}")
    children = {**_texts(values).children, **folders}
    meta = Folder(children, "\n".join(sorted([*values, *(f"{name}/" for name in folders)])))
    user_data = _user_data(record, "user-data")
    return Folder({"meta-data": meta, **user_data}, "\n".join(["meta-data/", *user_data]))


def _texts(values: Mapping[str, str]) -> Folder:
    return Folder({name: _leaf(value) for name, value in values.items()})


def _devices(flavor: Flavor) -> dict[str, str]:
    blank = ["ephemeral0"] * bool(flavor.ephemeral_gb) + ["swap"] * bool(flavor.swap_mb)
    devices = {name: f"/dev/vd{letter}" for name, letter in zip(blank, "bc", strict=False)}
    return {"ami": "vda", "root": "/dev/vda", **devices}


def _user_data(record: ServerRecord, name: str) -> dict[str, Leaf]:
    text = record.spec.user_data
    if not text:
        return {}
    try:
        content = base64.b64decode(text, validate=False)
    except binascii.Error:
        return {}
    return {name: lambda: Document(content, BINARY)}


def _leaf(value: str) -> Leaf:
    return lambda: _text(value)


def _text(value: str) -> Document:
    return Document(value.encode(), TEXT)


def _json(value: object) -> Document:
    return Document(json.dumps(value).encode(), JSON)
