"""Image v2: the bytes of images, in streams and in parts."""

from __future__ import annotations

from collections.abc import Iterator

from cellcloud import errors
from cellcloud.clients.image import READABLE, exactly
from cellcloud.embedded.image_contents import DeletedMeanwhile, WrongContent
from cellcloud.embedded.image_imports import STORE
from cellcloud.safe_regex import Pattern
from top_api.embedded_api.error_formats import IMAGE as API
from top_api.faults import Gone, NoSuchRange
from top_api.request_pipeline import Answer, Call, Resource, receive
from top_api.validation import UnsupportedType

data = Resource("image_data", API)
FILE = "/v2/images/<image_id>/file"
_BYTES = ("application/octet-stream",)
_RANGE = Pattern(r"bytes\s*=\s*([0-9]{0,18})\s*-\s*([0-9]{0,18})\s*", most=80)
_CONTENT_RANGE = Pattern(r"bytes\s+([0-9]{1,18})-([0-9]{1,18})/(\*|[0-9]{1,18})\s*", most=80)


@data.route("PUT", FILE, "upload_image", status=204, body_types=_BYTES, streams=True)
def upload_image(call: Call, image_id: str) -> None:
    store = call.headers.get("X-Image-Meta-Store", STORE)
    if store != STORE:
        raise errors.Invalid(f"Unknown scheme '{store[:64]}' found in URI")
    who = call.context
    try:
        call.embedded.images.upload(image_id, _pieces(call), project_id=who.project_id, is_admin=who.is_admin)
    except WrongContent as error:
        raise UnsupportedType(error.message) from error
    except DeletedMeanwhile as error:
        raise Gone(error.message) from error


@data.route("PUT", "/v2/images/<image_id>/stage", "modify_image", status=204, body_types=_BYTES, streams=True)
def stage_image(call: Call, image_id: str) -> None:
    who = call.context
    call.embedded.images.stage(image_id, _pieces(call), project_id=who.project_id, is_admin=who.is_admin)


@data.route("GET", FILE, "download_image", also=(204, 206))
def download_image(call: Call, image_id: str) -> Answer:
    who = call.context
    found = call.embedded.images.get_image(image_id, project_id=who.project_id, is_admin=who.is_admin)
    if found.status == "deactivated" and not who.is_admin:
        raise errors.Forbidden("The requested image has been deactivated. Image data download is forbidden.")
    if found.status not in READABLE:
        return Answer(status=204)
    headers = {"Content-MD5": found.checksum or ""}
    part = _part(call, found.size)
    if part is None:
        return Answer(
            stream=call.embedded.images.open_image(found.id), headers=headers | {"Content-Length": str(found.size)}
        )
    first, last = part
    headers |= {"Content-Length": str(last - first + 1), "Content-Range": f"bytes {first}-{last}/{found.size}"}
    stream = call.embedded.images.open_range(found.id, first, last - first + 1)
    return Answer(status=206, stream=stream, headers=headers)


def _pieces(call: Call) -> Iterator[bytes]:
    """Return the body's pieces. Raises Invalid where the size that is announced is no number; they do, where it is
    another than theirs."""
    pieces = receive(call.services.config.adapters.max_image_bytes)
    announced = call.headers.get("X-Openstack-Image-Size")
    if announced is None:
        return pieces
    if not (announced.isascii() and announced.isdecimal() and len(announced) < 19):
        raise errors.Invalid("Invalid or missing image size in request headers.")
    return exactly(int(announced), pieces)


def _part(call: Call, size: int) -> tuple[int, int] | None:
    """Return the first and the last byte that are asked for; None: all are. Raises Invalid for several parts,
    NoSuchRange for one that is not there."""
    asked = call.headers.get("Range")
    if asked is None:
        return _older_part(call, size)
    if "," in asked:
        raise errors.Invalid(
            "Requests with multiple ranges are not supported in Glance. You may make multiple single-range requests "
            "instead."
        )
    found = _RANGE.groups(asked)
    if found is None or found == ("", ""):
        raise NoSuchRange("Invalid Range header.")
    if not found[0]:
        length = min(int(found[1]), size)
        if not length:
            raise NoSuchRange("Invalid Range header.")
        return size - length, size - 1
    first, last = int(found[0]), int(found[1]) if found[1] else size - 1
    if first > last and found[1]:
        raise NoSuchRange("Invalid Range header.")
    _check_start("Range", first, size)
    return first, min(last, size - 1)


def _older_part(call: Call, size: int) -> tuple[int, int] | None:
    """As Content-Range says, which some clients send in its place."""
    asked = call.headers.get("Content-Range")
    if asked is None:
        return None
    found = _CONTENT_RANGE.groups(asked)
    if found is None or int(found[0]) > int(found[1]):
        raise NoSuchRange("Invalid Content-Range header.")
    first, last = int(found[0]), int(found[1])
    if found[2] == "*" and last >= size:
        raise NoSuchRange(
            "Invalid stop position in Content-Range header. The stop position MUST be in the inclusive range "
            f"[0, {size - 1}]."
        )
    _check_start("Content-Range", first, size)
    return first, min(last, size - 1)


def _check_start(header: str, first: int, size: int) -> None:
    if first >= size:
        raise NoSuchRange(
            f"Invalid start position in {header} header. Start position MUST be in the inclusive range [0, {size - 1}]."
        )
