"""Answers about migrations, by microversion."""

from __future__ import annotations

from cellcloud.model.migration import MigrationStatus, MigrationType
from top_api.answers.types import COUNT, MICROSECOND, TEXT, UUID, a_page, a_word, only
from top_api.response_schema import Fields, list_of, nullable, since

_PLACES = ("source_compute", "source_node", "dest_compute", "dest_node", "dest_host")
_MIGRATION = Fields(
    {
        "id": COUNT,
        "instance_uuid": UUID,
        "status": a_word(MigrationStatus),
        **dict.fromkeys(_PLACES, nullable(TEXT)),
        "old_instance_type_id": nullable(COUNT),
        "new_instance_type_id": nullable(COUNT),
        "created_at": MICROSECOND,
        "updated_at": nullable(MICROSECOND),
        "migration_type": since(23, a_word(MigrationType)),
        "uuid": since(59, UUID),
        "user_id": since(80, TEXT),
        "project_id": since(80, TEXT),
    },
    name="Migration",
)
LIST = a_page("migrations", _MIGRATION, paged_since=59)
LIVE_LIST = only("migrations", list_of({"type": "object"}, maxItems=0))  # no server is being migrated live
