"""The disks that an image says its servers have: its properties block_device_mapping, bdm_v2 and root_device_name, as
Nova writes them when it makes an image of a server on a volume. Whoever owns the image wrote them: nothing is believed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cellcloud import errors
from cellcloud.model.image import MAPPING, Image

MOST = 32
Given = Mapping[str, Any]
_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("source_type", "destination_type", "device_name", "device_type", "disk_bus"), (str,)),
    **dict.fromkeys(("guest_format", "virtual_name", "volume_type", "tag"), (str,)),
    **dict.fromkeys(("snapshot_id", "volume_id", "image_id", "uuid"), (str,)),
    **dict.fromkeys(("boot_index", "volume_size"), (int, str)),
    **dict.fromkeys(("delete_on_termination", "no_device"), (bool, str)),
}
_IDS = {"snapshot": "snapshot_id", "volume": "volume_id", "image": "image_id"}


def read_mappings(image: Image) -> tuple[list[Given], bool]:
    """Return an image's own devices, and whether they are in the newer form. Raises Invalid."""
    text = image.properties.get(MAPPING, "")
    is_newer = image.properties.get("bdm_v2", "").lower() == "true"
    if not text:
        return [], True
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or len(found) > MOST:
        raise _wrong(image)
    return [_read(image, one, is_newer) for one in found], is_newer


def _read(image: Image, one: object, is_newer: bool) -> Given:
    if not isinstance(one, dict):
        raise _wrong(image)
    told = {name: value for name, value in one.items() if value is not None and name in _KINDS}
    if any(not isinstance(value, _KINDS[name]) or len(str(value)) > 255 for name, value in told.items()):
        raise _wrong(image)
    if is_newer and "uuid" not in told:
        told_id = told.get(_IDS.get(str(told.get("source_type")), ""))
        told |= {"uuid": told_id} if told_id else {}
    return {name: value for name, value in told.items() if not (is_newer and name in _IDS.values())}


def _wrong(image: Image) -> errors.Invalid:
    return errors.Invalid(f"Image {image.id} is unacceptable: its block_device_mapping is none that Nova writes.")


def merged(own: Sequence[Given], asked: Sequence[Given]) -> list[Given]:
    """Return what was asked for, with those of the image's own that nothing asked for has the name of."""
    names = {name_of(one) for one in asked} - {""}
    return [*asked, *(one for one in own if name_of(one) not in names)]


def name_of(one: Given) -> str:
    """Return a device's name without the directory; "" for none."""
    return str(one.get("device_name") or "").removeprefix("/dev/")


def is_root(one: Given) -> bool:
    """Return whether a device of the newer form is the first to boot from."""
    return str(one.get("boot_index")) == "0"
