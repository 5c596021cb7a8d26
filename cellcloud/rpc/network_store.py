"""What the top gives a cell of networks. Conductors serve it beside their other verbs."""

from __future__ import annotations

from typing import Protocol

from cellcloud.context import RequestContext
from cellcloud.model.network_plan import GivenPlan, HostEndpoint, PlanChanges, PlanVersion
from cellcloud.rpc.accounts import Role
from cellcloud.rpc.interface import call, served_by


@served_by(Role.CONDUCTOR, callers=(Role.TOP,))
class NetworkStore(Protocol):
    @call(timeout=10.0, pages=("key",))
    def list_plans(self, context: RequestContext) -> list[PlanVersion]:
        """Return what the cell keeps, for which hosts, by key."""
        ...

    @call(timeout=10.0)
    def set_plans(self, context: RequestContext, plans: list[GivenPlan], removed: list[str]) -> None:
        """Keep some documents, drop others by key, and tell the hosts. What is stored with a higher version stays."""
        ...

    @call(timeout=5.0, pages=("host",))
    def list_endpoints(self, context: RequestContext) -> list[HostEndpoint]:
        """Return where each host of the cell takes packets of networks, by host."""
        ...

    @call(timeout=10.0, by=(Role.HOST,), about="host")
    def compare_plans(self, context: RequestContext, host: str, versions: dict[str, int]) -> PlanChanges | None:
        """Return what a host lacks of its plans, and what it holds no more: as much as fits into a message, so that it
        asks again until there is nothing. None: the cell is given no plans."""
        ...
