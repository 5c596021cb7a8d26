"""/os-migrations and /servers/{id}/migrations: servers' moves."""

from __future__ import annotations

from typing import Any

from cellcloud import errors
from cellcloud.db import migrations as index
from cellcloud.db.migrations import MigrationQuery
from cellcloud.server_states import VmState
from top_api.answers import migrations as answers
from top_api.operations.server_in_cell import check_unlocked, look_up_server
from top_api.paging import limit_of, next_links
from top_api.request_pipeline import Actions, Answer, Call, Resource
from top_api.response_schema import NEVER
from top_api.schemas import migrations as schemas
from top_api.schemas.types import is_true
from top_api.server_query import read_changes
from top_api.views import migrations as views

migrations = Resource("os-migrations")
RULE = "os_compute_api:os-migrations:index"
LIVE = "os_compute_api:servers:migrations"
PATH = "/servers/<server_id>/migrations"
LIVE_ACTION = f"{PATH}/<migration_id>/action"
_COLUMNS = {
    "instance_uuid": "server_id",
    "source_compute": "source",
    "status": "status",
    "migration_type": "type",
    "user_id": "user_id",
    "project_id": "project_id",
}
actions = Actions(look_up_server)


@migrations.route("GET", "/os-migrations", RULE, query=schemas.LIST, answer=answers.LIST)
def list_migrations(call: Call) -> dict[str, Any]:
    if call.param("project_id") != call.context.project_id:
        call.check(f"{RULE}:all_projects")
    since, before = read_changes(call.query)
    query = MigrationQuery(
        equal={column: call.query[key] for key, column in _COLUMNS.items() if key in call.query},
        host=call.query.get("host", ()),
        since=since,
        before=before,
        limit=limit_of(call),
        marker=call.param("marker"),
    )
    found = []
    if not is_true(call.param("hidden")):  # none is, here
        with call.services.database.read() as connection:
            found = index.list_page(connection, query)
    with_hosts = call.allows(f"{RULE}:host")
    links: dict[str, Any] = {}
    if call.version >= (2, 59):
        links = next_links(call, "migrations", ("os-migrations",), [one.migration.id for one in found])
    return {"migrations": [views.item(call, one, with_hosts=with_hosts) for one in found], **links}


@migrations.route("GET", PATH, f"{LIVE}:index", since=(2, 23), lookup=look_up_server, answer=answers.LIVE_LIST)
def list_live_migrations(call: Call, server_id: str) -> dict[str, Any]:
    """Live migrations under way are what Nova lists here; there are none."""
    return {"migrations": []}


@migrations.route("GET", f"{PATH}/<migration_id>", f"{LIVE}:show", since=(2, 23), lookup=look_up_server, answer=NEVER)
def show_live_migration(call: Call, server_id: str, migration_id: str) -> None:
    number = int(migration_id) if migration_id.isdecimal() and len(migration_id) <= 9 else 0
    with call.services.database.read() as connection:
        found = index.find_of_server(connection, server_id, number)
    if found is None:
        what = f"In-progress live migration {migration_id[:64]} is not found for server {server_id}."
        raise errors.NotFound(what)
    raise errors.NotFound(f"Migration {number} for server {server_id} is not live-migration.")


@migrations.route(
    "DELETE", f"{PATH}/<migration_id>", f"{LIVE}:delete", status=202, since=(2, 24), lookup=look_up_server, answer=NEVER
)
def abort_live_migration(call: Call, server_id: str, migration_id: str) -> None:
    _refuse(call, "abort live migration")


@migrations.route("POST", LIVE_ACTION, actions, since=(2, 22))
def act(call: Call, server_id: str, migration_id: str) -> Answer:
    return actions.perform(call, server_id=server_id, migration_id=migration_id)


@actions.action("force_complete", f"{LIVE}:force_complete", since=(2, 22), body=schemas.FORCE_COMPLETE, answer=NEVER)
def force_complete(call: Call, server_id: str, migration_id: str) -> None:
    if call.server.vm_state != VmState.ACTIVE:
        check_unlocked(call.context, call.server)
        what = f"Cannot 'force_complete' instance {server_id} while it is in vm_state {call.server.vm_state}"
        raise errors.Conflict(what)
    _refuse(call, "force_complete")


def _refuse(call: Call, what: str) -> None:
    """No server is ever being migrated live."""
    check_unlocked(call.context, call.server)
    state = call.server.task_state
    raise errors.Conflict(f"Cannot '{what}' instance {call.server.id} while it is in task_state {state}")
