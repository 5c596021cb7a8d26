"""A flavor's extra specs: which there are, and what they ask of Placement, as ``resources:CLASS`` amounts and
``trait:NAME`` required or forbidden.

Source: Nova's ResourceRequest. Nova ignores a malformed one; here the request is refused and says which it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cellcloud import errors
from cellcloud.model.property_catalog import find_extra_spec
from cellcloud.safe_regex import Pattern

MOST = 1 << 53  # of anything a request takes: exact in every column
_SPEC = Pattern(r"(?s)(resources|trait)([a-zA-Z0-9_-]{1,64})?:(.*)")
_CLASS = Pattern(r"[A-Z][A-Z0-9_]{0,254}")


@dataclass(frozen=True, slots=True)
class RequestedSpecs:
    """``resources``: resource class -> amount, summed over numbered groups: a host is one provider here."""

    resources: Mapping[str, int]
    required: frozenset[str]
    forbidden: frozenset[str]


def read(specs: Mapping[str, str]) -> RequestedSpecs:
    """Return what the specs ask for. Raises Invalid."""
    resources: dict[str, int] = {}
    traits: dict[str, set[str]] = {"required": set(), "forbidden": set()}
    for key, value in specs.items():
        if (found := _SPEC.groups(key)) is None:
            continue
        kind, _, name = found
        if kind == "resources":
            resources[name] = resources.get(name, 0) + _amount(key, name, value)
        elif value in traits:
            traits[value].add(name)
        else:
            raise errors.Invalid(f"Extra spec {key[:100]!r} must be required or forbidden.")
    return RequestedSpecs(resources, frozenset(traits["required"]), frozenset(traits["forbidden"]))


def _amount(key: str, name: str, value: str) -> int:
    if not _CLASS.matches(name):
        raise errors.Invalid(f"Extra spec {key[:100]!r} names no resource class.")
    try:
        amount = int(value)
    except ValueError:
        amount = -1
    if not 0 <= amount <= MOST:
        raise errors.Invalid(f"Extra spec {key[:100]!r} must be a whole number from 0.")
    return amount


def check(name: str, value: str) -> None:
    """Refuse an extra spec that Nova's catalogue would refuse, by its name or by its value. Raises Invalid."""
    found = find_extra_spec(name)
    if found is not None:
        found.read(f"Extra spec {name}", value)


def refuse_unserved(specs: Mapping[str, str]) -> None:
    """Refuse, with its name, an extra spec that is not in the catalogue, or that nobody here obeys. Empty ones ask for
    nothing. Raises Invalid."""
    for name, value in specs.items():
        found = find_extra_spec(name)
        if found is not None and value:
            found.refuse(f"Extra spec {name}", found.read(f"Extra spec {name}", value))
