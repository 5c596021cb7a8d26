"""Queries of the image proxy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from top_api.microversion import Microversion
from top_api.schemas.types import TEXT
from top_api.validation import Queries

PROPERTY = "property-"
_COUNT = {"type": "string", "pattern": "0*[1-9][0-9]*", "maxLength": 64}
_KEYS = ("name", "status", "changes-since", "server", "type", "minRam", "minDisk", "marker")


class _ImageQueries(Queries):
    """Each ``property-NAME`` is a key as well."""

    def read(self, pairs: Mapping[str, Sequence[str]], version: Microversion) -> dict[str, list[str]]:
        """See ``Queries``."""
        named = {key: list(values) for key, values in pairs.items() if key.startswith(PROPERTY)}
        return super().read(pairs, version) | {
            key: values for key, values in named.items() if "\x00" not in key + values[-1]
        }


LIST = _ImageQueries(
    {},
    repeated={**dict.fromkeys(_KEYS, TEXT), **dict.fromkeys(("limit", "page_size", "offset"), _COUNT)},
    strict_since=(2, 1000),
)
