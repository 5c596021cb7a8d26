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
from tests.cloud import CELLS, Api, until

PATIENCE = 60.0  # seconds a client repeats a request that nobody answered
ENDED = 120.0  # seconds until an operation that was accepted has ended: a command that got lost is sent again after 10
DELETE = "DELETE"
OF_ADMINISTRATORS = frozenset({"migrate", "shelveOffload", "os-resetState"})
ON_VOLUMES = (Operation.ATTACH_VOLUME, Operation.EXTEND_VOLUME, Operation.DETACH_VOLUME)
ON_PORTS = (Operation.ATTACH_INTERFACE, Operation.DETACH_INTERFACE)
ON_DEVICES = (*ON_VOLUMES, *ON_PORTS)
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
    tuple((operation, None) for operation in ON_DEVICES),
)
"""What each server goes through, in this order: keys of actions, and what they are given; or what is done with a volume
and a port of its own."""


def specs_of(walk: tuple[tuple[str, Any], ...]) -> Iterator[OperationSpec]:
    """The rows of the table that a walk goes through, but for what is done at once."""
    for key, given in walk:
        if key == DELETE:
            yield spec_of(Operation.SOFT_DELETE)
        elif key in ON_DEVICES:
            yield spec_of(Operation(key))
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
                if action in ON_VOLUMES:
                    WalkedVolume.of(self, server_id).perform(Operation(action))
                elif action in ON_PORTS:
                    WalkedPort.of(self, server_id).perform(Operation(action))
                else:
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
            server = self.show(server_id)
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

    def show(self, server_id: str) -> dict[str, Any]:
        """The server as an administrator sees it, who sees those that can be restored, too."""
        server: dict[str, Any] = persist(lambda: self.admin.request("GET", f"/servers/{server_id}"), 200).json()[
            "server"
        ]
        return server

    def is_over(self, server_id: str, operation: Operation) -> bool:
        """Whether the server has seen runs of that operation, and all of them have ended."""
        at = f"/servers/{server_id}/os-instance-actions"
        actions = persist(lambda: self.admin.request("GET", at), 200).json()["instanceActions"]
        paths = {f"{at}/{one['request_id']}" for one in actions if one["action"] == operation}
        asked = [persist(lambda path=path: self.admin.request("GET", path), 200).json() for path in paths]
        return bool(asked) and all(event["finish_time"] for one in asked for event in one["instanceAction"]["events"])

    def _wait_for(self, server_id: str, state: VmState) -> None:
        what = f"{server_id} {state}"
        until(lambda: self.show(server_id)["OS-EXT-STS:vm_state"] == state, ENDED, every=0.2, what=what)


