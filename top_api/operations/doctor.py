"""Doctor: where the index and the cells' records disagree, and what may be done about it.

Both change all the while: what looks wrong is looked at again before it is told or repaired.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from cellcloud import errors
from cellcloud.batching import in_full
from cellcloud.context import RequestContext
from cellcloud.db import intents, server_index
from cellcloud.db.engine import Database, retried
from cellcloud.model import codec
from cellcloud.model.cell import Finding
from cellcloud.model.operations import Operation
from cellcloud.model.run import RunArguments
from cellcloud.model.server import ServerRecord
from top_api.services import ApiServices
from top_api.user_data_recovery import fetch_user_data

PAGE, VERSIONS = 200, 2000  # records, and (id, version) pairs, in one message
CHECKS = ("in several cells", "not in the index", "not in its cell")
BUDGET = 30.0  # seconds that a cell has for one message


class Discord(StrEnum):
    SEVERAL = CHECKS[0]
    UNKNOWN = CHECKS[1]
    LOST = CHECKS[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrong:
    """One server. ``cells``: those that run it, as they say; ``cell``: the one the index names, "" for none.
    ``strange``: the index has no row of it, so that only an operator can know whose it is."""

    server_id: str
    discord: Discord
    cell: str
    cells: tuple[str, ...]
    strange: bool = False

    def finding(self) -> Finding:
        place = f"in cell {self.cell}" if self.cell else "in no cell"
        text, remedy = {
            Discord.SEVERAL: (
                f"cells {', '.join(self.cells)} have it; the index says {place}",
                f"cellctl doctor repair {self.server_id} --keep CELL",
            ),
            Discord.UNKNOWN: (
                f"cell {', '.join(self.cells)} has it" + ("; nothing is known of it here" if self.strange else ""),
                f"cellctl doctor repair {self.server_id if self.strange else ''}".rstrip(),
            ),
            Discord.LOST: (
                f"the index says {place}, which has no record of it",
                f"cellctl guest list; cellctl guest adopt, or cellctl doctor repair {self.server_id}",
            ),
        }[self.discord]
        return Finding(check=self.discord, severity="error", subject=self.server_id, text=text, remedy=remedy)


def compare(services: ApiServices, context: RequestContext) -> list[Wrong]:
    """Every server of which index and cells that answer do not say the same."""
    names = [cell.name for cell in services.cells.list_cells()]
    patient = context.with_budget(BUDGET)
    answers = services.cells.ask_each(names, lambda name: _living(services, patient, name))
    theirs = {name: answer for name, answer in answers.items() if isinstance(answer, set)}
    ours: dict[str, set[str]] = {}
    with services.database.read() as connection:
        for name in theirs:
            ours[name] = {server_id for server_id, _ in server_index.list_versions(connection, name, "", None)}
    suspects: set[str] = set()
    for name, living in theirs.items():
        suspects |= living ^ ours[name]
        suspects |= {one for other in theirs if other != name for one in living & theirs[other]}
    return look_at(services, patient, suspects, list(theirs))


def look_at(
    services: ApiServices, context: RequestContext, server_ids: Collection[str], names: Sequence[str]
) -> list[Wrong]:
    """Return what is wrong with these servers, as those of the cells say that answer."""
    wrong: list[Wrong] = []
    for ids in _pages(sorted(server_ids)):
        running: dict[str, list[str]] = {}
        answers = services.cells.ask_each(names, functools.partial(_records, services, context, ids))
        told = {name: answer for name, answer in answers.items() if not isinstance(answer, errors.CellcloudError)}
        for name, records in told.items():
            for record in records:
                if not record.deleted and not record.held:
                    running.setdefault(record.id, []).append(name)
        with services.database.read() as connection:
            known = {one: server_index.find_record(connection, one, deleted=None) for one in ids}
            unsettled = intents.list_unsettled(connection, ids)
        for server_id in ids:
            found = _judge(server_id, known[server_id], running.get(server_id, []), list(told))
            if found is not None and server_id not in unsettled:
                wrong.append(found)
    return wrong


def _records(services: ApiServices, context: RequestContext, ids: list[str], name: str) -> Sequence[ServerRecord]:
    conductor = services.cells.conductor(name)
    return in_full(
        lambda some: conductor.get_servers(context, some, partly=True),
        ids,
        key_of=str,
        answers=lambda record: record.id,
    )


def _judge(server_id: str, known: ServerRecord | None, running: list[str], names: Sequence[str]) -> Wrong | None:
    cell = known.cell if known is not None and not known.deleted else ""
    told = tuple(running)
    if len(running) > 1:
        return Wrong(server_id=server_id, discord=Discord.SEVERAL, cell=cell, cells=told)
    if running and cell != running[0]:
        if cell and cell not in names:
            return None  # that cell does not answer now
        strange = known is None
        return Wrong(server_id=server_id, discord=Discord.UNKNOWN, cell=cell, cells=told, strange=strange)
    if not running and cell in names:
        return Wrong(server_id=server_id, discord=Discord.LOST, cell=cell, cells=())
    return None


def repair(
    services: ApiServices, context: RequestContext, server_ids: Collection[str], *, keep: str | None = None
) -> list[Finding]:
    """Take into the index what a cell runs and the index knows; of the servers named, also take in those it does not
    know, forget those that their cell has lost, and delete those in several cells everywhere but in ``keep``. Returns
    what was done. Raises Invalid, Unreachable."""
    done: list[Finding] = []
    for wrong in compare(services, context):
        named = wrong.server_id in server_ids
        if wrong.discord is Discord.UNKNOWN and (named or not (server_ids or wrong.strange)):
            _take_in(services, context, wrong.server_id, wrong.cells[0])
            done.append(_done(wrong, f"taken from cell {wrong.cells[0]}"))
        elif wrong.discord is Discord.LOST and named:
            _forget(services.database, wrong.server_id)
            done.append(_done(wrong, "shown as deleted, its quota given back"))
        elif wrong.discord is Discord.SEVERAL and named:
            if keep not in wrong.cells:
                raise errors.Invalid(f"Name the cell that keeps {wrong.server_id}: {', '.join(wrong.cells)}.")
            _keep_in(services, context, wrong, keep)
            done.append(_done(wrong, f"kept in cell {keep}, deleted in the others"))
    return done


def _keep_in(services: ApiServices, context: RequestContext, wrong: Wrong, keep: str) -> None:
    """Give the server's ports, the same in all its cells, to the host that keeps it before the others lose it. As a
    placement after all of theirs, so that the ports are nobody else's from then on."""
    asked, patient = [wrong.server_id], context.with_budget(BUDGET)
    theirs = [one for name in wrong.cells for one in services.cells.conductor(name).get_servers(patient, asked)]
    with services.database.read() as connection:
        number = intents.next_placement(connection, max((one.placement for one in theirs), default=0))
    for record in services.cells.conductor(keep).get_servers(context.with_budget(BUDGET), asked):
        services.cells.conductor(keep).update_server(context.with_budget(BUDGET), record.id, {"placement": number})
        spec = record.spec
        services.networks.ensure_ports(
            server_id=spec.id,
            project_id=spec.project_id,
            host=record.host or "",
            zone=record.availability_zone or "",
            hostname=spec.hostname,
            requested=spec.networks or (),
            security_groups=spec.security_groups,
            placement=number,
        )
    for name in wrong.cells:
        if name != keep:
            conductor, patient = services.cells.conductor(name), context.with_budget(BUDGET)
            conductor.begin_operation(
                patient, wrong.server_id, Operation.DELETE, codec.to_plain(RunArguments(keep_ports=True))
            )
    _take_in(services, context, wrong.server_id, keep)


