"""How a server's ports look at each microversion."""

from __future__ import annotations

from typing import Any

from cellcloud.model.network import Port
from top_api.request_pipeline import Call


def show(call: Call, port: Port, state: str) -> dict[str, Any]:
    """``state``: in the network service's words; the guest has not yet one that is being attached."""
    shown: dict[str, Any] = {
        "net_id": port.network_id,
        "port_id": port.id,
        "mac_addr": port.mac_address,
        "port_state": "DOWN" if port.is_attaching else state,
        "fixed_ips": [{"ip_address": ip.ip_address, "subnet_id": ip.subnet_id} for ip in port.fixed_ips],
    }
    return shown | ({"tag": port.tag} if call.version >= (2, 70) else {})
