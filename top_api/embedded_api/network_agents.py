"""What hosts do for networks, and how many addresses those have left, as Neutron shows them to administrators."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from cellcloud import errors
from cellcloud.db.networks import stamp
from cellcloud.embedded.networks import NetworkAddresses
from cellcloud.model.host import ServiceRecord
from cellcloud.model.subnet_arithmetic import Pool
from top_api.embedded_api import network_list_filters as lists
from top_api.embedded_api.error_formats import NETWORK as API
from top_api.request_pipeline import Call, Resource

network_agents = Resource("network_agents", API)
_HOSTS = "nova-compute"
# What each host does, in the words of Neutron's agents: bridges, addresses, metadata; routers where they are placed.
_DUTIES = {
    "Linux bridge agent": "N/A",
    "DHCP agent": "dhcp_agent",
    "Metadata agent": "N/A",
    "L3 agent": "l3_agent",
}


@network_agents.route("GET", "/v2.0/agents", "cellcloud:network_discovery")
def list_agents(call: Call) -> dict[str, Any]:
    page = lists.AGENTS.page(call)
    return lists.listed(call, "agents", lists.chosen(_agents(call), page), page)


@network_agents.route("GET", "/v2.0/agents/<agent_id>", "cellcloud:network_discovery")
def show_agent(call: Call, agent_id: str) -> dict[str, Any]:
    for agent in _agents(call):
        if agent["id"] == agent_id:
            return {"agent": lists.fields(call, agent)}
    raise errors.NotFound(f"Agent {agent_id[:64]} could not be found.")


def _agents(call: Call) -> Iterator[dict[str, Any]]:
    """Yield them all; none for whom the rule lets see none, as Neutron does."""
    if not call.allows("get_agent"):
        return
    answers = call.services.cells.ask_all(call.context, "services", lambda cell, patient: cell.list_services(patient))
    for _, found, fresh in answers:
        for service in found:
            if service.binary == _HOSTS:
                for duty, topic in _DUTIES.items():
                    yield _agent(service, duty, topic, alive=fresh and service.up and not service.forced_down)


def _agent(service: ServiceRecord, duty: str, topic: str, *, alive: bool) -> dict[str, Any]:
    started = service.created_at and stamp(service.created_at)
    return {
        "id": str(uuid.uuid5(uuid.UUID(service.id), duty)),
        "agent_type": duty,
        "binary": service.binary,
        "host": service.host,
        "topic": topic,
        "availability_zone": "nova" if topic != "N/A" else None,
        "admin_state_up": True,
        "alive": alive,
        "created_at": started,
        "started_at": started,
        "heartbeat_timestamp": service.last_seen and stamp(service.last_seen),
        "description": "",
        "configurations": {},
        "resources_synced": None,
    }


# ---- addresses -------------------------------------------------------------------------------------------------------
@network_agents.route("GET", "/v2.0/network-ip-availabilities", "cellcloud:network_discovery")
def list_availabilities(call: Call) -> dict[str, Any]:
    page = lists.IP_AVAILABILITIES.page(call)
    versions = next((one.values for one in page.where if one.name == "ip_version"), None)
    where = tuple(one for one in page.where if one.name != "ip_version")
    name = "network_ip_availabilities"
    found = [_availability(one, versions) for one in _addresses(call)]
    if versions is not None:
        found = [one for one in found if one["subnet_ip_availability"]]
    return lists.listed(call, name, lists.chosen(found, replace(page, where=where), "network_id"), page, "network_id")


@network_agents.route("GET", "/v2.0/network-ip-availabilities/<network_id>", "cellcloud:network_discovery")
def show_availability(call: Call, network_id: str) -> dict[str, Any]:
    for one in _addresses(call, network_id):
        return {"network_ip_availability": lists.fields(call, _availability(one))}
    raise errors.NotFound(f"Network {network_id[:64]} could not be found.")


def _addresses(call: Call, network_id: str | None = None) -> list[NetworkAddresses]:
    if not call.allows("get_network_ip_availability"):
        return []
    return call.embedded.networks.count_addresses(network_id)


def _availability(found: NetworkAddresses, versions: Sequence[int] | None = None) -> dict[str, Any]:
    subnets = [
        {
            "subnet_id": subnet.id,
            "subnet_name": subnet.name,
            "cidr": subnet.cidr,
            "ip_version": subnet.ip_version,
            "total_ips": Pool(subnet).size,
            "used_ips": used,
        }
        for subnet, used in found.subnets
        if versions is None or subnet.ip_version in versions
    ]
    return {
        "network_id": found.network.id,
        "network_name": found.network.name,
        "project_id": found.network.project_id,
        "tenant_id": found.network.project_id,
        "total_ips": sum(one["total_ips"] for one in subnets),
        "used_ips": sum(one["used_ips"] for one in subnets),
        "subnet_ip_availability": subnets,
    }
