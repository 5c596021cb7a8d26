"""PCI devices: what of them a host has free, and what a server asks for and gets."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from cellcloud import errors
from cellcloud.model.flavor import Flavor
from cellcloud.safe_regex import Pattern

NUMA_POLICIES = ("required", "socket", "legacy", "preferred")
MOST_DEVICES = 4096
ALIASED_KINDS = ("type-PCI", "type-PF", "type-VF")
ALIAS_TAGS = ("resource_class", "traits")
ALIAS_KEYS = {"name", "capability_type", "vendor_id", "product_id", "device_type", "numa_policy", "live_migratable"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PciPool:
    """``count`` free PCI devices of one kind at one place. ``tags``: dev_type, physical_network and the like.

    ``numa_node``: the id of the NUMA cell the devices hang on, None when the host does not say.
    """

    vendor_id: str
    product_id: str
    count: int
    numa_node: int | None = None
    tags: dict[str, str] = field(default_factory=dict)

    def __hash__(self) -> int:
        """So that equal states of hosts can be found to be one; ``tags`` is never changed."""
        return hash((self.vendor_id, self.product_id, self.count, self.numa_node, frozenset(self.tags.items())))

    def same_kind(self, other: PciPool) -> bool:
        """Return whether devices of both are alike in all but their number."""
        return (self.vendor_id, self.product_id, self.numa_node, self.tags) == (
            other.vendor_id,
            other.product_id,
            other.numa_node,
            other.tags,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PciRequest:
    """``count`` devices that each match one of ``spec``: names (vendor_id, product_id, dev_type, a tag) to values.

    ``numa_policy``: required, socket, legacy (also None) or preferred: how near to the guest's memory they must be.
    """

    count: int
    spec: tuple[dict[str, str], ...] = ()
    numa_policy: str | None = None
    alias_name: str | None = None
    request_id: str | None = None

    def __hash__(self) -> int:
        """So that equal requests can be found to be one; ``spec`` is never changed. The id is not looked at."""
        return hash((self.count, self.numa_policy, tuple(frozenset(one.items()) for one in self.spec)))


@lru_cache(maxsize=64)
def parse_aliases(texts: tuple[str, ...]) -> Mapping[str, PciRequest]:
    """Alias -> a request for one of its devices. Each text is a JSON object as in Nova's ``[pci] alias``; several of
    one name are kinds of device that will do alike. Raises Invalid that says what is wrong with which.
    """
    found: dict[str, PciRequest] = {}
    for text in texts:
        one = _parse_alias(text)
        name = str(one.alias_name)
        before = found.setdefault(name, one)
        if before is not one:
            kinds = {spec.get("dev_type") for spec in (*before.spec, *one.spec)}
            if before.numa_policy != one.numa_policy or len(kinds) > 1:
                raise errors.Invalid(f"PCI alias {name[:100]!r} is given with different NUMA policies or device types.")
            found[name] = replace(before, spec=before.spec + one.spec)
    return found


def requests_of(flavor: Flavor, numa_policy: str | None, aliases: tuple[str, ...]) -> tuple[PciRequest, ...]:
    """Return what a flavor's ``pci_passthrough:alias`` asks for: NAME:COUNT, several after commas. Raises Invalid.

    ``numa_policy``, of flavor or image, goes before the alias's own. ``aliases``: as parse_aliases reads them.
    """
    named = flavor.extra_specs.get("pci_passthrough:alias")
    if not named:
        return ()
    known = parse_aliases(aliases)
    found = []
    for name, count in read_aliased(named):
        if name not in known:
            raise errors.Invalid(f"PCI alias {name[:100]!r} is not defined.")
        found.append(replace(known[name], count=count, numa_policy=numa_policy or known[name].numa_policy))
    return tuple(found)


def read_aliased(text: str) -> list[tuple[str, int]]:
    """Return what a ``pci_passthrough:alias`` names, and how many of each. Raises Invalid."""
    found = []
    for part in text.split(","):
        name, _, count = (word.strip() for word in part.partition(":"))
        if not name or not count.isdecimal() or len(count) > len(str(MOST_DEVICES)):
            raise errors.Invalid(f"pci_passthrough:alias must be NAME:COUNT, not {part[:100]!r}.")
        found.append((name, int(count)))
    return found


def check_requests(requests: Sequence[PciRequest]) -> None:
    """Refuse requests for devices that cannot be counted or told apart. Raises Invalid."""
    for request in requests:
        if not 1 <= request.count <= MOST_DEVICES:
            raise errors.Invalid(f"Between 1 and {MOST_DEVICES} PCI devices can be asked for at a time.")
        if not any(request.spec):
            raise errors.Invalid("A request for PCI devices must say which.")
        if request.numa_policy not in (None, *NUMA_POLICIES):
            raise errors.Invalid("The PCI NUMA affinity policy must be one of " + ", ".join(NUMA_POLICIES) + ".")


def _parse_alias(text: str) -> PciRequest:
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
        raise errors.Invalid(f"PCI alias {text[:100]!r} is not a JSON object of texts.")
    name = given.get("name", "").strip()
    if not name or len(name) > 256 or given.keys() - ALIAS_KEYS - {*ALIAS_TAGS}:
        raise errors.Invalid(f"PCI alias {text[:100]!r} has no proper name, or keys that are not known.")
    policy = given.get("numa_policy") or "legacy"
    kind = given.get("device_type")
    if policy not in NUMA_POLICIES or kind not in (None, *ALIASED_KINDS):
        raise errors.Invalid(f"PCI alias {name[:100]!r} has a NUMA policy or device type that is not known.")
    spec = {key: given[key] for key in ("vendor_id", "product_id", *ALIAS_TAGS) if key in given}
    if not all(_ID.matches(spec.get(key, "")) for key in ("vendor_id", "product_id")):
        raise errors.Invalid(f"PCI alias {name[:100]!r} must have a vendor_id and a product_id of four hex digits.")
    if kind:
        spec["dev_type"] = kind
    if "live_migratable" in given:
        spec["live_migratable"] = _flag(name, given["live_migratable"])
    return PciRequest(count=1, spec=(spec,), numa_policy=policy, alias_name=name)


_ID = Pattern(r"[0-9a-fA-F]{4}")


def _flag(name: str, text: str) -> str:
    said = text.strip().lower()
    if said in ("1", "t", "true", "on", "y", "yes"):
        return "true"
    if said in ("0", "f", "false", "off", "n", "no"):
        return "false"
    raise errors.Invalid(f"PCI alias {name[:100]!r}: live_migratable must be true or false.")
