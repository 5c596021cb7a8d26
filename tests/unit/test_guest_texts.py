"""What a tenant writes and a cell reads is bounded: twice the text takes about twice the time, up to a bound; what was
refused is not read again; nobody who chooses a host waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from cell.scheduler.change_log_tailer import ChangeLogTailer
from cell.scheduler.policy.filters.image_properties import satisfies
from cell.scheduler.request import scheduling_request
from cell.scheduler.select import batches
from cell.scheduler.service import SchedulerService
from cellcloud import config, errors
from cellcloud.context import RequestContext
from cellcloud.model import hints, image_properties, numa_request, pci, scheduling_policy
from cellcloud.model.change_log import CellState
from cellcloud.model.decision import RankBatch, Shape
from cellcloud.model.extra_specs import read as read_specs
from cellcloud.model.flavor import Flavor
from cellcloud.rpc.transport import Transport

SECONDS = 0.1  # of a slow and busy machine's processor, for one text
FLAVOR = Flavor(id="f", name="f", vcpus=1, memory_mb=512, root_gb=1)
LARGEST = Flavor(id="f", name="f", vcpus=numa_request.MOST_CPUS, memory_mb=1 << 30, root_gb=1)


def properties(lists: int, characters: int, part: str = "0-4095,") -> dict[str, str]:
    """An image's NUMA lists, of so many characters in all."""
    each = characters // lists
    texts = {f"hw_numa_cpus.{number}": part * (each // len(part)) for number in range(lists)}
    return {"hw_numa_nodes": str(lists)} | texts


def ask(flavor: Flavor, **values: Any) -> None:
    scheduling_request.make(servers=("s",), project_id="p", flavor=flavor, image_id="i", **values)


def nested(size: int) -> str:
    return "[" * (size // 2) + "]" * (size // 2)


LISTS = image_properties.MOST_IN_LIST
ALL = image_properties.MOST_IN_ALL - 4096  # the names count as well
ONE = image_properties.MOST_IN_ONE
QUERY = hints.MOST_BYTES
# what reads a text of that many characters -> the most characters it is given
READERS: dict[str, tuple[Callable[[int], Any], int]] = {
    "one range again and again": (lambda size: numa_request.parse_cpus(("0-4095," * size)[:size]), LISTS),
    "one exclusion again and again": (lambda size: numa_request.parse_cpus(("^0-4095," * size)[:size]), LISTS),
    "one number of many digits": (lambda size: numa_request.parse_cpus("9" * size), LISTS),
    "lists of an image": (lambda size: ask(FLAVOR, image_properties=properties(4, size)), ALL),
    "many lists of an image": (lambda size: ask(LARGEST, image_properties=properties(128, size)), ALL),
    "lists of nothing": (lambda size: ask(LARGEST, image_properties=properties(128, size, "0-4094,^0-4094,")), ALL),
    "a page size": (lambda size: ask(FLAVOR, image_properties={"hw_mem_page_size": "9" * size}), ONE),
    "a realtime mask": (
        lambda size: ask(
            Flavor(id="f", name="f", vcpus=4096, memory_mb=1, root_gb=1, extra_specs={"hw:cpu_realtime": "1"}),
            image_properties={"hw_cpu_realtime_mask": ("^0-4095," * size)[:size]},
        ),
        LISTS - 16,  # what is left out is left out of all
    ),
    "a trait": (lambda size: image_properties.read({"trait:" + "A" * (size - 6): "required"}), ONE),
    "devices": (lambda size: pci.read_aliased(("a:1," * size)[: size - size % 4 - 1]), ONE),
    "versions of a hypervisor": (lambda size: satisfies(7002000, (">=1," * size)[: size - size % 4 - 1]), ONE),
    "an amount": (lambda size: read_specs({"resources:CUSTOM_A": "9" * size}), ONE),
    "a nested query": (lambda size: ask(FLAVOR, hints={"query": nested(size)}), QUERY),
    "a long query": (lambda size: ask(FLAVOR, hints={"query": '["=",' + "1," * (size // 2 - 4) + "1]"}), QUERY),
    "a network": (lambda size: ask(FLAVOR, hints={"build_near_host_ip": "1" * size}), QUERY),
    "a network's width": (
        lambda size: ask(FLAVOR, hints={"build_near_host_ip": "::1", "cidr": "/" + "1" * size}),
        QUERY,
    ),
}


def seconds(read: Callable[[int], Any], size: int) -> float:
    """The least of several tries, of this thread's own time."""
    taken = []
    for _ in range(3):
        scheduling_request._read.cache_clear()
        satisfies.cache_clear()
        begun = time.thread_time()
        with suppress(errors.Invalid):
            read(size)
        taken.append(time.thread_time() - begun)
    return min(taken)


@pytest.mark.parametrize("name", READERS)
def test_what_reads_a_tenants_text_takes_time_in_proportion(name: str) -> None:
    read, most = READERS[name]
    whole = seconds(read, most)
    assert whole < SECONDS
    assert whole < 4 * seconds(read, most // 2) + 0.01


@pytest.mark.parametrize("text", ["0-4095," * 2000, "^1," * 10_000, "9" * 100_000])
def test_longer_lists_are_not_read(text: str) -> None:
    with pytest.raises(errors.Invalid):
        numa_request.parse_cpus(text)
    begun = time.thread_time()
    with pytest.raises(errors.Invalid):
        ask(FLAVOR, image_properties={"hw_numa_nodes": "1", "hw_numa_cpus.0": text, "hw_numa_mem.0": "512"})
    assert time.thread_time() - begun < SECONDS


def test_what_was_refused_is_not_read_again() -> None:
    bad = {"hw_numa_nodes": "1", "hw_numa_cpus.0": "0-9," * 500, "hw_numa_mem.0": "512"}
    said = []
    for _ in range(3):
        before = scheduling_request._read.cache_info().misses
        with pytest.raises(errors.Invalid) as refused:
            ask(FLAVOR, image_properties=bad)
        said.append((refused.value.message, scheduling_request._read.cache_info().misses - before))
    assert said == [(said[0][0], 1), (said[0][0], 0), (said[0][0], 0)]


class OneCell:
    """A ledger with nothing in it."""

    def get_state(self, context: RequestContext) -> Any:
        return self

    def unpacked(self) -> CellState:
        return CellState(sequence=1)


def test_texts_are_read_while_somebody_else_chooses() -> None:
    transport = Transport("unit", "kombu+memory://")
    service = SchedulerService(config.load(), transport)
    service.tailer = ChangeLogTailer(OneCell(), scheduler="s")  # type: ignore[arg-type]
    service.tailer._load(RequestContext(budget=60.0))
    asked = {"hw_numa_nodes": "1", "hw_numa_cpus.0": "0,0,0", "hw_numa_mem.0": "512"}
    shape = Shape(project_id="p", flavor=FLAVOR, image_id="i", image_properties=asked, resources={})
    batch = RankBatch(shapes=(shape,), servers=(("s", 0, 1),))
    before = scheduling_request._read.cache_info().misses
    with service.tailer.state(RequestContext(budget=60.0)):
        worker = threading.Thread(target=service._rank, args=(RequestContext(budget=60.0), batch))
        worker.start()
        end = time.monotonic() + 30
        while scheduling_request._read.cache_info().misses == before and time.monotonic() < end:
            time.sleep(0.001)
        assert scheduling_request._read.cache_info().misses == before + 1
    worker.join(60)
    assert not worker.is_alive()
    assert scheduling_request._read.cache_info().misses == before + 1
    assert batches.request_of(shape, scheduling_policy.DEFAULT).shape.image_props["hw_numa_nodes"] == 1
