"""Finds what a guest asks for among its documents: OpenStack's tree and Amazon's.

Paths are read as Nova reads them: doubled slashes and one at the end mean nothing, and whatever begins with neither
``/openstack`` nor ``/ec2`` is Amazon's.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from cellcloud.model.instance_metadata_documents import (
    EC2_VERSIONS,
    META_DATA,
    OPENSTACK_VERSIONS,
    USER_DATA,
    GuestFacts,
    ec2_meta_data,
    openstack_documents,
)
from cellcloud.model.server import ServerRecord

PASSWORD, PASSWORD_SINCE = "password", "2013-04-04"
JSON, TEXT, BINARY = "application/json", "text/plain; charset=utf-8", "application/octet-stream"
_TYPES = {USER_DATA: BINARY, PASSWORD: TEXT}


@dataclass(frozen=True, slots=True)
class Document:
    """Bytes with their type."""

    content: bytes
    type: str


def find_document(record: ServerRecord, path: str) -> Document | None:
    """Return what stands at a path: a document, or a directory's listing. None for a path that is not there.

    Escapes are not undone: what is escaped names nothing.
    """
    parts = _parts(path)
    facts = GuestFacts(spec=replace(record.spec, volumes=record.volumes), ports=record.ports, zone=record.zone)
    if parts[:1] == ["openstack"]:
        return _find_openstack(facts, parts[1:])
    return _find_ec2(facts, parts[1:] if parts[:1] == ["ec2"] else parts)


def names_password(path: str) -> bool:
    """Tell whether a guest's password is shown, and may be posted, at that path."""
    parts = _parts(path)
    return len(parts) == 3 and parts[0] == "openstack" and parts[2] == PASSWORD and _has_password(parts[1])


def _has_password(version: str) -> bool:
    return version in OPENSTACK_VERSIONS and version >= PASSWORD_SINCE


def _parts(path: str) -> list[str]:
    return [part for part in posixpath.normpath(f"/{path}").split("/") if part]


def _find_openstack(facts: GuestFacts, parts: list[str]) -> Document | None:
    if not parts:
        return _listing(OPENSTACK_VERSIONS)
    if parts[0] not in OPENSTACK_VERSIONS or len(parts) > 2:
        return None
    documents = openstack_documents(facts, parts[0])
    if _has_password(parts[0]):
        first = {name: documents.pop(name) for name in (META_DATA, USER_DATA) if name in documents}
        documents = {**first, PASSWORD: facts.spec.sealed_password.encode(), **documents}
    if len(parts) == 1:
        return _listing(documents)
    content = documents.get(parts[1])
    if content is None:
        return None
    return Document(content, _TYPES.get(parts[1], JSON))


def _find_ec2(facts: GuestFacts, parts: list[str]) -> Document | None:
    if not parts:
        return _listing(EC2_VERSIONS)
    if parts[0] not in EC2_VERSIONS:
        return None
    found: Any = {"meta-data": ec2_meta_data(facts, parts[0])}
    if facts.user_data is not None:
        found["user-data"] = facts.user_data
    for part in parts[1:]:
        if not isinstance(found, dict) or part not in found:
            return None
        found = found[part]
    if parts[1:] == ["meta-data", "public-keys"] and facts.spec.keypair is not None:
        return _text(f"0={facts.spec.keypair.name}")  # with the key's name, as cloud-init reads it
    return _show(found)


def _show(found: bytes | str | list[str] | dict[str, Any]) -> Document:
    """Return a leaf of Amazon's tree, or the names in a directory."""
    match found:
        case bytes():
            return Document(found, BINARY)
        case str():
            return _text(found)
        case list():
            return _listing(found)
    return _listing(sorted(f"{name}/" if isinstance(value, dict) else name for name, value in found.items()))


def _listing(names: Iterable[str]) -> Document:
    return _text("\n".join(names))


def _text(value: str) -> Document:
    return Document(value.encode(), TEXT)
