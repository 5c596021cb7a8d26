"""The volume service's verbs: tasks are worked off by threads, one at a time for a volume; exports are looked after."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from cell.volume.exports import Export, Exporter, NbdExporter
from cell.volume.image_content import fetch_image, send_volume
from cell.volume.volume_files import ExportConnection, VolumeFiles, VolumeRecord, copy_sparse, resize, with_connection
from cellcloud import clock, errors
from cellcloud.clients.image import ImageClient
from cellcloud.context import RequestContext
from cellcloud.model.block_storage import (
    GIB,
    Connector,
    HeldVolume,
    TaskOutcome,
    VolumeConnection,
    VolumeHost,
    VolumeTask,
    VolumeTaskState,
)

LOG = logging.getLogger(__name__)
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
THREADS = 4
AT_ONCE = 0.5  # seconds that a caller waits for what is quickly done
KEPT = 600.0  # seconds that an end nobody asks for is remembered
Key = tuple[str, int, str]


class VolumeEndpoint:
    """Implements ``cellcloud.rpc.volume_store.VolumeStore``. ``address``: where hosts on other machines reach exports;
    empty: nowhere."""

    def __init__(
        self,
        files: VolumeFiles,
        exporter: Exporter,
        find_images: Callable[[], ImageClient],
        *,
        host: str,
        zone: str,
        address: str = "",
        reserved_bytes: int = 0,
    ) -> None:
        self._files = files
        self._exporter = exporter
        self._find_images = find_images
        self._host, self._zone, self._address = host, zone, address
        self._reserved = reserved_bytes
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="volume")
        self._lock = threading.Lock()
        self._busy: dict[str, threading.RLock] = {}
        self._tasks: dict[Key, tuple[Future[TaskOutcome], float]] = {}
        self._exported: dict[str, VolumeRecord] = {
            record.id: record for record in files.list_records() if record.connections
        }

    # ---- VolumeStore -----------------------------------------------------------------------------------------------
    def perform(self, context: RequestContext, tasks: list[VolumeTask]) -> list[TaskOutcome]:
        asked = [(key_of(task), self._begin(task)) for task in tasks]
        wait([future for _, future in asked], timeout=AT_ONCE)
        told = []
        for (task_id, generation, kind), future in asked:
            if future.done():
                told.append(future.result())
                with self._lock:
                    self._tasks.pop((task_id, generation, kind), None)
            else:
                told.append(TaskOutcome(id=task_id, generation=generation, state=VolumeTaskState.WORKING))
        return told

    def connect(
        self,
        context: RequestContext,
        volume_id: str,
        attachment_id: str,
        generation: int,
        connector: Connector,
        mode: str,
        shared: bool,
    ) -> VolumeConnection:
        with self._alone(volume_id):
            record = self._files.get(volume_id)
            if generation < record.generation:
                raise errors.Stale("The volume has changed since.")
            wanted = self._connected(record, attachment_id, generation, connector, mode, shared=shared)
            if wanted != record:
                self._replace(record, wanted)
            self._serve(wanted)
            return self._connection(wanted, attachment_id, connector)

    def describe(self, context: RequestContext) -> VolumeHost:
        total, free = self._files.room()
        return VolumeHost(
            host=self._host, zone=self._zone, total_gb=total // GIB, free_gb=max(0, free - self._reserved) // GIB
        )

    def list_volumes(self, context: RequestContext) -> list[HeldVolume]:
        return [
            HeldVolume(
                id=record.id,
                generation=record.generation,
                size=record.size,
                snapshots=tuple(self._files.list_snapshots(record.id)),
                attachments=tuple(sorted(record.connections)),
            )
            for record in self._files.list_records()
        ]

    # ---- looking after ---------------------------------------------------------------------------------------------
    def look_after(self) -> None:
        """Start the exports again that have ended, end those that nobody is to have, and forget old ends of tasks."""
        for volume_id in list(self._exported):
            if not self._exporter.is_serving(volume_id):
                with self._alone(volume_id):
                    record = self._exported.get(volume_id)
                    if record is not None and not self._exporter.is_serving(volume_id):
                        LOG.warning("an export has ended and is started again", extra={"volume": volume_id})
                        self._serve(record)
        for volume_id in self._exporter.list_serving():
            if volume_id not in self._exported:
                with self._alone(volume_id):
                    if volume_id not in self._exported:
                        self._exporter.stop(volume_id)
        oldest = clock.monotonic() - KEPT
        with self._lock:
            over = [key for key, (future, begun) in self._tasks.items() if future.done() and begun < oldest]
            for key in over:
                del self._tasks[key]

    def sweep(self) -> None:
        """Remove what is long over."""
        self._files.sweep()

    def stop(self) -> None:
        """Take no more tasks, and let those end that are begun. Exports go on."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    # ---- tasks -----------------------------------------------------------------------------------------------------
    def _begin(self, task: VolumeTask) -> Future[TaskOutcome]:
        with self._lock:
            known = self._tasks.get(key_of(task))
            if known is None:
                known = (self._pool.submit(self._perform, task), clock.monotonic())
                self._tasks[key_of(task)] = known
            return known[0]

    def _perform(self, task: VolumeTask) -> TaskOutcome:
        size, message, state = 0, "", VolumeTaskState.DONE
        try:
            with self._alone(task.volume_id):
                size = getattr(self, f"_{task.kind}")(task) or 0
        except (errors.TryLater, errors.CallHuman) as error:
            state, message = VolumeTaskState.WORKING, error.message
            LOG.warning("a volume's task waits", extra={"task": task.id, "why": error.message, "detail": error.detail})
        except errors.CellcloudError as error:
            state, message = VolumeTaskState.FAILED, error.message
            LOG.warning("a volume's task failed", extra={"task": task.id, "why": message, "detail": error.detail})
        except OSError as error:
            state, message = VolumeTaskState.FAILED, "The disk of the volume service refuses that."
            LOG.warning("a volume's task failed", extra={"task": task.id, "why": message, "detail": str(error)})
        except Exception:
            state, message = VolumeTaskState.FAILED, "The volume service has a defect."
            LOG.exception("a volume's task failed", extra={"task": task.id})
        return TaskOutcome(id=task.id, generation=task.generation, state=state, message=message, size=size)

    def _create(self, task: VolumeTask) -> None:
        known = self._files.find(task.volume_id)
        if known is not None and known.generation >= task.generation:
            return
        if self._files.is_gone(task.volume_id, task.generation):
            raise errors.Stale("The volume has been deleted since.")
        fresh = self._files.begin(task.volume_id)
        self._fill(task, fresh)
        self._files.finish(fresh, VolumeRecord(id=task.volume_id, generation=task.generation, size=task.size))

    def _fill(self, task: VolumeTask, fresh: Path) -> None:
        if task.snapshot_id:
            copy_sparse(self._source(task.source_volume_id, task.snapshot_id), fresh)
        elif task.source_volume_id:
            with self._alone(task.source_volume_id):
                self._copy_now(self._files.get(task.source_volume_id), fresh)
        elif task.image_id:
            fetch_image(self._find_images(), task.image_id, task.image_format, fresh, task.size * GIB)
        else:
            fresh.touch(mode=0o600)

    def _source(self, volume_id: str, snapshot_id: str) -> Path:
        path = self._files.snapshot(volume_id, snapshot_id)
        if not path.exists():
            raise errors.NotFound(f"Snapshot {snapshot_id} is not here.")
        return path

    def _copy_now(self, record: VolumeRecord, target: Path) -> None:
        """Copy a volume as it is at one moment, whether it is being written or not."""
        if record.connections and self._exporter.is_serving(record.id):
            self._exporter.copy(record.id, target)
        else:
            copy_sparse(self._files.data(record.id), target)

    def _delete(self, task: VolumeTask) -> None:
        known = self._files.find(task.volume_id)
        if known is not None and known.generation > task.generation:
            return  # it has gone elsewhere, and come back since
        self._exported.pop(task.volume_id, None)
        self._exporter.stop(task.volume_id)
        self._files.delete_volume(task.volume_id, task.generation)

    def _extend(self, task: VolumeTask) -> None:
        record = self._files.get(task.volume_id)
        if record.size >= task.size:
            return
        if record.connections:  # whoever is connected comes back to the larger one
            self._exporter.stop(record.id)
        resize(self._files.data(record.id), task.size)
        larger = replace(record, size=task.size, generation=max(record.generation, task.generation))
        self._keep(larger)
        self._serve(larger)

    def _snapshot(self, task: VolumeTask) -> None:
        path = self._files.snapshot(task.volume_id, task.snapshot_id)
        if path.exists():
            return
        if self._files.is_gone(task.snapshot_id, task.generation):
            raise errors.Stale("The snapshot has been deleted since.")
        record = self._files.get(task.volume_id)
        fresh = path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        self._copy_now(record, fresh)
        fresh.replace(path)

    def _delete_snapshot(self, task: VolumeTask) -> None:
        self._files.delete_snapshot(task.volume_id, task.snapshot_id, task.generation)

    def _revert(self, task: VolumeTask) -> None:
        record = self._files.get(task.volume_id)
        if record.generation >= task.generation:
            return
        self._refuse_in_use(record)
        fresh = self._files.begin(record.id)
        copy_sparse(self._source(record.id, task.snapshot_id), fresh)
        self._files.finish(fresh, replace(record, generation=task.generation))

    def _reimage(self, task: VolumeTask) -> None:
        record = self._files.get(task.volume_id)
        if record.generation >= task.generation:
            return
        self._exporter.stop(record.id)
        fresh = self._files.begin(record.id)
        self._fill(task, fresh)
        changed = replace(record, generation=task.generation)
        self._files.finish(fresh, changed)
        self._keep(changed)
        self._serve(changed)

    def _upload(self, task: VolumeTask) -> int:
        record = self._files.get(task.volume_id)
        self._refuse_in_use(record)
        return send_volume(self._find_images(), task.image_id, task.image_format, self._files.data(record.id))

    def _disconnect(self, task: VolumeTask) -> None:
        record = self._files.find(task.volume_id)
        known = None if record is None else record.connections.get(task.attachment_id)
        if record is None or (known is not None and known.generation > task.generation):
            return
        left = {key: each for key, each in record.connections.items() if key != task.attachment_id}
        after = replace(record, connections=left, generation=max(record.generation, task.generation))
        self._replace(record, after if left else replace(after, export="", port=0))

    def _refuse_in_use(self, record: VolumeRecord) -> None:
        """End what is left of an export that the volume's last user gave up. The top lets nobody ask this of a volume
        in use."""
        if record.connections:
            self._replace(record, replace(record, connections={}, export="", port=0))

    # ---- exports ---------------------------------------------------------------------------------------------------
    def _connected(
        self,
        record: VolumeRecord,
        attachment_id: str,
        generation: int,
        connector: Connector,
        mode: str,
        *,
        shared: bool,
    ) -> VolumeRecord:
        """Return the record with that host connected: alone and under a new name, unless the volume is shared."""
        known = record.connections.get(attachment_id)
        alone = shared or set(record.connections) <= {attachment_id}
        if known is not None and known.host != connector.host and not shared:
            alone = False
        kept = record if alone else replace(record, connections={}, export="", port=0)
        if known is not None and alone and (known.host, known.mode) == (connector.host, mode):
            return replace(kept, generation=generation)
        connection = ExportConnection(host=connector.host, mode=mode, generation=generation)
        remote = bool(connector.boot_id) and connector.boot_id != BOOT_ID.read_text().strip()
        if remote and not self._address:
            raise errors.HostRefused("The volume can be had on the machine of its volume service only.")
        if kept.export and remote and not kept.port:
            raise errors.HostRefused("The volume is exported on its own machine; detach it there first.")
        if not kept.export:
            over_tls = bool(self._address) and (remote or shared)
            port = self._exporter.free_port(self._taken_ports()) if over_tls else 0
            kept = replace(kept, export=secrets.token_hex(16), port=port)
        return replace(with_connection(kept, attachment_id, connection), generation=generation)

    def _taken_ports(self) -> frozenset[int]:
        return frozenset(record.port for record in list(self._exported.values()) if record.port)

    def _replace(self, before: VolumeRecord, after: VolumeRecord) -> None:
        """Let the export be what the record says; one that is another is ended before anything is written down."""
        same = (before.export, before.port, before.writable) == (after.export, after.port, after.writable)
        if not (same and (not after.port or before.hosts == after.hosts)):
            self._exporter.stop(before.id)
        self._keep(after)

    def _keep(self, record: VolumeRecord) -> None:
        self._files.write(record)
        if record.connections:
            self._exported[record.id] = record
        else:
            self._exported.pop(record.id, None)

    def _serve(self, record: VolumeRecord) -> None:
        if record.connections:
            export = Export(
                volume_id=record.id,
                path=self._files.data(record.id),
                name=record.export,
                writable=record.writable,
                port=record.port,
                hosts=record.hosts,
            )
            self._exporter.start(export)

    def _connection(self, record: VolumeRecord, attachment_id: str, connector: Connector) -> VolumeConnection:
        mine = record.connections[attachment_id]
        connection = VolumeConnection(
            volume_id=record.id,
            attachment_id=attachment_id,
            generation=mine.generation,
            export=record.export,
            access_mode=mine.mode,
        )
        if not record.port:
            return replace(connection, socket=str(self._exporter.socket_of(record.id)))
        authority = self._exporter.authority if isinstance(self._exporter, NbdExporter) else None
        return replace(
            connection,
            host=self._address,
            port=record.port,
            tls_hostname="volumes",
            credentials=authority.issue_to(connector.host) if authority else {},
        )

    @contextmanager
    def _alone(self, volume_id: str) -> Iterator[None]:
        """One at a time with a volume."""
        with self._lock:
            lock = self._busy.setdefault(volume_id, threading.RLock())
        with lock:
            yield


def key_of(task: VolumeTask) -> Key:
    """Return what tells tasks apart."""
    return task.id, task.generation, task.kind
