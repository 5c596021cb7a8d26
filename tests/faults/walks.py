"""Every operation on servers, as patient users ask for it: again when nobody answers, and until it is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import requests

from cellcloud.model.operations import ACTIONS, AT_ONCE, Operation, OperationSpec, spec_of
from cellcloud.server_states import VmState
from tests.cloud import Api, until

PATIENCE = 60.0  # seconds a client repeats a request that nobody answered
ENDED = 120.0  # seconds until an operation that was accepted has ended: a command that got lost is sent again after 10
DELETE = "DELETE"
OF_ADMINISTRATORS = frozenset({"migrate", "shelveOffload", "os-resetState"})
IMAGE = {"name": "image"}
BACKUP = {"name": "backup", "backup_type": "daily", "rotation": 1}
WALKS: tuple[tuple[tuple[str, Any], ...], ...] = (
    (
        ("os-stop", None),
        ("os-start", None),
        ("reboot", {"type": "SOFT"}),
        ("reboot", {"type": "HARD"}),
        ("pause", None),
        ("unpause", None),
        ("suspend", None),
        ("resume", None),
    ),
    (
        ("createImage", IMAGE),
        ("createBackup", BACKUP),
        ("rebuild", {"imageRef": ""}),
        ("rescue", None),
        ("unrescue", None),
        ("lock", None),
        ("unlock", None),
        ("changePassword", {"adminPass": "secret"}),
        ("trigger_crash_dump", None),
        ("os-resetState", {"state": "active"}),
    ),
    (
        ("resize", {"flavorRef": ""}),
        ("revertResize", None),
        ("migrate", None),
        ("confirmResize", None),
    ),
    (
        ("shelve", None),
        ("shelveOffload", None),
        ("unshelve", None),
        (DELETE, None),
        ("restore", None),
    ),
)
"""What each server goes through, in this order: keys of actions, and what they are given."""


def specs_of(walk: tuple[tuple[str, Any], ...]) -> Iterator[OperationSpec]:
    """The rows of the table that a walk goes through, but for what is done at once."""
    for key, given in walk:
        if key == DELETE:
            yield spec_of(Operation.SOFT_DELETE)
        elif key in ACTIONS:
            yield spec_of(ACTIONS[key].operation, given["type"] if ACTIONS[key].variant else "")


def keys_at_once() -> set[str]:
    """Of actions that are no operations."""
    return {"os-resetState" if name == "resetState" else str(name) for name in AT_ONCE}


def persist(ask: Callable[[], Any], *wanted: int) -> Any:
    """Ask until there is an answer. Only silence and "try again" are reasons to repeat."""
    end = time.monotonic() + PATIENCE
    while True:
        with suppress(requests.ConnectionError, requests.Timeout):
            answer = ask()
            if answer.status_code in wanted:
                return answer
            assert answer.status_code == 503, (answer.status_code, answer.text)
        assert time.monotonic() < end, "nobody answers any more"
        time.sleep(0.2)


@dataclass(frozen=True)
class Walker:
    """Takes servers through walks. ``body``: of their creation. ``larger``: id of a flavor."""

    api: Api
    admin: Api
    body: dict[str, Any]
    larger: str

    @classmethod
    def of(cls, api: Api, admin: Api) -> Walker:
        """All that it will need of the cloud is asked for before anybody dies."""
        flavors = api.get("/flavors/detail")["flavors"]
        larger = next(one["id"] for one in flavors if one["vcpus"] > 1 and one["disk"] > 0)
        return cls(api, admin, api.server_body(""), str(larger))

    def walk(self, number: int, rounds: int) -> str:
        """One server, through one of the walks; its id."""
        key = {"Idempotency-Key": f"walk-{number}"}
        body = {"server": self.body["server"] | {"name": f"walk-{number}"}}
        answer = persist(lambda: self.api.request("POST", "/servers", body, **key), 202)
        server_id = str(answer.json()["server"]["id"])
        self._wait_for(server_id, VmState.ACTIVE)
        for _ in range(rounds):
            for action, given in WALKS[number % len(WALKS)]:
                self._perform(server_id, action, self._filled(given))
        return server_id

    def _filled(self, given: Any) -> Any:
        """With the ids that this cloud has."""
        if given == {"imageRef": ""}:
            return {"imageRef": self.body["server"]["imageRef"]}
        return {"flavorRef": self.larger} if given == {"flavorRef": ""} else given

    def _perform(self, server_id: str, key: str, given: Any) -> None:
        """Ask for it while nothing else is under way, until the server has come to rest where it leads: what failed for
        want of a process has left the server what it was."""
        spec = next(specs_of(((key, given),)), None)
        wanted = (spec.vm_state if spec else None) or VmState.ACTIVE
        end, asked = time.monotonic() + ENDED, False
        while True:
            server = self._show(server_id)
            if server["OS-EXT-STS:task_state"] is None:
                if asked and server["OS-EXT-STS:vm_state"] == wanted:
                    return
                accepted = self._ask(server_id, key, given)
                asked = asked or accepted or spec is None or wanted not in spec.starts_from
            assert time.monotonic() < end, (key, server)
            time.sleep(0.2)

    def _ask(self, server_id: str, key: str, given: Any) -> bool:
        """Return whether it was accepted; after silence nobody knows."""
        api = self.admin if key in OF_ADMINISTRATORS else self.api
        method, path = ("DELETE", "") if key == DELETE else ("POST", "/action")
        with suppress(requests.ConnectionError, requests.Timeout):
            body = None if key == DELETE else {key: given}
            answer = api.request(method, f"/servers/{server_id}{path}", body)
            assert answer.status_code in (200, 202, 204, 409, 503), (key, answer.status_code, answer.text)
            return bool(answer.status_code < 300)
        return False

    def _show(self, server_id: str) -> dict[str, Any]:
        """The server as an administrator sees it, who sees those that can be restored, too."""
        server: dict[str, Any] = persist(lambda: self.admin.request("GET", f"/servers/{server_id}"), 200).json()[
            "server"
        ]
        return server

    def _wait_for(self, server_id: str, state: VmState) -> None:
        what = f"{server_id} {state}"
        until(lambda: self._show(server_id)["OS-EXT-STS:vm_state"] == state, ENDED, every=0.2, what=what)
