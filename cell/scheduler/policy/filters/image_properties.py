"""A host must run the image's kind of guest: architecture, hypervisor type and version, VM mode, address width.

Source: Nova's ImagePropertiesFilter.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable
from functools import lru_cache

from packaging.version import InvalidVersion, Version

from cell.scheduler.filter_rejection import HostRefusal
from cell.scheduler.policy.filters.interface import FilterContext, HostClassFilter
from cell.scheduler.request.scheduling_request import SchedulingRequest
from cell.scheduler.state.host_class import HostClass
from cellcloud.model.property_value_types import VERSION_CONDITION, architecture

_COMPARE: dict[str, Callable[[Version, Version], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    ">": operator.gt,
    ">=": operator.ge,
    "!=": operator.ne,
}


def refuse(host_class: HostClass, request: SchedulingRequest, context: FilterContext) -> HostRefusal | None:
    """Refuse a host that advertises no such guests, whose hypervisor has another version, or too narrow addresses."""
    props = request.shape.image_props
    default = context.options.image_properties_default_architecture
    wanted = [str(props[name]) for name in ("hw_architecture", "img_hv_type", "hw_vm_mode") if name in props]
    if "hw_architecture" not in props and default is not None:
        wanted.append(architecture(default))
    if not wanted:
        return None
    if not any(all(one in supported for one in wanted) for supported in host_class.supported_instances):
        return HostRefusal(f"does not run {' '.join(wanted)} guests")
    version = props.get("img_hv_requested_version")
    if version and host_class.hypervisor_version and not satisfies(host_class.hypervisor_version, str(version)):
        return HostRefusal(f"has hypervisor version {version_text(host_class.hypervisor_version)}, not {version}")
    bits = props.get("hw_maxphysaddr_bits")
    return _refuse_bits(host_class, bits) if isinstance(bits, int) and bits else None


def _refuse_bits(host_class: HostClass, wanted: int) -> HostRefusal | None:
    found = address_bits(host_class.cpu_info)
    return HostRefusal("bits of physical address", wanted, found) if found and found < wanted else None


@lru_cache(maxsize=1024)
def address_bits(cpu_info: str) -> int:
    """Return the width of a CPU's physical addresses; 0 when the host does not say."""
    info = json.loads(cpu_info) if cpu_info else {}
    width = info.get("maxphysaddr") if isinstance(info, dict) else None
    bits = width.get("bits") if isinstance(width, dict) else None
    return bits if isinstance(bits, int) else 0


def version_text(number: int) -> str:
    """Return a hypervisor's version as text: thousands are the parts."""
    parts: list[str] = []
    while number:
        number, part = divmod(number, 1000)
        parts.append(str(part))
    return ".".join(reversed(parts))


@lru_cache(maxsize=4096)
def satisfies(number: int, conditions: str) -> bool:
    """Return whether a version meets all of ``conditions``, as ">=6.0,<8.0"; of malformed ones it meets none."""
    version = Version(version_text(number))
    for condition in conditions.split(","):
        found = VERSION_CONDITION.groups(condition)
        try:
            if found is None or not _COMPARE[found[0]](version, Version(found[1])):
                return False
        except InvalidVersion:
            return False
    return True


FILTER = HostClassFilter("ImagePropertiesFilter", refuse, on_rebuild=True)
