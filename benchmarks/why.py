"""What it takes to say why: explaining a past decision, replaying it, and asking what would fit, at 10,000 hosts.

A scheduler and a conductor's store in one process, over an in-process queue and SQLite; the cell has had some thousand
servers placed. Asked of the scheduler that decided ("recent": it undoes what came since), and of others ("past"): one
that runs and has prepared for that, as it does every ten seconds, and one that walks through the cell's records first.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

from benchmarks.claims import Stream, fill
from benchmarks.figures import Figure, milliseconds, report
from cell.conductor.placement import claiming, reservation_confirmation
from cell.conductor.scheduling_store import SchedulingStoreService
from cell.scheduler.service import SchedulerService
from cellcloud import config
from cellcloud.context import service_context
from cellcloud.db.engine import Database
from cellcloud.launcher.garbage_collection import look_seldom_for_garbage
from cellcloud.model.decision import shape_of
from cellcloud.rpc.scheduling_store import SchedulingStore
from cellcloud.rpc.transport import Transport

CELL = "bench"
BUDGET = 600.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--hosts", type=int, default=10_000)
    parser.add_argument("--servers", type=int, default=5_000, help="placed before")
    parser.add_argument("--repeats", type=int, default=9)
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cellcloud-bench-")))
        database = stack.enter_context(closing(Database(f"sqlite:///{folder}/cell.db")))
        fill(database, given.hosts, vcpus=64)
        transport = Transport(CELL, "kombu+memory://")
        stack.callback(
            transport.serve(SchedulingStore, SchedulingStoreService(database), server="ledger", threads=4).stop
        )
        options = replace(config.load(), cell=replace(config.load().cell, name=CELL))
        one, other, hasty = (SchedulerService(options, transport) for _ in range(3))
        look_seldom_for_garbage()  # as a service of a cloud does
        ready = milliseconds(lambda: one.tailer.catch_up(service_context(BUDGET)), 1)
        stream, servers = Stream(1), []
        while len(servers) < given.servers:
            asked = stream.batch(min(256, given.servers - len(servers)))
            servers += list(
                claiming.place(
                    database, one, service_context(BUDGET), asked, store=reservation_confirmation.hold(3600.0)
                )
            )
            one.tailer.catch_up(service_context(BUDGET))
        context = service_context(BUDGET)
        early, late = servers[given.servers // 2], servers[-1]
        decision = one.explain(context, late, None, 5)[0].decision
        shape = shape_of(stream.request(1)[0].spec)
        reference = statistics.median(milliseconds(lambda: one.plan_fits(context, shape, 1), given.repeats))
        cases = {
            "why, recent, the last server": lambda: one.explain(context, late, None, 5),
            "why, recent, half of all ago": lambda: one.explain(context, early, None, 5),
            "why-not, recent": lambda: one.explain(context, late, "host-000007", 0),
            "replay, recent": lambda: one.replay(context, decision, None),
            "plan fits, 1,000 servers": lambda: one.plan_fits(context, shape, 1000),
            "why, past, asked again": lambda: other.explain(context, late, None, 5),
        }
        for each in (other, hasty):
            each.tailer.catch_up(service_context(BUDGET))
        readings = {"preparing for the past": milliseconds(lambda: other.queries.prepare(context), 1)}
        readings["why, past, the first time"] = milliseconds(cases["why, past, asked again"], 1)
        readings["why, past, not prepared"] = milliseconds(lambda: hasty.explain(context, late, None, 5), 1)
        readings |= {name: milliseconds(ask, given.repeats) for name, ask in cases.items()}
    figures = [
        Figure(
            name=name,
            unit="ms",
            readings=found,
            reference="plan fits of one server, ms",
            reference_reading=reference,
            detail=f"{given.hosts} hosts, {given.servers} servers, SQLite",
        )
        for name, found in ({"a scheduler's loading of the empty cell": ready} | readings).items()
    ]
    report(figures, as_json=given.json)


if __name__ == "__main__":
    main()
