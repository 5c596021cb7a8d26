"""What each operation on a server takes, from its request until the API shows it done, one at a time."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.clouds import Client, Cloud, running_cloud
from benchmarks.figures import Figure, milliseconds, report

OPERATIONS: tuple[tuple[str, dict[str, Any], str], ...] = (  # what, body of the action, status when it is done
    ("pause", {"pause": None}, "PAUSED"),
    ("unpause", {"unpause": None}, "ACTIVE"),
    ("suspend", {"suspend": None}, "SUSPENDED"),
    ("resume", {"resume": None}, "ACTIVE"),
    ("stop", {"os-stop": None}, "SHUTOFF"),
    ("start", {"os-start": None}, "ACTIVE"),
    ("soft reboot", {"reboot": {"type": "SOFT"}}, "ACTIVE"),
    ("hard reboot", {"reboot": {"type": "HARD"}}, "ACTIVE"),
    ("lock", {"lock": None}, "ACTIVE"),
    ("unlock", {"unlock": None}, "ACTIVE"),
    ("rescue", {"rescue": {}}, "RESCUE"),
    ("unrescue", {"unrescue": None}, "ACTIVE"),
    ("rebuild", {"rebuild": {"imageRef": "{image}"}}, "ACTIVE"),
    ("createImage", {"createImage": {"name": "kept"}}, "ACTIVE"),
    ("shelve and offload", {"shelve": None}, "SHELVED_OFFLOADED"),
    ("unshelve", {"unshelve": None}, "ACTIVE"),
    ("resize", {"resize": {"flavorRef": "{larger}"}}, "VERIFY_RESIZE"),
    ("revertResize", {"revertResize": None}, "ACTIVE"),
    ("resize, again", {"resize": {"flavorRef": "{larger}"}}, "VERIFY_RESIZE"),
    ("confirmResize", {"confirmResize": None}, "ACTIVE"),
)
LONGEST = 60.0


def filled(body: Any, ids: dict[str, str]) -> Any:
    """Return the body with the cloud's ids in it."""
    if isinstance(body, dict):
        return {key: filled(value, ids) for key, value in body.items()}
    return body.format(**ids) if isinstance(body, str) else body


def wait(client: Client, path: str, status: str) -> None:
    """Return once the server has the status and no task, or, of the status DELETED, is gone."""
    end = time.monotonic() + LONGEST
    while True:
        code, answer, _ = client.ask("GET", path)
        if code == 404 and status == "DELETED":
            return
        server = answer["server"]
        if server["status"] == status and server["OS-EXT-STS:task_state"] is None:
            return
        assert server["status"] != "ERROR", server
        assert time.monotonic() < end, f"{server['status']} ({server['OS-EXT-STS:task_state']}) instead of {status}"


def life(client: Client, cloud: Cloud) -> Iterator[tuple[str, float, float]]:
    """Yield (operation, milliseconds until it is accepted, and until it is done) of one server's life."""

    def timed(what: str, method: str, path: str, body: Any, status: str) -> tuple[str, float, float]:
        began = time.perf_counter()
        code, answer, _ = client.ask(method, path, body)
        accepted = time.perf_counter()
        assert code in (200, 202, 204), (what, code, answer)
        wait(client, place or f"/v2.1/servers/{answer['server']['id']}", status)
        return what, (accepted - began) * 1000, (time.perf_counter() - began) * 1000

    place = ""
    spec = {"name": "measured", "flavorRef": cloud.ids["flavor"], "imageRef": cloud.ids["image"], "networks": "auto"}
    yield timed("create", "POST", "/v2.1/servers", {"server": spec}, "ACTIVE")
    place = f"/v2.1/servers/{client.ask('GET', '/v2.1/servers?limit=1')[1]['servers'][0]['id']}"
    for what, body, status in OPERATIONS:
        yield timed(what, "POST", f"{place}/action", filled(body, cloud.ids), status)
    yield timed("delete", "DELETE", place, None, "DELETED")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--port", type=int, default=23200)
    given = parser.parse_args()
    done: dict[str, list[float]] = {}
    accepted: dict[str, list[float]] = {}
    with running_cloud(profile="services", port=given.port) as cloud:
        client = cloud.connect()
        flavors = client.ask("GET", "/v2.1/flavors")[1]["flavors"]
        cloud.ids["larger"] = next(one["id"] for one in flavors if one["name"] == "m1.small")
        list(life(client, cloud))  # connections, caches
        for _ in range(given.repeats):
            for what, until_accepted, until_done in life(client, cloud):
                accepted.setdefault(what, []).append(until_accepted)
                done.setdefault(what, []).append(until_done)
        reference = statistics.median(milliseconds(lambda: client.ask("GET", "/v2.1/servers?limit=1"), 100))
    report(
        [
            Figure(
                name=what,
                unit="ms",
                readings=readings,
                reference="GET of a list of one server, ms",
                reference_reading=reference,
                detail=f"accepted after {statistics.median(accepted[what]):.1f} ms; services profile, fake driver",
            )
            for what, readings in done.items()
        ],
        as_json=given.json,
    )


if __name__ == "__main__":
    main()
