"""Whether a quiet cloud's books are right: every row of every database, and every guest, has its reason to be there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import sqlalchemy as sa

from cell.compute.drivers.fake_hypervisor import FakeHypervisor
from cellcloud import errors
from cellcloud.db import cell_schema, claims, intents, quotas, servers, top_schema, volume_schema
from cellcloud.db.engine import Connection, Database
from cellcloud.model.server import ServerRecord
from cellcloud.server_states import PowerState, VmState
from tests.cloud import CELLS, Cloud, until

SETTLED = frozenset(VmState) - {VmState.BUILDING, VmState.DELETED}


@dataclass(frozen=True)
class CellBooks:
    """A cell's records, and its hosts as they are when asked."""

    name: str
    database: Database
    hosts: Callable[[], FakeHypervisor]


@dataclass(frozen=True)
class Books:
    """``find_problems`` says all that is wrong; nothing once a cloud has come to rest."""

    top: Database
    cells: Sequence[CellBooks]

    def find_problems(self) -> list[str]:
        """Each thing that has no reason to be there, or is missing."""
        found: list[str] = []
        living: dict[str, ServerRecord] = {}
        for cell in self.cells:
            records = list_records(cell.database)
            found += [f"{cell.name}: {text}" for text in [*_records(cell.database, records), *_guests(cell, records)]]
            found += [f"{record.id} is in two cells" for record in records if record.id in living]
            living |= {record.id: record for record in records}
        return [*found, *self._top(living)]

    def _top(self, living: Mapping[str, ServerRecord]) -> Iterator[str]:
        with self.top.read() as connection:
            for row in connection.execute(
                sa.select(top_schema.intents).where(top_schema.intents.c.state.in_(intents.UNFINISHED))
            ):
                yield f"intent {row.kind} of {row.server_id} is {row.state}"
            for project, resource, counted, recomputed in quotas.recount(connection):
                yield f"quota {resource} of {project}: {counted} counted, {recomputed} recomputed"
            ports = Counter(connection.execute(sa.select(top_schema.ports.c.device_id)).scalars())
            shown = connection.execute(
                sa.select(top_schema.server_index).where(top_schema.server_index.c.deleted.is_(False))
            ).all()
            found = list(_volumes(connection, living))
        yield from found
        for server_id, count in ports.items():
            wanted = len(living[server_id].ports) if server_id in living else 0
            if count != wanted:
                yield f"{server_id} has {count} ports instead of {wanted}"
        for record in living.values():
            if record.vm_state != VmState.ERROR and ports[record.id] != 1:
                yield f"{record.id} is {record.vm_state} with {ports[record.id]} ports"
        yield from _index(shown, living)


def list_records(database: Database) -> list[ServerRecord]:
    """A cell's servers that are not deleted, held ones too."""
    with database.read() as connection:
        rows = connection.execute(sa.select(cell_schema.servers).where(cell_schema.servers.c.deleted.is_(False)))
        return servers.records_of(connection, rows)


def _index(shown: Sequence[sa.Row[tuple[object, ...]]], living: Mapping[str, ServerRecord]) -> Iterator[str]:
    """The top's copies against the cells' records."""
    for row in shown:
        record = living.get(row.id)
        if record is None and row.vm_state != VmState.ERROR:
            yield f"{row.id} is shown as {row.vm_state} and is in no cell"
        elif record is not None and (row.version, row.vm_state) != (record.version, record.vm_state):
            yield f"{row.id} is shown as {row.vm_state} {row.version}, it is {record.vm_state} {record.version}"
    for server_id in living.keys() - {row.id for row in shown}:
        yield f"{server_id} is not shown"


def _volumes(connection: Connection, living: Mapping[str, ServerRecord]) -> Iterator[str]:
    """Volumes at rest, each in use by just those servers that have it."""
    for task in connection.execute(sa.select(volume_schema.volume_tasks)):
        yield f"volume {task.volume_id} waits for {task.task['kind']}"
    rows = connection.execute(sa.select(volume_schema.volume_attachments)).all()
    noted = {(row.id, row.volume_id, row.server_id, row.status) for row in rows}
    held = {(one.attachment_id, one.volume_id, r.id, one.state) for r in living.values() for one in r.volumes}
    for attachment in noted ^ held:
        yield f"attachment {attachment} is of {'its volume' if attachment in noted else 'its server'} only"
    used = {row.volume_id for row in rows}
    for volume in connection.execute(sa.select(volume_schema.volumes)):
        if volume.status != ("in-use" if volume.id in used else "available"):
            yield f"volume {volume.id} is {volume.status}"


