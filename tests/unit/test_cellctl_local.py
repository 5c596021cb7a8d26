"""cellctl --local: one cell read through its own broker, by a process of its own, with no top anywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cellcloud.rpc.conductor import Conductor
from cellcloud.rpc.transport import Transport
from tests.daemons import running_broker
from tests.unit.test_cellctl import make_server
from tests.unit.test_cellctl_remote import TellingCell


@pytest.fixture(scope="module")
def option_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The option file of a cell that answers on a broker."""
    folder = tmp_path_factory.mktemp("cell")
    cell: Any = TellingCell("east")
    cell.servers["s1"] = make_server("s1")
    with running_broker(folder / "broker") as broker:
        transport = Transport("east", broker.url("conductor"))
        server = transport.serve(Conductor, cell, server="conductor-1")
        path = folder / "cellcloud.conf"
        path.write_text(f"[cell]\nname = east\ntransport_url = {broker.url('conductor')}\n")
        yield path
        server.stop()
        transport.close()


def run(path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cell.admin", "--local", "--config", str(path), *words]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OS_")}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_a_cell_is_read_without_the_top(option_file: Path) -> None:
    for words, expected in (
        (("cell", "list"), "east"),
        (("host", "list"), "east-1"),
        (("server", "list"), "s1"),
        (("op", "show", "run-east"), "networks.allocate_ports"),
        (("doctor", "check"), "nothing wrong"),
    ):
        result = run(option_file, *words)
        assert (result.returncode, result.stderr) == (0, "")
        assert expected in result.stdout
    assert json.loads(run(option_file, "server", "list", "-f", "json").stdout)[0]["spec"]["id"] == "s1"
    assert run(option_file, "server", "show", "nope").returncode == 4


def test_a_broker_that_is_away_ends_in_three(tmp_path: Path) -> None:
    path = tmp_path / "cellcloud.conf"
    path.write_text("[cell]\nname = east\ntransport_url = rabbit://conductor:secret@127.0.0.1:9//\n")
    result = run(path, "cell", "list")
    assert result.returncode == 3
    assert result.stderr.startswith("cellctl: Cell east did not answer")
    assert "secret" not in result.stderr
