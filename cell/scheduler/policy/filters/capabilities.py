"""A host must have what extra specs ask of its attributes and stats: ``capabilities:NAME:KEY``, or a plain name.

Source: Nova's ComputeCapabilitiesFilter. A plain name that the host does not know is not asked for.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from cell.scheduler.filter_rejection import HostRefusal
from cell.scheduler.policy import host_state_attributes
from cell.scheduler.policy.filters.interface import FilterContext
from cell.scheduler.policy.filters.operators import flaw_of, meets
from cell.scheduler.request.scheduling_request import SHAPES_KEPT, ParsedShape, SchedulingRequest
from cell.scheduler.state.array_types import Flags, Places
from cell.scheduler.state.host_table import HostTable

SCOPE = "capabilities"
ADDRESS_BITS = "hw:maxphysaddr_bits"
Wanted = tuple[str, host_state_attributes.Path, str, bool]
"""An extra spec, the path it names, what is required there, and whether hosts without it pass."""


@lru_cache(maxsize=SHAPES_KEPT)
def wanted_by(shape: ParsedShape) -> tuple[Wanted, ...]:
    """Return what a shape's extra specs ask of hosts' attributes."""
    found: list[Wanted] = []
    for key, requirement in shape.flavor.extra_specs.items():
        path = tuple(key.split(":"))
        if key == ADDRESS_BITS:
            found.append((key, ("cpu_info", "maxphysaddr", "bits"), f">= {requirement}", False))
        elif len(path) == 1:
            found.append((key, path, requirement, key not in host_state_attributes.NAMES))
        elif path[0] == SCOPE:
            found.append((key, path[1:], requirement, False))
    return tuple(found)


class CapabilitiesFilter:
    """Asked once a value of each attribute that is named."""

    name = "ComputeCapabilitiesFilter"
    once = True
    on_rebuild = False

    def applies(self, request: SchedulingRequest, context: FilterContext) -> bool:
        return bool(wanted_by(request.shape))

    def passes(self, table: HostTable, places: Places, request: SchedulingRequest, context: FilterContext) -> Flags:
        found = np.ones(len(places), dtype=np.bool_)
        for wanted in wanted_by(request.shape):
            codes, values = host_state_attributes.codes_of(table, "capability", wanted[1])
            verdicts = np.array([_refuse(wanted, value) is None for value in values], dtype=np.bool_)
            found &= verdicts[codes[places]]
        return found

    def refuse_at(
        self, table: HostTable, position: int, request: SchedulingRequest, context: FilterContext
    ) -> HostRefusal | None:
        for wanted in wanted_by(request.shape):
            refusal = _refuse(wanted, host_state_attributes.value_at(table, position, "capability", wanted[1]))
            if refusal is not None:
                return refusal
        return None


def _refuse(wanted: Wanted, value: Any) -> HostRefusal | None:
    key, _, requirement, optional = wanted
    if value is None:
        return None if optional else HostRefusal(f"does not say what extra spec {key} asks for")
    if meets(value, requirement):
        return None
    flaw = flaw_of(requirement)
    return HostRefusal(
        f"extra spec {key} is malformed: {flaw}" if flaw else f"has {value[:100]}, not {key}={requirement}"
    )


FILTER = CapabilitiesFilter()
