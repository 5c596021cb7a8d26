"""kill -9 of each process that has a part in a disk's copy, in the middle of it: none outlives who asked for it, and
the next try makes the copy whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cell.compute.drivers.libvirt.disk_offers import DiskOffers
from cell.compute.drivers.libvirt.fetched_disks import ExpectedFile
from cell.compute.drivers.libvirt.namespace_exec import Namespace
from cell.compute.drivers.libvirt.options import LibvirtOptions
from tests.cloud import until
from tests.contract.driver_rigs import IMAGE
from tests.libvirt_node import make_spec

SPEC = make_spec("6f70656e-0000-4000-8000-000000000001", IMAGE)
SIZE = 48 << 20
COMPUTE = """
from pathlib import Path
from cell.compute.drivers.libvirt.disk_offers import DiskOffers
from cell.compute.drivers.libvirt.fetched_disks import ExpectedFile
from cell.compute.drivers.libvirt.namespace_exec import Namespace
from cell.compute.drivers.libvirt.options import LibvirtOptions
import json, sys
there, offer = Path(sys.argv[1]), json.loads(sys.argv[2])
address = {"host_ip": "127.0.0.1", "metadata_address": "10.9.9.1"}
options = LibvirtOptions(host="h", state_dir=there, metadata_key=b"k", in_node=False, **address)
root = ExpectedFile(path=there / "disk", most=1 << 30)
offers = DiskOffers(Namespace(options), "127.0.0.1", "console.log")
offers.fetch({"root": root}, offer, tell=lambda _: None, is_overtaken=lambda: False)
"""


def make_offers(place: Path) -> DiskOffers:
    """Of a plain machine."""
    options = LibvirtOptions(
        host="h", state_dir=place, host_ip="127.0.0.1", metadata_key=b"k", metadata_address="10.9.9.1", in_node=False
    )
    return DiskOffers(Namespace(options), "127.0.0.1", "console.log")


def expect(place: Path) -> dict[str, ExpectedFile]:
    return {"root": ExpectedFile(path=place / "disk", most=SIZE)}


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Path]:
    """What a guest that is set aside has."""
    place = tmp_path / "source"
    place.mkdir()
    with (place / "disk").open("wb") as file:
        for _ in range(SIZE >> 20):
            file.write(os.urandom(1 << 20))
    yield place
    make_offers(place).stop(place)


@pytest.mark.parametrize("victim", ["who asked", "who fetches", "who sends"])
def test_a_copy_is_made_whole_whoever_died(tmp_path: Path, source: Path, victim: str) -> None:
    there, offers = tmp_path / "there", make_offers(source)
    there.mkdir()
    offer = offers.ensure(source, SPEC)
    argv = [sys.executable, "-c", COMPUTE, str(there), json.dumps(offer)]
    part, arrival = there / "incoming" / "disk.part", expect(there)["root"].arrival
    with subprocess.Popen(argv, stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[2]) as compute:
        until(lambda: part.exists() and part.stat().st_size, every=0.001, what="a copy")
        sender = psutil.Process(int((source / "offer.pid").read_text()))
        sender.suspend()
        fetchers = psutil.Process(compute.pid).children()
        assert (arrival.exists(), len(fetchers)) == (False, 1)
        {"who asked": compute, "who fetches": fetchers[0], "who sends": sender}[victim].kill()
        assert compute.wait(60.0) != 0
    assert psutil.wait_procs(fetchers, 60.0)[1] == []
    assert not arrival.exists()
    if victim != "who sends":
        sender.resume()
    again = offers.ensure(source, SPEC)
    assert (again == offer) == (victim != "who sends")
    make_offers(there).fetch(expect(there), again, tell=lambda _: None, is_overtaken=lambda: False)
    assert arrival.read_bytes() == (source / "disk").read_bytes()
    assert list(arrival.parent.iterdir()) == [arrival]
    until(lambda: not sender.is_running() or sender.status() == psutil.STATUS_ZOMBIE, what="the offer's end")
