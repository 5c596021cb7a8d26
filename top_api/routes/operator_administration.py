"""What operators ask through cellctl: cells, hosts, where servers are, operations, and whether the books are right."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

from cellcloud import errors
from cellcloud.db import cells as cells_table
from cellcloud.db import database_incarnations, intents, server_lists
from cellcloud.db.server_conditions import ServerQuery
from cellcloud.model.cell import Cell, Finding
from cellcloud.model.host import Host
from cellcloud.model.intent import Intent, IntentKind
from cellcloud.model.run import RunRecord, TimelineEntry
from cellcloud.model.server import ServerRecord
from cellcloud.rpc.conductor import Conductor
from top_api.operations import aggregates, doctor, quota_recount, volume_audit
from top_api.request_pipeline import Call, Resource
from top_api.schemas import guests as schemas
from top_api.service_api_definition import OPERATOR
from top_api.validation import Queries

T = TypeVar("T")
RULE = "cellcloud:operator"
TEXT = {"type": "string", "maxLength": 255}
MOST = 1000  # servers in one answer

operator = Resource("operator", OPERATOR)


@operator.route("GET", "/cells", RULE)
def list_cells(call: Call) -> dict[str, Any]:
    with call.services.database.read() as connection:
        return {"cells": cells_table.list_cells(connection)}


@operator.route("GET", "/cells/<name>", RULE)
def show_cell(call: Call, name: str) -> dict[str, Any]:
    with call.services.database.read() as connection:
        return {"cell": cells_table.get_cell(connection, name)}


@operator.route("GET", "/hosts", RULE, query=Queries({"cell": TEXT}))
def list_hosts(call: Call) -> dict[str, Any]:
    hosts: list[Host] = []
    for cell, found in _ask(call, "hosts", lambda conductor, context: conductor.list_hosts(context)):
        hosts += [replace(host, cell=cell.name) for host in found]
    return {"hosts": hosts}


@operator.route(
    "GET",
    "/servers",
    RULE,
    query=Queries({"cell": TEXT, "project": TEXT, "name": TEXT, "limit": {"type": "string", "pattern": "[0-9]{1,4}"}}),
)
def list_servers(call: Call) -> dict[str, Any]:
    wanted = {column: call.param(column) for column in ("cell", "name")}
    query = ServerQuery(
        project_id=call.param("project"),
        equal={column: [value] for column, value in wanted.items() if value is not None},
        limit=max(1, min(MOST, int(call.param("limit") or MOST))),
    )
    with call.services.database.read() as connection:
        return {"servers": [_shown(record) for record in server_lists.list_records(connection, query)]}


@operator.route("GET", "/servers/<server_id>", RULE)
def show_server(call: Call, server_id: str) -> dict[str, Any]:
    return {"server": _shown(_find(call, server_id))}


@operator.route("GET", "/servers/<server_id>/timeline", RULE)
def show_timeline(call: Call, server_id: str) -> dict[str, Any]:
    record = _find(call, server_id)
    entries = _top_entries(call, record)
    if record.cell:
        conductor = call.services.cells.conductor(record.cell)
        with suppress(errors.NotFound):  # recorded in a cell that has not heard of it yet
            entries += conductor.get_timeline(call.services.cells.budget(call.context), server_id)
    return {"timeline": sorted(entries, key=lambda entry: entry.at)}


@operator.route("GET", "/operations", RULE, query=Queries({"server": TEXT, "unfinished": {"enum": ["true", "false"]}}))
def list_operations(call: Call) -> dict[str, Any]:
    server_id, unfinished = call.param("server"), call.param("unfinished") == "true"
    if server_id is not None:
        cell = _find(call, server_id).cell
        patient = call.services.cells.budget(call.context)
        runs = call.services.cells.conductor(cell).list_runs(patient, server_id, unfinished) if cell else []
        return {"operations": runs}
    answers = _ask(
        call, f"runs {unfinished}", lambda conductor, context: conductor.list_runs(context, None, unfinished)
    )
    found = [run for _, runs in answers for run in runs]
    return {"operations": sorted(found, key=lambda run: str(run.created_at), reverse=True)}


@operator.route("GET", "/operations/<run_id>", RULE)
def show_operation(call: Call, run_id: str) -> dict[str, Any]:
    found: list[RunRecord] = []

    def ask(conductor: Conductor, context: Any) -> list[RunRecord]:
        try:
            return [conductor.get_run(context, run_id)]
        except errors.NotFound:
            return []

    for _, runs in _ask(call, f"run {run_id}", ask):
        found += runs
    if not found:
        raise errors.NotFound(f"No cell that answers has an operation {run_id[:64]}.")
    return {"operation": found[0]}


@operator.route("GET", "/guests", RULE, query=schemas.UNKNOWN)
def list_unknown_guests(call: Call) -> dict[str, Any]:
    host = call.param("host")
    answers = _ask(
        call, f"unknown guests {host}", lambda conductor, context: conductor.list_unknown_guests(context, host)
    )
    return {"guests": [replace(guest, cell=cell.name) for cell, found in answers for guest in found]}


@operator.route("POST", "/guests/<server_id>/adopt", RULE, body=schemas.HELD_BY)
def adopt_guest(call: Call, server_id: str) -> dict[str, Any]:
    cell, host = _holder(call, server_id)
    conductor = call.services.cells.conductor(cell)
    record = conductor.adopt_guest(call.services.cells.budget(call.context), host, server_id)
    return {"server": _shown(replace(record, cell=cell))}


@operator.route("POST", "/guests/<server_id>/remove", RULE, body=schemas.HELD_BY)
def remove_guest(call: Call, server_id: str) -> dict[str, Any]:
    cell, host = _holder(call, server_id)
    conductor = call.services.cells.conductor(cell)
    conductor.remove_guest(call.services.cells.budget(call.context), host, server_id)
    left = conductor.list_unknown_guests(call.services.cells.budget(call.context), host)
    return {"guests": [replace(guest, cell=cell) for guest in left if guest.server_id == server_id]}


@operator.route("POST", "/hosts/<name>/release", RULE, body=schemas.IN_CELL)
def release_name(call: Call, name: str) -> dict[str, Any]:
    cell = _cell_of_host(call, name)
    call.services.cells.conductor(cell).release_name(call.services.cells.budget(call.context), name)
    return {"released": name}


@operator.route("POST", "/hosts/<name>/remove", RULE, body=schemas.REMOVE_HOST)
def remove_host(call: Call, name: str) -> dict[str, Any]:
    cell = _cell_of_host(call, name)
    conductor = call.services.cells.conductor(cell)
    conductor.remove_host(call.services.cells.budget(call.context), name, bool(call.body.get("force")))
    aggregates.forget_host(call.services, call.context, name, cell)
    return {"removed": name}


def _cell_of_host(call: Call, name: str) -> str:
    """Return the cell that has the host. Raises NotFound, Conflict where several cells have a host of that name and
    none is named."""
    named = call.body.get("cell")
    answers = call.services.cells.ask_all(
        call.context, "hosts", lambda conductor, context: conductor.list_hosts(context)
    )
    found = [
        cell.name
        for cell, hosts, _ in answers
        if named in (None, cell.name) and any(host.host == name for host in hosts)
    ]
    if not found:
        raise errors.NotFound(f"No cell has a host {name[:64]}.")
    if len(found) > 1:
        raise errors.Conflict(f"Cells {', '.join(found)} have such a host: name one.")
    return found[0]


def _holder(call: Call, server_id: str) -> tuple[str, str]:
    """Return the cell and the host that hold the unknown guest. Raises NotFound, Conflict where several cells do."""
    host, named = str(call.body["host"]), call.body.get("cell")
    answers = call.services.cells.ask_all(
        call.context, f"unknown guests {host}", lambda conductor, context: conductor.list_unknown_guests(context, host)
    )
    found = [
        cell.name
        for cell, guests, fresh in answers
        if fresh and named in (None, cell.name) and any(guest.server_id == server_id for guest in guests)
    ]
    if not found:
        raise errors.NotFound(f"No host {host[:64]} that answers has told of an unknown guest {server_id[:64]}.")
    if len(found) > 1:
        raise errors.Conflict(f"Cells {', '.join(found)} have such a guest: name one.")
    return found[0], host


@operator.route("GET", "/findings", RULE)
def list_findings(call: Call) -> dict[str, Any]:
    findings = _top_findings(call)
    answered = set()
    for cell, found in _ask(call, "findings", lambda conductor, context: conductor.check_books(context)):
        answered.add(cell.name)
        findings += [replace(one, subject=f"{cell.name}: {one.subject}") for one in found]
    for cell in call.services.cells.list_cells():
        if cell.name not in answered:
            remedy = "cellcloud status; cellctl --local doctor check"
            findings.append(_finding("cell answers", cell.name, "does not answer", remedy))
    findings += doctor.findings(doctor.compare(call.services, call.context))
    if call.services.embedded is not None:
        findings += volume_audit.findings(call.embedded.volumes, call.context)
    return {"findings": findings}


@operator.route("POST", "/repairs", RULE, body=schemas.REPAIR)
def repair(call: Call) -> dict[str, Any]:
    wanted = frozenset(call.body.get("servers") or ())
    done = [] if wanted else quota_recount.repair(call.services.database)
    return {"findings": done + doctor.repair(call.services, call.context, wanted, keep=call.body.get("keep"))}


def _ask(call: Call, subject: str, ask: Callable[[Conductor, Any], list[T]]) -> Iterable[tuple[Cell, list[T]]]:
    """Every answering cell's word, or only that of the cell the query names."""
    wanted = call.param("cell")
    if wanted is not None:
        with call.services.database.read() as connection:
            cell = cells_table.get_cell(connection, wanted)
        context = call.services.cells.budget(call.context)
        return [(cell, ask(call.services.cells.conductor(wanted), context))]
    answers = call.services.cells.ask_all(call.context, f"operator {subject}", ask)
    return [(cell, found) for cell, found, fresh in answers if fresh]


