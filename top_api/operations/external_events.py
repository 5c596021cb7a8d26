"""Tell each cell of the events that are about its servers. One that is answered with 200 has been seen to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cellcloud import errors
from cellcloud.batching import portions
from cellcloud.context import RequestContext
from cellcloud.db import server_index
from cellcloud.model.external_event import (
    NETWORK_EVENTS,
    POWER_TAGS,
    POWER_UPDATE,
    VOLUME_EXTENDED,
    ExternalEvent,
)
from cellcloud.model.server import ServerRecord
from top_api.operations.server_in_cell import check_unlocked
from top_api.services import ApiServices

DONE, NO_TAG, UNKNOWN, REFUSED = 200, 400, 404, 422
AT_ONCE = 100  # events in a message to a cell
_NEED_TAG = frozenset({VOLUME_EXTENDED, "accelerator-request-bound", POWER_UPDATE})


def tell_cells(services: ApiServices, context: RequestContext, given: Sequence[dict[str, Any]]) -> list[int]:
    """Return Nova's status for each event: that of one whose cell does not answer is as that of one without a host, so
    that it is told again. No server here has an accelerator, and no root disk on a volume is made anew, so nothing
    is done for these."""
    events = [ExternalEvent(server_id=one["server_uuid"], name=one["name"], tag=one.get("tag", "")) for one in given]
    with services.database.read() as connection:
        cell_of = server_index.cells_of_living(connection, {event.server_id for event in events})
    codes = [_judge(event, "tag" in one, cell_of) for event, one in zip(events, given, strict=True)]
    waiting: dict[str, list[int]] = {}
    for place, (event, code) in enumerate(zip(events, codes, strict=True)):
        if code == DONE:
            waiting.setdefault(cell_of[event.server_id], []).append(place)

    def ask(cell: str) -> list[int]:
        found: list[int] = []
        for some in portions(waiting[cell], lambda _: 1, most=AT_ONCE):
            theirs = [events[place] for place in some]
            patient = services.cells.budget(context)
            found += services.cells.conductor(cell).apply_external_events(patient, theirs)
        return found

    for cell, told in services.cells.ask_each(list(waiting), ask).items():
        for number, place in enumerate(waiting[cell]):
            codes[place] = REFUSED if isinstance(told, errors.CellcloudError) else told[number]
    return codes


def look_at_networks(services: ApiServices, context: RequestContext, record: ServerRecord) -> None:
    """Have a server's cell read its ports anew. Raises Conflict while it is in none, Unreachable."""
    check_unlocked(context, record)
    if not record.cell:
        raise errors.Conflict(f"Instance {record.id} is not ready")
    event = ExternalEvent(server_id=record.id, name="network-changed")
    services.cells.conductor(record.cell).apply_external_events(services.cells.budget(context), [event])


def _judge(event: ExternalEvent, tagged: bool, cell_of: dict[str, str]) -> int:
    if event.server_id not in cell_of:
        return UNKNOWN
    if event.name in _NEED_TAG and not tagged:
        return NO_TAG
    if event.name == POWER_UPDATE and event.tag not in POWER_TAGS:
        return NO_TAG
    served = event.name in NETWORK_EVENTS or event.name in (POWER_UPDATE, VOLUME_EXTENDED)
    return DONE if served and cell_of[event.server_id] else REFUSED