def _records(database: Database, records: Sequence[ServerRecord]) -> Iterator[str]:
    """Servers at rest, no run left, and claims that are just what the servers need."""
    for record in records:
        if record.held or record.task_state is not None or record.vm_state not in SETTLED:
            yield f"{record.id} is {record.vm_state} {record.task_state}{' held' * record.held}"
    with database.read() as connection:
        table = cell_schema.runs
        for row in connection.execute(sa.select(table).where(table.c.active == 1)):
            yield f"run {row.operation} of {row.server_id} at step {row.step} ({row.direction} {row.attempt})"
        for host, name, used, held in claims.list_mismatches(connection):
            yield f"{host} counts {used} {name}, claims are {held}"
        rows = connection.execute(sa.select(cell_schema.claims)).all()
        over = connection.execute(
            sa.select(cell_schema.inventories).where(
                cell_schema.inventories.c.used > cell_schema.inventories.c.capacity
            )
        ).all()
    for row in over:
        yield f"{row.host} has promised {row.used} of {row.capacity} {row.resource_class}"
    claimed = {(row.id, row.host, name): amount for row in rows for name, amount in row.holding["resources"].items()}
    wanted = {
        (record.id, record.host, name): amount
        for record in records
        if record.host is not None
        for name, amount in record.spec.flavor.resources().items()
        if amount
    }
    wanted |= {
        (move.id, move.source, name): amount
        for record in records
        if (move := record.migration) is not None
        for name, amount in move.old_flavor.resources().items()
        if amount
    }
    for key in sorted(claimed.keys() | wanted.keys(), key=str):
        if claimed.get(key) != wanted.get(key):
            yield f"claim {key}: {claimed.get(key)} instead of {wanted.get(key)}"


def _guests(cell: CellBooks, records: Sequence[ServerRecord]) -> Iterator[str]:
    """One guest for each server, on its host, in its power state, with its taps; and no other, but what the old host of
    one that has moved has set aside."""
    wanted = {record.id: record for record in records if record.host is not None}
    hypervisor = cell.hosts()
    aside = [guest for guest in hypervisor.list_guests() if guest.aside]
    moved = {record.id: move for record in records if (move := record.migration) is not None}
    if {guest.server_id for guest in aside} != moved.keys() or len(aside) != len(moved):
        yield f"{len(aside)} guests are set aside for {len(moved)} moves"
    guests = (guest.server_id for guest in hypervisor.list_guests() if not guest.aside)
    for server_id, count in Counter(guests).items():
        if server_id not in wanted:
            yield f"guest {server_id} has no server"
        elif count > 1:
            yield f"{server_id} has {count} guests"
    for record in wanted.values():
        guest = hypervisor.find(record.host or "", record.id)
        if guest is None:
            yield f"{record.id} has no guest on {record.host}"
        elif guest.power_state != record.power_state:
            yield f"guest {record.id} is {PowerState(guest.power_state).name}, its server {record.vm_state}"
        elif len(guest.taps) != len(record.ports) or len(guest.disks) != (2 if guest.rescued else 1):
            yield f"guest {record.id} has {len(guest.disks)} disks, and {len(guest.taps)} taps for its ports"


@contextmanager
def open_books(cloud: Cloud) -> Iterator[Books]:
    """The books of a whole cloud with fake hosts, read beside its services."""

    def hosts(cell: str) -> Callable[[], FakeHypervisor]:
        path = cloud.cell_config(cell).state_dir / "cells" / cell / "fake-guests.jsonl"
        return lambda: FakeHypervisor.read(path)

    with ExitStack() as stack:

        def opened(url: str) -> Database:
            database = Database(url, pool_size=2)
            stack.callback(database.close)
            return database

        cells = [CellBooks(name, opened(cloud.database_url(name)), hosts(name)) for name in CELLS]
        yield Books(opened(cloud.database_url()), cells)


def wait_until_right(books: Books, seconds: float = 60.0) -> None:
    """Wait until nothing is wrong; fails with what still is."""
    problems: list[str] = []

    def right() -> bool:
        try:
            problems[:] = books.find_problems()
        except errors.Unreachable as error:  # a connection from before a restart
            problems[:] = [error.detail]
        return not problems

    try:
        until(right, seconds, every=0.5)
    except AssertionError:
        raise AssertionError(f"after {seconds:.0f} s:\n" + "\n".join(problems)) from None
