"""Reading one cell through its own queue, with the top away."""

from __future__ import annotations

from dataclasses import replace

from cellcloud import errors
from cellcloud.config import Config
from cellcloud.context import RequestContext, service_context
from cellcloud.model.cell import Cell, Finding
from cellcloud.model.host import Host
from cellcloud.model.run import RunRecord, TimelineEntry
from cellcloud.model.server import ServerRecord
from cellcloud.rpc.conductor import Conductor

BUDGET = 10.0  # seconds for one question
PAGE = 200


class LocalSource:
    """Asks the conductor of the cell whose option file was given."""

    def __init__(self, config: Config, conductor: Conductor) -> None:
        self._name = config.cell.name
        self._conductor = conductor

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
            records = self._conductor.get_servers(_context(), [server_id for server_id, _ in page])
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

    def _shown(self, record: ServerRecord) -> ServerRecord:
        """Without what the user gave to the guest alone."""
        return replace(record, cell=self._name, spec=replace(record.spec, user_data=None))


def _context() -> RequestContext:
    return service_context(BUDGET)
