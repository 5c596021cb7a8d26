"""Answers about server groups, by microversion."""

from __future__ import annotations

from cellcloud.model.server_group import AFFINITY, ANTI_AFFINITY, SOFT_AFFINITY, SOFT_ANTI_AFFINITY
from top_api.answers.types import TEXT, UUID, a_word, only
from top_api.response_schema import Fields, list_of, optional, since, until

_POLICY = a_word((ANTI_AFFINITY, AFFINITY, SOFT_ANTI_AFFINITY, SOFT_AFFINITY))
_GROUP = Fields(
    {
        "id": UUID,
        "name": TEXT,
        "members": list_of(UUID),
        "project_id": since(13, TEXT),
        "user_id": since(13, TEXT),
        "policies": until(63, list_of(_POLICY, minItems=1, maxItems=1)),
        "metadata": until(63, Fields({})),
        "policy": since(64, _POLICY),
        "rules": since(64, Fields({"max_server_per_host": optional({"type": "integer", "minimum": 1})})),
    },
    name="ServerGroup",
)
LIST = only("server_groups", list_of(_GROUP))
ONE = only("server_group", _GROUP)
