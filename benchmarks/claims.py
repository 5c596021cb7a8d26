"""Claims per second from the scheduler's RPC to the commit, on MariaDB, PostgreSQL and SQLite, each commit flushed.

Schedulers and conductors are processes of their own around a private RabbitMQ and database. A conductor asks a
scheduler for hosts (``rank``), and stores claims, decisions and the change log's entry in one transaction, as it does
when it reserves; with ``--held`` the held servers too. Latency is measured up to half the rate the target names, from
the request's arrival to its commit, with the trace's batch sizes. A checker adds up the claims of one committed state
after the other, and compares with what hosts have. Beside it, in the same run: what a raw SQL client gets with such
batches, and what a call to the scheduler takes that asks for nothing.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.figures import conditions, milliseconds
from benchmarks.workload import FLAVORS, SAME_IN_BATCH, SINGLE
from cell.conductor.placement import claiming, reservation_batching, reservation_confirmation
from cell.conductor.placement.claiming import PlacementRequest
from cell.conductor.scheduling_store import SchedulingStoreService
from cell.scheduler.service import SchedulerService
from cellcloud import config
from cellcloud.context import service_context
from cellcloud.db import cell_schema, claims, decisions, hosts, migrate
from cellcloud.db.engine import Database
from cellcloud.launcher.database_servers import DatabaseServer, MariaDb, PostgreSql
from cellcloud.launcher.garbage_collection import look_seldom_for_garbage
from cellcloud.model.decision import RankBatch
from cellcloud.model.flavor import Flavor
from cellcloud.model.host import HostFacts, HostReport
from cellcloud.model.image import Image
from cellcloud.model.server import ServerSpec
from cellcloud.rpc.scheduler import Scheduler
from cellcloud.rpc.scheduling_store import SchedulingStore
from cellcloud.rpc.transport import Transport, unique_name
from tests.daemons import running_broker, running_database

CELL = "bench"
KINDS = ("mariadb", "postgresql", "sqlite")
BATCH = reservation_batching.TOGETHER  # servers in one question, where throughput is measured
EMPTY = RankBatch(shapes=(), servers=())
MEAN_BATCH = 3.8
BUDGET = 600.0
Json = dict[str, Any]


# ---- what is asked for -----------------------------------------------------------------------------------------------
class Stream:
    """Servers with the flavors and batch sizes of the trace, from a seed."""

    def __init__(self, seed: int) -> None:
        self._chance = np.random.default_rng(seed)
        self._flavors = [
            Flavor(id=str(n), name=f"f{n}", vcpus=cpus, memory_mb=int(gib * 1024), root_gb=20 * cpus)
            for n, (cpus, gib) in enumerate(FLAVORS)
        ]
        shares = np.array(list(FLAVORS.values()))
        self._shares = shares / shares.sum()
        self._image = Image(id="image")
        self._last = 0

    def request(self, size: int) -> list[PlacementRequest]:
        """Servers that one request asks for."""
        request_id = f"req-{uuid.uuid4()}"
        if self._chance.random() > SAME_IN_BATCH or size == 1:
            self._last = int(self._chance.choice(len(self._flavors), p=self._shares))
        flavor = self._flavors[self._last]
        return [PlacementRequest(spec=self._spec(flavor), request_id=request_id) for _ in range(size)]

    def size(self) -> int:
        """How many servers a request asks for: one, or a number that keeps the mean."""
        if self._chance.random() < SINGLE:
            return 1
        return min(2 + int(self._chance.exponential((MEAN_BATCH - SINGLE) / (1 - SINGLE) - 2)), 100)

    def batch(self, size: int) -> list[PlacementRequest]:
        """Return requests until there are so many servers."""
        made: list[PlacementRequest] = []
        while len(made) < size:
            made += self.request(min(self.size(), size - len(made)))
        return made

    def _spec(self, flavor: Flavor) -> ServerSpec:
        server_id = str(uuid.uuid4())
        return ServerSpec(
            id=server_id, name="s", project_id="p", user_id="u", flavor=flavor, image=self._image, networks=()
        )


def report_of(number: int, *, vcpus: int) -> HostReport:
    """Make the report of a host of the cell under measurement."""
    facts = HostFacts(
        hypervisor_hostname=f"machine-{number:06d}",
        hypervisor_type="QEMU",
        hypervisor_version=8002000,
        host_ip="10.0.0.1",
        vcpus=vcpus,
        memory_mb=vcpus * 16384,
        disk_gb=vcpus * 80,
        cpu_info={"arch": "x86_64"},
    )
    return HostReport(host=f"host-{number:06d}", facts=facts)


def fill(database: Database, count: int, *, vcpus: int) -> None:
    """Tables, and hosts in them."""
    migrate.upgrade(database, "cell")
    for first in range(0, count, 500):
        with database.write() as connection:
            some = range(first, min(first + 500, count))
            hosts.report(connection, [report_of(number, vcpus=vcpus) for number in some])


# ---- processes -------------------------------------------------------------------------------------------------------
def be_scheduler(broker: str) -> None:
    """Run a scheduler until stdin ends."""
    look_seldom_for_garbage()  # as a service of a cloud does
    options = config.load()
    options = replace(options, cell=replace(options.cell, name=CELL, report_interval=3600.0))
    service = SchedulerService(options, Transport(CELL, broker))
    service.start()
    print("ready", flush=True)
    sys.stdin.read()
    os._exit(0)


def be_conductor(broker: str, url: str, seed: int, *, held: bool) -> None:
    """Run a conductor that claims as each line of stdin says, and answers with a line."""
    look_seldom_for_garbage()  # as a service of a cloud does
    database = Database(url)
    transport = Transport(CELL, broker)
    server = transport.serve(SchedulingStore, SchedulingStoreService(database), server=unique_name("bench"), threads=4)
    scheduler = transport.client(Scheduler)
    store = reservation_confirmation.hold(3600.0) if held else _nothing
    print("ready", flush=True)
    for line in sys.stdin:
        task: Json = json.loads(line)
        stream = Stream(seed)
        seed += 1000
        work = {"throughput": _throughput, "latency": _latency, "empty": _empty}[task["task"]]
        print(json.dumps(work(task, stream, database, scheduler, store)), flush=True)
    server.stop()
    os._exit(0)


def _nothing(*_: object) -> list[Any]:
    """Store nothing beside the claims, decisions and the log."""
    return []


def _throughput(task: Json, stream: Stream, database: Database, scheduler: Scheduler, store: claiming.Store) -> Json:
    """Full batches from so many threads for so many seconds."""
    ready: queue.Queue[list[PlacementRequest]] = queue.Queue()
    for _ in range(task["batches"]):
        ready.put(stream.batch(task["size"]))
    gc.freeze()  # a conductor does not hold so many requests ahead
    end = time.monotonic() + task["seconds"]
    done, placed = [0] * task["threads"], [0] * task["threads"]

    def work(number: int) -> None:
        while time.monotonic() < end:
            try:
                asked = ready.get_nowait()
            except queue.Empty:
                return
            answers = claiming.place(database, scheduler, service_context(BUDGET), asked, store=store)
            done[number] += len(asked)
            placed[number] += sum(one.outcome == "held" for one in answers.values())

    cpu, began = time.process_time(), time.monotonic()
    with ThreadPoolExecutor(task["threads"]) as pool:
        list(pool.map(work, range(task["threads"])))
    took = time.monotonic() - began
    return {"servers": sum(done), "seconds": took, "cpu": time.process_time() - cpu, "placed": sum(placed)}


def _latency(task: Json, stream: Stream, database: Database, scheduler: Scheduler, store: claiming.Store) -> Json:
    """Measure requests that come by themselves at a rate, grouped as a conductor groups them."""
    placer = reservation_batching.Placer(database, scheduler, store=store)
    requests = []
    while sum(map(len, requests)) < task["rate"] * task["seconds"]:
        requests.append(stream.request(stream.size()))
    times = np.cumsum(np.random.default_rng(1).exponential(task["seconds"] / len(requests), len(requests)))
    gc.freeze()
    waits: list[float] = []
    began = time.monotonic() + 0.1

    def ask(at: float, asked: list[PlacementRequest]) -> None:
        placer.place(service_context(BUDGET), asked)
        waits.append(time.monotonic() - began - at)

    with ThreadPoolExecutor(task["threads"]) as pool:
        for at, asked in zip(times.tolist(), requests, strict=True):
            wait = began + at - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            pool.submit(ask, at, asked)
    took = time.monotonic() - began
    found = np.array(waits) * 1000
    servers = sum(map(len, requests))
    return {
        "p50_ms": float(np.percentile(found, 50)),
        "p99_ms": float(np.percentile(found, 99)),
        "per_s": servers / took,
    }


def _empty(task: Json, _: Stream, _database: Database, scheduler: Scheduler, _store: claiming.Store) -> Json:
    """Measure calls for no server, one after the other: what a message to the scheduler and its answer take."""
    found = np.array(milliseconds(lambda: scheduler.rank(service_context(), EMPTY), task["calls"]))
    return {"p50_ms": float(np.percentile(found, 50)), "p99_ms": float(np.percentile(found, 99))}


# ---- the cell under measurement --------------------------------------------------------------------------------------
@dataclass
class Process:
    """A scheduler or conductor, spoken to by lines."""

    popen: subprocess.Popen[str]

    def cpu(self) -> float:
        """Seconds of a processor it has used; those spent on getting ready for a task too."""
        used = psutil.Process(self.popen.pid).cpu_times()
        return float(used.user + used.system)

    def ask(self, **task: object) -> Callable[[], Json]:
        """Give a task; the answer is what is returned once called."""
        stdin, stdout = self.popen.stdin, self.popen.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("the process has no pipes")
        stdin.write(json.dumps(task) + "\n")
        stdin.flush()

        def answer() -> Json:
            line = stdout.readline()
            if not line:
                raise RuntimeError("a process of the benchmark has died")
            found: Json = json.loads(line)
            return found

        return answer


@contextmanager
def process(*arguments: str) -> Iterator[Process]:
    """Run this module in a role of its own."""
    command = [sys.executable, "-m", "benchmarks.claims", "--role", *arguments]
    popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert popen.stdout is not None
        assert popen.stdout.readline().strip() == "ready", "a process of the benchmark did not start"
        yield Process(popen)
    finally:
        popen.terminate()
        popen.wait(20)


@contextmanager
def database_of(kind: str, directory: Path) -> Iterator[str]:
    """Give the URL of an empty database. Every commit is flushed: innodb_flush_log_at_trx_commit=1, fsync and
    synchronous_commit on, synchronous=FULL."""
    if kind == "sqlite":
        yield f"sqlite:///{directory}/cell.db"
        return
    server: type[DatabaseServer] = MariaDb if kind == "mariadb" else PostgreSql
    with running_database(server, directory / kind, ("cell",)) as running:
        yield running.url("cell")


class Checker:
    """Looks at one committed state after the other while others write."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.looks = self.faults = 0

    def __enter__(self) -> Checker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def look(self) -> None:
        """Compare what hosts count with their claims and with what they have."""
        table = cell_schema.inventories.c
        with self._database.read_as_one() as connection:
            self.faults += len(claims.list_mismatches(connection))
            over = (table.used > table.capacity) | (table.used < 0)
            self.faults += len(connection.execute(cell_schema.inventories.select().where(over)).all())
        self.looks += 1

    def _look(self) -> None:
        while not self._stopping.wait(0.2):
            self.look()


