"""Asks a server's guest something, or tells it, without a run; what is told is recorded among the server's actions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from cellcloud import errors
from cellcloud.context import RequestContext
from cellcloud.db import feed, runs, servers
from cellcloud.db.engine import Database, retried
from cellcloud.model import guest_passwords
from cellcloud.model.guest_questions import Diagnose, GuestDiagnostics, GuestQuestion, InjectNmi, SetPassword
from cellcloud.model.operations import ImmediateAction
from cellcloud.model.run import NewRun, OperationRequest
from cellcloud.model.server import ServerChanges, ServerRecord
from cellcloud.rpc.compute import Compute
from cellcloud.server_states import PowerState, VmState

# Source: Nova's states from which each starts.
ACTIONS: dict[type[GuestQuestion], tuple[ImmediateAction, frozenset[VmState]]] = {
    SetPassword: (ImmediateAction.CHANGE_PASSWORD, frozenset({VmState.ACTIVE})),
    InjectNmi: (
        ImmediateAction.TRIGGER_CRASH_DUMP,
        frozenset({VmState.ACTIVE, VmState.PAUSED, VmState.RESCUED, VmState.RESIZED, VmState.ERROR}),
    ),
}


def ask(
    database: Database,
    compute_of: Callable[[str], Compute],
    context: RequestContext,
    server_id: str,
    question: GuestQuestion,
) -> GuestDiagnostics | None:
    """``compute_of``: a host's compute service. Raises NotFound, Conflict, NotSupported, GuestFailed, Unreachable."""
    with database.read() as connection:
        record = servers.get(connection, server_id)
        busy = runs.find_active(connection, server_id) is not None
    check(record, question, busy=busy)
    host = str(record.host)
    compute = compute_of(host)
    if isinstance(question, Diagnose):
        return compute.ask_guest(context, host, server_id, record.generation, question)
    try:
        compute.ask_guest(context, host, server_id, record.generation, question)
    except errors.CellcloudError as error:
        _note(database, context, record, question, error.message)
        raise
    _note(database, context, record, question, "")
    return None


def check(record: ServerRecord, question: GuestQuestion, *, busy: bool) -> None:
    """Refuse as Nova does what may not be asked of a server in its states. Raises Conflict."""
    if record.host is None and not isinstance(question, SetPassword):
        raise errors.Conflict(f"Instance {record.id} is not ready")
    if isinstance(question, Diagnose):
        if record.power_state != PowerState.RUNNING:
            state = PowerState(record.power_state).name.lower()
            raise errors.Conflict(f"Cannot 'get_diagnostics' instance {record.id} while it is in power state {state}")
        return
    action, states = ACTIONS[type(question)]
    what = f"Cannot '{action}' instance {record.id} while it is in"
    if record.host is None or record.held or record.vm_state not in states:
        raise errors.Conflict(f"{what} vm_state {record.vm_state}")
    if busy or record.task_state is not None:
        raise errors.Conflict(f"{what} task_state {record.task_state}")


@retried
def _note(
    database: Database, context: RequestContext, record: ServerRecord, question: GuestQuestion, failure: str
) -> None:
    """Among the server's actions; a password that was set also with the server, for its key's owner only."""
    asked = OperationRequest(request_id=context.request_id, user_id=context.user_id, project_id=context.project_id)
    with database.write() as connection:
        action, _ = ACTIONS[type(question)]
        done = NewRun(
            server_id=record.id,
            operation=action,
            generation=record.generation,
            asked=asked,
            deadline=0.0,
            host=record.host or "",
        )
        runs.insert_finished(connection, done, failure)
        if failure or not isinstance(question, SetPassword):
            return
        now = servers.get(connection, record.id, lock=True)
        key = now.spec.keypair.public_key if now.spec.keypair else ""
        sealed = guest_passwords.seal(question.password, key)
        if sealed != now.spec.sealed_password:
            spec = replace(now.spec, sealed_password=sealed)
            changed = servers.change(connection, record.id, ServerChanges(spec=spec))
            feed.append(connection, [changed] if changed else [])
