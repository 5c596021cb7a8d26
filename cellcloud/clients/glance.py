"""Images by Glance."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from keystoneauth1.session import Session

from cellcloud import errors
from cellcloud.clients.session import RestService, make_session
from cellcloud.config import Config
from cellcloud.model.image import Image

_CORE = frozenset(Image.__dataclass_fields__) - {"properties"}
_NO_PROPERTY = {"self", "file", "schema", "os_hidden", "stores", "direct_url", "locations"}


class GlanceClient:
    """Implements ``ImageClient``. The service account sees every image; who may see which is decided here."""

    def __init__(self, session: Session, *, url: str = "") -> None:
        self._service = RestService(session, "image", url=url, version="/v2")

    @classmethod
    def from_config(cls, config: Config) -> GlanceClient:
        """With the service account of ``[identity]``; the endpoint comes from its catalog."""
        return cls(make_session(config.identity))

    def get_image(self, image_id: str, *, project_id: str, is_admin: bool) -> Image:
        """See ``ImageClient``."""
        path = _path(image_id)
        body = self._service.get(path)
        if not (is_admin or body["owner"] == project_id or body["visibility"] in ("public", "community")):
            self._require_member(body, path, project_id, image_id)
        return _image(body)

    def open_image(self, image_id: str) -> Iterator[bytes]:
        """See ``ImageClient``."""
        path = _path(image_id)
        if self._service.get(path)["status"] != "active":
            raise errors.NotFound(f"No image found with ID {image_id[:64]}")
        return self._service.stream(f"{path}/file")

    def _require_member(self, body: dict[str, Any], path: str, project_id: str, image_id: str) -> None:
        if body["visibility"] == "shared":
            try:
                self._service.get(f"{path}/members/{quote(project_id, safe='')}")
            except errors.NotFound:
                pass
            else:
                return
        raise errors.NotFound(f"No image found with ID {image_id[:64]}")


def _path(image_id: str) -> str:
    """Raises NotFound for what is a step up or no step on a way, not an id."""
    if image_id in ("", ".", ".."):
        raise errors.NotFound(f"No image found with ID {image_id}")
    return f"/images/{quote(image_id, safe='')}"


def _image(body: dict[str, Any]) -> Image:
    core = {name: body[name] for name in _CORE if body.get(name) is not None}
    core["tags"] = tuple(body.get("tags", ()))
    properties = {
        name: str(value)
        for name, value in body.items()
        if name not in _CORE and name not in _NO_PROPERTY and value is not None
    }
    blank = {"disk_format": "", "container_format": "", "name": ""}
    return Image(**(blank | core), properties=properties)
