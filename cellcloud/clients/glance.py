"""Images by Glance."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from keystoneauth1.session import Session

from cellcloud import errors
from cellcloud.clients.image import READABLE, EditProperties, check_same, fill, guest_owner
from cellcloud.clients.session import RestService, make_session
from cellcloud.config import Config
from cellcloud.model.image import ATTRIBUTES, Image, ImageQuery

_PATCH = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
_PAGE = 200  # images asked for at once where all are wanted
_NEW = ("id", "name", "owner", "visibility", "disk_format", "container_format", "min_ram", "min_disk", "protected")
_NO_PROPERTY = {"self", "file", "schema", "stores", "direct_url", "locations"}


class GlanceClient:
    """Implements ``ImageClient``. The service account sees every image; who may see which is decided here."""

    def __init__(self, session: Session, *, url: str = "") -> None:
        self._service = RestService(session, "image", url=url, version="/v2")

    @classmethod
    def from_config(cls, config: Config) -> GlanceClient:
        """With the service account of ``[identity]``; the endpoint comes from its catalog."""
        return cls(make_session(config.identity))

    def get_url(self) -> str:
        """See ``ImageClient``."""
        return self._service.get_url()

    def get_image(self, image_id: str, *, project_id: str, is_admin: bool) -> Image:
        """See ``ImageClient``."""
        path = _path(image_id)
        body = self._service.get(path)
        if not (is_admin or body["owner"] == project_id or body["visibility"] in ("public", "community")):
            self._require_member(body, path, project_id, image_id)
        return _image(body)

    def search_images(self, query: ImageQuery, *, project_id: str, is_admin: bool) -> list[Image]:
        """See ``ImageClient``. The service account would be shown every project's: what a project may list are its own
        images, and behind them the public ones of others."""
        if is_admin or query.owner is not None:
            return list(itertools.islice(self._walk(query, {}), query.limit))
        own, public = self._walk(query, {"owner": project_id}), self._walk(query, {"visibility": "public"})
        if query.after is not None and self._find_owner(query.after) != project_id:
            own = iter(())
        elif query.after is not None:
            public = self._walk(replace(query, after=None), {"visibility": "public"})
        others = (image for image in public if image.owner != project_id)
        return list(itertools.islice(itertools.chain(own, others), query.limit))

    def _find_owner(self, image_id: str) -> str:
        try:
            return str(self._service.get(_path(image_id))["owner"])
        except errors.NotFound as error:
            raise errors.Invalid(error.message, detail=error.detail) from None

    def _walk(self, query: ImageQuery, more: Mapping[str, str]) -> Iterator[Image]:
        """Yield image after image, a page asked for when it is needed."""
        most = _PAGE if query.limit is None else min(_PAGE, query.limit)
        marker = query.after
        while most:
            asked = {**_asked(query), **more, "limit": str(most)} | ({"marker": marker} if marker else {})
            page = self._page(asked)
            yield from page
            if len(page) < most:
                return
            marker = page[-1].id

    def _page(self, params: Mapping[str, str]) -> list[Image]:
        try:
            return [_image(body) for body in self._service.get("/images", params)["images"]]
        except errors.NotFound as error:
            raise errors.Invalid(error.message, detail=error.detail) from None

    def edit_properties(self, image_id: str, edit: EditProperties, *, project_id: str, is_admin: bool) -> Image:
        """See ``ImageClient``."""
        image = self.get_image(image_id, project_id=project_id, is_admin=is_admin)
        _check_owner(image, project_id, is_admin)
        wanted = edit(image.properties)
        changes = [
            {"op": "replace" if name in image.properties else "add", "path": _pointer(name), "value": value}
            for name, value in wanted.items()
            if image.properties.get(name) != value
        ]
        changes += [{"op": "remove", "path": _pointer(name)} for name in image.properties if name not in wanted]
        return _image(self._service.patch(_path(image_id), changes, _PATCH)) if changes else image

    def delete_image(self, image_id: str, *, project_id: str, is_admin: bool) -> None:
        """See ``ImageClient``."""
        image = self.get_image(image_id, project_id=project_id, is_admin=is_admin)
        _check_owner(image, project_id, is_admin)
        self._service.delete(_path(image_id))

    def ensure_image(self, image: Image) -> Image:
        """See ``ImageClient``."""
        body = {**image.properties, **{name: getattr(image, name) for name in _NEW}, "tags": list(image.tags)}
        try:
            made = _image(self._service.post("/images", body))
        except errors.Conflict:
            made = _image(self._service.get(_path(image.id)))
            check_same(image, made)
        if (project := guest_owner(image)) is not None:
            self._share(made, project)
        return made

    def _share(self, image: Image, project_id: str) -> None:
        try:
            self._service.post(f"{_path(image.id)}/members", {"member": project_id})
        except (errors.Conflict, errors.NotFound):
            return  # it is a member already, or the service has none and goes by the property

    def fill_image(self, image_id: str, size: int, data: Iterable[bytes]) -> None:
        """See ``ImageClient``."""
        path = _path(image_id)
        fill(
            lambda: _image(self._service.get(path)),
            size,
            data,
            lambda pieces: self._service.upload(f"{path}/file", size, pieces),
        )

    def discard_image(self, image_id: str) -> None:
        """See ``ImageClient``."""
        self._service.delete(_path(image_id))

    def open_image(self, image_id: str) -> Iterator[bytes]:
        """See ``ImageClient``."""
        path = _path(image_id)
        if self._service.get(path)["status"] not in READABLE:
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


def _check_owner(image: Image, project_id: str, is_admin: bool) -> None:
    if not is_admin and image.owner != project_id:
        raise errors.Forbidden("You are not permitted to modify this image.")


def _asked(query: ImageQuery) -> dict[str, str]:
    """Return a query as Glance takes it."""
    named = {name: getattr(query, name) for name in ("name", "status", "min_ram", "min_disk", "owner")}
    asked = {name: str(value) for name, value in named.items() if value is not None}
    if query.name is not None:
        asked["name"] = "eq:" + query.name  # a colon in it would be an operator's
    if query.changed_since is not None:
        asked["updated_at"] = f"gte:{query.changed_since:%Y-%m-%dT%H:%M:%SZ}"
    return {**dict(query.properties), **asked, "sort": "created_at:desc,id:desc"}


def _pointer(name: str) -> str:
    return "/" + name.replace("~", "~0").replace("/", "~1")


def _path(image_id: str) -> str:
    """Return the path of an image. Raises NotFound for what is a step up or no step on a way, not an id."""
    if image_id in ("", ".", ".."):
        raise errors.NotFound(f"No image found with ID {image_id}")
    return f"/images/{quote(image_id, safe='')}"


def _image(body: dict[str, Any]) -> Image:
    core = {name: body[name] for name in ATTRIBUTES if body.get(name) is not None}
    core["tags"] = tuple(body.get("tags", ()))
    properties = {
        name: str(value)
        for name, value in body.items()
        if name not in ATTRIBUTES and name not in _NO_PROPERTY and value is not None
    }
    blank = {"disk_format": "", "container_format": "", "name": ""}
    return Image(**(blank | core), properties=properties)
