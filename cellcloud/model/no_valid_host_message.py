"""Why hosts were refused: with all figures for operators, and in a sentence that may be shown to whoever asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

LONGEST = 255  # letters of a fault's message, as in Nova
NO_HOST = "No valid host was found."
"""How the message begins; clients of Nova look for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why a filter refused a host. ``what`` is short: ``needed`` of it, only ``available`` there; both are 0 where it
    is no matter of number. ``text`` says the whole in plain words."""

    filter: str
    text: str
    what: str = ""
    needed: int = 0
    available: int = 0
    where: str = ""

    @property
    def lack(self) -> int:
        """By how much it fell short."""
        return max(0, self.needed - self.available)


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedGroup:
    """``count`` hosts that a filter refused for the same reason; ``reason`` is that of the nearest of them."""

    count: int
    reason: Reason


DOWN = "is down"
Phrase = tuple[str, str]  # of one host, of several
_OTHER: Phrase = ("does not suit the request", "do not suit the request")
_BY_WORD: Mapping[str, Phrase] = {
    "is disabled": ("is disabled", "are disabled"),
    DOWN: ("is down", "are down"),
}
_FULL: Phrase = ("is full", "are full")
_BUSY: Phrase = ("is busy", "are busy")
_APART: Phrase = ("is set apart for others", "are set apart for others")
_GROUP: Phrase = ("does not agree with the server group", "do not agree with the server group")
_IMAGE: Phrase = ("does not suit the image", "do not suit the image")
_FLAVOR: Phrase = ("does not suit the flavor", "do not suit the flavor")
_BY_FILTER: Mapping[str, Phrase] = {
    "names": ("is not one that was asked for", "are not those that were asked for"),
    "ComputeFilter": ("is not available", "are not available"),
    "AvailabilityZoneFilter": ("is in another zone", "are in other zones"),
    "TenantAggregateFilter": _APART,
    "IsolatedAggregateFilter": _APART,
    "IsolatedHostsFilter": _APART,
    "AggregateMultiTenancyIsolation": _APART,
    "TraitsFilter": _FLAVOR,
    "ComputeCapabilitiesFilter": _FLAVOR,
    "AggregateInstanceExtraSpecsFilter": _FLAVOR,
    "AggregateTypeAffinityFilter": _FLAVOR,
    "ImagePropertiesFilter": _IMAGE,
    "AggregateImagePropertiesIsolation": _IMAGE,
    "ServerGroupAffinityFilter": _GROUP,
    "ServerGroupAntiAffinityFilter": _GROUP,
    "DifferentHostFilter": ("does not agree with the hints", "do not agree with the hints"),
    "SameHostFilter": ("does not agree with the hints", "do not agree with the hints"),
    "SimpleCIDRAffinityFilter": ("does not agree with the hints", "do not agree with the hints"),
    "JsonFilter": ("does not agree with the hints", "do not agree with the hints"),
    "NUMATopologyFilter": ("lacks the NUMA cells", "lack the NUMA cells"),
    "PciPassthroughFilter": ("lacks the PCI devices", "lack the PCI devices"),
    "IoOpsFilter": _BUSY,
    "AggregateIoOpsFilter": _BUSY,
    "NumInstancesFilter": _FULL,
    "AggregateNumInstancesFilter": _FULL,
}
_UNITS: Mapping[str, tuple[str, str]] = {"MEMORY_MB": ("memory", "MiB"), "DISK_GB": ("disk", "GiB")}
_CPUS = {"VCPU": "CPUs", "PCPU": "dedicated CPUs"}


_BY_LOAD = frozenset(
    {
        "ResourceClassFilter",
        "NUMATopologyFilter",
        "PciPassthroughFilter",
        "IoOpsFilter",
        "AggregateIoOpsFilter",
        "NumInstancesFilter",
        "AggregateNumInstancesFilter",
        "MetricsFilter",
    }
)


def is_for_now(groups: Iterable[RefusedGroup]) -> bool:
    """Return whether no host fits only because some are down: none that is up is merely full. They may be back soon."""
    reasons = [group.reason for group in groups]
    return any(one.what == DOWN for one in reasons) and not any(one.filter in _BY_LOAD for one in reasons)


def sentence(groups: Iterable[RefusedGroup]) -> str:
    """Why no host fits, for whoever asked: how many hosts for which kind of reason, no names of hosts, aggregates,
    filters or other servers. "" when nothing is known."""
    counts: dict[str, tuple[int, int, Phrase | None]] = {}
    for group in groups:
        key, phrase = _kind(group.reason)
        count, lack, _ = counts.get(key, (0, group.reason.lack, None))
        counts[key] = (count + group.count, min(lack, group.reason.lack), phrase)
    ordered = sorted(counts.items(), key=lambda one: (-one[1][0], one[0]))
    parts = [_part(key, count, lack, phrase) for key, (count, lack, phrase) in ordered]
    while parts:
        said = f"No host fits: {', '.join(parts)}."
        if len(said) + len(NO_HOST) < LONGEST:
            return said
        parts.pop()
    return ""


def message(groups: Iterable[RefusedGroup], otherwise: str = "") -> str:
    """Return the fault's message of a server that no host takes. ``otherwise``: what to say where no host was
    refused."""
    why = sentence(groups) or otherwise
    return f"{NO_HOST} {why}"[:LONGEST] if why else NO_HOST


def _kind(reason: Reason) -> tuple[str, Phrase | None]:
    """Return what groups are counted together by; a phrase, or None for a resource class of which some is lacking."""
    if reason.filter == "ResourceClassFilter":
        return (reason.what, None) if reason.needed else (_FLAVOR[1], _FLAVOR)
    phrase = _BY_WORD.get(reason.what) or _BY_FILTER.get(reason.filter, _OTHER)
    return phrase[1], phrase


def _part(key: str, count: int, lack: int, phrase: Phrase | None) -> str:
    if phrase is not None:
        return f"{count} {phrase[count > 1]}"
    verb = "lack" if count > 1 else "lacks"
    if key in _UNITS:
        what, unit = _UNITS[key]
        if unit == "MiB" and lack >= 1024 and lack % 1024 == 0:
            lack, unit = lack // 1024, "GiB"
        return f"{count} {verb} {what} by at least {lack} {unit}"
    return f"{count} {verb} {_CPUS.get(key, key)} by at least {lack}"