@dataclass(frozen=True)
class WalkedVolume:
    """The one volume of a server that walks, in the server's cell."""

    walker: Walker
    server_id: str
    id: str

    @classmethod
    def of(cls, walker: Walker, server_id: str) -> WalkedVolume:
        """It is made when there is none; after silence, only once nobody has heard of it."""
        cell = next(cell for cell in CELLS if walker.show(server_id)["OS-EXT-SRV-ATTR:host"].startswith(cell))
        new = {"volume": {"name": server_id, "size": 1}, "OS-SCH-HNT:scheduler_hints": {"cell": cell}}
        end = time.monotonic() + ENDED
        while True:
            known = _volumes_at(walker.api, f"/volumes/detail?name={server_id}")["volumes"]
            if known and known[0]["status"] != "creating":
                (made,) = known
                return cls(walker, server_id, str(made["id"]))
            if not known:
                with suppress(requests.ConnectionError, requests.Timeout):
                    answer = walker.api.request("POST", "/volumes", new, service="volume")
                    assert answer.status_code in (202, 503), answer.text
            assert time.monotonic() < end, known
            time.sleep(0.2)

    def perform(self, operation: Operation) -> None:
        """Ask for it until the volume is what it leads to and the server's runs are over. What is refused as something
        else is under way, or as it is done already, is asked again, or seen to be done."""
        at = f"/servers/{self.server_id}/os-volume_attachments"
        size = self._show()["size"] + (operation is Operation.EXTEND_VOLUME)
        wanted = ("available", 0) if operation is Operation.DETACH_VOLUME else ("in-use", 1)
        service, method, path, body = {
            Operation.ATTACH_VOLUME: ("compute", "POST", at, {"volumeAttachment": {"volumeId": self.id}}),
            Operation.EXTEND_VOLUME: (
                "volume",
                "POST",
                f"/volumes/{self.id}/action",
                {"os-extend": {"new_size": size}},
            ),
            Operation.DETACH_VOLUME: ("compute", "DELETE", f"{at}/{self.id}", None),
        }[operation]
        end = time.monotonic() + ENDED
        while True:
            volume = self._show()
            listed = persist(lambda: self.walker.api.request("GET", at), 200).json()["volumeAttachments"]
            found = (volume["status"], len(listed))
            assert len(volume["attachments"]) <= 1, volume
            if (*found, volume["size"]) == (*wanted, size) and self.walker.is_over(self.server_id, operation):
                return
            with suppress(requests.ConnectionError, requests.Timeout):
                answer = self.walker.api.request(method, path, body, service=service)
                assert answer.status_code in (200, 202, 400, 404, 409, 503), (operation, answer.text)
            assert time.monotonic() < end, (operation, volume, listed)
            time.sleep(0.2)

    def _show(self) -> dict[str, Any]:
        volume: dict[str, Any] = _volumes_at(self.walker.api, f"/volumes/{self.id}")["volume"]
        return volume


def _volumes_at(api: Api, path: str) -> dict[str, Any]:
    answered: dict[str, Any] = persist(lambda: api.request("GET", path, service="volume"), 200).json()
    return answered


@dataclass(frozen=True)
class WalkedPort:
    """A second port of a server that walks, which its owner has made: attached twice it would be refused."""

    walker: Walker
    server_id: str
    id: str

    @classmethod
    def of(cls, walker: Walker, server_id: str) -> WalkedPort:
        """It is made when there is none; after silence, only once nobody has heard of it."""
        ask = walker.api.request
        end = time.monotonic() + ENDED
        while True:
            known = persist(lambda: ask("GET", f"/ports?name={server_id}", service="network"), 200).json()["ports"]
            if known:
                (made,) = known
                return cls(walker, server_id, str(made["id"]))
            (first,) = persist(lambda: ask("GET", f"/ports?device_id={server_id}", service="network"), 200).json()[
                "ports"
            ]
            new = {"port": {"name": server_id, "network_id": first["network_id"]}}
            with suppress(requests.ConnectionError, requests.Timeout):
                answer = ask("POST", "/ports", new, service="network")
                assert answer.status_code in (201, 503), answer.text
            assert time.monotonic() < end, "no port"
            time.sleep(0.2)

    def perform(self, operation: Operation) -> None:
        """Ask for it until the server has as many ports as it leads to, and its runs are over. One that was detached is
        deleted."""
        at, ask = f"/servers/{self.server_id}/os-interface", self.walker.api.request
        detached = operation is Operation.DETACH_INTERFACE
        end = time.monotonic() + ENDED
        while True:
            listed = persist(lambda: ask("GET", at), 200).json()["interfaceAttachments"]
            if len(listed) == (1 if detached else 2) and self.walker.is_over(self.server_id, operation):
                break
            with suppress(requests.ConnectionError, requests.Timeout):
                if detached:
                    answer = ask("DELETE", f"{at}/{self.id}")
                else:
                    answer = ask("POST", at, {"interfaceAttachment": {"port_id": self.id}})
                assert answer.status_code in (200, 202, 400, 404, 409, 503), (operation, answer.text)
            assert time.monotonic() < end, (operation, listed)
            time.sleep(0.2)
        if detached:
            persist(lambda: ask("DELETE", f"/ports/{self.id}", service="network"), 204, 404)
