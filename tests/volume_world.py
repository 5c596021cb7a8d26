"""The embedded volume service with a cell's volume service, in this process: what the router does is done by hand."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cell.volume.exports import Exporter, FakeExporter
from cell.volume.rpc_endpoint import VolumeEndpoint
from cell.volume.volume_files import VolumeFiles
from cellcloud import errors
from cellcloud.context import RequestContext, service_context
from cellcloud.db import cells, volume_hosts
from cellcloud.db import volumes as db
from cellcloud.db.engine import Connection, transact
from cellcloud.embedded.volume import delivery
from cellcloud.embedded.volume.service import VolumeService
from cellcloud.model import codec
from cellcloud.model.block_storage import TaskOutcome, VolumeTask
from tests.embedded_cloud import EmbeddedCloud, make_cloud, make_top_database

CELL, HOST = "east", "east"


@dataclass
class Reached:
    """The endpoint behind a queue: arguments and answers are written and read, calls are counted and may be lost."""

    world: VolumeWorld | OtherCell
    lost: Callable[[str], bool] = lambda verb: False

    def __getattr__(self, verb: str) -> Any:
        def call(context: RequestContext, *given: Any) -> Any:
            if self.world.away:
                raise errors.Unreachable("Nobody in that cell serves this now.")
            self.world.calls.append(verb)
            if verb == "perform":
                tasks = codec.from_wire(codec.to_wire(given[0]), list[VolumeTask])
                told = self.world.endpoint.perform(context, tasks)
                answer = codec.from_wire(codec.to_wire(told), list[TaskOutcome])
            else:
                answer = getattr(self.world.endpoint, verb)(context, *given)
            if self.lost(verb):
                raise errors.Unreachable("The answer was lost.")
            return answer

        return call


@dataclass
class OtherCell:
    """The volume service of one more cell."""

    files: VolumeFiles
    endpoint: VolumeEndpoint
    away: bool = False
    calls: list[str] = field(default_factory=list)

    def held(self) -> set[str]:
        """The volumes that are here."""
        return {each.id for each in self.endpoint.list_volumes(service_context())}


@dataclass
class VolumeWorld:
    """``away``: the cell's volume service does not answer. ``announced``: (server, volume, size that it shows) of
    those that have grown."""

    directory: Path
    exporter: Exporter = field(default_factory=FakeExporter)
    away: bool = False
    calls: list[str] = field(default_factory=list)
    announced: list[tuple[str, str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.others: dict[str, Reached] = {}
        self.reached = Reached(self)
        self.database = make_top_database(self.directory / "top.db")
        self.cloud: EmbeddedCloud = make_cloud(self.database, self.directory, reach=self._reach)
        self.start_endpoint()
        self.note_host()

    @property
    def service(self) -> VolumeService:
        return self.cloud.volumes

    def _reach(self, cell: str, host: str) -> Any:
        return self.others.get(cell, self.reached)

    def add_cell(self, name: str) -> OtherCell:
        """One more cell, the hosts of which do not reach what is in the others."""
        files = VolumeFiles(self.directory / f"volumes of {name}")
        endpoint = VolumeEndpoint(
            files, FakeExporter(), lambda: self.cloud.images, host=name, zone="nova", address="127.0.0.1"
        )
        other = OtherCell(files=files, endpoint=endpoint)
        self.others[name] = Reached(other)
        state = replace(endpoint.describe(service_context()), cell=name, total_gb=9000, free_gb=9000)

        def register(c: Connection) -> None:
            volume_hosts.note(c, state)
            for known in (CELL, name):
                cells.register_cell(c, known, f"rabbit://{known}")

        transact(self.database, register)
        return other

    def start_endpoint(self) -> None:
        """The cell's volume service, or another process of it after the last one was killed."""
        self.files = VolumeFiles(self.directory / "volumes")
        self.endpoint = VolumeEndpoint(
            self.files, self.exporter, lambda: self.cloud.images, host=HOST, zone="nova", address="127.0.0.1"
        )
        self.endpoint.look_after()

    def note_host(self, **facts: Any) -> None:
        """What the router hears of the volume service; its disk is large."""
        state = replace(self.endpoint.describe(service_context()), cell=CELL, total_gb=10000, free_gb=10000, **facts)
        transact(self.database, lambda c: volume_hosts.note(c, state))

    def route(self) -> None:
        """One turn of the router's loops, all tasks being free."""
        self.free()
        delivery.place(self.service)
        self.free()
        for cell in (CELL, *self.others):
            delivery.VolumeDelivery(self.service, cell, self._announce).deliver()

    def _announce(self, server_id: str, volume_id: str) -> None:
        with self.database.read() as c:
            self.announced.append((server_id, volume_id, db.get_volume(c, volume_id).size))

    def free(self) -> None:
        """Let every lease be over."""
        with self.database.engine.begin() as c:
            c.exec_driver_sql("UPDATE volume_tasks SET lease_until = '2020-01-01 00:00:00.000000'")

    def settle(self) -> None:
        """Turns of the router until nothing is left to do."""
        for _ in range(200):
            self.route()
            if not self.tasks():
                return
        raise AssertionError(f"tasks are left: {self.tasks()}")

    def tasks(self) -> set[str]:
        with self.database.read() as c:
            return db.list_task_ids(c)

    def held(self) -> dict[str, tuple[str, ...]]:
        """Volume -> its snapshots, as the cell has them."""
        return {each.id: each.snapshots for each in self.endpoint.list_volumes(service_context())}

    def empty(self) -> None:
        """As it was before there were volumes, types, quotas."""
        self.away, self.reached.lost = False, lambda verb: False
        self.endpoint.stop()
        with self.database.engine.begin() as c:
            for table in ("tasks", "transfers", "attachments", "snapshots", "usages", "hosts"):
                c.exec_driver_sql("DELETE FROM volume_" + table)  # noqa: S608
            c.exec_driver_sql("DELETE FROM volumes")
            c.exec_driver_sql("DELETE FROM server_index")
            c.exec_driver_sql("DELETE FROM cells")
            c.exec_driver_sql("DELETE FROM volume_type_projects")
            c.exec_driver_sql("DELETE FROM volume_types WHERE name != '__DEFAULT__'")
        for name in list(self.others):
            self.others.pop(name).world.endpoint.stop()
            shutil.rmtree(self.directory / f"volumes of {name}")
        shutil.rmtree(self.directory / "volumes")
        for volume_id in self.exporter.list_serving():
            self.exporter.stop(volume_id)
        self.calls.clear()
        self.announced.clear()
        self.start_endpoint()
        self.note_host()

    def close(self) -> None:
        self.endpoint.stop()
        self.database.close()
