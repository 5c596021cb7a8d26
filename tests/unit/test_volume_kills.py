"""A volume service that is killed between any two of its steps: who asks again has what it asked for, once, and nothing
is exported that nobody has."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cell.volume.exports import FakeExporter
from cell.volume.rpc_endpoint import VolumeEndpoint
from cell.volume.volume_files import VolumeFiles
from cellcloud.context import service_context
from cellcloud.model.block_storage import GIB, Connector, TaskKind, VolumeTask, VolumeTaskState

VOLUME, SNAPSHOT, COPY = (str(uuid.UUID(int=number)) for number in (1, 2, 3))
CHANGES = frozenset({"start", "stop", "copy", "write", "begin", "finish", "delete_volume", "delete_snapshot"})


class Killed(BaseException):
    """Nothing comes after it in that process."""


@dataclass
class Mortal:
    """What it stands for, until the process dies: before its ``left``-th change, or right after it."""

    inner: Any
    life: Life

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        if name not in CHANGES:
            return found

        def change(*given: Any, **named: Any) -> Any:
            self.life.end_before()
            answer = found(*given, **named)
            self.life.end_after()
            return answer

        return change


@dataclass
class Life:
    """``at``: the change that it ends at; 0: it does not. ``died``: whether it has."""

    at: int = 0
    after: bool = False
    died: bool = False
    _changes: int = 0

    def end_before(self) -> None:
        self._changes += 1
        self._end(not self.after)

    def end_after(self) -> None:
        self._end(self.after)

    def _end(self, now: bool) -> None:
        if self.died or (now and self._changes == self.at):
            self.died = True
            raise Killed


@dataclass
class Service:
    """The processes of a volume service, one after the other, on one directory. Exports outlive them."""

    directory: Path
    exporter: FakeExporter = field(default_factory=FakeExporter)
    life: Life = field(default_factory=Life)

    def __post_init__(self) -> None:
        self.start(self.life)

    def start(self, life: Life) -> None:
        self.life, self.files = life, VolumeFiles(self.directory)
        files, exporter = Mortal(self.files, life), Mortal(self.exporter, life)
        self.endpoint = VolumeEndpoint(files, exporter, lambda: None, host="east", zone="nova")  # type: ignore[arg-type, return-value]

    def do(self, kind: TaskKind, generation: int, *, id: str = VOLUME, volume: str = VOLUME, **given: Any) -> None:
        task = VolumeTask(id=id, kind=kind, volume_id=volume, generation=generation, **given)
        while True:
            (outcome,) = self.endpoint.perform(service_context(), [task])
            if outcome.state is not VolumeTaskState.WORKING:
                assert outcome.state is VolumeTaskState.DONE, outcome.message
                return

    def connect(self, generation: int, host: str, attachment: str = "a") -> None:
        connector = Connector(host=host)
        self.endpoint.connect(service_context(), VOLUME, attachment, generation, connector, "rw", False)

    def check(self, *, midway: bool = False) -> None:
        """Whoever is connected has an export, just as the record says, and nobody else. ``midway``: one that is being
        extended may be larger than it says."""
        self.endpoint.look_after()
        records = {record.id: record for record in self.files.list_records()}
        assert self.exporter.list_serving() == sorted(one for one, record in records.items() if record.connections)
        for volume_id, export in self.exporter.exports.items():
            record = records[volume_id]
            assert (export.name, export.writable, export.hosts) == (record.export, record.writable, record.hosts)
        for record in records.values():
            size = self.files.data(record.id).stat().st_size
            assert size == record.size * GIB or (midway and size > record.size * GIB)


STEPS: dict[str, Callable[[Service], None]] = {
    "create": lambda service: service.do(TaskKind.CREATE, 1, size=1),
    "attach": lambda service: service.connect(2, "h1"),
    "extend in use": lambda service: service.do(TaskKind.EXTEND, 3, size=2),
    "snapshot": lambda service: service.do(TaskKind.SNAPSHOT, 4, id=SNAPSHOT, snapshot_id=SNAPSHOT),
    "migrate": lambda service: service.connect(5, "h2"),
    "detach": lambda service: service.do(TaskKind.DISCONNECT, 6, id="a", attachment_id="a"),
    "copy": lambda service: service.do(
        TaskKind.CREATE, 1, id=COPY, volume=COPY, size=2, snapshot_id=SNAPSHOT, source_volume_id=VOLUME
    ),
    "revert": lambda service: service.do(TaskKind.REVERT, 7, snapshot_id=SNAPSHOT, size=2),
    "attach elsewhere": lambda service: service.connect(8, "h3", "b"),
    "detach again": lambda service: service.do(TaskKind.DISCONNECT, 9, id="b", attachment_id="b"),
    "delete the snapshot": lambda service: service.do(TaskKind.DELETE_SNAPSHOT, 10, id=SNAPSHOT, snapshot_id=SNAPSHOT),
    "delete the copy": lambda service: service.do(TaskKind.DELETE, 2, id=COPY, volume=COPY),
    "delete": lambda service: service.do(TaskKind.DELETE, 11),
}


@pytest.mark.parametrize("exports_too", [False, True])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("killed", STEPS)
def test_killed_in_each_of_its_steps(tmp_path: Path, killed: str, after: bool, exports_too: bool) -> None:
    """``exports_too``: the exporter is killed with it."""
    deaths = 0
    while _live_through(tmp_path / str(deaths), killed, Life(at=deaths + 1, after=after), exports_too=exports_too):
        deaths += 1
    assert deaths >= 1, "nothing was changed"


def _live_through(directory: Path, killed: str, life: Life, *, exports_too: bool) -> bool:
    """Go through all steps, with a death in one of them; False where it was over before."""
    service = Service(directory)
    for name, step in STEPS.items():
        if name == killed:
            service.start(life)
        try:
            step(service)
        except Killed:
            if exports_too:
                service.exporter.exports.clear()
            service.start(Life())
            service.check(midway=True)
            step(service)
        service.life.at = 0
        service.check()
        step(service)  # the answer was lost
        service.check()
    assert service.exporter.list_serving() == []
    assert list((directory / "volumes").iterdir()) == []
    service.endpoint.stop()
    return life.died
