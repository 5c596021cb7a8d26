"""Daemons beside guests: found again by whoever starts next, replaced by a newer release of themselves."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cell.compute.drivers.libvirt.namespace_exec import Daemon, Namespace
from cell.compute.drivers.libvirt.options import LibvirtOptions

PROGRAM = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(60)"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    options = LibvirtOptions(
        host="h", state_dir=tmp_path, in_node=False, host_ip="", metadata_key=b"", metadata_address=""
    )
    pid_file = tmp_path / "pid"
    made = Daemon(
        namespace=Namespace(options),
        argv=("setsid", "--fork", sys.executable, "-c", PROGRAM, str(pid_file)),
        pid_file=pid_file,
        word=str(pid_file),
    )
    yield made
    made.stop()


def test_a_running_one_is_left_alone(daemon: Daemon) -> None:
    daemon.ensure_running()
    pid = daemon.find_pid()
    assert pid
    replace(daemon).ensure_running()
    assert daemon.find_pid() == pid
    daemon.stop()
    assert daemon.find_pid() is None


def test_one_of_another_release_is_replaced(daemon: Daemon) -> None:
    daemon.ensure_running()
    old = daemon.find_pid()
    newer = replace(daemon, argv=(*daemon.argv, "2"), version="2")
    for _ in range(2):
        newer.ensure_running()
        new = newer.find_pid()
        assert new not in (old, None)
    assert old
    assert daemon.namespace.find_command(old) in ([], [""])
    newer.ensure_running()
    assert newer.find_pid() == new