def _find(call: Call, server_id: str) -> ServerRecord:
    """Return the server's record, a deleted one's too."""
    query = ServerQuery(project_id=None, equal={"id": [server_id[:64]]}, deleted=None, limit=1)
    with call.services.database.read() as connection:
        found = server_lists.list_records(connection, query)
    if not found:
        raise errors.NotFound(f"Instance {server_id[:64]} could not be found.")
    return found[0]


def _shown(record: ServerRecord) -> ServerRecord:
    """Without what the user gave to the guest alone."""
    return replace(record, spec=replace(record.spec, user_data=None))


def _top_entries(call: Call, record: ServerRecord) -> list[TimelineEntry]:
    entries: list[TimelineEntry] = []
    with call.services.database.read() as connection:
        found = [intents.find_intent(connection, record.id, kind) for kind in IntentKind]
    for intent in found:
        if intent is not None and intent.created_at is not None and intent.updated_at is not None:
            entries.append(_entry(intent, intent.created_at, f"{intent.kind} accepted"))
            entries.append(_entry(intent, intent.updated_at, _state_of(intent)))
    return entries


def _entry(intent: Intent, at: Any, text: str) -> TimelineEntry:
    return TimelineEntry(at=at, kind="top", text=text, request_id=intent.request_id)


def _state_of(intent: Intent) -> str:
    place = f" in cell {intent.cell}" if intent.cell else ""
    reasons = "; ".join(f"{cell}: {one.outcome}, {one.reason}" for cell, one in sorted(intent.refusals.items()))
    return f"{intent.kind} {intent.state}{place}" + (f" ({reasons})" if reasons else "")


