"""How a server's volumes look at each microversion."""

from __future__ import annotations

from typing import Any

from cellcloud.model.volume import AttachedVolume
from top_api.request_pipeline import Call


def show(call: Call, one: AttachedVolume) -> dict[str, Any]:
    """Return an item of the list."""
    shown = _show(call, one)
    if one.device:
        shown["device"] = one.device
    if call.version >= (2, 89):
        del shown["id"]
        shown |= {"attachment_id": one.attachment_id, "bdm_uuid": one.id}
    return shown


def created(call: Call, one: AttachedVolume) -> dict[str, Any]:
    """Return the answer to attaching it."""
    return _show(call, one) | {"device": one.device}


def _show(call: Call, one: AttachedVolume) -> dict[str, Any]:
    shown: dict[str, Any] = {"id": one.volume_id, "volumeId": one.volume_id, "serverId": call.server.id}
    if call.version >= (2, 70):
        shown["tag"] = one.tag
    if call.version >= (2, 79):
        shown["delete_on_termination"] = one.delete_on_termination
    return shown
