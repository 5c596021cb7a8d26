"""Servers from POST to ACTIVE per second: 16 clients at once, and one request for 100."""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ThreadPoolExecutor

import sqlalchemy as sa

from benchmarks.clouds import Cloud, running_cloud
from benchmarks.figures import Figure, report
from cellcloud.config import load
from cellcloud.db.engine import Database
from cellcloud.db.top_schema import quota_usages

CLIENTS = 16


def concurrent(cloud: Cloud, servers: int) -> float:
    """ACTIVE servers per second with sixteen clients."""
    clients = [cloud.connect() for _ in range(CLIENTS)]
    share = servers // CLIENTS

    def work(number: int) -> None:
        for one in range(share):
            clients[number].create(cloud, f"bench-{number}-{one}")

    began = time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(work, range(CLIENTS)))
    clients[0].wait_active(share * CLIENTS)
    took = time.monotonic() - began
    clients[0].delete_all()
    return share * CLIENTS / took


def in_one_request(cloud: Cloud, servers: int) -> float:
    """ACTIVE servers per second when one request asks for them all."""
    client = cloud.connect()
    began = time.monotonic()
    client.create(cloud, "bench", servers)
    client.wait_active(servers)
    took = time.monotonic() - began
    client.delete_all()
    return servers / took


def commits_per_second(cloud: Cloud, count: int = 300) -> float:
    """Measure what one client gets of the top's database: one small conditional update a transaction."""
    database = Database(load(cloud.state / "top" / "cellcloud.conf").top.connection)
    update = sa.update(quota_usages).where(quota_usages.c.project_id == "nobody").values(used=quota_usages.c.used + 1)
    began = time.monotonic()
    for _ in range(count):
        with database.write() as connection:
            connection.execute(update)
    took = time.monotonic() - began
    database.close()
    return count / took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--servers", type=int, default=160, help="per repeat, with sixteen clients")
    given = parser.parse_args()
    with running_cloud(profile="services") as cloud:
        concurrent(cloud, 32)  # connections, caches
        together = [concurrent(cloud, given.servers) for _ in range(given.repeats)]
        one = [in_one_request(cloud, 100) for _ in range(given.repeats)]
        reference = commits_per_second(cloud)
    name = "commits/s of the top's database"
    report(
        [
            Figure(
                name="creates to ACTIVE, 16 clients",
                unit="/s",
                readings=together,
                reference=name,
                reference_reading=reference,
                detail="services profile, fake driver, 2 cells x 10 hosts",
            ),
            Figure(
                name="creates to ACTIVE, min_count=100",
                unit="/s",
                readings=one,
                reference=name,
                reference_reading=reference,
                detail="services profile, fake driver, 2 cells x 10 hosts",
            ),
        ],
        as_json=given.json,
    )


if __name__ == "__main__":
    main()
