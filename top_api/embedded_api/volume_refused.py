"""What Cinder has and the embedded volume service has not: lists of it are empty, and to make it is refused."""

from __future__ import annotations

from typing import Any

from cellcloud import errors
from top_api.embedded_api.error_formats import VOLUME as API
from top_api.request_pipeline import Call, Pair, Resource

volume_refused = Resource("volume_refused", API)
_RULE = "cellcloud:volume_discovery"
_FIRST = API.versions.first
# path -> the key of its list, what it is of, and its first microversion
_ABSENT: dict[str, tuple[str, str, Pair]] = {
    "backups": ("backups", "backups", _FIRST),
    "consistencygroups": ("consistencygroups", "consistency groups", _FIRST),
    "cgsnapshots": ("cgsnapshots", "snapshots of consistency groups", _FIRST),
    "groups": ("groups", "groups", (3, 13)),
    "group_snapshots": ("group_snapshots", "snapshots of groups", (3, 14)),
    "group_types": ("group_types", "types of groups", (3, 11)),
    "qos-specs": ("qos_specs", "QoS specifications", _FIRST),
    "clusters": ("clusters", "clusters", (3, 7)),
    "os-volume-manage": ("manageable-volumes", "volumes to manage", _FIRST),
    "manageable_volumes": ("manageable-volumes", "volumes to manage", (3, 8)),
    "os-snapshot-manage": ("manageable-snapshots", "snapshots to manage", _FIRST),
    "manageable_snapshots": ("manageable-snapshots", "snapshots to manage", (3, 8)),
}


def _declare(path: str, key: str, what: str, since: Pair) -> None:
    @volume_refused.route("GET", f"/v3/{path}", _RULE, since=since)
    def list_none(call: Call) -> dict[str, Any]:
        return {key: []}

    if path not in ("qos-specs", "group_types"):

        @volume_refused.route("GET", f"/v3/{path}/detail", _RULE, since=since)
        def list_none_in_detail(call: Call) -> dict[str, Any]:
            return {key: []}

    @volume_refused.route("POST", f"/v3/{path}", _RULE, since=since)
    def refuse(call: Call) -> None:
        raise errors.Invalid(f"Here are no {what}.")

    @volume_refused.route("GET", f"/v3/{path}/<item>", _RULE, since=since)
    @volume_refused.route("PUT", f"/v3/{path}/<item>", _RULE, since=since)
    @volume_refused.route("DELETE", f"/v3/{path}/<item>", _RULE, since=since)
    def find_none(call: Call, item: str) -> None:
        raise errors.NotFound(f"Here are no {what}: {item[:64]} could not be found.")


for _path, _declared in _ABSENT.items():
    _declare(_path, *_declared)
