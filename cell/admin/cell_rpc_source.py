"""Reading one cell through its own queue, with the top away."""

from __future__ import annotations

from dataclasses import replace

from cellcloud import errors
from cellcloud.batching import in_full
from cellcloud.config import Config
from cellcloud.context import RequestContext, service_context
from cellcloud.model.cell import Cell, Finding
from cellcloud.model.decision import Shape
from cellcloud.model.explanation import (
    CellAggregate,
    CellPolicy,
    CellShadow,
    Explanation,
    Fits,
    Loss,
    Replayed,
)
from cellcloud.model.flavor import Flavor
from cellcloud.model.host import Aggregate, Host
from cellcloud.model.observed_guests import UnknownGuest
from cellcloud.model.run import RunRecord, TimelineEntry
from cellcloud.model.server import ServerRecord
from cellcloud.rpc.conductor import Conductor
from cellcloud.rpc.scheduler import Scheduler
from cellcloud.rpc.scheduling_store import SchedulingStore

BUDGET = 10.0  # seconds for one question
LONG_BUDGET = 60.0  # for one that a decision is made again for
PAGE = 200
MOST_SERVERS = 1_000_000
THE_TOPS = "Aggregates are made at the top, and cells are given copies: leave out --local."


class LocalSource:
    """Asks the services of the cell whose option file was given."""

    def __init__(
        self,
        config: Config,
        conductor: Conductor,
        scheduler: Scheduler | None = None,
        store: SchedulingStore | None = None,
    ) -> None:
        self._name = config.cell.name
        self._conductor = conductor
        self._own_scheduler, self._own_store = scheduler, store

    def list_cells(self) -> list[Cell]:
        digest = self._conductor.get_digest(_context())
        return [Cell(name=self._name, health="up", digest=digest)]

    def get_cell(self, name: str) -> Cell:
        if name != self._name:
            raise errors.NotFound(
                f"This is cell {self._name}; cell {name} has to be read through the top or by itself."
            )
        return self.list_cells()[0]

    def list_hosts(self, cell: str | None) -> list[Host]:
        if cell is not None:
            self.get_cell(cell)
        return [replace(host, cell=self._name) for host in self._conductor.list_hosts(_context())]

    def list_servers(self, *, cell: str | None, project: str | None, limit: int) -> list[ServerRecord]:
        if cell is not None:
            self.get_cell(cell)
        found: list[ServerRecord] = []
        after = ""
        while len(found) < limit:
            page = self._conductor.list_versions(_context(), after, PAGE)
            if not page:
                break
            after = page[-1][0]
            records = in_full(
                lambda some: self._conductor.get_servers(_context(), some, partly=True),
                [server_id for server_id, _ in page],
                key_of=str,
                answers=lambda record: record.id,
            )
            found += [self._shown(record) for record in records if project in (None, record.spec.project_id)]
        return found[:limit]

    def get_server(self, server_id: str) -> ServerRecord:
        records = self._conductor.get_servers(_context(), [server_id])
        if not records:
            raise errors.NotFound(f"Cell {self._name} has no server {server_id}.")
        return self._shown(records[0])

    def get_timeline(self, server_id: str) -> list[TimelineEntry]:
        return self._conductor.get_timeline(_context(), server_id)

    def list_operations(self, *, server_id: str | None, unfinished: bool) -> list[RunRecord]:
        return self._conductor.list_runs(_context(), server_id, unfinished)

    def get_operation(self, run_id: str) -> RunRecord:
        return self._conductor.get_run(_context(), run_id)

    def list_findings(self) -> list[Finding]:
        return self._conductor.check_books(service_context(30.0))

    def repair(self, server_ids: list[str], *, keep: str | None) -> list[Finding]:
        raise errors.Invalid("What the index says is mended through the API: leave out --local.")

    def list_unknown_guests(self, *, host: str | None, cell: str | None) -> list[UnknownGuest]:
        self._check(cell)
        return [replace(guest, cell=self._name) for guest in self._conductor.list_unknown_guests(_context(), host)]

    def adopt_guest(self, server_id: str, *, host: str, cell: str | None) -> ServerRecord:
        self._check(cell)
        return self._shown(self._conductor.adopt_guest(_context(), host, server_id))

    def remove_host(self, host: str, *, force: bool, cell: str | None) -> None:
        self._check(cell)
        self._conductor.remove_host(_context(), host, force)

    def release_name(self, host: str, *, cell: str | None) -> None:
        self._check(cell)
        self._conductor.release_name(_context(), host)

    def remove_guest(self, server_id: str, *, host: str, cell: str | None) -> list[UnknownGuest]:
        self._check(cell)
        self._conductor.remove_guest(_context(), host, server_id)
        return [one for one in self.list_unknown_guests(host=host, cell=cell) if one.server_id == server_id]

    # ---- scheduling --------------------------------------------------------------------------------------------
    def find_servers(self, name: str) -> list[ServerRecord]:
        everything = self.list_servers(cell=None, project=None, limit=MOST_SERVERS)
        return [record for record in everything if record.spec.name == name]

    def find_projects(self, name: str) -> list[str] | None:
        return None

    def explain(self, key: str, *, host: str | None, cell: str | None, most: int) -> list[Explanation]:
        found = self._scheduler(cell).explain(_patient(), key, host, most)
        if not found:
            raise errors.NotFound(f"Cell {self._name} keeps no decision about {key}.")
        return [replace(one, cell=self._name) for one in found]

    def replay(self, decision: str, *, policy: dict[str, object] | None, cell: str | None) -> Replayed:
        return replace(self._scheduler(cell).replay(_patient(), decision, policy), cell=self._name)

    def plan_fits(self, flavor: str, *, servers: int, zone: str | None, cell: str | None) -> list[Fits]:
        made = _flavor(flavor)
        shape = Shape(flavor=made, resources=made.resources(), zone=zone)
        return [replace(self._scheduler(cell).plan_fits(_patient(), shape, servers), cell=self._name)]

    def plan_loss(self, hosts: list[str], *, drain: bool) -> list[Loss]:
        return [replace(self._scheduler(None).plan_loss(_patient(), hosts, drain), cell=self._name)]

    def list_policies(self, cell: str | None) -> list[CellPolicy]:
        found = self._store(cell).list_policies(_context())
        return [CellPolicy(cell=self._name, policy=one) for one in found]

    def add_policy(self, document: dict[str, object], *, comment: str, cell: str | None) -> list[CellPolicy]:
        return [CellPolicy(cell=self._name, policy=self._store(cell).add_policy(_context(), document, comment))]

    def set_policy_role(self, role: str, *, version: int | None, cell: str | None) -> list[CellPolicy]:
        found = self._store(cell).set_policy_role(_context(), role, version)
        return [CellPolicy(cell=self._name, policy=one) for one in found]

    def list_shadows(self, cell: str | None) -> list[CellShadow]:
        return [CellShadow(cell=self._name, summary=self._store(cell).summarise_shadow(_patient()))]

    def list_aggregates(self, cell: str | None) -> list[CellAggregate]:
        found = self._store(cell).list_aggregates(_context())
        return [CellAggregate(cell=self._name, aggregate=one) for one in found]

    def create_aggregate(self, name: str, zone: str | None) -> Aggregate:
        raise errors.Invalid(THE_TOPS)

    def change_aggregate(self, number: int, action: str, what: dict[str, object]) -> Aggregate:
        raise errors.Invalid(THE_TOPS)

    def delete_aggregate(self, number: int) -> None:
        raise errors.Invalid(THE_TOPS)

    def _scheduler(self, cell: str | None) -> Scheduler:
        self._check(cell)
        if self._own_scheduler is None:
            raise errors.Unreachable(f"Cell {self._name} has no way to its schedulers.")
        return self._own_scheduler

    def _store(self, cell: str | None) -> SchedulingStore:
        self._check(cell)
        if self._own_store is None:
            raise errors.Unreachable(f"Cell {self._name} has no way to its log.")
        return self._own_store

    def _check(self, cell: str | None) -> None:
        if cell is not None:
            self.get_cell(cell)

    def _shown(self, record: ServerRecord) -> ServerRecord:
        """Without what the user gave to the guest alone."""
        return replace(record, cell=self._name, spec=replace(record.spec, user_data=None))


def _context() -> RequestContext:
    return service_context(BUDGET)


def _patient() -> RequestContext:
    return service_context(LONG_BUDGET)


def _flavor(given: str) -> Flavor:
    """Cells know no flavors, only figures: VCPUS:MIB:GIB."""
    figures = given.split(":")
    if len(figures) != 3 or not all(figure.isdecimal() and len(figure) < 10 for figure in figures):
        raise errors.Invalid(f"A cell alone knows no flavor {given}: give VCPUS:MIB:GIB, as in 2:4096:20.")
    vcpus, memory_mb, root_gb = map(int, figures)
    return Flavor(id=given, name=given, vcpus=vcpus, memory_mb=memory_mb, root_gb=root_gb)
