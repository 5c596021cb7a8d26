"""Queries of limits and bodies of quota sets."""

from __future__ import annotations

from top_api.schemas.types import BOOLEAN, TEXT, Schema, an_object, only
from top_api.validation import Queries, Versioned

LIMITS = Queries({}, repeated={"reserved": TEXT, "tenant_id": TEXT}, strict_since=(2, 75), until={"reserved": (2, 74)})
QUOTA_SET = Queries({}, repeated={"user_id": TEXT}, strict_since=(2, 75))
_LIMIT: Schema = {"type": ["integer", "string"], "pattern": "-?[0-9]{1,32}", "minimum": -1, "maximum": 0x7FFFFFFF}
_SERVERS = ("instances", "cores", "ram", "key_pairs", "metadata_items", "server_groups", "server_group_members")
_INJECTED = ("injected_files", "injected_file_content_bytes", "injected_file_path_bytes")
_NETWORK = ("fixed_ips", "floating_ips", "security_groups", "security_group_rules")


def _by_version(key: str, without_network: tuple[int, int], more: dict[str, Schema]) -> Versioned:
    """Nova's API no longer takes limits of networks from that version on, and of injected files from 2.57."""

    def taken(*names: str) -> Schema:
        return only(key, an_object({**dict.fromkeys(names, _LIMIT), **more}))

    return Versioned(
        taken(*_SERVERS, *_INJECTED, *_NETWORK),
        (without_network, taken(*_SERVERS, *_INJECTED)),
        ((2, 57), taken(*_SERVERS)),
    )


UPDATE_QUOTA_SET = _by_version("quota_set", (2, 36), {"force": BOOLEAN})
UPDATE_CLASS_SET = _by_version("quota_class_set", (2, 50), {})