def reference(database: Database, count: int, seconds: float) -> float:
    """Claims per second of one SQL client: for each batch an UPDATE of its hosts' figures and an INSERT, committed."""
    chance = np.random.default_rng(7)
    holding = '{"resources":{"DISK_GB":20,"MEMORY_MB":1792,"VCPU":1}}'
    amount = "CASE resource_class WHEN 'VCPU' THEN 1 WHEN 'MEMORY_MB' THEN 1792 ELSE 20 END"
    began, done = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        places = sorted(chance.choice(count, min(BATCH, count), replace=False).tolist())
        names = [f"host-{place:06d}" for place in places]
        listed = ", ".join(f"'{name}'" for name in names)
        rows = ", ".join(f"('{each}', '{each}', '{name}', '{holding}')" for name in names for each in [uuid.uuid4()])
        with database.write() as connection:
            connection.exec_driver_sql(
                f"UPDATE inventories SET used = used + {amount} "  # noqa: S608 -- of names made above
                f"WHERE host IN ({listed}) AND used + {amount} <= capacity"
            )
            connection.exec_driver_sql(f"INSERT INTO claims (id, server_id, host, holding) VALUES {rows}")  # noqa: S608
        done += len(names)
    return done / (time.monotonic() - began)


# ---- the cases -------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is measured."""

    hosts: int
    seconds: float
    rates: Sequence[float]
    held: bool


