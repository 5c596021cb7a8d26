"""Answers about what a server's guest has used, its password, and where its processors and memory lie."""

from __future__ import annotations

from cellcloud.server_states import PowerState
from top_api.answers.types import BOOLEAN, COUNT, INTEGER, MAC, NULL, TEXT, WORD, a_word, only
from top_api.response_schema import FieldParts, Fields, changing, list_of, map_of, nullable, shown_by

_DISK = Fields(dict.fromkeys(("read_bytes", "read_requests", "write_bytes", "write_requests", "errors_count"), COUNT))
_COUNTED = [f"{way}_{what}" for way in ("rx", "tx") for what in ("octets", "errors", "drop", "packets")]
_NIC = Fields({"mac_address": MAC, "rx_rate": NULL, "tx_rate": NULL, **dict.fromkeys(_COUNTED, COUNT)})
_DIAGNOSTICS = Fields(
    {
        "state": a_word(["pending", *(state.name.lower() for state in PowerState if state)]),
        "driver": {"const": "libvirt"},
        "hypervisor": WORD,
        "hypervisor_os": WORD,
        "uptime": nullable(COUNT),
        "config_drive": BOOLEAN,
        **dict.fromkeys(("num_cpus", "num_nics", "num_disks"), COUNT),
        "disk_details": list_of(_DISK),
        "cpu_details": list_of(Fields({"id": COUNT, "time": nullable(COUNT), "utilisation": NULL})),
        "nic_details": list_of(_NIC),
        "memory_details": Fields({"maximum": COUNT, "used": COUNT}),
    },
    name="Diagnostics",
)
DIAGNOSTICS = changing(map_of(INTEGER), {48: _DIAGNOSTICS})
PASSWORD = only("password", TEXT)
_ON_HOST = "compute:server:topology:host:index"
_CELL: FieldParts = {
    "vcpu_set": list_of(COUNT),
    "siblings": list_of(list_of(COUNT)),
    "memory_mb": COUNT,
    "host_node": shown_by(_ON_HOST, COUNT),
    "cpu_pinning": shown_by(_ON_HOST, map_of(COUNT, propertyNames={"pattern": "[0-9]+"})),
}
TOPOLOGY = Fields({"nodes": list_of(Fields(_CELL)), "pagesize_kb": nullable(COUNT)})
