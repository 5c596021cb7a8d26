"""Queries of limits and bodies of quota sets."""

from __future__ import annotations

from top_api.schemas.types import BOOLEAN, TEXT, Schema, an_object, only
from top_api.validation import Queries, Versioned

LIMITS = Queries({}, repeated={"reserved": TEXT, "tenant_id": TEXT}, strict_since=(2, 75))
QUOTA_SET = Queries({}, repeated={"user_id": TEXT}, strict_since=(2, 75))
_LIMIT: Schema = {"type": ["integer", "string"], "pattern": "-?[0-9]{1,9}", "minimum": -1, "maximum": 0x7FFFFFFF}
UPDATE_QUOTA_SET = Versioned(
    only(
        "quota_set",
        an_object(
            {
                **dict.fromkeys(
                    (
                        "instances", "cores", "ram", "key_pairs", "metadata_items", "server_groups",
                        "server_group_members", "injected_files", "injected_file_content_bytes",
                        "injected_file_path_bytes", "fixed_ips", "floating_ips", "security_groups",
                        "security_group_rules", "networks",
                    ),
                    _LIMIT,
                ),
                "force": BOOLEAN,
            }
        ),
    )
)  # fmt: skip
