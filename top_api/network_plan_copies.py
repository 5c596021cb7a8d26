"""Give each cell the plans of the networks that its hosts carry: changes soon, and what it lacks now and then."""

from __future__ import annotations

from cellcloud import clock
from cellcloud.batching import portions
from cellcloud.context import service_context
from cellcloud.db import network_hosts, network_versions
from cellcloud.db.engine import Database, transact
from cellcloud.model import codec
from cellcloud.model.network_plan import GROUP, NETWORK, ROUTER, HostEndpoint
from cellcloud.rpc.network_store import NetworkStore
from top_api.network_plan_documents import PlanDocuments
from top_api.network_plan_needs import PlanNeeds
from top_api.network_plans import Needs, Stamp, read_stamp

ENDPOINTS_SECONDS = 5.0  # until what cells tell of their hosts is asked for again; between two looks unless woken
REPAIR_SECONDS = 30.0  # until what a cell keeps is compared anew
PAUSE = 0.5  # seconds after something was given, so that changes that come together are given together
LEISURE = 3.0  # times as long as a look took, if that is longer


class PlanCopyKeeper:
    """Looks whether one cell has its plans."""

    def __init__(
        self, database: Database, cell: str, store: NetworkStore, budget: float, documents: PlanDocuments
    ) -> None:
        self._database = database
        self._cell = cell
        self._store = store
        self._needs = PlanNeeds(cell)
        self._budget = budget
        self._documents = documents
        self._stamp: Stamp | None = None
        self._given: Needs | None = None  # what the cell keeps, as far as is known
        self._told: list[HostEndpoint] | None = None  # by the cell, and noted
        self._asked = self._repaired = -REPAIR_SECONDS

    @property
    def is_behind(self) -> bool:
        """Return whether it is not known that the cell has its plans."""
        return self._given is None

    def look(self) -> None:
        """Give the cell what is new to it."""
        began = clock.monotonic()
        if began - self._repaired >= REPAIR_SECONDS:
            self._given = self._told = None
        if began - self._asked >= ENDPOINTS_SECONDS:
            self._ask_endpoints()
            self._asked = began
        with self._database.read_as_one() as connection:
            stamp = read_stamp(connection)
            if stamp == self._stamp and self._given is not None:
                return
            needs = self._needs.read(connection, stamp, anew=self._given is None)
        if self._given is None:
            kept = self._store.list_plans(service_context(self._budget))
            self._given = {one.key: (one.version, tuple(one.hosts.split())) for one in kept}
            self._repaired = began
            if self._overtake(needs):
                return
            self._give(stamp, needs, always=True)
        else:
            self._give(stamp, needs)
        clock.sleep(max(PAUSE, LEISURE * (clock.monotonic() - began)))

    def _ask_endpoints(self) -> None:
        told = self._store.list_endpoints(service_context(self._budget))
        if told != self._told:
            transact(self._database, lambda connection: network_hosts.note_endpoints(connection, self._cell, told))
            self._told = told
        with self._database.read() as connection:
            settled = network_hosts.is_settled(connection)
        if not settled:
            transact(self._database, network_hosts.place_routers)

    def _give(self, stamp: Stamp, needs: Needs, *, always: bool = False) -> None:
        """Send what is new. ``always``: also nothing, which tells a cell that it is given plans."""
        given = self._given or {}
        self._given = None  # until it is known again
        changed = [key for key, need in needs.items() if given.get(key) != need]
        removed = sorted(given.keys() - needs.keys())
        plans = self._documents.get(needs, changed)
        for some in list(portions(plans, codec.wire_size)) or ([[]] if removed or always else []):
            self._store.set_plans(service_context(self._budget), some, removed)
            removed = []
        self._stamp = stamp
        self._given = {key: need for key, need in needs.items() if key not in changed} | {
            one.key: (one.version, one.hosts) for one in plans
        }

    def _overtake(self, needs: Needs) -> bool:
        """Let what the cell keeps under a higher version than there is (the database was put back) grow above that;
        whether there was any."""
        behind: dict[str, list[tuple[str, int]]] = {NETWORK: [], GROUP: [], ROUTER: []}
        for key, (version, _) in (self._given or {}).items():
            if key in needs and version > needs[key][0]:
                kind, _, one = key.partition("/")
                behind[kind].append((one, version))
        if not any(behind.values()):
            return False
        transact(
            self._database,
            lambda connection: network_versions.overtake(
                connection, networks=behind[NETWORK], groups=behind[GROUP], routers=behind[ROUTER]
            ),
        )
        self._given = None
        return True
