"""How fast the scheduler's kernel chooses hosts, beside the numpy reference in the same run and beside the bound.

A decision chooses the best host and two alternates; then the server is claimed, and another leaves (a random one), so
the utilisation stays. Decisions come in the order of a trace ("trace"; drawn with its measured distributions, or the
real one with --trace) or with no locality at all ("worst": 240 classes, Zipf 0.9). p50 and p99 are of single decisions
through the Python entry, the clock's own cost subtracted; per_s counts decision, claim and release.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import workload
from benchmarks.figures import conditions
from cellcloud import _fastsched_py as reference
from cellcloud import fastsched

ALTERNATES = 2
BYTES_SCANNED = 28
"""A host's bytes that any scan must read: 7 weigh columns of 4 bytes; what is free, only where a host could enter."""
SCANS = 200
"""Scans of which the fastest counts; they take 1.5 us each at 1,000 hosts."""
SHOWN = (
    *("p50_us", "p99_us", "per_s", "reference_per_s", "ratio"),
    *("bytes_per_host", "buffers_kib", "ns_per_host", "exponent"),
)
CHECKED = 25
"""Decisions of each case that are compared with the reference's."""


@dataclass(kw_only=True)
class Line:
    """What was measured of one case. Times in microseconds; None where it has no meaning."""

    case: str
    hosts: int
    util: int
    p50_us: float | None = None
    p99_us: float | None = None
    per_s: float | None = None
    lowest_per_s: float | None = None
    highest_per_s: float | None = None
    reference_per_s: float | None = None
    ratio: float | None = None
    bytes_per_host: float | None = None
    buffers_kib: int | None = None
    ns_per_host: float | None = None
    bound: str = ""
    exponent: float | None = None
    repeats: int = 1


class Bench:
    """A world in the compiled index, and in the reference."""

    def __init__(self, hosts: int, util: int, static_sets: int) -> None:
        self.world = workload.make_world(hosts, util / 100)
        self.hosts, self.util = hosts, util
        self.rng = np.random.default_rng(5)
        self.index = fastsched.Index(3, workload.FLOORS)
        self.index.load(self.world.host_class, self.world.free, self.world.raw)
        self.ids = workload.add_classes(self.index, self.world, static_sets)
        self.reference = reference.Index(3, workload.FLOORS)
        workload.add_classes(self.reference, self.world, static_sets)

    def departures(self, count: int) -> list[tuple[int, int]]:
        """Classes and positions of servers that leave: of random hosts, random servers."""
        leaving: list[tuple[int, int]] = []
        flavor_ids = self.ids[0].tolist()
        while len(leaving) < count:
            for host, draw in zip(self.rng.integers(0, self.hosts, count), self.rng.random(count), strict=True):
                reach = np.cumsum(self.world.counts[host])
                if reach[-1]:
                    flavor = int(np.searchsorted(reach, draw * reach[-1], side="right"))
                    self.world.counts[host, flavor] -= 1
                    leaving.append((flavor_ids[flavor], int(host)))
        for class_id, host in leaving[count:]:
            self.world.counts[host, flavor_ids.index(class_id)] += 1
        return leaving[:count]

    def run(self, stream: Iterator[workload.Arrival], count: int, *, single: bool) -> tuple[float, list[int]]:
        """So many decisions; returns seconds for all, and if ``single`` each decision's nanoseconds."""
        seconds, times = 0.0, []
        for done in range(0, count, 2 * self.hosts):  # no more leave at once than there may be
            spent, found = self._run(stream, min(count - done, 2 * self.hosts), single=single)
            seconds, times = seconds + spent, times + found
        return seconds, times

    def _run(self, stream: Iterator[workload.Arrival], count: int, *, single: bool) -> tuple[float, list[int]]:
        asked = list(itertools.islice(stream, count))
        classes = [int(self.ids[arrival]) for arrival in asked]
        leaving = self.departures(count)
        placed: list[list[int]] = []
        times: list[int] = []
        choose, claim, release, clock = self.index.choose, self.index.claim, self.index.release, time.perf_counter_ns
        began = clock()
        if single:
            for class_id, (left, host) in zip(classes, leaving, strict=True):
                before = clock()
                best = choose(class_id, 1 + ALTERNATES)
                times.append(clock() - before)
                placed.append(best)
                if best:
                    claim(class_id, best[0])
                release(left, host)
        else:
            for class_id, (left, host) in zip(classes, leaving, strict=True):
                best = choose(class_id, 1 + ALTERNATES)
                placed.append(best)
                if best:
                    claim(class_id, best[0])
                release(left, host)
        seconds = (clock() - began) / 1e9
        for (_static_set, flavor), best in zip(asked, placed, strict=True):
            if best:
                self.world.counts[best[0], flavor] += 1
        return seconds, times

    def refer(self, stream: Iterator[workload.Arrival], decisions: int) -> float:
        """Bring the reference to the index's state, compare some decisions, return the reference's rate per second."""
        rows = [self.index.row(position) for position in range(self.hosts)] if self.hosts <= 10_000 else None
        if rows is None:
            rows = []
        if rows:
            self.reference.load(
                np.array([row[0] for row in rows]),
                np.array([row[1] for row in rows]).T,
                np.array([row[2] for row in rows]).T,
            )
        else:
            self.reference.load(self.world.host_class, self.world.free, self.world.raw)
            self.index.load(self.world.host_class, self.world.free, self.world.raw)
        classes = [int(self.ids[arrival]) for arrival in itertools.islice(stream, decisions)]
        spent = 0
        for class_id in classes:
            before = time.perf_counter_ns()
            best = self.reference.choose(class_id, 1 + ALTERNATES)
            if best:
                self.reference.claim(class_id, best[0])
            spent += time.perf_counter_ns() - before
            mine = self.index.choose(class_id, 1 + ALTERNATES)
            if mine != best:
                sys.exit(f"the kernel chose {mine}, the reference {best}: {self.hosts} hosts, class {class_id}")
            if best:
                self.index.claim(class_id, best[0])
        return len(classes) / (spent / 1e9)


