"""Answers about limits, quotas and classes of quotas, by microversion."""

from __future__ import annotations

from top_api.answers.types import COUNT, LIMIT, TEXT, only
from top_api.response_schema import FieldPart, Fields, Part, list_of, since, until

_MOST = ("Instances", "Cores", "RAMSize", "Keypairs")
LIMITS = only(
    "limits",
    Fields(
        {
            "rate": list_of(TEXT, maxItems=0),
            "absolute": Fields(
                {
                    **{f"maxTotal{name}": LIMIT for name in _MOST},
                    **dict.fromkeys(("maxServerMeta", "maxServerGroups", "maxServerGroupMembers"), LIMIT),
                    **{f"total{name}Used": COUNT for name in ("Instances", "Cores", "RAM", "ServerGroups")},
                    **dict.fromkeys(
                        ("maxTotalFloatingIps", "maxSecurityGroups", "maxSecurityGroupRules"), until(35, LIMIT)
                    ),
                    **dict.fromkeys(("totalFloatingIpsUsed", "totalSecurityGroupsUsed"), until(35, COUNT)),
                    "maxImageMeta": until(38, LIMIT),
                    **dict.fromkeys(("maxPersonality", "maxPersonalitySize"), until(56, LIMIT)),
                },
                name="Limits",
            ),
        }
    ),
)
_ALWAYS = ("instances", "cores", "ram", "key_pairs", "metadata_items")
_GROUPS = ("server_groups", "server_group_members")
_NETWORK = ("fixed_ips", "floating_ips", "security_groups", "security_group_rules")
_FILES = ("injected_files", "injected_file_content_bytes", "injected_file_path_bytes")


def _quotas(part: Part, *, network_until: int, groups_since: int = 1) -> dict[str, FieldPart]:
    return {
        **dict.fromkeys(_ALWAYS, part),
        **dict.fromkeys(_GROUPS, since(groups_since, part)),
        **dict.fromkeys(_NETWORK, until(network_until, part)),
        **dict.fromkeys(_FILES, until(56, part)),
    }


_USED = Fields({"limit": LIMIT, "in_use": COUNT, "reserved": COUNT}, name="QuotaInDetail")
_SET, _CLASS = _quotas(LIMIT, network_until=35), _quotas(LIMIT, network_until=49, groups_since=50)
QUOTA_SET = only("quota_set", Fields({"id": TEXT, **_SET}, name="QuotaSet"))
DETAIL = only("quota_set", Fields({"id": TEXT, **_quotas(_USED, network_until=35)}))
UPDATED = only("quota_set", Fields(_SET))
CLASS_SET = only("quota_class_set", Fields({"id": TEXT, **_CLASS}))
UPDATED_CLASS_SET = only("quota_class_set", Fields(_CLASS))
