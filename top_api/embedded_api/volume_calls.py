"""What the volume API's routes have in common: who asks, what a path names, links, times and truth values."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping
from typing import Any

from cellcloud import errors
from cellcloud.db import volumes as db
from cellcloud.embedded.volume.service import VolumeService, VolumeViewer
from cellcloud.model.block_storage import BACKEND_NAME, BlockVolume
from top_api.auth import TOKEN
from top_api.request_pipeline import Call

MOST_ITEMS = 1000  # of one page: Cinder's
_TRUE = frozenset({"1", "t", "true", "on", "y", "yes"})
_FALSE = frozenset({"0", "f", "false", "off", "n", "no"})


def service_of(call: Call) -> VolumeService:
    """Return the volume service that answers."""
    return call.embedded.volumes


def viewer_of(call: Call) -> VolumeViewer:
    """Return who asks."""
    who = call.context
    return VolumeViewer(
        project_id=who.project_id,
        user_id=who.user_id,
        is_admin=who.is_admin,
        is_service="service" in who.roles or _is_sent_by_service(call),
    )


def _is_sent_by_service(call: Call) -> bool:
    """Return whether a service vouches for the request with a token of its own, as Compute does."""
    token = call.headers.get("X-Service-Token", "")
    if not TOKEN.matches(token):
        return False
    try:
        return "service" in call.services.identity.validate_token(token).roles
    except errors.Unauthenticated:
        return False


def look_up_volume(call: Call, words: Mapping[str, str]) -> None:
    """Find the volume that a path names. Raises NotFound for another project's."""
    call.found = find_volume(call, words["volume_id"])
    call.target = {"project_id": call.found.project_id, "user_id": call.found.user_id}


def find_volume(call: Call, volume_id: str) -> BlockVolume:
    """Return a volume that the caller may see. Raises NotFound."""
    check_id(volume_id, f"Volume {volume_id[:64]} could not be found.")
    service = service_of(call)
    with service.database.read() as c:
        return db.get_volume(c, volume_id, project_id=viewer_of(call).only)


def volume_of(call: Call) -> BlockVolume:
    """Return the volume that was looked up."""
    if not isinstance(call.found, BlockVolume):
        raise errors.CallHuman("This route looks up no volume.")
    return call.found


def check_id(text: str, message: str) -> None:
    """Check that a text could be an id. Raises NotFound with the message."""
    try:
        uuid.UUID(text)
    except ValueError:
        raise errors.NotFound(message) from None


def is_true(value: Any, name: str = "value") -> bool:
    """Read a truth value as Cinder does. Raises Invalid."""
    word = str(value).strip().lower()
    if word not in _TRUE | _FALSE:
        raise errors.Invalid(f"Invalid value for '{name}': '{str(value)[:64]}'")
    return word in _TRUE


def flag(call: Call, name: str) -> bool:
    """Read a key of the query that may be left out. Raises Invalid."""
    given = call.param(name)
    return given is not None and is_true(given, name)


def stamp(when: dt.datetime | None) -> str | None:
    """As Cinder writes times."""
    return None if when is None else f"{when:%Y-%m-%dT%H:%M:%S.%f}"


def url(call: Call, *parts: str, version: str = "v3") -> str:
    """Return a link into the volume API as this client addresses it; ``version`` "": the bookmark."""
    segments = [call.base_url, "volume", version, call.project_segment, *parts]
    return "/".join(part for part in segments if part)


def links(call: Call, *parts: str) -> list[dict[str, str]]:
    """Return the two links every resource shows."""
    return [
        {"rel": "self", "href": url(call, *parts)},
        {"rel": "bookmark", "href": url(call, *parts, version="")},
    ]


def full_host(host: str, cell: str) -> str | None:
    """Return a volume service as Cinder names hosts, host@backend#pool: the pool is the cell."""
    return f"{host}@{BACKEND_NAME}#{cell}" if host else None


def stripped(wanted: Mapping[str, Any], *names: str) -> str | None:
    """Return the first of these fields that is given, without space around it."""
    for name in names:
        if wanted.get(name) is not None:
            return str(wanted[name]).strip()
    return None
