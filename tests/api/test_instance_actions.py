"""os-instance-actions: the fields of each microversion, for each role; what is done at once is among them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cellcloud.model.operations import AT_ONCE, TABLE
from tests.api.world import World

ACTION = {"action", "instance_uuid", "request_id", "user_id", "project_id", "start_time", "message"}
EVENT = {"event", "start_time", "finish_time", "result"}
# Nova's name of an action -> of its event. Source: what Nova's compute API records, and its services' decorators.
EVENTS = {
    "create": "compute__do_build_and_run_instance",
    "delete": "compute_terminate_instance",
    "start": "compute_start_instance",
    "stop": "compute_stop_instance",
    "reboot": "compute_reboot_instance",
    "pause": "compute_pause_instance",
    "unpause": "compute_unpause_instance",
    "suspend": "compute_suspend_instance",
    "resume": "compute_resume_instance",
    "resize": "compute_prep_resize",
    "migrate": "compute_prep_resize",
    "confirmResize": "compute_confirm_resize",
    "revertResize": "compute_revert_resize",
    "rebuild": "compute_rebuild_instance",
    "createBackup": "compute_backup_instance",
    "restore": "compute_restore_instance",
    "changePassword": "compute_set_admin_password",
    "trigger_crash_dump": "compute_trigger_crash_dump",
    "lock": "api_lock",
    "unlock": "api_unlock",
}


def test_actions_and_events_are_called_as_novas() -> None:
    ours = {str(spec.operation): spec.event for spec in TABLE} | AT_ONCE
    assert EVENTS.items() <= ours.items()
    assert all(
        event.startswith(("compute_", "api_", "conductor_")) for name, event in ours.items() if name != "resetState"
    )  # has none


@pytest.mark.parametrize(
    ("version", "token", "action", "event"),
    [
        ("2.1", "member", set(), None),
        ("2.1", "admin", {"events"}, {"traceback"}),
        ("2.50", "reader", set(), None),
        ("2.51", "reader", {"events"}, set()),
        ("2.51", "admin", {"events"}, {"traceback"}),
        ("2.57", "member", {"events"}, set()),
        ("2.58", "member", {"events", "updated_at"}, set()),
        ("2.61", "admin", {"events", "updated_at"}, {"traceback"}),
        ("2.62", "member", {"events", "updated_at"}, {"hostId"}),
        ("2.62", "admin", {"events", "updated_at"}, {"hostId", "host", "traceback"}),
        ("2.83", "admin", {"events", "updated_at"}, {"hostId", "host", "traceback"}),
        ("2.84", "member", {"events", "updated_at"}, {"hostId"}),
        ("2.84", "admin", {"events", "updated_at"}, {"hostId", "host", "traceback", "details"}),
    ],
)
def test_fields(world: World, version: str, token: str, action: set[str], event: set[str] | None) -> None:
    path = f"/servers/{world.create()}/os-instance-actions"
    (listed,) = world.get(path, token=token, version=version).get_json()["instanceActions"]
    assert set(listed) == ACTION | (action - {"events"})
    shown = world.get(f"{path}/{listed['request_id']}", token=token, version=version).get_json()["instanceAction"]
    assert set(shown) == ACTION | action
    assert {name: shown[name] for name in listed} == listed
    assert [set(one) for one in shown.get("events", [])] == ([] if event is None else [EVENT | event])


def test_an_event_tells_of_the_host_it_was_on(world: World) -> None:
    """Whoever has moved since, or is deleted."""
    server_id = world.create()
    cell, path = world.cell_of(server_id), f"/servers/{server_id}/os-instance-actions"
    before = world.get(f"/servers/{server_id}").get_json()["server"]["hostId"]
    cell.change(server_id, host="elsewhere")
    assert world.post(f"/servers/{server_id}/action", {"os-stop": None}).status_code == 202
    assert world.call("DELETE", f"/servers/{server_id}").status_code == 204
    world.settle()
    found = {}
    for one in world.get(path, version="2.84").get_json()["instanceActions"]:
        asked = f"{path}/{one['request_id']}"
        (event,) = world.get(asked, token="admin", version="2.84").get_json()["instanceAction"]["events"]
        (seen,) = world.get(asked, version="2.84").get_json()["instanceAction"]["events"]
        assert seen["hostId"] == event["hostId"]
        found[one["action"]] = event["host"], event["hostId"] == before
    assert found["create"] == (f"{cell.name}-1", True)
    assert found["stop"] == found["delete"] == ("elsewhere", False)
    assert world.get(path, version="2.20").status_code == 404


def test_locks_are_among_the_actions(world: World) -> None:
    server_id = world.create()
    path = f"/servers/{server_id}/action"
    asked = [
        world.post(path, {word: None}, token=token).headers["x-compute-request-id"]
        for word, token in (("lock", "member"), ("lock", "admin"), ("lock", "member"), ("unlock", "admin"))
    ]
    listed = world.get(f"/servers/{server_id}/os-instance-actions").get_json()["instanceActions"]
    taken = [asked[3], asked[1], asked[0]]  # an owner takes no administrator's lock over
    assert [(one["action"], one["request_id"]) for one in listed[:3]] == list(
        zip(("unlock", "lock", "lock"), taken, strict=True)
    )
    shown = world.get(f"/servers/{server_id}/os-instance-actions/{asked[3]}", version="2.51").get_json()
    (event,) = shown["instanceAction"]["events"]
    assert (event["event"], event["result"]) == ("api_unlock", "Success")


def test_a_failure_is_told_to_its_owner_and_explained_to_administrators(world: World) -> None:
    server_id = world.create()
    cell = world.cell_of(server_id)
    cell.runs[0] = replace(cell.runs[0], state="undone", message="no disk")
    path = f"/servers/{server_id}/os-instance-actions/{cell.runs[0].request_id}"
    for token, details in (("member", None), ("admin", "no disk")):
        shown = world.get(path, token=token, version="2.84").get_json()["instanceAction"]
        (event,) = shown["events"]
        assert (shown["message"], event["result"], event.get("details")) == ("Error", "Error", details)


def test_a_create_that_is_forgotten_by_the_cell_is_told_as_done(world: World) -> None:
    server_id = world.create()
    cell = world.cell_of(server_id)
    cell.runs.clear()
    cell.change(server_id, vm_state="error")  # of another operation
    [action] = world.get(f"/servers/{server_id}/os-instance-actions").get_json()["instanceActions"]
    assert (action["action"], action["message"]) == ("create", None)
    path = f"/servers/{server_id}/os-instance-actions/{action['request_id']}"
    [event] = world.get(path, version="2.51").get_json()["instanceAction"]["events"]
    assert (event["result"], event["finish_time"] is None) == ("Success", False)
