"""Changes of single items of a server's sets: they add up, in whatever order they come."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from cellcloud import errors
from cellcloud.model.server import ServerSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemChanges:
    """What to add to a server's tags and metadata and what to take away. ``most_...`` below 0: no bound."""

    add_tags: tuple[str, ...] = ()
    remove_tags: tuple[str, ...] = ()
    set_metadata: dict[str, str] = field(default_factory=dict)
    remove_metadata: tuple[str, ...] = ()
    most_tags: int = -1
    most_metadata: int = -1


def applied(spec: ServerSpec, changes: ItemChanges) -> ServerSpec:
    """Return the spec after the changes. Raises NotFound, Invalid (too many tags), QuotaExceeded (too much
    metadata)."""
    for tag in changes.remove_tags:
        if tag not in spec.tags:
            raise errors.NotFound(f"Server {spec.id} has no tag '{tag[:60]}'")
    if any(key not in spec.metadata for key in changes.remove_metadata):
        raise errors.NotFound("Metadata item was not found")
    tags = tuple(dict.fromkeys((*(t for t in spec.tags if t not in changes.remove_tags), *changes.add_tags)))
    kept = {key: value for key, value in spec.metadata.items() if key not in changes.remove_metadata}
    metadata = kept | changes.set_metadata
    if 0 <= changes.most_tags < len(tags) and len(tags) > len(spec.tags):
        raise errors.Invalid(f"The number of tags exceeded the per-server limit {changes.most_tags}")
    if 0 <= changes.most_metadata < len(metadata) and len(metadata) > len(spec.metadata):
        raise errors.QuotaExceeded(f"Maximum number of metadata items exceeds {changes.most_metadata}")
    return replace(spec, tags=tags, metadata=metadata)
