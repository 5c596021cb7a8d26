"""A host must have what extra specs ask of its attributes and stats: ``capabilities:NAME:KEY``, or a plain name.

Source: Nova's ComputeCapabilitiesFilter. A plain name that the host does not know is not asked for.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from cell.scheduler.policy import host_attributes
from cell.scheduler.policy.filters.operators import flaw_of, meets
from cell.scheduler.policy.filters.rule import Context
from cell.scheduler.refusal import Refusal
from cell.scheduler.request.request import SHAPES_KEPT, Request, Shape
from cell.scheduler.state.snapshot import Flags, Places, Snapshot

SCOPE = "capabilities"
ADDRESS_BITS = "hw:maxphysaddr_bits"
Wanted = tuple[str, host_attributes.Path, str, bool]
"""An extra spec, the path it names, what is required there, and whether hosts without it pass."""


@lru_cache(maxsize=SHAPES_KEPT)
def wanted_by(shape: Shape) -> tuple[Wanted, ...]:
    """What a shape's extra specs ask of hosts' attributes."""
    found: list[Wanted] = []
    for key, requirement in shape.flavor.extra_specs.items():
        path = tuple(key.split(":"))
        if key == ADDRESS_BITS:
            found.append((key, ("cpu_info", "maxphysaddr", "bits"), f">= {requirement}", False))
        elif len(path) == 1:
            found.append((key, path, requirement, key not in host_attributes.NAMES))
        elif path[0] == SCOPE:
            found.append((key, path[1:], requirement, False))
    return tuple(found)


class CapabilitiesFilter:
    """Asked once a value of each attribute that is named."""

    name = "ComputeCapabilitiesFilter"
    once = True
    on_rebuild = False

    def applies(self, request: Request, context: Context) -> bool:
        return bool(wanted_by(request.shape))

    def passes(self, snapshot: Snapshot, places: Places, request: Request, context: Context) -> Flags:
        found = np.ones(len(places), dtype=np.bool_)
        for wanted in wanted_by(request.shape):
            codes, values = host_attributes.codes_of(snapshot, "capability", wanted[1])
            verdicts = np.array([_refuse(wanted, value) is None for value in values], dtype=np.bool_)
            found &= verdicts[codes[places]]
        return found

    def refuse_at(self, snapshot: Snapshot, position: int, request: Request, context: Context) -> Refusal | None:
        for wanted in wanted_by(request.shape):
            refusal = _refuse(wanted, host_attributes.value_at(snapshot, position, "capability", wanted[1]))
            if refusal is not None:
                return refusal
        return None


def _refuse(wanted: Wanted, value: Any) -> Refusal | None:
    key, _, requirement, optional = wanted
    if value is None:
        return None if optional else Refusal(f"does not say what extra spec {key} asks for")
    if meets(value, requirement):
        return None
    flaw = flaw_of(requirement)
    return Refusal(f"extra spec {key} is malformed: {flaw}" if flaw else f"has {value[:100]}, not {key}={requirement}")


FILTER = CapabilitiesFilter()
