"""The supervisor: order, restart, hold, failure, and an end that leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from cellcloud.launcher import log_rotation
from cellcloud.launcher.process_records import ProcessRecord, Records, describe, end_all

PLAN = """
import pathlib, signal, sys, time
from cellcloud.launcher.process_records import Records
from cellcloud.launcher.supervisor import Supervisor
from cellcloud.launcher.process_units import UnitKind, Unit

place = pathlib.Path(sys.argv[1])
disk = place / "disk" if (place / "disk").exists() else place

def stay(name):
    def run():
        (place / f"{name}.began").touch()
        signal.sigwait({signal.SIGTERM})
        with (place / "ends").open("a") as file:
            file.write(name + "\\n")
    return run

def deaf():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    (place / "deaf.began").touch()
    import subprocess
    subprocess.run(["sleep", "1000"])

def note():
    (place / "order").write_text(" ".join(sorted(path.stem for path in place.glob("*.began"))))

def fail():
    raise RuntimeError("no such luck")

def blocked(name):
    def run():
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        stay(name)()
    return run

asked = []

def unsure():
    asked.append(1)
    if len(asked) < 4:
        raise FileNotFoundError("ca.pem")
    return (place / "unsure.began").exists()

UNITS = {
    "unsure": Unit(name="unsure", kind=UnitKind.SERVICE, run=blocked("unsure"), ready=unsure),
    "database": Unit(name="database", kind=UnitKind.DAEMON, run=blocked("database"),
                     ready=(place / "database.began").exists),
    "schema": Unit(name="schema", kind=UnitKind.TASK, run=note, after=("database",)),
    "service": Unit(name="service", kind=UnitKind.SERVICE, run=blocked("service"), after=("schema",),
                    ready=(place / "service.began").exists),
    "deaf": Unit(name="deaf", kind=UnitKind.SERVICE, run=deaf, grace=0.3, ready=(place / "deaf.began").exists),
    "fails": Unit(name="fails", kind=UnitKind.TASK, run=fail, after=("database",)),
}
supervisor = Supervisor(
    [UNITS[name] for name in sys.argv[2:]],
    records=Records(disk / "run"), logs=disk / "log", report=lambda line: print(line, flush=True),
)
why = supervisor.run(["json"], on_ready=(place / "serving").touch)
print("end:", why)
"""


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a supervisor over the named units of PLAN."""
    started: list[subprocess.Popen[str]] = []

    def start(*names: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", PLAN, str(tmp_path), *names], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        family = []
        if process.poll() is None:
            family = psutil.Process(process.pid).children(recursive=True)
            process.kill()
        for left in family:
            left.kill()
        process.communicate()


def until(fact: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for a fact; fail when it does not come true."""
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def running(records: Records, name: str) -> ProcessRecord | None:
    """The record of a unit that is ready and alive."""
    record = records.find(name)
    return record if record and record.state == "ready" and record.is_alive() else None


def test_units_start_in_order_and_end_in_reverse(launch: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    supervisor = launch("service", "schema", "database")
    until((tmp_path / "serving").exists)
    assert (tmp_path / "order").read_text() == "database"
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(60) == 0
    assert (tmp_path / "ends").read_text().split() == ["service", "database"]
    assert not list((tmp_path / "run").glob("*.json"))


def test_what_dies_is_started_again(launch: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    launch("service", "schema", "database")
    until((tmp_path / "serving").exists)
    records = Records(tmp_path / "run")
    before = running(records, "service")
    assert before
    os.kill(before.pid, signal.SIGKILL)
    until(lambda: (now := running(records, "service")) is not None and now.pid != before.pid)
    after = records.find("service")
    assert after
    assert after.restarts == 1
    assert not before.is_alive()


def test_a_unit_that_cannot_be_asked_ends_nothing(launch: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    supervisor = launch("unsure", "database")
    until((tmp_path / "serving").exists)
    supervisor.send_signal(signal.SIGTERM)
    said, _ = supervisor.communicate(timeout=60)
    assert supervisor.returncode == 0
    assert said.count("unsure cannot be asked whether it is ready: FileNotFoundError: ca.pem") == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with little room, for what the supervisor writes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """Take all the room there is."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    return ballast


def test_a_full_disk_ends_nothing(
    small_disk: Path, launch: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    supervisor = launch("service", "schema", "database")
    until((tmp_path / "serving").exists)
    records = Records(small_disk / "run")
    before = {name: record for name in ("service", "database") if (record := running(records, name))}
    ballast = fill(small_disk)
    (tmp_path / "service.began").unlink()
    os.kill(before["service"].pid, signal.SIGKILL)
    until((tmp_path / "service.began").exists)
    assert supervisor.poll() is None
    assert before["database"].is_alive()
    ballast.unlink()
    until(lambda: (now := running(records, "service")) is not None and now.pid != before["service"].pid)
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(60) == 0


def test_logs_are_bounded_and_writers_go_on(tmp_path: Path) -> None:
    path = tmp_path / "api.log"
    with path.open("a", buffering=1) as writer:
        for number in range(6):
            writer.write(f"{number} {'x' * 1000}\n")
            log_rotation.rotate(tmp_path, limit=500, kept=2)
        writer.write("last\n")
    names = sorted(each.name for each in tmp_path.iterdir())
    assert names == ["api.log", "api.log.1", "api.log.2"]
    assert [(tmp_path / name).read_text()[:1] for name in names] == ["l", "5", "4"]


def test_a_log_does_not_keep_a_disk_full(small_disk: Path) -> None:
    path = small_disk / "api.log"
    path.write_bytes(b"x" * 1000)
    fill(small_disk)
    log_rotation.rotate(small_disk, limit=500, kept=2)
    assert path.stat().st_size == 0
    assert sorted(each.name for each in small_disk.iterdir()) == ["api.log", "ballast"]


def test_a_deaf_unit_is_killed_with_all_it_started(
    launch: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    supervisor = launch("deaf")
    until((tmp_path / "serving").exists)
    record = Records(tmp_path / "run").find("deaf")
    assert record
    until(lambda: len(psutil.Process(record.pid).children()) == 1)
    family = psutil.Process(supervisor.pid).children(recursive=True)
    assert len(family) == 2
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(60) == 0
    _, alive = psutil.wait_procs(family, timeout=30)  # who is nobody's child is buried by the machine, in its own time
    assert alive == []


def test_a_held_unit_stays_stopped_until_released(launch: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    supervisor = launch("service", "schema", "database")
    until((tmp_path / "serving").exists)
    records = Records(tmp_path / "run")
    records.hold("service")
    supervisor.send_signal(signal.SIGHUP)
    until(lambda: (found := records.find("service")) is not None and (found.state, found.pid) == ("held", 0))
    (tmp_path / "service.began").unlink()
    records.release("service")
    supervisor.send_signal(signal.SIGHUP)
    until(lambda: running(records, "service") is not None)


def test_a_failed_task_ends_the_start_and_says_where_to_look(
    launch: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    said, _ = launch("fails", "database").communicate(timeout=60)
    assert "end: fails failed" in said
    assert "no such luck" in (tmp_path / "log/fails.log").read_text()
    assert (tmp_path / "ends").read_text() == "database\n"


@pytest.mark.parametrize("other", [{"started": 1}, {"boot": "another"}])
def test_a_recycled_pid_is_never_signalled(other: dict[str, object]) -> None:
    """A record of this very process, but for when it started, is not this process."""
    mine = describe("mine", "service", os.getpid())
    assert mine.is_alive()
    got = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: got.set())
    try:
        stranger = replace(mine, **other)  # type: ignore[arg-type]
        assert not stranger.is_alive()
        end_all([stranger])
        stranger.kill()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not got.is_set()
