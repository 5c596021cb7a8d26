"""Consoles of a server: its log, and a way to its screen."""

from __future__ import annotations

from cellcloud import errors
from cellcloud.context import RequestContext
from cellcloud.model.console import SERIAL, VNC, ConsoleAddress, ConsoleGrant, unavailable
from cellcloud.model.server import ServerRecord
from cellcloud.server_states import TaskState
from top_api.services import ApiServices

ALL_LINES = -1
OFFERED = {VNC: "novnc", SERIAL: "serial"}
_ON_ITS_WAY = (TaskState.DELETING, TaskState.MIGRATING)
_NOT_SHOWN = dict.fromkeys([*range(0x09), *range(0x0B, 0x20)])  # control characters, as in Nova


def get_output(services: ApiServices, context: RequestContext, record: ServerRecord, lines: int) -> str:
    """Return the last ``lines`` lines of the console's log, or as much as is kept. Raises Conflict, Unreachable."""
    _check_placed(record)
    text = services.cells.conductor(record.cell).get_console_output(
        services.cells.budget(context), record.id, ALL_LINES
    )
    text = text.translate(_NOT_SHOWN)
    if lines == ALL_LINES:
        return text
    return "\n".join(text.split("\n")[-lines:]) if lines else ""


def create_console(
    services: ApiServices, context: RequestContext, record: ServerRecord, protocol: str, kind: str
) -> ConsoleGrant:
    """Return a URL with a token of a single use. Raises Invalid for a kind that is not offered, Conflict,
    Unreachable."""
    if protocol not in OFFERED:
        raise errors.Invalid(unavailable(kind if protocol != "rdp" else protocol))
    if kind != OFFERED[protocol]:
        raise errors.Invalid(f"Invalid console type {kind}")
    if record.task_state in _ON_ITS_WAY:
        what = f"Cannot 'get_{protocol}_console' instance {record.id} while it is in"
        raise errors.Conflict(f"{what} task_state {record.task_state}")
    _check_placed(record)
    return services.cells.consoleauth(record.cell).create_console(
        services.cells.budget(context), record.id, protocol, kind
    )


def find_console(services: ApiServices, context: RequestContext, token: str) -> ConsoleAddress:
    """Where a token leads, whichever cell gave it. Raises NotFound; Unreachable where none of the cells that answer
    knows it."""
    names = [cell.name for cell in services.cells.list_cells()]
    patient = services.cells.budget(context)
    answers = services.cells.ask_each(names, lambda name: services.cells.consoleauth(name).find_console(patient, token))
    for answer in answers.values():
        if isinstance(answer, ConsoleAddress):
            return answer
    for answer in answers.values():
        if isinstance(answer, errors.TryLater):
            raise errors.Unreachable("A cell that may have given that token does not answer.")
    raise errors.NotFound("Token not found")


def _check_placed(record: ServerRecord) -> None:
    if not record.cell or record.host is None:
        raise errors.Conflict(f"Instance {record.id} is not ready")
