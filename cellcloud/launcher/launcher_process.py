"""The launcher: the process that holds a cloud, how it is started, joined by whoever starts it again, and ended.

It never touches guests: they run in nodes, which outlive it. A start finds the living ones and adopts them.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO

import click

from cellcloud import clock, errors
from cellcloud.launcher.layout import Choices, Layout, Profile, settled_management
from cellcloud.launcher.process_records import ProcessRecord, Records, describe, end_all, wait_gone
from cellcloud.launcher.process_units import list_service_modules

LAUNCHER = "launcher"  # its record's name
STOP_SECONDS = 90.0
LEFTOVER_GRACE = 1.0
LOOK = 0.2  # seconds between two looks at what another process does
READY, FAILED = "ready", "failed"
THRIFT = {"OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}


def find_launcher(records: Records) -> ProcessRecord | None:
    """Return the launcher of a state directory, if it lives."""
    record = records.find(LAUNCHER)
    return record if record is not None and record.is_alive() else None


def claim(run: Path) -> IO[bytes] | None:
    """Return the lock that makes its holder the only starter of this cloud, until closed; None while another has it."""
    run.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = (run / "lock").open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def join(records: Records, say: Callable[[str], None]) -> ProcessRecord:
    """Wait for a start that another process has begun; its launcher, once it serves. Raises Misconfigured."""
    told = False
    while True:
        launcher = find_launcher(records)
        if launcher is not None and launcher.state == "ready":
            return launcher
        lock = claim(records.directory)
        if lock is not None:
            lock.close()
            raise errors.Misconfigured(f"The other start failed; see {records.directory.parent / 'log'}.")
        if not told:
            say("Another start of this cloud is under way; waiting for it.")
            told = True
        clock.sleep(LOOK)


def end_launcher(records: Records) -> None:
    """Tell the launcher to stop all it holds, and wait for it; one that is only being started too."""
    while (launcher := find_launcher(records)) is None:
        lock = claim(records.directory)
        if lock is not None:
            lock.close()
            return
        clock.sleep(LOOK)
    launcher.ask()
    if not wait_gone(launcher.pid, STOP_SECONDS):
        launcher.kill()


def end_leftovers(records: Records) -> None:
    """End what a killed launcher has left running: services together, then what they use.

    Services may be killed at any moment, so they get no time to drain: whoever starts a cloud waits for this.
    """
    found = records.list_all()
    end_all((record for record in found if record.kind != "daemon"), grace=LEFTOVER_GRACE)
    end_all(record for record in found if record.kind == "daemon")
    for record in found:
        records.forget(record.name)


def launch(choices: Choices, lock: IO[bytes]) -> None:
    """Start the launcher as a process of its own, give it the lock, and pass on what it reports until it serves.

    Raises Misconfigured when it ends before that.
    """
    read_end, write_end = os.pipe()
    flags = {
        "--state": choices.state,
        "--cache": choices.cache,
        "--profile": choices.profile,
        "--driver": choices.driver,
        "--hosts": choices.hosts,
        "--port": choices.port,
        "--bind": choices.bind_host,
        "--virt-type": choices.virt_type,
        "--management": choices.management,
        "--clouds-file": choices.clouds_file,
        "--cloud-name": choices.cloud_name,
        "--progress-to": write_end,
        "--lock": lock.fileno(),
    }
    words = [str(word) for flag in flags.items() for word in flag]
    with _open_log(choices) as log:
        subprocess.Popen(
            [sys.executable, "-m", "cellcloud.launcher.cli", "up", "--foreground", *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=[write_end, lock.fileno()],
            env={**os.environ, **THRIFT},
        )
    os.close(write_end)
    outcome = FAILED
    with os.fdopen(read_end) as lines:
        for line in lines:
            if line.strip() in (READY, FAILED):
                outcome = line.strip()
                break
            click.echo(line, nl=False)
    if outcome != READY:
        raise errors.Misconfigured(f"The cloud did not start; see {choices.state}/log.")


def _open_log(choices: Choices) -> IO[bytes]:
    path = choices.state / "log" / f"{LAUNCHER}.log"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path.open("ab")


def stay(choices: Choices, lock: IO[bytes], report: Callable[[str], None]) -> None:
    """Be the launcher, until told to stop. Raises Misconfigured when the start fails."""
    from cellcloud.launcher import clouds_yaml, one_process, process_graph, supervisor

    began = clock.monotonic()

    def tell(line: str) -> None:
        report(f"{clock.monotonic() - began:6.1f} s  {line}")

    choices = replace(choices, management=settled_management(choices))
    layout = Layout(choices)
    layout.write_option_files()
    layout.point_here()
    records = Records(layout.run)
    records.save(replace(describe(LAUNCHER, "launcher", os.getpid()), grace=STOP_SECONDS))
    clouds_yaml.write_clouds(layout)
    units = process_graph.make_plan(layout)

    def ready() -> None:
        with suppress(OSError):  # the disk may be full: it serves all the same
            records.save(describe(LAUNCHER, "launcher", os.getpid(), state="ready", grace=STOP_SECONDS))
        tell("serving")
        report(READY)

    try:
        if choices.profile is Profile.SERVICES:
            made = supervisor.Supervisor(units, records=records, logs=layout.logs, report=tell)
            failure = made.run([*process_graph.PRELOAD, *list_service_modules()], on_ready=ready)
        else:
            health = layout.run / f"{LAUNCHER}.sock"
            one = one_process.OneProcess(units, health=health, log_file=layout.logs / "embedded.log", report=tell)
            failure = one.run(on_ready=ready)
    finally:
        records.forget(LAUNCHER)
        lock.close()
    if failure:
        tell(failure)
        report(FAILED)
        raise errors.Misconfigured(failure)


def reporter(handle: int | None) -> Callable[[str], None]:
    """Return what tells whoever started the launcher how far it is, through a pipe; without one, the screen."""
    if handle is None:
        return click.echo
    stream = os.fdopen(handle, "w", buffering=1)

    def report(line: str) -> None:
        if stream.closed:
            return
        try:
            stream.write(f"{line}\n")
        except BrokenPipeError:
            return
        if line in (READY, FAILED):
            stream.close()

    return report
