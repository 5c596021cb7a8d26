"""Exports by QEMU's storage daemon: what a host reads and writes through them, and what becomes of those killed."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from cellcloud import errors
from cellcloud.context import service_context
from cellcloud.launcher.cli import down
from cellcloud.model.block_storage import Connector, TaskKind, VolumeConnection
from cellcloud.storage_daemons import end_all
from tests.cloud import until
from tests.daemons import free_ports
from tests.volume_store import HERE, THERE, Store

MIB = 1 << 20


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path, free_ports(5))
    yield made
    made.endpoint.stop()
    end_all(tmp_path / "exports")
    assert not made.exporter.list_serving()


def url_of(connection: VolumeConnection) -> str:
    return f"nbd+unix:///{connection.export}?socket={connection.socket}"


def io(target: list[str], command: str, *, check: bool = True) -> str:
    form = [] if "--image-opts" in target else ["-f", "raw"]
    done = subprocess.run(["qemu-io", *form, *target, "-c", command], capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert not check or (done.returncode == 0 and "error" not in said), said
    return said


def test_what_is_written_through_an_export_is_read_through_the_next(store: Store) -> None:
    volume_id = store.create()
    first = store.connect(volume_id)
    io([url_of(first)], "write -P 0x5a 0 1M")
    store.do(TaskKind.DISCONNECT, volume_id, id="a", attachment_id="a")
    assert store.exporter.list_serving() == []
    second = store.connect(volume_id, "b", mode="ro")
    assert second.export != first.export
    io([url_of(second), "-r"], "read -P 0x5a 0 1M")
    assert "Permission denied" in io([url_of(second)], "write 0 512", check=False)


class Writer:
    """An NBD client that stays connected, in the protocol's own words: writes one sector at a time."""

    def __init__(self, connection: VolumeConnection) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(10)
        self._socket.connect(connection.socket)
        self._read(18)
        self._socket.sendall(struct.pack(">I", 3))  # fixed newstyle, no zeroes
        name = connection.export.encode()
        self._socket.sendall(b"IHAVEOPT" + struct.pack(">II", 1, len(name)) + name)
        self._read(10)

    def write(self, data: bytes, offset: int) -> None:
        """Raises OSError once the export has ended."""
        self._socket.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 1, 1, offset, len(data)) + data)
        assert struct.unpack(">II", self._read(16)[:8])[1] == 0

    def close(self) -> None:
        self._socket.close()

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self._socket.recv(size - len(data))
            if not more:
                raise ConnectionResetError
            data += more
        return data


def test_a_volume_has_one_writer(store: Store) -> None:
    """Who was connected before another host is writes nothing more, though it still has its connection."""
    volume_id = store.create()
    with closing(Writer(store.connect(volume_id, "a"))) as old:
        old.write(b"a" * 512, 0)
        with closing(Writer(store.connect(volume_id, "a", Connector(host="h3")))) as new:
            with pytest.raises(OSError):  # noqa: PT011 -- whichever way a connection ends
                old.write(b"b" * 512, 0)
            new.write(b"c" * 512, 0)
    assert store.files.data(volume_id).read_bytes()[:1] == b"c"
    with pytest.raises(errors.Stale):
        store.endpoint.connect(service_context(), volume_id, "a", 1, HERE, "rw", False)


def test_an_export_that_is_killed_comes_back_at_the_same_place(store: Store) -> None:
    volume_id = store.create()
    connection = store.connect(volume_id)
    io([url_of(connection)], "write -P 0x11 0 64k")
    killed = store.pid(volume_id)
    os.kill(killed, signal.SIGKILL)
    until(lambda: not psutil.pid_exists(killed) or psutil.Process(killed).status() == psutil.STATUS_ZOMBIE)
    store.endpoint.look_after()
    assert store.pid(volume_id) != killed
    io([url_of(connection)], "read -P 0x11 0 64k")


def test_an_export_that_is_killed_before_anything_is_done_to_its_volume(store: Store) -> None:
    """What was asked for is done all the same, and nothing else is served."""
    volume_id, snapshot_id = store.create(), str(uuid.uuid4())
    connection = store.connect(volume_id)
    io([url_of(connection)], "write -P 0x77 0 64k")

    def kill() -> None:
        os.kill(store.pid(volume_id), signal.SIGKILL)

    kill()
    store.do(TaskKind.SNAPSHOT, volume_id, id=snapshot_id, snapshot_id=snapshot_id)
    store.endpoint.look_after()
    kill()
    store.do(TaskKind.EXTEND, volume_id, size=2)
    io([url_of(connection)], f"write -P 0x78 {2047 * MIB} 64k")
    kill()
    moved = store.connect(volume_id, "a", Connector(host="h3"))
    assert moved.export != connection.export
    io([url_of(moved)], "read -P 0x77 0 64k")
    assert "can't open" in io([url_of(connection)], "read 0 512", check=False)
    kill()
    store.do(TaskKind.DISCONNECT, volume_id, id="a", attachment_id="a")
    assert store.exporter.list_serving() == []
    again = store.connect(volume_id, "b")
    io([url_of(again)], "read -P 0x77 0 64k")
    kill()
    store.do(TaskKind.DELETE_SNAPSHOT, volume_id, id=snapshot_id, snapshot_id=snapshot_id)
    store.do(TaskKind.DELETE, volume_id)
    store.endpoint.look_after()
    assert (store.exporter.list_serving(), list((store.directory / "volumes").iterdir())) == ([], [])


