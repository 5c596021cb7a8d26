"""A cell's volume service with real exports, and requests as the top makes them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cell.volume.exports import NbdExporter
from cell.volume.rpc_endpoint import BOOT_ID, VolumeEndpoint
from cell.volume.volume_files import VolumeFiles
from cellcloud.context import service_context
from cellcloud.model.block_storage import Connector, TaskKind, VolumeConnection, VolumeTask, VolumeTaskState
from tests.cloud import until

HERE = Connector(host="h1", ip="127.0.0.1", boot_id=BOOT_ID.read_text().strip())
THERE = Connector(host="h2", ip="127.0.0.1", boot_id="another machine's")


@dataclass
class Store:
    """``port``: the first of five for exports over TLS at ``address``."""

    directory: Path
    port: int
    address: str = "127.0.0.1"

    def __post_init__(self) -> None:
        self.exporter = NbdExporter(
            self.directory / "exports", address=self.address, ports=range(self.port, self.port + 5)
        )
        self.files = VolumeFiles(self.directory)
        self.generation = 0
        self.start()

    def start(self) -> None:
        """Another process of the same service."""
        self.endpoint = VolumeEndpoint(
            self.files,
            self.exporter,
            lambda: None,
            host="east",
            zone="nova",
            address=self.address,  # type: ignore[arg-type, return-value]
        )
        self.endpoint.look_after()

    def do(self, kind: TaskKind, volume_id: str, *, id: str = "", **given: Any) -> None:
        self.generation += 1
        task = VolumeTask(id=id or volume_id, kind=kind, volume_id=volume_id, generation=self.generation, **given)

        def told() -> Any:
            (outcome,) = self.endpoint.perform(service_context(), [task])
            return outcome if outcome.state is not VolumeTaskState.WORKING else None

        outcome = until(told)
        assert outcome.state is VolumeTaskState.DONE, outcome.message

    def create(self, size: int = 1) -> str:
        volume_id = str(uuid.uuid4())
        self.do(TaskKind.CREATE, volume_id, size=size)
        return volume_id

    def connect(
        self,
        volume_id: str,
        attachment: str = "a",
        connector: Connector = HERE,
        *,
        mode: str = "rw",
        shared: bool = False,
    ) -> VolumeConnection:
        self.generation += 1
        return self.endpoint.connect(service_context(), volume_id, attachment, self.generation, connector, mode, False)

    def pid(self, volume_id: str) -> int:
        return int((self.exporter.socket_of(volume_id).with_suffix(".pid")).read_text())
