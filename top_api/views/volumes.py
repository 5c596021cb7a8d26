"""How volumes and their snapshots look to clients of before 2.36."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from cellcloud.model.volume import Volume, VolumeSnapshot


def volume(one: Volume, devices: Mapping[str, str]) -> dict[str, Any]:
    """Return a volume. ``devices``: server -> what the volume is called there, where that is known."""
    return _shared(one) | {
        "availabilityZone": one.availability_zone or None,
        "attachments": _attachments(one, devices),
        "volumeType": one.volume_type or None,
        "snapshotId": one.snapshot_id,
        "metadata": one.metadata,
    }


def snapshot(one: VolumeSnapshot) -> dict[str, Any]:
    """Return a snapshot."""
    return _shared(one) | {"volumeId": one.volume_id}


def _shared(one: Volume | VolumeSnapshot) -> dict[str, Any]:
    return {
        "id": one.id,
        "status": one.status,
        "size": one.size_gb,
        "createdAt": _time(one.created_at),
        "displayName": one.name or None,
        "displayDescription": one.description or None,
    }


def _time(given: str) -> str:
    """Write a time as the volume service does: in UTC, without saying so."""
    at = dt.datetime.fromisoformat(given) if given else dt.datetime.fromtimestamp(0, dt.UTC)
    return at.replace(tzinfo=None).isoformat(timespec="microseconds")


def _attachments(one: Volume, devices: Mapping[str, str]) -> list[dict[str, str]]:
    """Return the first server that has it; where there is none an empty thing, as Nova does."""
    if not one.attached_to:
        return [{}]
    server_id = one.attached_to[0]
    shown = {"id": one.id, "volumeId": one.id, "serverId": server_id}
    return [shown | ({"device": devices[server_id]} if devices.get(server_id) else {})]
