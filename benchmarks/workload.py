"""Work for the scheduler's kernel: a world of hosts, and a stream of requests with the distributions of a real one.

The stream is drawn from figures measured on the arrivals of Microsoft's Azure Public Dataset V1 (Cortez et al., SOSP
2017) as processed by Bergsma et al. (SOSP 2021), CC BY 4.0: flavors, batch sizes, and how often a request repeats the
flavor before it. The trace says nothing of disks, zones, traits or tenants: those are made up here.
"""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

FLAVORS = {
    (1, 1.75): 0.4263,
    (2, 3.5): 0.2782,
    (4, 7): 0.1131,
    (8, 14): 0.1118,
    (8, 56): 0.0462,
    (1, 0.75): 0.0232,
    (1, 2): 3.6e-4,
    (4, 28): 2.4e-4,
    (2, 4): 1.5e-4,
    (2, 14): 1.3e-4,
    (4, 32): 2.7e-5,
    (4, 8): 4.0e-5,
    (8, 64): 5.0e-6,
    (2, 16): 1.2e-5,
    (8, 16): 7.5e-6,
    (16, 112): 5.0e-6,
}
"""(vCPU, GiB of memory) -> share of the arrivals."""
DISK_GB_PER_VCPU = 20
SINGLE = 0.57
"""Share of batches with one server; the others follow a power law with mean 3.8 over all, p99 40, at most 788."""
SAME_IN_BATCH = 0.967
"""How often a server of a batch has the flavor of the one before: 78 % of all arrivals repeat."""
STATIC_SETS = 12

FLOORS = (True, True, True, True, False, False, False)
MULTIPLIERS = (1.0, 1.0, 1.0, -1.0, -0.5, -1e6, 1.0)
"""Weigh columns: ram, cpu, disk, io_ops, num_instances, failed builds, hypervisor version; Nova's defaults but for
num_instances, which is 0 there."""
VCPUS = np.array([64, 96, 128, 192, 256, 384, 512, 128])
"""By hardware type; the last one has GPUs."""
MEMORY_MB_PER_VCPU = np.array([4096, 4096, 8192, 4096, 4096, 8192, 4096, 8192])
DISK_GB_PER_HOST_VCPU = 30
VERSIONS = np.array([6002000, 6002000, 7000000, 7000000, 8002000, 8002000, 8002000, 7000000])


class Kernel(Protocol):
    """What the benchmark drives: the compiled index or the reference."""

    def load(self, host_class: npt.ArrayLike, free: npt.ArrayLike, raw: npt.ArrayLike) -> None: ...
    def add_class(
        self, need: npt.ArrayLike, passes: npt.ArrayLike, multipliers: npt.ArrayLike, step: npt.ArrayLike
    ) -> int: ...
    def choose(self, class_id: int, count: int) -> list[int]: ...
    def claim(self, class_id: int, position: int, times: int = 1) -> None: ...
    def release(self, class_id: int, position: int, times: int = 1) -> None: ...


@dataclass
class World:
    """Hosts as columns, the static facts of each host class, and how many servers of each flavor a host has."""

    host_class: Numbers
    free: Numbers
    raw: Floats
    facts: dict[str, Numbers]
    counts: npt.NDArray[np.uint16]

    @property
    def hosts(self) -> int:
        return len(self.host_class)

    def passing(self, static_set: int) -> npt.NDArray[np.bool_]:
        """Which host classes pass a requirement set: zones, traits, a tenant's aggregate, GPUs."""
        zone, tenant, traits, gpu = (self.facts[name] for name in ("zone", "tenant", "traits", "gpu"))
        ssd, modern = (traits & 1) != 0, (traits & 2) != 0
        shared = tenant == 0
        sets: list[Callable[[], npt.NDArray[np.bool_]]] = [
            lambda: shared,
            lambda: shared & (zone == 0),
            lambda: shared & (zone == 1),
            lambda: shared & (zone == 2),
            lambda: shared & ssd,
            lambda: shared & modern,
            lambda: shared & ssd & (zone == 0),
            lambda: shared & modern & (zone == 1),
            lambda: shared | (tenant == 1),
            lambda: (shared | (tenant == 2)) & (zone == 0),
            lambda: shared & ssd & modern,
            lambda: gpu != 0,
            lambda: shared | (tenant == 3),
            lambda: shared & ssd & (zone == 2),
            lambda: shared & modern & (zone == 0),
        ]
        return (self.facts["up"] != 0) & sets[static_set]()


def flavor_amounts() -> tuple[Numbers, Numbers, Numbers]:
    """vCPUs, MB of memory and GB of disk of each flavor."""
    vcpus = np.array([vcpu for vcpu, _ in FLAVORS])
    memory = np.array([int(gib * 1024) for _, gib in FLAVORS])
    return vcpus, memory, vcpus * DISK_GB_PER_VCPU


