"""Consoles of every kind that Nova knows: served, or refused as it refuses what its hypervisors do not have."""

from __future__ import annotations

import pytest

from tests.api.world import World


@pytest.mark.parametrize(
    ("version", "protocol", "kind", "status", "message"),
    [
        ("2.6", "vnc", "novnc", 200, ""),
        ("2.6", "vnc", "xvpvnc", 400, "Invalid console type xvpvnc"),
        ("2.6", "vnc", "serial", 400, "Invalid console type serial"),
        ("2.6", "spice", "spice-html5", 400, "Unavailable console type spice-html5."),
        ("2.6", "serial", "serial", 200, ""),
        ("2.6", "serial", "novnc", 400, "Invalid console type novnc"),
        ("2.6", "rdp", "rdp-html5", 400, "Unavailable console type rdp."),
        ("2.7", "mks", "webmks", 400, "Invalid input for field/attribute "),
        ("2.8", "mks", "webmks", 400, "Unavailable console type webmks."),
        ("2.98", "spice", "spice-direct", 400, "Invalid input for field/attribute type. Value: spice-direct"),
        ("2.99", "spice", "spice-direct", 400, "Unavailable console type spice-direct."),
    ],
)
def test_remote_consoles(world: World, version: str, protocol: str, kind: str, status: int, message: str) -> None:
    server_id = world.create()
    body = {"remote_console": {"protocol": protocol, "type": kind}}
    answer = world.post(f"/servers/{server_id}/remote-consoles", body, version=version)
    assert answer.status_code == status
    if message:
        assert answer.get_json()["badRequest"]["message"].startswith(message)


@pytest.mark.parametrize(
    ("action", "kind", "status"),
    [
        ("os-getVNCConsole", "novnc", 200),
        ("os-getVNCConsole", "xvpvnc", 400),
        ("os-getSPICEConsole", "spice-html5", 400),
        ("os-getSerialConsole", "serial", 200),
        ("os-getRDPConsole", "rdp-html5", 410),
    ],
)
def test_the_actions_of_before_remote_consoles(world: World, action: str, kind: str, status: int) -> None:
    server_id = world.create()
    path, body = f"/servers/{server_id}/action", {action: {"type": kind}}
    assert world.post(path, body, version="2.5").status_code == status
    assert world.post(path, body, version="2.6").status_code == (410 if status == 410 else 404)
