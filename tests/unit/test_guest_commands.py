"""Commands to hosts: one class a kind, read as what releases before have sent and written so that they read it."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest

from cell.compute.actions.guest import perform
from cellcloud.model import codec
from cellcloud.model.guest_commands import (
    DefiningCommand,
    GuestCommand,
    ImageCommand,
    Moving,
    PortCommand,
    Rebuild,
    Rescue,
    VolumeCommand,
)
from cellcloud.model.network import Port
from tests.unit.cell_world import make_command, make_spec

KINDS: tuple[type[GuestCommand], ...] = get_args(GuestCommand)
PORT = Port(id="p", network_id="n", network_name="net", mac_address="fa:16:3e:00:00:01", fixed_ips=())


def sent_before(kind: str) -> dict[str, Any]:
    """What a conductor sends whose commands are of one shape: it tells all but the destroyer what the guest is."""
    envelope = {"kind": kind, "run_id": "run-1-1", "step": "guests.wait", "server_id": make_spec(1).id, "generation": 1}
    told = {"spec": None if kind == "destroy" else make_spec(1), "ports": [PORT], "request_id": "req-1", "host": "h1"}
    return envelope | told


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_what_was_sent_before_is_read_and_what_is_sent_has_no_other_names(kind: type[GuestCommand]) -> None:
    given: dict[str, Any] = {"request_id": "req-1", "host": "h1"}
    if issubclass(kind, DefiningCommand):
        given["ports"] = (PORT,)
    command = make_command(kind, **given)
    assert codec.from_wire(codec.to_wire([command]), list[GuestCommand]) == [command]
    assert codec.from_plain(codec.to_plain(command), GuestCommand) == command
    if kind in get_args(Moving) or issubclass(kind, VolumeCommand | PortCommand):
        return  # no release before has sent it
    before = sent_before(command.kind) | ({"image_id": command.image_id} if isinstance(command, ImageCommand) else {})
    before |= {"run": True, "keep_ephemeral": False} if isinstance(command, Rebuild) else {}
    before |= {"image": command.image} if isinstance(command, Rescue) else {}
    assert codec.from_wire(codec.to_wire([before]), list[GuestCommand]) == [command]
    if issubclass(kind, DefiningCommand):
        assert set(msgspec.to_builtins(command)) == set(before)


def test_a_command_without_arguments_is_the_drivers_verb_of_that_name() -> None:
    class Sleep(msgspec.Struct, tag="sleep"):
        server_id: str
        generation: int
        kind: str = "sleep"

    class Sleeper:
        def sleep(self, server_id: str, generation: int) -> str:
            return f"{server_id} sleeps at {generation}"

    assert perform(Sleeper(), None, Sleep("s", 4), 0.0) == "s sleeps at 4"  # type: ignore[arg-type,comparison-overlap]
