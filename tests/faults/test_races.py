"""Every operation on a few servers, asked for by several clients at once: each is begun or refused at once, each ends,
and nothing is left or miscounted."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

from cellcloud.model.image import ImageQuery
from cellcloud.model.operations import ACTIONS
from tests.api.world import IMAGE
from tests.cloud import CELLS, until
from tests.faults.books import wait_until_right
from tests.faults.one_process import OneProcess, one_process

CLIENTS, ASKED, SERVERS = 3, 40, 3
ARGUMENTS: dict[str, list[Any]] = {
    "reboot": [{"type": "SOFT"}, {"type": "HARD"}],
    "createImage": [{"name": "image"}],
    "createBackup": [{"name": "backup", "backup_type": "daily", "rotation": 1}],
    "resize": [{"flavorRef": "1"}, {"flavorRef": "2"}],
    "rebuild": [{"imageRef": IMAGE}],
    "os-resetState": [{"state": "active"}, {"state": "error"}],
}
NAMES = [*sorted(ACTIONS), "os-resetState", "lock", "unlock"]
LATE = {503}  # a cell did not answer in time, on a busy machine: the books are right all the same
BEGUN, REFUSED = {200, 202, 204}, {400, 403, 404, 409}  # 400: it has that flavor; 403: another has locked it


def ask_at_random(cloud: OneProcess, server_ids: list[str], seed: int, answers: list[tuple[str, int]]) -> None:
    """What one client does; most of it is refused, being asked in whatever state the server is."""
    chance, client = random.Random(seed), cloud._client.application.test_client()
    for _ in range(ASKED):
        path, name = f"/v2.1/servers/{chance.choice(server_ids)}", chance.choice([*NAMES, "delete", "rename"])
        sent: dict[str, Any] = {"headers": {"X-Auth-Token": chance.choice(["member", "admin"])}}
        if name == "delete":
            status = client.delete(path, **sent).status_code if chance.random() < 0.3 else 409
        elif name == "rename":
            status = client.put(path, json={"server": {"name": f"n{chance.random()}"}}, **sent).status_code
        else:
            body = {name: chance.choice(ARGUMENTS.get(name, [None]))}
            status = client.post(f"{path}/action", json=body, **sent).status_code
        answers.append((name, status))


def test_operations_that_are_asked_for_at_once(tmp_path: Path) -> None:
    answers: list[tuple[str, int]] = []
    with one_process(tmp_path, reclaim=600) as cloud:
        server_ids = [cloud.create(f"server-{number}", f"key-{number}") for number in range(SERVERS)]
        for server_id in server_ids:
            cloud.wait_for(server_id, "ACTIVE")
        clients = [
            threading.Thread(target=ask_at_random, args=(cloud, server_ids, seed, answers)) for seed in range(CLIENTS)
        ]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        assert len(answers) == CLIENTS * ASKED
        assert {status for _, status in answers} <= BEGUN | REFUSED | LATE, answers
        assert len({name for name, status in answers if status in BEGUN}) > 5
        wait_until_right(cloud.books)
        for server_id in server_ids:
            body = {"forceDelete": None}
            headers = {"X-Auth-Token": "admin"}
            cloud._ask("POST", f"/v2.1/servers/{server_id}/action", body, 202, 404, headers=headers)
        until(lambda: {cloud.status(one) for one in server_ids} == {"gone"}, 60.0, every=0.2, what="all deleted")
        wait_until_right(cloud.books)
        assert [cloud._hypervisors[name].list_guests() for name in CELLS] == [[], []]
        images = cloud.images.search_images(ImageQuery(limit=1000), project_id="", is_admin=True)
        late = [
            name for name, status in answers if status in LATE and name in ("createImage", "createBackup", "shelve")
        ]
        assert len([image for image in images if image.status != "active"]) <= len(late)
