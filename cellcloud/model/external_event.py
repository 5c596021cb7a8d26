"""External event: what another service tells of a server that it did something for."""

from __future__ import annotations

from dataclasses import dataclass

PORT_DELETED = "network-vif-deleted"
NETWORK_EVENTS = frozenset({"network-changed", "network-vif-plugged", "network-vif-unplugged", PORT_DELETED})
POWER_UPDATE = "power-update"
VOLUME_EXTENDED = "volume-extended"
POWER_TAGS = frozenset({"POWER_ON", "POWER_OFF"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalEvent:
    """``tag``: what it is about, a port, a power state or a volume."""

    server_id: str
    name: str
    tag: str = ""