def measure(kind: str, size: Size) -> Iterator[Json]:
    """Yield the figures of one database."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cellcloud-bench-")))
        folder.chmod(0o755)  # the database's own user goes through it
        broker = stack.enter_context(running_broker(folder / "broker", CELL))
        url = stack.enter_context(database_of(kind, folder))
        database = stack.enter_context(closing(Database(url)))
        fill(database, size.hosts, vcpus=64)
        raw = reference(database, size.hosts, size.seconds / 2)
        held = ("--held",) if size.held else ()
        conductor = stack.enter_context(
            process("conductor", broker.url("conductor"), "--url", url, "--seed", "1", *held)
        )
        scheduler = stack.enter_context(process("scheduler", broker.url("scheduler")))
        shared = {"database": kind, "hosts": size.hosts, "held": size.held, "reference_per_s": round(raw)}
        batches = int(30_000 * size.seconds / BATCH)
        small: Json = {"task": "throughput", "size": 8, "threads": 1, "seconds": 0.5, "batches": 200}
        conductor.ask(**small)()
        checker = Checker(database)
        task: Json = {"task": "throughput", "size": BATCH, "seconds": size.seconds, "batches": batches}
        for threads in (1, 2, 3):
            before = scheduler.cpu()
            found = conductor.ask(**task, threads=threads)()
            rate = found["placed"] / found["seconds"]
            yield shared | {
                "case": f"claims in batches of {BATCH}, {threads} at once",
                "per_s": round(rate),
                "ratio": round(rate / raw, 3),
                "conductor_cpu": round(found["cpu"] / found["seconds"], 2),
                "scheduler_cpu": round((scheduler.cpu() - before) / found["seconds"], 2),
            }
            checker.look()
        found = conductor.ask(task="empty", calls=300)()
        yield shared | {"case": "a call for no server, alone", **{name: round(ms, 2) for name, ms in found.items()}}
        for rate in size.rates:
            found = conductor.ask(task="latency", rate=rate, seconds=size.seconds, threads=512)()
            yield shared | {
                "case": f"requests as they come, {rate:.0f} servers/s asked for",
                "per_s": round(found["per_s"]),
                "p50_ms": round(found["p50_ms"], 2),
                "p99_ms": round(found["p99_ms"], 2),
            }
            checker.look()
        yield shared | {"case": "committed states looked at", "looks": checker.looks, "faults": checker.faults}


def race(kind: str, seconds: float) -> Iterator[Json]:
    """Two schedulers and two conductors fill a small cell to the last place and beyond."""
    count, vcpus = 40, 16
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cellcloud-bench-")))
        folder.chmod(0o755)
        broker = stack.enter_context(running_broker(folder / "broker", CELL))
        url = stack.enter_context(database_of(kind, folder))
        database = stack.enter_context(closing(Database(url)))
        fill(database, count, vcpus=vcpus)
        conductors = [
            stack.enter_context(process("conductor", broker.url("conductor"), "--url", url, "--seed", str(seed)))
            for seed in (1, 2)
        ]
        for _ in conductors:
            stack.enter_context(process("scheduler", broker.url("scheduler")))
        task: Json = {"task": "throughput", "size": 32, "threads": 2, "seconds": seconds, "batches": 60}
        with Checker(database) as checker:
            found = [answer() for answer in [conductor.ask(**task) for conductor in conductors]]
        checker.look()
        with database.read() as connection:
            made = decisions.list_recent(connection, 10_000)
            used = {state.host: state.used for state in hosts.list_states(connection)}
        yield {
            "database": kind,
            "case": "2 schedulers, 2 conductors, a full cell",
            "asked": sum(one["servers"] for one in found),
            "placed": sum(one["placed"] for one in found),
            "conflicts": sum(len(one.conflicts) for one in made),
            "schedulers": len({one.batch.answer.basis.scheduler for one in made}),
            "vcpus_left": sum(vcpus * 4 - one["VCPU"] for one in used.values()),
            "looks": checker.looks,
            "faults": checker.faults,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--database", choices=KINDS, action="append", help="one or more; all when left out")
    parser.add_argument("--hosts", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=6.0, help="each reading")
    parser.add_argument(
        "--rate",
        type=float,
        nargs="+",
        default=[500.0, 2_000.0, 10_000.0],
        help="servers a second, where latency is measured",
    )
    parser.add_argument("--held", action="store_true", help="store held servers too, as reserve does")
    parser.add_argument("--role", nargs=2, metavar=("ROLE", "BROKER"), help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=1, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.role:
        role, broker = given.role
        return (
            be_scheduler(broker)
            if role == "scheduler"
            else be_conductor(broker, given.url, given.seed, held=given.held)
        )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # and leave no server behind
    where = conditions()
    if not given.json:
        print(*(f"{name}: {text}" for name, text in where.items()), sep="\n")
    size = Size(hosts=given.hosts, seconds=given.seconds, rates=given.rate, held=given.held)
    for kind in given.database or KINDS:
        for found in itertools.chain(measure(kind, size), race(kind, given.seconds)):
            print(json.dumps(found | where) if given.json else _line(found), flush=True)
    return None


def _line(found: Json) -> str:
    rest = ", ".join(f"{name} {value}" for name, value in found.items() if name not in ("database", "case", "hosts"))
    return f"{found['database']:<11}{found['case']:<52}{rest}"


if __name__ == "__main__":
    main()
