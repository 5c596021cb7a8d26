"""A cell's conductor behind a queue, and the bytes of what it answers."""

from __future__ import annotations

import types
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from cell.conductor.rpc_endpoint import ConductorService
from cellcloud import config as options
from cellcloud.batching import in_full
from cellcloud.context import service_context
from cellcloud.db import cell_schema
from cellcloud.db.engine import Database
from cellcloud.model.server import ServerSpec
from cellcloud.rpc.conductor import Conductor
from cellcloud.rpc.transport import Transport
from tests.workflows.world import CellUnderTest


class Measured:
    """The conductor of a cell with a real database, and the bytes of each of its answers."""

    def __init__(self, folder: Path) -> None:
        self.database = database = Database(f"sqlite:///{folder}/cell.db")
        with database.write() as connection:
            cell_schema.metadata.create_all(connection)
        cell = CellUnderTest(database, vcpus=1000)
        service = ConductorService(
            replace(options.load().cell, name="sizes"),
            database,
            cast(Any, cell.scheduler),
            cast(Any, cell),
            cell.executor,
            cast(Any, types.SimpleNamespace()),
        )
        self.sizes: dict[str, list[int]] = defaultdict(list)
        self.transport = Transport("sizes", "kombu+memory://", shim=self._measure)
        self._server = self.transport.serve(Conductor, cast(Any, service), server="conductor-sizes", threads=1)
        self.conductor = self.transport.client(Conductor)

    def _measure(self, interface: str, verb: str, deliver: Callable[[], Any]) -> Any:
        reply = deliver()
        self.sizes[verb].append(len(str(reply.plain["answer"])))
        return reply

    def close(self) -> None:
        self._server.stop()
        self.transport.close()


def reserve(conductor: Conductor, specs: Sequence[ServerSpec]) -> Sequence[str]:
    answers = in_full(
        lambda some: conductor.reserve(service_context(), some),
        specs,
        key_of=lambda spec: spec.id,
        answers=lambda answer: answer.server_id,
    )
    return [answer.server_id for answer in answers if answer.outcome == "held" and answer.record is not None]


def confirm(conductor: Conductor, ids: Sequence[str]) -> Sequence[str]:
    answers = in_full(
        lambda some: conductor.confirm(service_context(), some),
        ids,
        key_of=str,
        answers=lambda answer: answer.server_id,
    )
    return [answer.server_id for answer in answers if answer.outcome == "settled" and answer.record is not None]
