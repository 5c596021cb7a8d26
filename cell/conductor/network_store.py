"""The conductor's verbs for plans of networks: kept for the hosts, and told them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from cellcloud import errors
from cellcloud.batching import portions
from cellcloud.context import RequestContext, service_context
from cellcloud.db import network_plans
from cellcloud.db.engine import Database, retried
from cellcloud.model import codec
from cellcloud.model.cell import Finding
from cellcloud.model.network_plan import GivenPlan, HostEndpoint, PlanChanges, PlanVersion, make_changes
from cellcloud.rpc.compute import Compute

CHECK, REMEDY = "networks", "restart the host's compute service, which makes its networks anew"
ASKED_AT_ONCE = 16  # compute services
BUDGET = 8.0  # seconds that each has
LOG = logging.getLogger(__name__)


class NetworkStoreService:
    """Implements ``cellcloud.rpc.network_store.NetworkStore``. ``compute_of``: a host's compute service, the same for
    hosts that share one."""

    def __init__(self, database: Database, compute_of: Callable[[str], Compute]) -> None:
        self._database = database
        self._compute_of = compute_of

    def list_plans(self, context: RequestContext) -> list[PlanVersion]:
        with self._database.read() as connection:
            return network_plans.list_versions(connection)

    def set_plans(self, context: RequestContext, plans: list[GivenPlan], removed: list[str]) -> None:
        touched = _store(self._database, plans, removed)
        found = {one.key: one for one in plans}
        computes: dict[int, tuple[Compute, dict[str, set[str]]]] = {}
        for host, mine in touched.items():
            try:
                compute = self._compute_of(host)
            except errors.NotFound:
                continue  # it is told when it comes
            computes.setdefault(id(compute), (compute, {}))[1][host] = mine
        for compute, told in computes.values():
            self._tell(compute, told, found)

    def _tell(self, compute: Compute, told: dict[str, set[str]], found: dict[str, GivenPlan]) -> None:
        """Tell the hosts of one service; what is lost on the way they ask for themselves."""
        wanted = [found[key] for key in sorted(set().union(*told.values()) & found.keys())]
        lost = {
            host: [key for key in sorted(keys) if key not in found or host not in found[key].hosts]
            for host, keys in told.items()
        }
        try:
            for some in list(portions(wanted, codec.wire_size)) or [[]]:
                compute.change_plans(service_context(), sorted(told), some, lost)
                lost = {}
        except errors.CellcloudError as error:
            LOG.warning("hosts not told of networks", extra={"hosts": sorted(told)[:5], "why": error.message})

    def list_endpoints(self, context: RequestContext) -> list[HostEndpoint]:
        with self._database.read() as connection:
            return network_plans.list_endpoints(connection)

    def compare_plans(self, context: RequestContext, host: str, versions: dict[str, int]) -> PlanChanges | None:
        with self._database.read() as connection:
            if not network_plans.is_given(connection):
                return None
            wanted = network_plans.list_versions_of(connection, host)
            lacking = [key for key, version in wanted.items() if versions.get(key, -1) < version]
            found = network_plans.find(connection, lacking)
        removed = sorted(versions.keys() - wanted.keys())
        return make_changes(next(portions(found, codec.wire_size), []), removed)

    def check(self, hosts: Collection[str]) -> list[Finding]:
        """Return what is wrong with the networks of hosts, as ``doctor check`` lists it: where they are asked twice
        and say the same, for plans change all the while."""
        with self._database.read() as connection:
            if not network_plans.is_given(connection):
                return []
        first = self._ask(hosts)
        again = self._ask([host for host, told in first.items() if told])
        found = [
            Finding(check=CHECK, severity="error", subject=host, text=text, remedy=REMEDY)
            for host, told in sorted(again.items())
            for text in told
            if text in first[host]
        ]
        return found or [Finding(check=CHECK, severity="ok", subject="-", text="nothing wrong")]

    def _ask(self, hosts: Collection[str]) -> dict[str, list[str]]:
        """Return what hosts find wrong with their networks; those of one service are asked together."""
        computes: dict[int, tuple[Compute, list[str]]] = {}
        for host in hosts:
            with suppress(errors.NotFound):
                compute = self._compute_of(host)
                computes.setdefault(id(compute), (compute, []))[1].append(host)

        def ask(one: tuple[Compute, list[str]]) -> dict[str, list[str]]:
            compute, mine = one
            try:
                return compute.check_networks(service_context(BUDGET), mine)
            except errors.CellcloudError as error:
                return {host: [f"does not tell of its networks: {error.message}"] for host in mine}

        with ThreadPoolExecutor(ASKED_AT_ONCE, thread_name_prefix="networks") as pool:
            answers = list(pool.map(ask, computes.values()))
        return {host: told for answer in answers for host, told in answer.items()}


@retried
def _store(database: Database, plans: list[GivenPlan], removed: list[str]) -> dict[str, set[str]]:
    with database.write() as connection:
        return network_plans.store(connection, plans, removed)