def test_a_service_that_starts_anew_adopts_what_is_exported(store: Store) -> None:
    kept, forgotten = store.create(), store.create()
    connection = store.connect(kept)
    store.connect(forgotten)
    pid = store.pid(kept)
    store.endpoint.stop()
    record = store.files.get(forgotten)
    store.files.write(type(record)(id=record.id, generation=record.generation, size=record.size))
    store.start()
    assert store.pid(kept) == pid
    io([url_of(connection)], "read 0 512")
    assert store.exporter.list_serving() == [kept]


def test_a_snapshot_of_what_is_being_written_is_of_one_moment(store: Store) -> None:
    volume_id, snapshot_id = store.create(), str(uuid.uuid4())
    connection = store.connect(volume_id)
    io([url_of(connection)], "write -P 0x22 0 1M")
    store.do(TaskKind.SNAPSHOT, volume_id, id=snapshot_id, snapshot_id=snapshot_id)
    io([url_of(connection)], "write -P 0x33 0 1M")
    with store.files.snapshot(volume_id, snapshot_id).open("rb") as file:
        assert file.read(MIB) == b"\x22" * MIB
    copy = str(uuid.uuid4())
    store.do(TaskKind.CREATE, copy, size=1, source_volume_id=volume_id)
    with store.files.data(copy).open("rb") as file:
        assert file.read(MIB) == b"\x33" * MIB


def test_a_volume_that_grows_is_larger_at_the_same_place(store: Store) -> None:
    volume_id = store.create()
    connection = store.connect(volume_id)
    io([url_of(connection)], "write -P 0x44 0 64k")
    store.do(TaskKind.EXTEND, volume_id, size=2)
    io([url_of(connection)], "read -P 0x44 0 64k")
    io([url_of(connection)], f"write -P 0x55 {2047 * MIB} 64k")


def test_another_machine_has_it_over_tls_and_nobody_else(store: Store, tmp_path: Path) -> None:
    volume_id = store.create()
    connection = store.connect(volume_id, "a", THERE)
    assert (connection.socket, connection.host) == ("", "127.0.0.1")
    target = over_tls(connection, tmp_path / "h2", dict(connection.credentials))
    io(target, "write -P 0x66 0 64k")
    io(target, "read -P 0x66 0 64k")
    other = over_tls(connection, tmp_path / "h9", store.exporter.authority.issue_to("h9"))
    assert "can't open" in io(other, "read 0 512", check=False)
    plain = [f"nbd://127.0.0.1:{connection.port}/{connection.export}"]
    assert "can't open" in io(plain, "read 0 512", check=False)


def over_tls(connection: VolumeConnection, directory: Path, credentials: dict[str, str]) -> list[str]:
    directory.mkdir()
    for name, key in (("ca-cert", "ca"), ("client-cert", "certificate"), ("client-key", "key")):
        (directory / f"{name}.pem").write_text(credentials[key])
    secret = f"tls-creds-x509,id=t,endpoint=client,verify-peer=on,dir={directory}"
    server = f"file.server.type=inet,file.server.host={connection.host},file.server.port={connection.port}"
    options = f"driver=raw,file.driver=nbd,{server},file.export={connection.export},file.tls-creds=t"
    options += f",file.tls-hostname={connection.tls_hostname}"
    return ["--object", secret, "--image-opts", options]


def test_a_deleted_volume_leaves_nothing(store: Store) -> None:
    volume_id = store.create()
    store.connect(volume_id)
    store.do(TaskKind.DELETE, volume_id)
    assert store.exporter.list_serving() == []
    assert store.endpoint.list_volumes(service_context()) == []
    assert list((store.directory / "volumes").iterdir()) == []


@pytest.mark.parametrize(
    ("words", "node_runs", "lasts"), [([], True, True), (["--guests"], True, False), ([], False, False)]
)
def test_exports_last_as_long_as_guests_that_may_use_them(
    words: list[str], node_runs: bool, lasts: bool, tmp_path: Path
) -> None:
    world = tmp_path / "embedded-libvirt"
    if node_runs:
        node = world / "nodes" / "east-0" / "node.json"
        node.parent.mkdir(parents=True)
        node.write_text('{"boot": "", "pid": 0, "started": 0}')
    made = Store(world / "volumes" / "east", free_ports(5))
    try:
        volume_id = made.create()
        made.connect(volume_id)
        made.endpoint.stop()
        daemon, sockets = psutil.Process(made.pid(volume_id)), made.exporter.socket_of(volume_id).parent
        assert sockets.parent != made.directory  # as nobody else reaches it there
        done = CliRunner().invoke(down, ["--state", str(tmp_path), *words])
        assert done.exit_code == 0, done.output
        assert (lives(daemon), sockets.exists()) == (lasts, lasts)
    finally:
        made.endpoint.stop()
        end_all(made.directory / "exports")


def lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
