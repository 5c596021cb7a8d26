"""What the servers of one request have alike and may be large: fields of their specs that are kept once beside them.

As it is stored, and as a cell's feed tells it, a spec has ``large_fields_id`` instead of these fields; everywhere else
it is whole, and ``kept_as`` is the id under which they were kept. What is changed of one server stands in its record.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

import msgspec

from cellcloud.model.network import RequestedNetwork
from cellcloud.model.server import ServerSpec

LARGE = 4 << 10  # bytes of them all from which they are kept apart; fewer cost less in each record than by an id


class LargeFields(msgspec.Struct, frozen=True, kw_only=True):
    """By the names of the spec; ``public_key``: its keypair's."""

    metadata: dict[str, str]
    tags: tuple[str, ...]
    public_key: str
    networks: tuple[RequestedNetwork, ...] | None
    security_groups: tuple[str, ...]
    image_properties: dict[str, str]


_NOTHING = LargeFields(metadata={}, tags=(), public_key="", networks=(), security_groups=(), image_properties={})
_DECODER = msgspec.json.Decoder(LargeFields)


def text_of(spec: ServerSpec) -> str:
    """Return these fields of a whole spec, as they are kept."""
    fields = LargeFields(
        metadata=spec.metadata,
        tags=spec.tags,
        public_key=spec.keypair.public_key if spec.keypair else "",
        networks=spec.networks,
        security_groups=spec.security_groups,
        image_properties=spec.image.properties,
    )
    return msgspec.json.encode(fields).decode()


def id_of(project_id: str, text: str) -> str:
    """Return the id of a text of a project, by its content: projects share none."""
    return hashlib.sha256(f"{project_id}\n{text}".encode()).hexdigest()


def as_stored(spec: ServerSpec) -> ServerSpec:
    """Return a spec as its record is stored: with an id instead of the fields, where they are kept and are still what
    they were."""
    if not spec.kept_as:
        return spec
    if spec.kept_as != id_of(spec.project_id, text_of(spec)):
        return replace(spec, kept_as="")
    return replace(_with(spec, _NOTHING), large_fields_id=spec.kept_as, kept_as="")


def with_text(spec: ServerSpec, text: str) -> ServerSpec:
    """Return the whole spec."""
    return replace(_with(spec, _DECODER.decode(text)), large_fields_id="", kept_as=spec.large_fields_id)


def _with(spec: ServerSpec, fields: LargeFields) -> ServerSpec:
    keypair, image = spec.keypair, replace(spec.image, properties=fields.image_properties)
    return replace(
        spec,
        metadata=fields.metadata,
        tags=fields.tags,
        keypair=keypair and replace(keypair, public_key=fields.public_key),
        networks=fields.networks,
        security_groups=fields.security_groups,
        image=image,
    )