def make_world(hosts: int, utilisation: float, seed: int = 1) -> World:
    """Make a world of 8 hardware types in 3 zones, 10 % of the hosts in one of 4 tenants' aggregates, 1 % down, 1 %
    with failed builds, filled by the law of the flavors to ``utilisation`` of the vCPUs."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(len(VCPUS), hosts, p=[0.2, 0.15, 0.15, 0.15, 0.15, 0.1, 0.05, 0.05])
    facts = {
        "kind": kind,
        "zone": rng.integers(0, 3, hosts),
        "tenant": rng.choice(5, hosts, p=[0.9, 0.025, 0.025, 0.025, 0.025]),
        "traits": rng.choice(4, hosts, p=[0.4, 0.2, 0.2, 0.2]),
        "up": (rng.random(hosts) >= 0.01).astype(np.int64),
    }
    table, host_class = np.unique(np.stack(list(facts.values())), axis=1, return_inverse=True)
    capacity = np.stack([VCPUS[kind], VCPUS[kind] * MEMORY_MB_PER_VCPU[kind], VCPUS[kind] * DISK_GB_PER_HOST_VCPU])
    counts = _fill(rng, capacity, utilisation)
    free = capacity - np.stack(flavor_amounts()) @ counts.T.astype(np.int64)
    raw = np.stack(
        [
            free[1],
            free[0],
            free[2],
            rng.poisson(0.7, hosts),
            counts.sum(1),
            np.where(rng.random(hosts) < 0.01, rng.integers(1, 4, hosts), 0),
            VERSIONS[kind],
        ]
    ).astype(np.float64)
    named = dict(zip(facts, table, strict=True))
    named["gpu"] = named["kind"] == len(VCPUS) - 1
    return World(host_class.reshape(-1), free, raw, named, counts)


def _fill(rng: np.random.Generator, capacity: Numbers, utilisation: float) -> npt.NDArray[np.uint16]:
    """Servers of each flavor (hosts, flavors), so that nothing is above its capacity."""
    shares = np.array(list(FLAVORS.values()))
    shares /= shares.sum()
    amounts = np.stack(flavor_amounts())
    target = np.clip(rng.normal(utilisation, 0.3 * (1 - utilisation), capacity.shape[1]), 0, 1)
    servers = (target * capacity[0] / (amounts[0] @ shares)).astype(np.int64)
    counts = rng.multinomial(servers, shares)
    for _ in range(100):
        over = ((amounts @ counts.T) > capacity).any(axis=0)
        if not over.any():
            break
        counts[over] = counts[over] * 97 // 100
    counts[((amounts @ counts.T) > capacity).any(axis=0)] = 0
    return counts.astype(np.uint16)


def add_classes(kernel: Kernel, world: World, static_sets: int) -> npt.NDArray[np.int64]:
    """Ids of a class for each requirement set and flavor (sets, flavors)."""
    vcpus, memory, disk = flavor_amounts()
    return np.array(
        [
            [
                kernel.add_class(need, world.passing(number), MULTIPLIERS, [-need[1], -need[0], -need[2], 0, 1, 0, 0])
                for need in zip(vcpus.tolist(), memory.tolist(), disk.tolist(), strict=True)
            ]
            for number in range(static_sets)
        ]
    )


Arrival = tuple[int, int]
"""A requirement set and a flavor."""


def arrivals(seed: int) -> Iterator[Arrival]:
    """Yield a stream without end, in batches of one tenant as measured."""
    rng = np.random.default_rng(seed)
    shares = np.array(list(FLAVORS.values()))
    shares /= shares.sum()
    while True:
        static_set = _static_set(rng)
        flavor = int(rng.choice(len(shares), p=shares))
        for _ in range(_batch_size(rng)):
            yield static_set, flavor
            if rng.random() > SAME_IN_BATCH:
                flavor = int(rng.choice(len(shares), p=shares))


def traced(folder: Path, seed: int) -> Iterator[Arrival]:
    """Yield the real stream's order, flavors and batches, over and over; requirement sets are drawn once a batch."""
    rng = np.random.default_rng(seed)
    order = {size: number for number, size in enumerate(FLAVORS)}
    flavors = {}
    for line in (folder / "flav_map.txt").read_text().splitlines():
        size, letter = line.split()
        vcpus, gib = size.split(",")
        flavors[letter] = order[int(vcpus), float(gib)]
    with gzip.open(folder / "v1.train.txt.gz", "rt") as lines:
        batches = [batch for line in lines for batch in line.split(" ", 1)[1].strip().rstrip("|,").split("|")]
    for batch in itertools.cycle(batches):
        static_set = _static_set(rng)
        for letter in batch.strip(",").split(","):
            if letter:
                yield static_set, flavors[letter]


def mixed(seed: int, static_sets: int = 15) -> Iterator[Arrival]:
    """Yield the worst mix: 240 classes, drawn one by one with Zipf weights of exponent 0.9."""
    rng = np.random.default_rng(seed)
    classes = static_sets * len(FLAVORS)
    weights = 1 / np.arange(1, classes + 1) ** 0.9
    order = rng.permutation(classes)
    while True:
        for number in order[rng.choice(classes, 10_000, p=weights / weights.sum())].tolist():
            yield divmod(number, len(FLAVORS))


def _static_set(rng: np.random.Generator) -> int:
    return min(int(rng.geometric(0.5)), STATIC_SETS) - 1


def _batch_size(rng: np.random.Generator) -> int:
    if rng.random() < SINGLE:
        return 1
    return min(int(2 * rng.random() ** (-1 / 1.35)), 788)
