"""Servers from DELETE to gone per second, beside how fast the same servers were made: 16 clients at once."""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ThreadPoolExecutor

from benchmarks.clouds import Client, Cloud, running_cloud
from benchmarks.figures import Figure, report

CLIENTS = 16


def both(cloud: Cloud, servers: int) -> tuple[float, float]:
    """Return (creates to ACTIVE, deletes to gone) per second, with sixteen clients."""
    clients = [cloud.connect() for _ in range(CLIENTS)]
    share = servers // CLIENTS
    total = share * CLIENTS

    def make(number: int) -> list[str]:
        return [clients[number].create(cloud, f"bench-{number}-{one}")[0] for one in range(share)]

    def end(clients_servers: tuple[Client, list[str]]) -> None:
        client, mine = clients_servers
        for server_id in mine:
            status, _, _ = client.ask("DELETE", f"/v2.1/servers/{server_id}")
            assert status == 204, status

    with ThreadPoolExecutor(CLIENTS) as pool:
        began = time.monotonic()
        made = list(pool.map(make, range(CLIENTS)))
        clients[0].wait_active(total)
        creating = time.monotonic() - began
        began = time.monotonic()
        list(pool.map(end, zip(clients, made, strict=True)))
        clients[0].wait_gone()
        deleting = time.monotonic() - began
    return total / creating, total / deleting


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--servers", type=int, default=320, help="per repeat")
    given = parser.parse_args()
    with running_cloud(profile="services", port=23000) as cloud:
        both(cloud, 32)  # connections, caches
        readings = [both(cloud, given.servers) for _ in range(given.repeats)]
    creates = sorted(made for made, _ in readings)[len(readings) // 2]
    report(
        [
            Figure(
                name="deletes to gone, 16 clients",
                unit="/s",
                readings=[ended for _, ended in readings],
                reference="creates to ACTIVE/s in the same run",
                reference_reading=creates,
                detail="services profile, fake driver, 2 cells x 10 hosts",
            )
        ],
        as_json=given.json,
    )


if __name__ == "__main__":
    main()
