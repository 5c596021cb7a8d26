"""Which roles may make, see, change and remove which properties of images, as a file of Glance's form says.

Sections are patterns of names, of which the first that is found in a name counts; below them are the roles for each
operation, "@" for everybody, "!" for nobody. What no section is for, nobody may do.
"""

from __future__ import annotations

import configparser
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import re2

from cellcloud import errors
from cellcloud.model.image import RESERVED
from cellcloud.safe_regex import Pattern

OPERATIONS = ("create", "read", "update", "delete")
_EVERYBODY, _NOBODY = "@", "!"


@dataclass(frozen=True, slots=True)
class _Rule:
    names: Pattern
    roles: Mapping[str, frozenset[str]]


class PropertyProtections:
    """``path`` "": everybody may do everything to the images that they may change. Raises Misconfigured."""

    def __init__(self, path: str = "") -> None:
        self._rules = _read(Path(path)) if path else None

    def readable(self, properties: Mapping[str, str], roles: Collection[str]) -> dict[str, str]:
        """Return the properties that one with those roles may see."""
        return {name: value for name, value in properties.items() if self._allows("read", name, roles)}

    def check(self, before: Mapping[str, str], after: Mapping[str, str], roles: Collection[str]) -> None:
        """Check that one with those roles may make of an image's properties what they are after. Raises Forbidden."""
        for name in sorted(before.keys() | after.keys()):
            if before.get(name) == after.get(name):
                continue
            operation = "create" if name not in before else "update" if name in after else "delete"
            if not self._allows(operation, name, roles):
                raise errors.Forbidden(f"Attribute '{name[:255]}' is reserved.")

    def _allows(self, operation: str, name: str, roles: Collection[str]) -> bool:
        if self._rules is None or name.startswith(RESERVED):
            return True
        allowed = next((rule.roles[operation] for rule in self._rules if rule.names.matches(name)), frozenset[str]())
        return _EVERYBODY in allowed or bool(allowed & {role.lower() for role in roles})


def _read(path: Path) -> list[_Rule]:
    file = configparser.ConfigParser(interpolation=None, default_section="")
    try:
        file.read_string(path.read_text(), str(path))
        return [_rule(file[section]) for section in file.sections()]
    except (OSError, ValueError, configparser.Error, re2.error) as error:
        raise errors.Misconfigured(f"The rules of images' properties cannot be read: {error}") from error


def _rule(section: configparser.SectionProxy) -> _Rule:
    """Read one section. Raises ValueError."""
    if set(section) != set(OPERATIONS):
        raise ValueError(f"[{section.name}] does not say who may {', '.join(OPERATIONS)}, and nothing else.")
    roles = {
        operation: frozenset(role.strip().lower() for role in section[operation].split(",") if role.strip())
        for operation in OPERATIONS
    }
    for operation, some in roles.items():
        if len(some) > 1 and some & {_EVERYBODY, _NOBODY}:
            raise ValueError(f"[{section.name}] {operation}: {_EVERYBODY} and {_NOBODY} stand alone.")
    return _Rule(Pattern(f"(?s).*(?:{section.name}).*"), roles)
