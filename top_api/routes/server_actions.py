"""POST /servers/{id}/action: one key in the body names what to do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cellcloud.db import user_data
from cellcloud.model.operations import ACTIONS, Operation, spec_of
from top_api.answers import servers as answers
from top_api.operations import guest_questions, rescue, resize, snapshots, update
from top_api.operations.consoles import ALL_LINES, create_console, get_output
from top_api.operations.delete import delete_server, restore_server
from top_api.operations.external_events import look_at_networks
from top_api.operations.rebuild import rebuild as rebuild_server
from top_api.operations.server_in_cell import begin, look_up_server
from top_api.operations.services_and_hosts import within_cell
from top_api.request_pipeline import Actions, Answer, Call, Resource
from top_api.response_schema import NEVER, NOTHING
from top_api.schemas import servers as schemas
from top_api.views.images import url_of
from top_api.views.servers import ServerView

server_actions = Resource("server-actions")
actions = Actions(look_up_server, gone=("resetNetwork", "os-getRDPConsole"))
WITH_ANSWERS = frozenset(
    {"createImage", "createBackup", "rebuild", "rescue", "shelve", "unshelve", "resize", "migrate"}
)  # which have functions of their own below
PLACES = {"availability_zone": "zone", "host": "host"}  # where a server is brought back to
UNBOUNDED_METADATA = (2, 39)  # since when the image service alone says how much an image may have


@server_actions.route("POST", "/servers/<server_id>/action", actions)
def act(call: Call, server_id: str) -> Answer:
    return actions.perform(call, server_id=server_id)


def _begin(call: Call, server_id: str) -> None:
    """Begin the operation that the body's key names; what it holds chooses the variant."""
    ((key, given),) = call.body.items()
    first = ACTIONS[key]
    spec = spec_of(first.operation, given["type"]) if first.variant else first
    begin(call.services, call.context, call.server, spec)


_STATUS = {"confirmResize": 204}
for _key, _spec in ACTIONS.items():
    if _key in WITH_ANSWERS:
        continue
    _body, _status = schemas.ACTIONS.get(_key), _STATUS.get(_key, 202)
    actions.action(_key, f"os_compute_api:{_spec.policy}", status=_status, body=_body, answer=NOTHING)(_begin)


@actions.action("resize", "os_compute_api:servers:resize", body=schemas.RESIZE, answer=NOTHING)
def begin_resize(call: Call, server_id: str) -> None:
    resize.resize(call.services, call.context, call.server, call.body["resize"])


@actions.action("migrate", "os_compute_api:os-migrate-server:migrate", body=schemas.MIGRATE, answer=NOTHING)
def begin_migration(call: Call, server_id: str) -> None:
    given = call.body["migrate"] if call.version >= (2, 56) else None
    host = str((given or {}).get("host") or "")
    if host:
        call.check("os_compute_api:os-migrate-server:migrate:host")
    with within_cell(call.services, call.context, call.server, host):
        resize.migrate(call.services, call.context, call.server, host)


@actions.action("rebuild", "os_compute_api:servers:rebuild", body=schemas.REBUILD, answer=answers.REBUILT)
def rebuild(call: Call, server_id: str) -> Answer:
    record, password = rebuild_server(
        call.services, call.context, call.server, call.body["rebuild"], version=call.version
    )
    if record.spec.user_data is None and record.spec.user_data_id:
        with call.services.database.read() as connection:
            (spec,) = user_data.attach(connection, user_data.TOP, [record.spec])
        record = replace(record, spec=spec)
    shown = ServerView(call, call.services.cells.unreachable_cells(), [record]).rebuilt(record)
    location = {"Location": call.url("servers", server_id)}
    return Answer(status=202, body={"server": shown | {"adminPass": password}}, headers=location)


@actions.action(
    "createImage", "os_compute_api:servers:create_image", body=schemas.CREATE_IMAGE, answer=answers.IMAGE_MADE
)
def create_image(call: Call, server_id: str) -> Answer:
    given = call.body["createImage"]
    metadata = given.get("metadata", {})
    snapshots.check_metadata(call.services, call.context, metadata, bounded=call.version < UNBOUNDED_METADATA)
    image_id = snapshots.create_image(call.services, call.context, call.server, given["name"].strip(), metadata)
    return _made(call, image_id, url_of(call, image_id))


@actions.action(
    "createBackup", "os_compute_api:os-create-backup", body=schemas.CREATE_BACKUP, answer=answers.IMAGE_MADE
)
def create_backup(call: Call, server_id: str) -> Answer:
    given = call.body["createBackup"]
    metadata, rotation = given.get("metadata", {}), int(given["rotation"])
    snapshots.check_metadata(call.services, call.context, metadata, bounded=call.version < UNBOUNDED_METADATA)
    image_id = snapshots.create_backup(
        call.services,
        call.context,
        call.server,
        given["name"].strip(),
        metadata,
        backup_type=given["backup_type"],
        rotation=rotation,
    )
    return _made(call, image_id, call.url("images", image_id) if rotation else None)


@actions.action("rescue", "os_compute_api:os-rescue", status=200, body=schemas.RESCUE, answer=answers.PASSWORD)
def rescue_server(call: Call, server_id: str) -> dict[str, Any]:
    given = call.body["rescue"] or {}
    image_id, password = given.get("rescue_image_ref"), given.get("adminPass")
    told = rescue.rescue_server(call.services, call.context, call.server, image_id, password, version=call.version)
    return {"adminPass": told}


@actions.action("shelve", "os_compute_api:os-shelve:shelve", answer=NOTHING)
def shelve(call: Call, server_id: str) -> None:
    snapshots.shelve(call.services, call.context, call.server)


