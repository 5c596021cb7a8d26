"""Answers about volumes and their snapshots, until 2.35."""

from __future__ import annotations

from top_api.answers.types import COUNT, TEXT, TEXTS, UUID, WORD, only
from top_api.json_schema import Schema
from top_api.response_schema import FieldParts, Fields, list_of, nullable, optional

_TIME: Schema = {"type": "string", "pattern": r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}"}
_ATTACHED = Fields(
    {"id": optional(UUID), "volumeId": optional(UUID), "serverId": optional(UUID), "device": optional(WORD)}
)
_SHARED: FieldParts = {
    "id": UUID,
    "status": WORD,
    "size": COUNT,
    "createdAt": _TIME,
    "displayName": nullable(TEXT),
    "displayDescription": nullable(TEXT),
}
_VOLUME = Fields(
    {
        **_SHARED,
        "availabilityZone": nullable(TEXT),
        "attachments": list_of(_ATTACHED),
        "volumeType": nullable(TEXT),
        "snapshotId": nullable(UUID),
        "metadata": TEXTS,
    },
    name="Volume",
)
_SNAPSHOT = Fields({**_SHARED, "volumeId": UUID}, name="VolumeSnapshot")
VOLUMES = only("volumes", list_of(_VOLUME))
VOLUME = only("volume", _VOLUME)
SNAPSHOTS = only("snapshots", list_of(_SNAPSHOT))
SNAPSHOT = only("snapshot", _SNAPSHOT)
