"""A host's address must be in the network that was asked for. Source: Nova's SimpleCIDRAffinityFilter."""

from __future__ import annotations

import ipaddress

import numpy as np

from cell.scheduler.filter_rejection import HostRefusal
from cell.scheduler.policy import host_state_attributes
from cell.scheduler.policy.filters.interface import FilterContext
from cell.scheduler.request.scheduling_request import SchedulingRequest
from cell.scheduler.state.array_types import Flags, Places
from cell.scheduler.state.host_table import HostTable
from cellcloud.model.hints import Network

ADDRESS = ("host_ip",)


class CidrFilter:
    """Asked once an address."""

    name = "SimpleCIDRAffinityFilter"
    once = True
    on_rebuild = False

    def applies(self, request: SchedulingRequest, context: FilterContext) -> bool:
        return request.shape.near is not None

    def passes(self, table: HostTable, places: Places, request: SchedulingRequest, context: FilterContext) -> Flags:
        near = request.shape.near
        if near is None:
            return np.ones(len(places), dtype=np.bool_)
        codes, addresses = host_state_attributes.codes_of(table, "variable", ADDRESS)
        verdicts = np.array([_refuse(near, address) is None for address in addresses], dtype=np.bool_)
        return np.asarray(verdicts[codes[places]])

    def refuse_at(
        self, table: HostTable, position: int, request: SchedulingRequest, context: FilterContext
    ) -> HostRefusal | None:
        near = request.shape.near
        return None if near is None else _refuse(near, table.states[position].host_ip)


def _refuse(near: Network, address: str | None) -> HostRefusal | None:
    try:
        found = ipaddress.ip_address(address or "")
    except ValueError:
        return HostRefusal("has no proper address")
    return None if found in near else HostRefusal(f"has address {address}, not in {near}")


FILTER = CidrFilter()
