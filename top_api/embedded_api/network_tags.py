"""Tags in the network API: the same routes below each kind of thing that has some."""

from __future__ import annotations

from typing import Any

from cellcloud import errors
from cellcloud.embedded.network_tags import KINDS, EmbeddedNetworkTags
from top_api.embedded_api.error_formats import NETWORK as API
from top_api.embedded_api.network_schemas import TAGS
from top_api.embedded_api.network_viewers import viewer_of
from top_api.request_pipeline import Call, Resource

tags = Resource("network_tags", API)
_RULES = {
    "networks": ("get_network", "update_network"),
    "subnets": ("get_subnet", "update_subnet"),
    "ports": ("get_port", "update_port"),
    "routers": ("get_router", "update_router"),
    "security-groups": ("get_security_group", "update_security_group"),
    "floatingips": ("get_floatingip", "update_floatingip"),
}


def _service(call: Call) -> EmbeddedNetworkTags:
    return call.embedded.networks.tags


def _declare(kind: str, look: str, change: str) -> None:
    """Declare the routes below one kind."""
    path = f"/v2.0/{kind}/<item_id>/tags"

    @tags.route("GET", path, look)
    def list_tags(call: Call, item_id: str) -> dict[str, Any]:
        return {"tags": list(_service(call).list_tags(viewer_of(call), kind, item_id))}

    @tags.route("PUT", path, change, body=TAGS)
    def replace_tags(call: Call, item_id: str) -> dict[str, Any]:
        wanted = tuple(call.body["tags"])
        return {"tags": list(_service(call).change_tags(viewer_of(call), kind, item_id, lambda _: wanted))}

    @tags.route("POST", path, change, status=201, body=TAGS)
    def add_tags(call: Call, item_id: str) -> dict[str, Any]:
        more = tuple(call.body["tags"])
        return {"tags": list(_service(call).change_tags(viewer_of(call), kind, item_id, lambda known: (*known, *more)))}

    @tags.route("DELETE", path, change, status=204)
    def remove_all_tags(call: Call, item_id: str) -> None:
        _service(call).change_tags(viewer_of(call), kind, item_id, lambda _: ())

    @tags.route("GET", f"{path}/<tag>", look, status=204)
    def confirm_tag(call: Call, item_id: str, tag: str) -> None:
        if tag not in _service(call).list_tags(viewer_of(call), kind, item_id):
            raise errors.NotFound(f"Tag {tag[:64]} could not be found.")

    @tags.route("PUT", f"{path}/<tag>", change, status=201)
    def add_tag(call: Call, item_id: str, tag: str) -> None:
        if not 0 < len(tag) <= 60:  # Neutron's longest
            raise errors.Invalid(f"'{tag[:64]}' exceeds maximum length of 60")
        _service(call).change_tags(viewer_of(call), kind, item_id, lambda known: (*known, tag))

    @tags.route("DELETE", f"{path}/<tag>", change, status=204)
    def remove_tag(call: Call, item_id: str, tag: str) -> None:
        def without(known: tuple[str, ...]) -> tuple[str, ...]:
            if tag not in known:
                raise errors.NotFound(f"Tag {tag[:64]} could not be found.")
            return tuple(each for each in known if each != tag)

        _service(call).change_tags(viewer_of(call), kind, item_id, without)


for _kind in KINDS:
    _declare(_kind, *_RULES[_kind])
