"""What a server's guest is asked or told at once."""

from __future__ import annotations

from cellcloud import errors
from cellcloud.context import RequestContext
from cellcloud.model import image_properties
from cellcloud.model.flavor_image_validation import asks_for_place
from cellcloud.model.guest_questions import Diagnose, GuestDiagnostics, GuestQuestion, InjectNmi, SetPassword
from cellcloud.model.numa import GuestNuma
from cellcloud.model.server import ServerRecord
from cellcloud.model.virtual_hardware import cpu_topology
from top_api.operations.server_in_cell import change, check_state, check_unlocked
from top_api.services import ApiServices


def get_diagnostics(services: ApiServices, context: RequestContext, record: ServerRecord) -> GuestDiagnostics:
    """Return a running server's figures. Raises Conflict for a server that does not run, Unreachable."""
    found = _ask(services, context, record, Diagnose())
    if found is None:
        raise errors.CallHuman("The cell has answered with no figures.")
    return found


def get_placed(services: ApiServices, context: RequestContext, record: ServerRecord) -> GuestNuma | None:
    """Return where the guest's NUMA cells lie, None for one without; only the cell knows. Raises Unreachable."""
    if not record.host or not asks_for_place(record.spec.flavor, record.spec.image):
        return None
    conductor = services.cells.conductor(record.cell)
    found = conductor.get_servers(services.cells.budget(context), [record.id])
    placed = found[0].spec.placed if found else None
    return None if placed is None else placed.guest


def count_threads(record: ServerRecord) -> int:
    """Return how many vCPUs of the guest are threads of one core."""
    return cpu_topology(record.spec.flavor, image_properties.read(record.spec.image.properties)).threads


def set_password(services: ApiServices, context: RequestContext, record: ServerRecord, password: str) -> None:
    """Have the guest's agent set the administrator's password. Raises Conflict in a wrong state, or where the guest has
    no agent or refuses; NotSupported where its agent does not answer; Unreachable."""
    check_unlocked(context, record)
    properties = record.spec.image.properties
    usual = "Administrator" if properties.get("os_type") == "windows" else "root"
    user = str(properties.get("os_admin_user") or usual)
    try:
        _ask(services, context, record, SetPassword(user=user, password=password))
    except errors.GuestFailed as error:
        why = "error setting admin password"
        raise errors.Conflict(f"Failed to set admin password on {record.id} because {why}") from error
    except errors.NotSupported as error:
        raise errors.NotSupported("Unable to set password on instance") from error


def clear_password(services: ApiServices, context: RequestContext, record: ServerRecord) -> None:
    """Forget the sealed password; the guest keeps it. Raises Unreachable."""
    if record.spec.sealed_password:
        change(services, context, record, "clear_password", {"sealed_password": ""})


def trigger_crash_dump(services: ApiServices, context: RequestContext, record: ServerRecord) -> None:
    """Interrupt a server's guest, so that it dumps its memory. Raises Conflict in a wrong state, or where the guest
    cannot be interrupted; Unreachable."""
    check_unlocked(context, record)
    try:
        _ask(services, context, record, InjectNmi())
    except (errors.NotSupported, errors.GuestFailed) as error:
        raise errors.Conflict("Triggering crash dump is not supported") from error


def _ask(
    services: ApiServices, context: RequestContext, record: ServerRecord, question: GuestQuestion
) -> GuestDiagnostics | None:
    if not record.cell and isinstance(question, SetPassword):
        check_state(record, "changePassword", ())
    if not record.cell:
        raise errors.Conflict(f"Instance {record.id} is not ready")
    conductor = services.cells.conductor(record.cell)
    return conductor.ask_guest(services.cells.budget(context), record.id, question)
