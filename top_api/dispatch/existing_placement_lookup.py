"""What the cells know of servers whose history this process does not.

The top's database may have fallen back: to a backup, or to a standby that lacked the last commits. An intent that waits
there may have been placed since. So whoever did not accept it himself asks every cell before it is placed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from cellcloud import errors
from cellcloud.batching import in_full
from cellcloud.context import service_context
from cellcloud.db import cells as cells_table
from cellcloud.db import database_incarnations
from cellcloud.db.engine import Database
from cellcloud.model.cell import Cell
from cellcloud.model.database_incarnation import Incarnation
from cellcloud.model.intent import Intent
from cellcloud.model.server import ServerRecord
from cellcloud.rpc.conductor import Conductor

BUDGET = 2.0  # seconds that all cells together have


@dataclass(slots=True)
class Findings:
    """By server id: ``placed``, the cells that run it or hold it, in that order; ``running``: some cell runs it;
    ``deleted``: it was confirmed once, and is deleted; ``unanswered``: a cell that may have it did not tell.
    ``silent``: those cells.
    """

    placed: dict[str, list[str]] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    running: set[str] = field(default_factory=set)
    unanswered: set[str] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)


def ask(
    database: Database, conductor: Callable[[str], Conductor], wanted: Sequence[Intent], resting: Collection[str]
) -> Findings:
    """Ask every cell at once; those that rest count as silent.

    A cell that was not heard of since the intent was accepted cannot have the server, unless the database was put back
    since: then what it says about that is no proof.
    """
    with database.read() as connection:
        known = cells_table.list_cells(connection)
        incarnation = database_incarnations.find(connection)
    ids = sorted({intent.server_id for intent in wanted})
    with ThreadPoolExecutor(max(1, len(known)), thread_name_prefix="ask-history") as pool:
        asked = {cell.name: pool.submit(_ask, conductor, cell.name, ids, resting) for cell in known}
    findings = Findings()
    running: dict[str, list[str]] = {}
    held: dict[str, list[str]] = {}
    for cell in known:
        records = asked[cell.name].result()
        if records is None:
            findings.silent.add(cell.name)
            findings.unanswered |= {each.server_id for each in wanted if not _cannot_have(cell, each, incarnation)}
            continue
        for record in records:
            if not record.deleted:
                (held if record.held else running).setdefault(record.id, []).append(cell.name)
            elif record.generation and not record.given_up:
                findings.deleted.add(record.id)
    findings.placed = {each: running.get(each, []) + held.get(each, []) for each in running | held}
    findings.running = set(running)
    findings.deleted -= findings.placed.keys()
    findings.unanswered -= running.keys()
    return findings


def _ask(
    conductor: Callable[[str], Conductor], cell: str, ids: list[str], resting: Collection[str]
) -> Sequence[ServerRecord] | None:
    if cell in resting:
        return None
    try:
        return in_full(
            lambda some: conductor(cell).get_servers(service_context(BUDGET), some, partly=True),
            ids,
            key_of=str,
            answers=lambda record: record.id,
        )
    except errors.CellcloudError:
        return None


def _cannot_have(cell: Cell, intent: Intent, incarnation: Incarnation | None) -> bool:
    if intent.created_at is None or (incarnation is not None and incarnation.since > intent.created_at):
        return False
    return cell.last_seen is None or cell.last_seen < intent.created_at
