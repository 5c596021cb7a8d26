"""What of a host stays as it is from claim to claim. Hosts of which all that is equal are of one class, and share the
outcome of every rule that reads nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import msgspec

from cellcloud.model.host import Aggregate, HostState

MOST = 1 << 53
"""Of a number in an aggregate's metadata, either way."""


@dataclass(frozen=True, kw_only=True)
class HostClass:
    """``cpu_info`` is JSON text with sorted keys, as Nova holds it. ``metrics`` are names only.

    ``aggregates``: (uuid, metadata in order) of each that holds the host.
    """

    enabled: bool
    up: bool
    zone: str
    cell: str
    traits: frozenset[str]
    classes: frozenset[str]
    hypervisor_type: str | None
    hypervisor_version: int | None
    cpu_info: str
    supported_instances: tuple[tuple[str, ...], ...]
    metrics: frozenset[str]
    aggregates: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = field(default=())

    @cached_property
    def aggregate_uuids(self) -> frozenset[str]:
        return frozenset(uuid for uuid, _ in self.aggregates)

    @cached_property
    def metadata(self) -> Mapping[str, frozenset[str]]:
        """The aggregates' metadata by key, values split at commas. Source: aggregate_metadata_get_by_host."""
        found: dict[str, set[str]] = {}
        for _, pairs in self.aggregates:
            for key, value in pairs:
                found.setdefault(key, set()).update(part.strip() for part in value.split(","))
        return {key: frozenset(values) for key, values in found.items()}

    def values_of(self, key: str) -> frozenset[str]:
        """Return the aggregates' values of one key, whole. Source: aggregate_values_from_key."""
        return frozenset(value for _, pairs in self.aggregates for name, value in pairs if name == key)

    def least_of(self, key: str, kind: type[int] | type[float], default: float) -> float:
        """Return the least of the aggregates' values of a key; the default when there is none, or one is no number or
        absurd.

        Source: validate_num_values.
        """
        try:
            values = [kind(value) for value in self.values_of(key)]
        except (ValueError, OverflowError):
            return default
        return min(values, default=default) if all(abs(value) <= MOST for value in values) else default


ABSENT = HostClass(
    enabled=False,
    up=False,
    zone="",
    cell="",
    traits=frozenset(),
    classes=frozenset(),
    hypervisor_type=None,
    hypervisor_version=None,
    cpu_info="",
    supported_instances=(),
    metrics=frozenset(),
)
"""The class of a host that is not there."""


@lru_cache(maxsize=1024)
def _written(value: bytes) -> str:
    return json.dumps(msgspec.json.decode(value), sort_keys=True)


def text_of(value: Mapping[str, object]) -> str:
    """Return JSON text with sorted keys, as Nova writes it; hosts of one kind say the same."""
    return _written(msgspec.json.encode(value, order="sorted"))


def host_class_of(state: HostState, aggregates: Iterable[Aggregate]) -> HostClass:
    """Return a host's class, given the aggregates that hold it."""
    return HostClass(
        enabled=state.enabled,
        up=state.up,
        zone=state.zone,
        cell=state.cell,
        traits=frozenset(state.traits),
        classes=frozenset(name for name, amount in state.capacity.items() if amount > 0),
        hypervisor_type=state.hypervisor_type,
        hypervisor_version=state.hypervisor_version,
        cpu_info=text_of(state.cpu_info) if state.cpu_info else "",
        supported_instances=tuple(tuple(one) for one in state.supported_instances),
        metrics=frozenset(metric.name for metric in state.metrics),
        aggregates=tuple((one.uuid or str(one.id), tuple(one.metadata.items())) for one in aggregates),
    )