@actions.action("unshelve", "os_compute_api:os-shelve:unshelve", body=schemas.UNSHELVE, answer=NOTHING)
def unshelve(call: Call, server_id: str) -> None:
    given = (call.body["unshelve"] if call.version >= (2, 77) else None) or {}
    asked = {PLACES[key]: value for key, value in given.items()}
    if asked.get("host"):
        call.services.enforcer.check(call.context, "os_compute_api:os-shelve:unshelve_to_host")
    host, zone = (str(asked.get(place) or "") for place in ("host", "zone"))
    with within_cell(call.services, call.context, call.server, host, zone):
        begin(call.services, call.context, call.server, spec_of(Operation.UNSHELVE), asked)


def _made(call: Call, image_id: str, location: str | None) -> Answer:
    if call.version >= (2, 45):
        return Answer(status=202, body={"image_id": image_id})
    return Answer(status=202, headers={"Location": location} if location else {})


@actions.action("restore", "os_compute_api:os-deferred-delete:restore", answer=NOTHING)
def restore(call: Call, server_id: str) -> None:
    restore_server(call.services, call.context, call.server)


@actions.action("forceDelete", "os_compute_api:os-deferred-delete:force", answer=NOTHING)
def force_delete(call: Call, server_id: str) -> None:
    delete_server(call.services, call.context, call.server, at_once=True)


@actions.action(
    "changePassword", "os_compute_api:os-admin-password", also=(501,), body=schemas.CHANGE_PASSWORD, answer=NOTHING
)
def change_password(call: Call, server_id: str) -> None:
    guest_questions.set_password(call.services, call.context, call.server, call.body["changePassword"]["adminPass"])


@actions.action(
    "trigger_crash_dump",
    "os_compute_api:servers:trigger_crash_dump",
    since=(2, 17),
    body=schemas.TRIGGER_CRASH_DUMP,
    answer=NOTHING,
)
def trigger_crash_dump(call: Call, server_id: str) -> None:
    guest_questions.trigger_crash_dump(call.services, call.context, call.server)


@actions.action(
    "os-resetState", "os_compute_api:os-admin-actions:reset_state", body=schemas.RESET_STATE, answer=NOTHING
)
def reset_state(call: Call, server_id: str) -> None:
    update.reset_state(call.services, call.context, call.server, call.body["os-resetState"]["state"])


@actions.action("lock", "os_compute_api:os-lock-server:lock", body=schemas.LOCK, answer=NOTHING)
def lock(call: Call, server_id: str) -> None:
    given = call.body["lock"] if call.version >= (2, 73) else None
    reason = given.get("locked_reason") if isinstance(given, dict) else None
    update.lock(call.services, call.context, call.server, reason)


@actions.action("unlock", "os_compute_api:os-lock-server:unlock", answer=NOTHING)
def unlock(call: Call, server_id: str) -> None:
    update.unlock(call.services, call.context, call.server)


@actions.action(
    "os-getConsoleOutput",
    "os_compute_api:os-console-output",
    status=200,
    body=schemas.CONSOLE_OUTPUT,
    answer=answers.OUTPUT,
)
def console_output(call: Call, server_id: str) -> dict[str, Any]:
    length = call.body["os-getConsoleOutput"].get("length")
    lines = ALL_LINES if length is None else int(length)
    return {"output": get_output(call.services, call.context, call.server, lines)}


@actions.action(
    "os-getVNCConsole",
    "os_compute_api:os-remote-consoles",
    status=200,
    until=(2, 5),
    body=schemas.VNC_CONSOLE,
    answer=answers.VNC_CONSOLE,
)
def vnc_console(call: Call, server_id: str) -> dict[str, Any]:
    grant = create_console(call.services, call.context, call.server, "vnc", call.body["os-getVNCConsole"]["type"])
    return {"console": {"type": grant.type, "url": grant.url}}


@server_actions.route(
    "POST",
    "/servers/<server_id>/remote-consoles",
    "os_compute_api:os-remote-consoles",
    since=(2, 6),
    lookup=look_up_server,
    body=schemas.REMOTE_CONSOLES,
    answer=answers.REMOTE_CONSOLE,
)
def remote_console(call: Call, server_id: str) -> dict[str, Any]:
    wanted = call.body["remote_console"]
    grant = create_console(call.services, call.context, call.server, wanted["protocol"], wanted["type"])
    return {"remote_console": {"protocol": grant.protocol, "type": grant.type, "url": grant.url}}


@actions.action(
    "os-getSPICEConsole",
    "os_compute_api:os-remote-consoles",
    status=200,
    until=(2, 5),
    body=schemas.SPICE_CONSOLE,
    answer=NEVER,
)
def spice_console(call: Call, server_id: str) -> dict[str, Any]:
    grant = create_console(call.services, call.context, call.server, "spice", call.body["os-getSPICEConsole"]["type"])
    return {"console": {"type": grant.type, "url": grant.url}}


@actions.action(
    "os-getSerialConsole",
    "os_compute_api:os-remote-consoles",
    status=200,
    until=(2, 5),
    body=schemas.SERIAL_CONSOLE,
    answer=answers.SERIAL_CONSOLE,
)
def serial_console(call: Call, server_id: str) -> dict[str, Any]:
    grant = create_console(call.services, call.context, call.server, "serial", call.body["os-getSerialConsole"]["type"])
    return {"console": {"type": grant.type, "url": grant.url}}


@actions.action("injectNetworkInfo", "os_compute_api:os-admin-actions:inject_network_info", answer=NOTHING)
def inject_network_info(call: Call, server_id: str) -> None:
    look_at_networks(call.services, call.context, call.server)