def _done(wrong: Wrong, text: str) -> Finding:
    return Finding(check=wrong.discord, severity="ok", subject=wrong.server_id, text=text)


def _living(services: ApiServices, context: RequestContext, name: str) -> set[str]:
    conductor = services.cells.conductor(name)
    found: set[str] = set()
    after = ""
    while True:
        pairs = conductor.list_versions(context, after, VERSIONS)
        found.update(server_id for server_id, _ in pairs)
        if len(pairs) < VERSIONS:
            return found
        after = max(server_id for server_id, _ in pairs)


def _take_in(services: ApiServices, context: RequestContext, server_id: str, cell: str) -> None:
    conductor, patient = services.cells.conductor(cell), context.with_budget(BUDGET)
    for record in conductor.get_servers(patient, [server_id]):
        fetch_user_data(services.database, conductor, patient, [record])
        _store(services.database, replace(record, cell=cell))


@retried
def _store(database: Database, record: ServerRecord) -> None:
    with database.write() as connection:
        server_index.place(connection, record.id, record.cell)
        server_index.upsert(connection, [record], force=True, adopt=True)


@retried
def _forget(database: Database, server_id: str) -> None:
    with database.write() as connection:
        server_index.mark_deleted(connection, [server_id])


def _pages(ids: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(ids), PAGE):
        yield list(ids[start : start + PAGE])


def findings(wrong: Iterable[Wrong]) -> list[Finding]:
    """As ``doctor check`` lists them, with a word on each check that found nothing."""
    found = [one.finding() for one in wrong]
    troubled = {one.check for one in found}
    well = (check for check in CHECKS if check not in troubled)
    return found + [Finding(check=check, severity="ok", subject="top", text="nothing wrong") for check in well]
