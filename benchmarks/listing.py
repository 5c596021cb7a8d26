"""GET of one server, and the detailed list of 1,000."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

from benchmarks.clouds import Client, running_cloud
from benchmarks.figures import Figure, milliseconds, report


def fetch(client: Client, path: str) -> Callable[[], None]:
    """Return what sends a GET and reads its answer to the last byte."""

    def ask() -> None:
        status, _body, _headers = client.fetch("GET", path)
        assert status == 200, path

    return ask


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--servers", type=int, default=1000)
    given = parser.parse_args()
    with running_cloud(profile="services", hosts=40) as cloud:
        client = cloud.connect()
        for _ in range(given.servers // 100):
            client.create(cloud, "listed", 100)
        client.wait_active(given.servers, seconds=300)
        first = client.ask("GET", "/v2.1/servers?limit=1")[1]["servers"][0]["id"]
        milliseconds(fetch(client, f"/v2.1/servers/{first}"), 50)
        nothing = milliseconds(fetch(client, "/v2.1/"), 200)
        one = milliseconds(fetch(client, f"/v2.1/servers/{first}"), 200)
        many = milliseconds(fetch(client, f"/v2.1/servers/detail?limit={given.servers}"), 15)
    reference = statistics.median(nothing)
    report(
        [
            Figure(
                name="GET of one server",
                unit="ms",
                readings=one,
                reference="GET of the version document, ms",
                reference_reading=reference,
                detail="services profile, fake driver",
            ),
            Figure(
                name=f"detailed list of {given.servers}",
                unit="ms",
                readings=many,
                reference="GET of the version document, ms",
                reference_reading=reference,
                detail="services profile, fake driver",
            ),
        ],
        as_json=given.json,
    )


if __name__ == "__main__":
    main()