def _top_findings(call: Call) -> list[Finding]:
    with call.services.database.read() as connection:
        late = intents.list_late(connection, MOST)
        cells = cells_table.list_cells(connection)
        incarnation, uncompared = (
            database_incarnations.find(connection),
            database_incarnations.list_uncompared(connection),
        )
    findings = quota_recount.findings(call.services.database)
    findings += [
        _finding("intents", intent.server_id, f"{_state_of(intent)} and past its deadline", "cellcloud status")
        for intent in late
    ]
    findings += [
        _finding("cell health", cell.name, f"{cell.health}: {cell.reason or 'no word from the router'}")
        for cell in cells
        if cell.health != "up"
    ]
    findings += [
        _finding("history", name, "not compared since the top's database fell back", "cellcloud status")
        for name in uncompared
    ]
    if incarnation is not None:
        findings.append(incarnation.finding("top"))
    troubled = {one.check for one in findings}
    return findings + [
        Finding(check=check, severity="ok", subject="top", text="nothing wrong")
        for check in (*quota_recount.CHECKS, "intents", "cell health")
        if check not in troubled
    ]


def _finding(check: str, subject: str, text: str, remedy: str = "") -> Finding:
    return Finding(check=check, severity="error", subject=subject, text=text, remedy=remedy)