def clock_cost() -> float:
    """Return what two readings of the clock cost, in ns."""
    clock = time.perf_counter_ns
    return statistics.median([-(clock() - clock()) for _ in range(1_001)])


def stream_of(case: str, trace: Path | None) -> Iterator[workload.Arrival]:
    if case == "worst":
        return workload.mixed(1)
    return workload.traced(trace, 1) if trace else workload.arrivals(1)


def decisions(case: str, hosts: int, util: int, given: argparse.Namespace) -> Line:
    """Latency and rate of a stream at one size and utilisation."""
    bench = Bench(hosts, util, 15 if case == "worst" else workload.STATIC_SETS)
    stream = stream_of(case, given.trace)
    size = given.decisions
    bench.run(stream, 2 * size, single=False)
    _seconds, times = bench.run(stream, size, single=True)
    rates = [size / bench.run(stream, size, single=False)[0] for _ in range(given.repeats)]
    held, buffers = bench.index.nbytes, bench.index.buffers
    single = np.array(times) - clock_cost()
    compared = max(3, min(CHECKED, 2_000_000 // hosts))
    theirs = bench.refer(stream, compared)
    rate = statistics.median(rates)
    return Line(
        case=case,
        hosts=hosts,
        util=util,
        p50_us=round(float(np.percentile(single, 50)) / 1000, 2),
        p99_us=round(float(np.percentile(single, 99)) / 1000, 1),
        per_s=round(rate),
        lowest_per_s=round(min(rates)),
        highest_per_s=round(max(rates)),
        reference_per_s=round(theirs, 1),
        ratio=round(rate / theirs, 1),
        bytes_per_host=round((held - buffers) / hosts, 1),
        buffers_kib=round(buffers / 1024),
        bound="log and seeds: about 1 KB, at L2 speed 0.01 us",
        repeats=given.repeats,
    )


def best_of(action: Callable[[], Any], repeats: int) -> float:
    """Return the least nanoseconds of several runs, without those of the clock."""
    spent, clock = [], clock_cost()
    for _ in range(repeats):
        before = time.perf_counter_ns()
        action()
        spent.append(time.perf_counter_ns() - before)
    return max(min(spent) - clock, 1.0)


def others(hosts: int, util: int, given: argparse.Namespace) -> list[Line]:
    """Nothing fits, the full scan, and 1,000 identical servers."""
    bench = Bench(hosts, util, 1)
    index, theirs = bench.index, bench.reference
    theirs.load(bench.world.host_class, bench.world.free, bench.world.raw)
    seen = int(bench.ids[0, 1])
    everywhere = bench.world.passing(0)
    rich = int(bench.world.free[0].max()) + 1
    wish = ([rich, 1, 1], everywhere, workload.MULTIPLIERS, [0] * 7)
    none, their_none = index.add_class(*wish), theirs.add_class(*wish)
    if index.choose(none, 3) or theirs.choose(their_none, 3) or index.scan(seen, 3) != theirs.choose(seen, 3):
        sys.exit("the kernel and the reference differ")
    leaving = bench.departures(given.decisions // 4)
    times = []
    for left, host in leaving:
        index.claim(left, host)
        index.release(left, host)
        before = time.perf_counter_ns()
        index.choose(none, 3)
        times.append(time.perf_counter_ns() - before)
    single = (np.array(times) - clock_cost()) / 1000
    looked = best_of(lambda: theirs.choose(their_none, 3), 3)
    nothing = Line(
        case="nothing fits",
        hosts=hosts,
        util=util,
        p50_us=round(float(np.percentile(single, 50)), 2),
        p99_us=round(float(np.percentile(single, 99)), 2),
        per_s=round(1e6 / float(single.mean())),
        reference_per_s=round(1e9 / looked, 1),
        ratio=round(looked / 1000 / float(single.mean()), 1),
    )
    index.choose(seen, 3)
    scanned = best_of(lambda: index.scan(seen, 3), SCANS)
    looked = best_of(lambda: theirs.choose(seen, 3), 5)
    scan = Line(
        case="scan",
        hosts=hosts,
        util=util,
        p50_us=round(scanned / 1000, 2),
        per_s=round(1e9 / scanned, 1),
        reference_per_s=round(1e9 / looked, 1),
        ratio=round(looked / scanned, 2),
        ns_per_host=round(scanned / hosts, 2),
        bound=f"{BYTES_SCANNED} B / {given.bandwidth:g} GB/s = {BYTES_SCANNED / given.bandwidth:.2f} ns/host",
        repeats=SCANS,
    )
    runs = [best_of(lambda: index.place(seen, 1000), 1) for _ in range(5)]
    looked = best_of(lambda: theirs.place(seen, 10), 1)
    place = Line(
        case="1,000 identical",
        hosts=hosts,
        util=util,
        p50_us=round(statistics.median(runs) / 1e6, 2),
        per_s=round(1e12 / statistics.median(runs)),
        lowest_per_s=round(1e12 / max(runs)),
        highest_per_s=round(1e12 / min(runs)),
        reference_per_s=round(1e10 / looked, 1),
        ratio=round(looked * 100 / statistics.median(runs), 1),
        bound="one claim a server",
        repeats=5,
    )
    return [nothing, scan, place]


def growth(lines: list[Line]) -> Line | None:
    """Return the exponent of the mean cost over the sizes, in trace order at 70 %."""
    points = [(math.log(line.hosts), -math.log(line.per_s)) for line in lines if line.case == "trace" and line.per_s]
    if len({size for size, _cost in points}) < 2:
        return None
    slope = float(np.polyfit(*zip(*points, strict=True), 1)[0])
    return Line(case="growth of mean cost", hosts=0, util=70, exponent=round(slope, 3), bound="0 = flat")


def show(line: Line, where: dict[str, str], *, as_json: bool) -> None:
    values = asdict(line)
    if as_json:
        print(json.dumps(values | where), flush=True)
        return
    cells = [f"{line.case:<20} {line.hosts:>9,} {line.util:>3} %"]
    for name in SHOWN:
        value = values[name]
        cells.append(f"{'' if value is None else format(value, ','):>12}")
    spread = "" if line.lowest_per_s is None else f"{line.lowest_per_s:,} to {line.highest_per_s:,} x{line.repeats}"
    print(" ".join(cells), spread, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--hosts", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--util", type=int, nargs="+", default=[30, 70, 95], help="percent of the vCPUs that are used")
    parser.add_argument("--decisions", type=int, default=20_000, help="of each reading")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--trace", type=Path, help="folder of the real trace, whose order replaces the drawn one")
    parser.add_argument("--bandwidth", type=float, default=97.0, help="GB/s a core reads, for the bound of a scan")
    parser.add_argument("--kernel", default="compiled", help="what the kernel's name must begin with")
    given = parser.parse_args()
    if not fastsched.KERNEL.startswith(given.kernel):
        sys.exit(f"the kernel is {fastsched.KERNEL!r}, not {given.kernel!r}")
    where = conditions() | {"kernel": fastsched.KERNEL, "arrivals": str(given.trace or "drawn, seed 1")}
    if not given.json:
        for name, text in where.items():
            print(f"{name}: {text}")
        print(
            f"{'case':<20} {'hosts':>9} {'util':>5} {'p50 us':>12} {'p99 us':>12} {'per s':>12} {'reference/s':>12}"
            f" {'ratio':>12} {'bytes/host':>12} {'buffers KiB':>12} {'ns/host':>12} {'exponent':>12} spread of per s"
        )
    middle: list[Line] = []
    for hosts in given.hosts:
        for util in given.util:
            line = decisions("trace", hosts, util, given)
            middle += [line] if util == 70 else []
            show(line, where, as_json=given.json)
        show(decisions("worst", hosts, 70, given), where, as_json=given.json)
        for line in others(hosts, 70, given):
            show(line, where, as_json=given.json)
    exponent = growth(middle)
    if exponent:
        show(exponent, where, as_json=given.json)


if __name__ == "__main__":
    main()
