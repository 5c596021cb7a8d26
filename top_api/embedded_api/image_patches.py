"""JSON patches of images as Glance takes them, of both media types: everything is read before anything is changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from cellcloud import errors
from cellcloud.model import image_properties
from cellcloud.model.image import RESERVED as OWN
from cellcloud.model.image import Image
from top_api.embedded_api.image_schemas import CORE, IMAGE, MAX_PROPERTIES, READ_ONLY, RESERVED
from top_api.microversion import FIRST
from top_api.validation import check_body, path_words

OLDER, NEWER = (f"application/openstack-images-v2.{number}-json-patch" for number in (0, 1))
_OPERATIONS = ("add", "remove", "replace")
_ONE_MEMBER = 'one member named "add", "remove", or "replace".'
_CORE_TEXTS = ("name", "disk_format", "container_format")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One operation. ``fresh``: it may only add what is not there."""

    verb: str
    name: str
    value: Any = None
    fresh: bool = False


def read(operations: Sequence[Any], kind: str) -> list[Change]:
    """Return what a body of that media type asks for. Raises Invalid, Forbidden for what nobody may change."""
    return [_read(operation, older=kind == OLDER) for operation in operations]


def _read(operation: Any, *, older: bool) -> Change:
    if not isinstance(operation, dict):
        raise errors.Invalid("Operations must be JSON objects.")
    verb, pointer = _older(operation) if older else _newer(operation)
    path = _parts(pointer)
    if path[0] == "locations":
        _refuse_locations(verb, path)
    if len(path) != 1:
        raise errors.Invalid(f"Invalid JSON pointer for this resource: '/{'/'.join(path)[:200]}'")
    name = path[0]
    if verb != "remove" and "value" not in operation:
        raise errors.Invalid(f'Operation "{verb}" requires a member named "value".')
    check_changeable(name, "id")
    if verb != "remove":
        check_body(IMAGE, FIRST, {name: operation["value"]}, words=path_words)
    return Change(verb=verb, name=name, value=operation.get("value"), fresh=older and verb == "add")


def _newer(operation: dict[str, Any]) -> tuple[str, Any]:
    known = ", ".join(_OPERATIONS)
    verb = operation.get("op")
    if verb is None:
        raise errors.Invalid(f"Unable to find `op` in JSON Schema change. It must be one of the following: {known}.")
    if verb not in _OPERATIONS:
        raise errors.Invalid(f"Invalid operation: `{str(verb)[:64]}`. It must be one of the following: {known}.")
    if "path" not in operation:
        raise errors.Invalid("Unable to find 'path' in JSON Schema change")
    return verb, operation["path"]


def _older(operation: dict[str, Any]) -> tuple[str, Any]:
    found = [verb for verb in _OPERATIONS if verb in operation]
    if len(found) != 1:
        many = "only" if found else "exactly"
        raise errors.Invalid(f"Operation objects must contain {many} {_ONE_MEMBER}")
    return found[0], operation[found[0]]


def _parts(pointer: Any) -> list[str]:
    """Return the steps of a JSON pointer. Raises Invalid."""
    if not isinstance(pointer, str):
        raise errors.Invalid("A JSON pointer is a text.")
    shown = f"Pointer `{pointer[:200]}`"
    if not pointer.startswith("/"):
        raise errors.Invalid(f'{shown} does not start with "/".')
    if len(pointer) > 1 and pointer.endswith("/"):
        raise errors.Invalid(f'{shown} end with "/".')
    steps = pointer[1:].split("/")
    if any(not step.strip() for step in steps[:-1]):
        raise errors.Invalid(f'{shown} contains adjacent "/".')
    if not steps[-1].strip():
        raise errors.Invalid(f"{shown} does not contains valid token.")
    if any(not after.startswith(("0", "1")) for step in steps for after in step.split("~")[1:]):
        raise errors.Invalid(f'{shown} contains "~" not part of a recognized escape sequence.')
    return [step.replace("~1", "/").replace("~0", "~").strip() for step in steps]


def _refuse_locations(verb: str, path: list[str]) -> None:
    """Where an image's bytes are is shown to nobody, and changed by nobody. Raises Invalid, Forbidden."""
    if len(path) != (1 if verb == "replace" else 2):
        raise errors.Invalid(f"Invalid JSON pointer for this resource: '/{'/'.join(path)[:200]}'")
    what = {"add": "add", "remove": "remove", "replace": "update"}[verb]
    raise errors.Forbidden(f"It's not allowed to {what} locations if locations are invisible.")


def check_changeable(name: str, *also: str) -> None:
    """Check that a user may set an attribute or a property of that name. Raises Forbidden."""
    if name in READ_ONLY or name in also:
        raise errors.Forbidden(f"Attribute '{name}' is read-only.")
    if name in RESERVED or name.startswith(OWN):
        raise errors.Forbidden(f"Attribute '{name[:255]}' is reserved.")


def apply(image: Image, changes: Sequence[Change]) -> Image:
    """Return the image with the changes. Raises Conflict, Forbidden, Invalid, TooLarge."""
    for change in changes:
        name = change.name
        known = name in CORE or name in image.properties
        if change.verb == "remove":
            if name in CORE:
                raise errors.Forbidden(f"Property {name} may not be removed.")
            if not known:
                raise errors.Conflict(f"Property {name[:255]} does not exist.")
            image = replace(image, properties={n: v for n, v in image.properties.items() if n != name})
        elif change.verb == "replace" and not known:
            raise errors.Conflict(f"Property {name[:255]} does not exist.")
        elif change.fresh and known:
            raise errors.Conflict(f"Property {name[:255]} already present.")
        else:
            image = with_values(image, {name: change.value})
    return image


def with_values(image: Image, wanted: dict[str, Any]) -> Image:
    """Return the image with these attributes; those that are no attribute of every image become properties. Raises
    Invalid, TooLarge."""
    core = {name: value for name, value in wanted.items() if name in CORE and name != "id"}
    core |= {name: core[name] or "" for name in _CORE_TEXTS if name in core}
    if "owner" in core:
        core["owner"] = core["owner"] or image.owner
    if "tags" in core:
        core["tags"] = tuple(dict.fromkeys(core["tags"]))
        check_count("tags", len(core["tags"]))
    properties = image.properties | {name: value for name, value in wanted.items() if name not in CORE}
    check_count("properties", sum(not name.startswith(OWN) for name in properties))
    image_properties.check_size(properties)
    return replace(image, **core, properties=properties)


def check_count(what: str, count: int) -> None:
    """Check how many properties or tags an image would have. Raises TooLarge."""
    if count > MAX_PROPERTIES:
        raise errors.TooLarge(
            f"The limit has been exceeded on the number of allowed image {what}. Attempted: {count}, "
            f"Maximum: {MAX_PROPERTIES}"
        )
