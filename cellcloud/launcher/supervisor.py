"""The supervisor: forks every unit of a plan, restarts what dies, ends it all in reverse order.

It is single-threaded and imports the heavy libraries once, before the first fork, so that the services share
those pages and start at once. It never talks to a unit: what it knows is on record in the state directory, and
a unit an operator holds (a file ``NAME.hold`` beside the record) is stopped and left alone until released.

A disk that is full and a machine without room for another process are no reason to end: records are written again
later, and units started again after a pause.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from setproctitle import setproctitle

from cellcloud import clock
from cellcloud.launcher import log_rotation
from cellcloud.launcher.garbage_collection import paused_garbage_collection
from cellcloud.launcher.process_records import ProcessRecord, Records, describe
from cellcloud.launcher.process_units import Unit, UnitKind, in_order
from cellcloud.launcher.start_progress import StartProgress

Report = Callable[[str], None]
WATCHED = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
FIRST_PAUSE = 0.2  # seconds before the first restart; doubles up to the longest
LONGEST_PAUSE = 10.0
STEADY = 20.0  # a unit that ran this long starts its pauses anew
TRIES = 5  # restarts of one unit during the start before the start is given up
START_DEADLINE = 180.0
TICK = 0.05  # seconds between two looks while something starts or stops
IDLE = 1.0
HEAD_START = 1.0  # seconds at most that daemons get before the code is loaded
PR_SET_CHILD_SUBREAPER = 36


@dataclass(slots=True)
class _Child:
    """A unit and what has become of it."""

    unit: Unit
    record: ProcessRecord
    not_before: float = 0.0
    since: float = 0.0
    kill_at: float | None = None
    pause: float = FIRST_PAUSE
    unsaved: bool = False
    wrong: str = ""  # why it could not be asked whether it is ready

    @property
    def running(self) -> bool:
        return self.record.pid > 0

    @property
    def settled(self) -> bool:
        return self.record.state in ("ready", "done", "held")


class Supervisor:
    """Carries out a plan until told to stop (SIGTERM or SIGINT)."""

    def __init__(self, units: Iterable[Unit], *, records: Records, logs: Path, report: Report) -> None:
        self._children = [
            _Child(unit, ProcessRecord(name=unit.name, kind=unit.kind, pid=0, started=0, boot="", state="waiting"))
            for unit in in_order(units)
        ]
        self._records = records
        self._logs = logs
        self._report = StartProgress(report)
        self._ending = False
        self._failure = ""
        self._serving = False
        self._began = clock.monotonic()
        self._rotate_at = self._began

    def run(self, preload: Iterable[str] = (), *, on_ready: Callable[[], None] | None = None) -> str:
        """Stay until told to stop; answers with why the start failed, or with nothing.

        Daemons import nothing of ours: they are forked first and make their data while ``preload`` is imported.
        """
        self._logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        # What a unit leaves behind when it dies becomes our child, and is reaped.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
        try:
            self._start_daemons()
            self._preload(preload)
            while not self._ending:
                self._advance(set(UnitKind))
                if not self._serving and all(child.settled for child in self._children):
                    self._serving = True
                    if on_ready is not None:
                        on_ready()
                self._check_start()
                if not self._serving:
                    self._report.remind(child.unit.name for child in self._children if child.record.state == "starting")
                self._await_signal()
        finally:
            self._stop_all()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
        return self._failure

    def _start_daemons(self) -> None:
        """Start what imports nothing of ours, as far as it waits for its like only, and only shortly."""
        daemons = [child for child in self._children if child.unit.kind is UnitKind.DAEMON]
        deadline = clock.monotonic() + HEAD_START
        while any(child.record.state == "waiting" for child in daemons) and clock.monotonic() < deadline:
            self._advance({UnitKind.DAEMON})
            self._await_signal()

    def _preload(self, modules: Iterable[str]) -> None:
        began = clock.monotonic()
        with paused_garbage_collection():
            for name in modules:
                importlib.import_module(name)
        self._report(f"code loaded ({clock.monotonic() - began:.1f} s)")

    def _advance(self, kinds: set[UnitKind]) -> None:
        """Start what may start, notice what became ready, obey holds."""
        now = clock.monotonic()
        ready = {child.unit.name for child in self._children if child.settled}
        for child in self._children:
            held = self._records.is_held(child.unit.name)
            if held and child.record.state != "held":
                self._hold(child)
            elif child.record.state == "held" and not held and not child.running:
                self._note(child, state="waiting")
            if child.record.state == "waiting" and not child.running:
                if child.unit.kind in kinds and now >= child.not_before and ready.issuperset(child.unit.after):
                    self._start(child)
            elif child.record.state == "starting" and child.unit.kind != UnitKind.TASK and self._is_ready(child):
                self._note(child, state="ready")
                if not self._serving:
                    self._report(f"{child.unit.name} ready ({clock.monotonic() - child.since:.1f} s)")
            if child.kill_at is not None and now >= child.kill_at:
                child.kill_at = None
                child.record.kill()
            if child.unsaved:
                self._save(child)
        if now >= self._rotate_at:
            self._rotate_at = now + log_rotation.EVERY
            self._rotate_logs()

    def _is_ready(self, child: _Child) -> bool:
        """Whatever asking comes to, it ends nothing: it may be the machine that is short of something."""
        try:
            ready, wrong = child.unit.ready(), ""
        except Exception as error:  # noqa: BLE001 -- said below, and tried again with every look
            ready, wrong = False, f"{type(error).__name__}: {error}"
        if wrong and wrong != child.wrong:
            self._report(f"{child.unit.name} cannot be asked whether it is ready: {wrong}")
        child.wrong = wrong
        return ready

    def _rotate_logs(self) -> None:
        try:
            log_rotation.rotate(self._logs)
        except OSError as error:
            self._report(f"logs are not rotated: {error}")

    def _start(self, child: _Child) -> None:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        try:
            pid = os.fork()
        except OSError as error:
            child.pause = min(child.pause * 2, LONGEST_PAUSE)
            child.not_before = clock.monotonic() + child.pause
            self._report(f"{child.unit.name} cannot be started: {error}; tried again in {child.pause:.1f} s")
            return
        if pid == 0:
            self._become(child.unit)
        child.since = clock.monotonic()
        child.record = describe(
            child.unit.name,
            child.unit.kind,
            pid,
            restarts=child.record.restarts,
            stop_signal=int(child.unit.stop_signal),
            grace=child.unit.grace,
        )
        self._save(child)

    def _become(self, unit: Unit) -> NoReturn:
        """In the child: a session, a log and signals of its own; then the unit's code, and no way back."""
        code = 1
        try:
            os.setsid()
            os.umask(0o077)
            for number in WATCHED:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
            log = os.open(self._logs / f"{unit.name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            null = os.open(os.devnull, os.O_RDONLY)
            os.dup2(null, 0)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.closerange(3, 256)
            setproctitle(f"cellcloud: {unit.name}")
            unit.run()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:  # noqa: BLE001 - the last frame of this process: all there is to do is to say why
            traceback.print_exc()
        finally:
            with suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _await_signal(self) -> None:
        busy = not all(child.settled for child in self._children) or any(c.kill_at for c in self._children)
        got = signal.sigtimedwait(WATCHED, TICK if busy else IDLE)
        if got is not None and got.si_signo in (signal.SIGTERM, signal.SIGINT):
            self._ending = True
        self._reap()

    def _reap(self) -> None:
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None:
                return
            child = next((each for each in self._children if each.record.pid == found.si_pid), None)
            if child is not None:
                # Before its number is given back: nothing of its group outlives it.
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(found.si_pid, signal.SIGKILL)
            os.waitpid(found.si_pid, 0)
            if child is not None:
                self._ended(child, well=found.si_code == os.CLD_EXITED and found.si_status == 0)

    def _ended(self, child: _Child, *, well: bool) -> None:
        """Its process is gone: done, held, or to be started again after a pause."""
        child.kill_at = None
        lived = clock.monotonic() - child.since
        if child.unit.kind == UnitKind.TASK:
            self._note(child, pid=0, state="done" if well else "failed")
            if well:
                self._report(f"{child.unit.name} done ({lived:.1f} s)")
            else:
                self._fail(child)
            return
        if self._ending or child.record.state == "held":
            self._note(child, pid=0)
            return
        child.pause = FIRST_PAUSE if lived > STEADY else min(child.pause * 2, LONGEST_PAUSE)
        child.not_before = clock.monotonic() + child.pause
        self._note(child, pid=0, state="waiting", restarts=child.record.restarts + 1)
        self._report(f"{child.unit.name} ended after {lived:.1f} s; started again in {child.pause:.1f} s")
        if not self._serving and child.record.restarts >= TRIES:
            self._fail(child)

    def _hold(self, child: _Child) -> None:
        self._note(child, state="held")
        self._ask_to_stop(child)

    def _note(self, child: _Child, **changes: object) -> None:
        child.record = replace(child.record, **changes)  # type: ignore[arg-type]
        self._save(child)

    def _save(self, child: _Child) -> None:
        """Write the child's record; where that fails, say so once and try again with every look."""
        try:
            self._records.save(child.record)
        except OSError as error:
            if not child.unsaved:
                self._report(f"the record of {child.unit.name} is not written: {error}")
            child.unsaved = True
        else:
            child.unsaved = False

    def _fail(self, child: _Child) -> None:
        self._failure = f"{child.unit.name} failed; its log is {self._logs / child.unit.name}.log"
        self._ending = True

    def _check_start(self) -> None:
        if self._serving or self._ending or clock.monotonic() - self._began < START_DEADLINE:
            return
        missing = ", ".join(child.unit.name for child in self._children if not child.settled)
        self._failure = f"not ready within {START_DEADLINE:.0f} s: {missing}; logs are in {self._logs}"
        self._ending = True

    def _ask_to_stop(self, child: _Child) -> None:
        if child.running and child.kill_at is None:
            child.kill_at = clock.monotonic() + child.unit.grace
            with suppress(ProcessLookupError):
                os.kill(child.record.pid, child.unit.stop_signal)

    def _needed_by(self, children: Iterable[_Child]) -> set[str]:
        """Return the names of all units these come after, directly or through others."""
        needed: set[str] = set()
        by_name = {child.unit.name: child for child in self._children}
        found = {name for child in children for name in child.unit.after}
        while found:
            needed |= found
            found = {name for each in found for name in by_name[each].unit.after} - needed
        return needed

    def _stop_all(self) -> None:
        """End every unit, each once nothing that comes after it runs any more."""
        self._ending = True
        while running := [child for child in self._children if child.running]:
            needed = self._needed_by(running)
            for child in running:
                if child.unit.name not in needed:
                    self._ask_to_stop(child)
                if child.kill_at is not None and clock.monotonic() >= child.kill_at:
                    child.record.kill()
            signal.sigtimedwait({signal.SIGCHLD}, TICK)
            self._reap()
        for child in self._children:
            self._records.forget(child.unit.name)
