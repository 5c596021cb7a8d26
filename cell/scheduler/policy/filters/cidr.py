"""A host's address must be in the network that was asked for. Source: Nova's SimpleCIDRAffinityFilter."""

from __future__ import annotations

import ipaddress

import numpy as np

from cell.scheduler.policy import host_attributes
from cell.scheduler.policy.filters.rule import Context
from cell.scheduler.refusal import Refusal
from cell.scheduler.request.request import Request
from cell.scheduler.state.snapshot import Flags, Places, Snapshot
from cellcloud.model.hints import Network

ADDRESS = ("host_ip",)


class CidrFilter:
    """Asked once an address."""

    name = "SimpleCIDRAffinityFilter"
    once = True
    on_rebuild = False

    def applies(self, request: Request, context: Context) -> bool:
        return request.shape.near is not None

    def passes(self, snapshot: Snapshot, places: Places, request: Request, context: Context) -> Flags:
        near = request.shape.near
        if near is None:
            return np.ones(len(places), dtype=np.bool_)
        codes, addresses = host_attributes.codes_of(snapshot, "variable", ADDRESS)
        verdicts = np.array([_refuse(near, address) is None for address in addresses], dtype=np.bool_)
        return np.asarray(verdicts[codes[places]])

    def refuse_at(self, snapshot: Snapshot, position: int, request: Request, context: Context) -> Refusal | None:
        near = request.shape.near
        return None if near is None else _refuse(near, snapshot.states[position].host_ip)


def _refuse(near: Network, address: str | None) -> Refusal | None:
    try:
        found = ipaddress.ip_address(address or "")
    except ValueError:
        return Refusal("has no proper address")
    return None if found in near else Refusal(f"has address {address}, not in {near}")


FILTER = CidrFilter()
