"""Wires a volume service. Start one with ``cellcloud-volume --config FILE``."""

from __future__ import annotations

import fcntl
import functools
from pathlib import Path
from typing import IO, Any

from cell.volume.exports import Exporter, FakeExporter, NbdExporter
from cell.volume.rpc_endpoint import VolumeEndpoint
from cell.volume.volume_files import VolumeFiles
from cellcloud import errors
from cellcloud.clients.image import ImageClient
from cellcloud.config import Config
from cellcloud.context import service_context
from cellcloud.model.block_storage import GIB
from cellcloud.rpc.conductor import Conductor
from cellcloud.rpc.transport import Server, Transport
from cellcloud.rpc.volume_store import VolumeStore
from cellcloud.service import Loop, command

BINARY = "cinder-volume"
LOOK_SECONDS = 1.0
SWEEP_SECONDS = 3600.0


class VolumeStoreService:
    """The volumes of one directory, their exports, the queue and the heartbeat. One process has the directory."""

    name = "volume"

    def __init__(self, config: Config, transport: Transport, directory: Path, endpoint: VolumeEndpoint) -> None:
        self._transport = transport
        self._host = config.host
        self._directory = directory
        self._conductor: Conductor = transport.client(Conductor)
        self._endpoint = endpoint
        self._loops = {
            "heartbeat": Loop("heartbeat", config.cell.report_interval, self._beat),
            "exports": Loop("exports", LOOK_SECONDS, endpoint.look_after),
            "sweep": Loop("sweep", SWEEP_SECONDS, endpoint.sweep),
        }
        self._server: Server | None = None
        self._held: IO[bytes] | None = None

    def start(self) -> None:
        self._held = _hold(self._directory)
        self._endpoint.look_after()
        self._server = self._transport.serve(VolumeStore, self._endpoint, server=self._host, threads=16)
        for loop in self._loops.values():
            loop.start()

    def stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.stop()
        for loop in self._loops.values():
            loop.stop()
        self._endpoint.stop()
        if self._held is not None:
            self._held.close()

    def check(self) -> dict[str, str]:
        return {name: loop.check() for name, loop in self._loops.items()}

    def _beat(self) -> None:
        self._conductor.heartbeat(service_context(), BINARY, self._host)


def _hold(directory: Path) -> IO[bytes]:
    """Keep every other process from serving these volumes. Raises Misconfigured while one does."""
    file = (directory / "lock").open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise errors.Misconfigured(f"Another process serves the volumes in {directory}.") from error
    return file


def build(
    config: Config,
    *,
    transport: Transport | None = None,
    images: ImageClient | None = None,
    exporter: Exporter | None = None,
    **_others: Any,
) -> VolumeStoreService:
    """Return the volume service of the configured host; what is not given is made from the configuration."""
    directory = config.state_dir / "volumes" / config.host
    endpoint = VolumeEndpoint(
        VolumeFiles(directory),
        exporter or _make_exporter(config, directory),
        functools.cache(lambda: images or _make_images(config)),
        host=config.host,
        zone=config.cell.zone,
        address=config.volume.bind_host,
        reserved_bytes=config.volume.reserved_gb * GIB,
    )
    transport = transport or Transport(config.cell.name, config.cell.transport_url)
    return VolumeStoreService(config, transport, directory, endpoint)


def _make_exporter(config: Config, directory: Path) -> Exporter:
    if config.volume.driver == "fake":
        return FakeExporter()
    first, last = (int(number) for number in config.volume.ports.split(":"))
    return NbdExporter(directory / "exports", address=config.volume.bind_host, ports=range(first, last + 1))


def _make_images(config: Config) -> ImageClient:
    from cellcloud.clients.glance import GlanceClient

    return GlanceClient.from_config(config)


main = command("volume", "a volume service", build)

if __name__ == "__main__":
    main()
