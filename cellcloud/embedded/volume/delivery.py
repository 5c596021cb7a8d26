"""Accepted tasks on their way to the cells' volume services, again and again until they are answered; and what follows
from the answers. Bodies of the router's loops."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from cellcloud import errors
from cellcloud.context import service_context
from cellcloud.db import volume_attachments, volume_hosts, volume_quotas, volume_snapshots
from cellcloud.db import volumes as db
from cellcloud.db.engine import Connection, Database, retried
from cellcloud.db.volumes import WaitingTask
from cellcloud.embedded.volume.attachments import HELD, status_of
from cellcloud.embedded.volume.relocation import choose_host
from cellcloud.embedded.volume.service import VolumeService, get_type
from cellcloud.embedded.volume.volumes import release_volume
from cellcloud.model.block_storage import (
    BACKEND_NAME,
    MULTIATTACH,
    BlockVolume,
    TaskKind,
    TaskOutcome,
    VolumeHost,
    VolumeTask,
    VolumeTaskState,
)
from cellcloud.rpc.conductor import Conductor

LOG = logging.getLogger(__name__)
MOST = 100  # tasks in one message
LEASE = 20.0  # seconds for which nobody else takes a task
AGAIN = 0.5  # seconds after which a task at work is asked for
RETRY = 3.0  # seconds after which a cell that did not answer is asked
REFUSED_SECONDS = 600.0  # that a task is refused for a reason that may pass, until it has failed
UNPLACED_SECONDS = 60.0  # that a new volume waits for a cell with room
BINARY = "cinder-volume"
CAPABILITIES = {
    "volume_backend_name": BACKEND_NAME,
    "vendor_name": BACKEND_NAME,
    "storage_protocol": "nbd",
    MULTIATTACH: "True",
    "thin_provisioning_support": "True",
    "online_extend_support": "True",
}
_UNSUITED = "No volume service is what the volume's type asks for."
Announce = Callable[[str, str], None]


class VolumeDelivery:
    """The tasks of one cell. ``announce``: tells a server's cell that a volume of its has grown; may raise
    TryLater."""

    def __init__(self, service: VolumeService, cell: str, announce: Announce) -> None:
        self._service = service
        self._cell = cell
        self._announce = announce

    def deliver(self) -> bool:
        """Take what nobody else has, and send it; True when there may be more."""
        tasks = _lease(self._service.database, self._cell)
        by_host: dict[str, list[WaitingTask]] = {}
        for waiting in tasks:
            by_host.setdefault(waiting.host, []).append(waiting)
        for host, some in by_host.items():
            self._send(host, some)
        return len(tasks) == MOST

    def _send(self, host: str, waiting: list[WaitingTask]) -> None:
        known = {(each.task.id, each.task.generation): each for each in waiting}
        try:
            store = self._service.reach(self._cell, host)
            outcomes = store.perform(service_context(15.0), [each.task for each in waiting])
        except errors.CellcloudError as error:
            LOG.warning("a volume service is not reached", extra={"cell": self._cell, "why": error.message})
            _postpone(self._service.database, [each.task for each in waiting], RETRY)
            return
        working = []
        for outcome in outcomes:
            one = known.get((outcome.id, outcome.generation))
            if one is None:
                continue
            if outcome.state is VolumeTaskState.WORKING and not (outcome.message and one.age):
                working.append((one.task, RETRY if outcome.message else AGAIN))
            else:
                self._finish(one.task, outcome)
        for task, seconds in working:
            _postpone(self._service.database, [task], seconds)

    def _finish(self, task: VolumeTask, outcome: TaskOutcome) -> None:
        if task.kind is TaskKind.EXTEND and outcome.state is VolumeTaskState.DONE:
            try:
                self._tell_servers(task)
            except errors.TryLater:
                _postpone(self._service.database, [task], RETRY)
                return
        finish(self._service, task, outcome)

    def _tell_servers(self, task: VolumeTask) -> None:
        """Whoever is told looks at the volume for its size: it is shown first."""
        _show_size(self._service.database, task)
        with self._service.database.read() as c:
            held = volume_attachments.list_of(c, [task.volume_id])[task.volume_id]
        for server_id in {each.server_id for each in held if each.server_id and each.status == "attached"}:
            self._announce(server_id, task.volume_id)


@retried
def _show_size(database: Database, task: VolumeTask) -> None:
    with database.write() as c:
        db.update_volume(c, task.volume_id, {"size": task.size})


class VolumeHostWatch:
    """Finds the volume services of one cell, by their heartbeats, and asks each what room it has."""

    def __init__(self, service: VolumeService, cell: str, conductor: Conductor) -> None:
        self._service = service
        self._cell = cell
        self._conductor = conductor

    def look(self) -> None:
        """Ask once."""
        hosts = [each.host for each in self._conductor.list_services(service_context(5.0)) if each.binary == BINARY]
        for host in hosts:
            try:
                state = self._service.reach(self._cell, host).describe(service_context(5.0))
            except errors.CellcloudError as error:
                LOG.debug("a volume service is silent", extra={"cell": self._cell, "why": error.message})
                continue
            _note_host(self._service.database, self._cell, state)


def place(service: VolumeService) -> bool:
    """Choose a volume service for each new volume that has none; True when there may be more."""
    tasks = _lease(service.database, "")
    for waiting in tasks:
        _place(service.database, service, waiting)
    return len(tasks) == MOST


@retried
def _lease(database: Database, cell: str) -> list[WaitingTask]:
    with database.read() as c:
        if not db.has_free_tasks(c, cell):
            return []
    old = REFUSED_SECONDS if cell else UNPLACED_SECONDS
    with database.write() as c:
        return db.lease_tasks(c, cell, most=MOST, seconds=LEASE, old_after=old)


@retried
def _postpone(database: Database, tasks: Iterable[VolumeTask], seconds: float) -> None:
    with database.write() as c:
        for task in tasks:
            db.postpone_task(c, task, seconds)


@retried
def _note_host(database: Database, cell: str, state: VolumeHost) -> None:
    with database.write() as c:
        volume_hosts.note(c, replace(state, cell=cell))


# ---- placing -----------------------------------------------------------------------------------------------------
@retried
def _place(database: Database, service: VolumeService, waiting: WaitingTask) -> None:
    task = waiting.task
    with database.write() as c:
        volume = db.find_volume(c, task.volume_id, lock=True)
        if volume is None or task.kind is TaskKind.DELETE:
            if volume is None:
                db.end_task(c, task)
            else:
                release_volume(service, c, volume)
                db.drop_tasks(c, volume)
            return
        suits = volume_suits(get_type(c, volume.type_id, None).extra_specs)
        chosen = choose_host(c, volume) if suits else None
        if chosen is not None:
            db.place_task(c, task, chosen.cell, chosen.host, chosen.zone)
        elif waiting.age or not suits:
            db.end_task(c, task)
            reason = "No volume service has room for the volume." if suits else _UNSUITED
            db.update_volume(c, volume.id, {"status": "error", "reason": reason}, of=("creating",))
        else:
            db.postpone_task(c, task, RETRY)


def volume_suits(extra_specs: Mapping[str, str]) -> bool:
    """Return whether the volume services are what a type asks for; specs of a scope are for others."""
    wanted = {name.removeprefix("capabilities:"): value for name, value in extra_specs.items()}
    return all(
        ":" in name or CAPABILITIES.get(name, "").lower() == value.split(" ")[-1].lower()
        for name, value in wanted.items()
    )


# ---- what follows from an answer ---------------------------------------------------------------------------------
def finish(service: VolumeService, task: VolumeTask, outcome: TaskOutcome) -> None:
    """Take in how a task ended; of one that another has replaced nothing follows."""
    _finish(service.database, service, task, outcome)


@retried
def _finish(database: Database, service: VolumeService, task: VolumeTask, outcome: TaskOutcome) -> None:
    done = outcome.state is VolumeTaskState.DONE
    with database.write() as c:
        volume = db.find_volume(c, task.volume_id, lock=True)
        if not db.end_task(c, task) or volume is None:
            return
        if not done:
            db.update_volume(c, volume.id, {"reason": outcome.message[:255]})
        _CONSEQUENCES[task.kind](service, c, volume, task, done)
    if task.kind is TaskKind.UPLOAD and not done:
        service.images.discard_image(task.image_id)


def _end_create(service: VolumeService, c: Connection, volume: BlockVolume, task: VolumeTask, done: bool) -> None:
    db.update_volume(c, volume.id, {"status": "available" if done else "error"}, of=("creating",))


def _end_delete(service: VolumeService, c: Connection, volume: BlockVolume, task: VolumeTask, done: bool) -> None:
    if task.id != volume.id:
        return  # of a copy that is elsewhere than the volume
    if done:
        release_volume(service, c, volume)
    else:
        db.update_volume(c, volume.id, {"status": "error_deleting"})


def _end_extend(service: VolumeService, c: Connection, volume: BlockVolume, task: VolumeTask, done: bool) -> None:
    if done:
        db.update_volume(c, volume.id, {"size": task.size})
    else:
        kind = get_type(c, volume.type_id, None)
        amounts = volume_quotas.amounts(kind.name, gigabytes=task.size - volume.size)
        volume_quotas.release(c, volume.project_id, amounts)
    _settle(c, volume, "extending", "" if done else "error_extending")


def _end_snapshot(service: VolumeService, c: Connection, volume: BlockVolume, task: VolumeTask, done: bool) -> None:
    status = "available" if done else "error"
    volume_snapshots.update_snapshot(c, task.id, {"status": status}, of=("creating",))


def _end_snapshot_delete(
    service: VolumeService, c: Connection, volume: BlockVolume, task: VolumeTask, done: bool
) -> None:
    if not done:
        volume_snapshots.update_snapshot(c, task.id, {"status": "error_deleting"}, of=("deleting",))
        return
    snapshot = volume_snapshots.get_snapshot(c, task.id)
    if volume_snapshots.delete_snapshot(c, snapshot.id):
        kind = get_type(c, snapshot.type_id, None)
        amounts = volume_quotas.amounts(kind.name, snapshots=1, gigabytes=snapshot.size)
        volume_quotas.release(c, snapshot.project_id, amounts)


def _end_revert(service: VolumeService, c: Connection, volume: BlockVolume, task: VolumeTask, done: bool) -> None:
    volume_snapshots.update_snapshot(c, task.snapshot_id, {"status": "available"}, of=("restoring",))
    _settle(c, volume, "reverting", "" if done else "error")


def _end_reimage(service: VolumeService, c: Connection, volume: BlockVolume, task: VolumeTask, done: bool) -> None:
    _settle(c, volume, "downloading", "" if done else "error")


def _end_upload(service: VolumeService, c: Connection, volume: BlockVolume, task: VolumeTask, done: bool) -> None:
    _settle(c, volume, "uploading", "")


def _end_disconnect(service: VolumeService, c: Connection, volume: BlockVolume, task: VolumeTask, done: bool) -> None:
    """Nothing follows: the attachment is gone already."""


_CONSEQUENCES = {
    TaskKind.CREATE: _end_create,
    TaskKind.DELETE: _end_delete,
    TaskKind.EXTEND: _end_extend,
    TaskKind.SNAPSHOT: _end_snapshot,
    TaskKind.DELETE_SNAPSHOT: _end_snapshot_delete,
    TaskKind.REVERT: _end_revert,
    TaskKind.REIMAGE: _end_reimage,
    TaskKind.UPLOAD: _end_upload,
    TaskKind.DISCONNECT: _end_disconnect,
}


def _settle(c: Connection, volume: BlockVolume, busy: str, failed: str) -> None:
    """Let a volume that was busy have the status again that it had, or that its attachments give it."""
    status = failed or volume.previous_status or "available"
    if not failed and status in HELD:
        status = status_of(volume_attachments.list_of(c, [volume.id])[volume.id])
    db.update_volume(c, volume.id, {"status": status, "previous_status": ""}, of=(busy,))
