"""What one look at a cell's health costs its conductor, by the number of servers: each router looks every second."""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import uuid
from contextlib import ExitStack, closing
from pathlib import Path

from benchmarks.claims import fill
from benchmarks.figures import Figure, milliseconds, report
from cell.conductor.capacity import Digests
from cellcloud.db import scheduler_change_log
from cellcloud.db.engine import Database
from cellcloud.model.change_log import Changes

HOLDING = json.dumps({"resources": {"VCPU": 1, "MEMORY_MB": 2048, "DISK_GB": 20}})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--servers", type=int, nargs="+", default=[20_000, 120_000, 350_000])
    parser.add_argument("--repeats", type=int, default=9)
    given = parser.parse_args()
    figures: list[Figure] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cellcloud-bench-")))
        database = stack.enter_context(closing(Database(f"sqlite:///{folder}/cell.db")))
        fill(database, given.hosts, vcpus=64)
        held = 0
        for servers in given.servers:
            ids = [str(uuid.uuid4()) for _ in range(held, servers)]
            rows = [(each, each, f"host-{one % given.hosts:06d}", HOLDING) for one, each in enumerate(ids, held)]
            with database.write() as connection:
                connection.exec_driver_sql(
                    "INSERT INTO claims (id, server_id, host, holding) VALUES (?, ?, ?, ?)", rows
                )
            held = servers
            digests = Digests(database, "bench")
            first = milliseconds(digests.get, 1)

            def after_a_change(digests: Digests = digests) -> None:
                with database.write() as connection:
                    scheduler_change_log.append(connection, Changes(dropped=("x",)))
                digests.get()

            readings = {"the first": first, "at rest": milliseconds(digests.get, given.repeats)}
            readings["after a change, with its commit"] = milliseconds(after_a_change, given.repeats)
            figures += [
                Figure(
                    name=f"{name}, {servers:,} servers",
                    unit="ms",
                    readings=found,
                    reference="the first look of a conductor, which counts, ms",
                    reference_reading=statistics.median(first),
                    detail=f"{given.hosts:,} hosts",
                )
                for name, found in readings.items()
            ]
    report(figures, as_json=given.json)


if __name__ == "__main__":
    main()
