"""Answers about a server's volumes."""

from __future__ import annotations

from top_api.answers.types import BOOLEAN, TEXT, UUID, only
from top_api.response_schema import NOTHING, FieldParts, Fields, changing, list_of, nullable, optional, since, until

_DEVICE = {"type": "string", "pattern": "/dev/x?[a-z]?d?[a-z]+[0-9]*"}
_SHARED: FieldParts = {
    "volumeId": UUID,
    "serverId": UUID,
    "tag": since(70, nullable(TEXT)),
    "delete_on_termination": since(79, BOOLEAN),
}
_ONE = Fields(
    {
        **_SHARED,
        "id": until(88, UUID),
        "device": optional(_DEVICE),
        "attachment_id": since(89, UUID),
        "bdm_uuid": since(89, UUID),
    },
    name="VolumeAttachment",
)
LIST = only("volumeAttachments", list_of(_ONE))
ONE = only("volumeAttachment", _ONE)
CREATED = changing(only("volumeAttachment", Fields({**_SHARED, "id": UUID, "device": _DEVICE})), {101: NOTHING})
