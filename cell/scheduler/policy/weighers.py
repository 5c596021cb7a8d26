"""Which of the hosts that passed is best: the sum of multiplier x normalised weight over the weighers.

Source: Nova's weighers and nova.weights. A weight is normalised over the hosts that passed, to 0 for the least and 1
for the most; where all are equal it counts 0. Some weighers count from 0 instead of from the least. A multiplier is
the policy's, or the least of those that the host's aggregates name. Sums are made in the policy's order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from cell.scheduler.policy import group_member_counts
from cell.scheduler.request.scheduling_request import SchedulingRequest
from cell.scheduler.state.array_types import Places, Reals
from cell.scheduler.state.host_class import HostClass
from cell.scheduler.state.host_columns import Figure
from cell.scheduler.state.host_table import HostTable
from cellcloud.model.flavor import Flavor
from cellcloud.model.host import HostState
from cellcloud.model.image_properties import text_of
from cellcloud.model.scheduling_policy import Options
from cellcloud.model.server_group import SOFT_AFFINITY, SOFT_ANTI_AFFINITY

Raw = Callable[[HostTable, Places, SchedulingRequest, Options], Reals]
Own = Callable[[HostTable, Places], Reals]


@dataclass(frozen=True, slots=True)
class Weigher:
    """``raw`` gives a weight per place. ``option``: the multiplier's name. ``sign``: -1 where more is worse.

    ``floor``: weights below 0 count 0, and 0 is the least. ``own``: the raw weight where it is the host's own, whatever
    the request, so that an index can hold it; ``step``: what a claim of a flavor adds to that.
    """

    name: str
    option: str
    raw: Raw
    floor: bool = False
    sign: float = 1.0
    own: Own | None = None
    step: Callable[[Flavor], float] = lambda flavor: 0.0

    def multiplier(self, host_class: HostClass, options: Options) -> float:
        """Return the multiplier for hosts of this class."""
        default: float = getattr(options, self.option)
        return self.sign * host_class.least_of(self.option, float, default)

    def normalise(self, raw: Reals) -> Reals:
        """Scale raw weights to lie between 0 and 1."""
        if not len(raw):
            return raw
        clipped = np.maximum(raw, 0.0) if self.floor else raw
        least, most = 0.0 if self.floor else float(clipped.min()), float(clipped.max())
        if least == most:
            return np.zeros(len(raw), dtype=np.float64)
        return np.asarray((clipped - least) / (most - least), dtype=np.float64)


def _figure(figure: Figure) -> Own:
    def own(table: HostTable, places: Places) -> Reals:
        return table.columns.figure(figure)[places].astype(np.float64)

    return own


def _free_cpus(table: HostTable, places: Places) -> Reals:
    total = table.columns.figure(Figure.vcpus_total)[places] * table.columns.cpu_ratio[places]
    return np.asarray(total - table.columns.figure(Figure.vcpus_used)[places], dtype=np.float64)


def _members(policy: str, sign: float) -> Raw:
    def raw(table: HostTable, places: Places, request: SchedulingRequest, options: Options) -> Reals:
        found = np.zeros(len(table), dtype=np.float64)
        if request.group is not None and request.group.policy == policy:
            for position, count in group_member_counts.members_at(table, request.group).items():
                found[position] = sign * count
        return found[places]

    return raw


def _same_cell(table: HostTable, places: Places, request: SchedulingRequest, options: Options) -> Reals:
    wanted = request.destination
    if wanted is None or not wanted.cell or not wanted.allow_cross_cell_move:
        return np.zeros(len(places), dtype=np.float64)
    factors_by_class = np.array(
        [1.0 if host_class.cell == wanted.cell else -1.0 for host_class in table.host_classes.values]
    )
    return np.asarray(factors_by_class[table.host_classes.ids[places]], dtype=np.float64)


def _metrics(table: HostTable, places: Places, request: SchedulingRequest, options: Options) -> Reals:
    """Weigh by metrics: a host without one weighs ``weight_of_unavailable``, unless the metric would count nothing.

    Nova fails the request where metrics are required; a host without them is then only the least wanted.
    """
    settings = options.metrics_weight_setting
    found = np.zeros(len(table), dtype=np.float64)
    if not settings:
        return found[places]
    factors = multipliers(table, METRICS, options)[table.host_classes.ids]
    settled = np.zeros(len(table), dtype=np.bool_)
    for name, ratio in settings:
        codes, values = table.reported(("metric", name), partial(_metric, name))
        known = np.array([value is not None for value in values], dtype=np.bool_)[codes]
        amounts = np.array([value or 0.0 for value in values], dtype=np.float64)[codes]
        found = np.where(settled | ~known, found, found + amounts * ratio)
        missing = ~settled & ~known & (ratio * factors != 0)
        found[missing] = options.metrics_weight_of_unavailable
        settled |= missing
    return np.asarray(found[places], dtype=np.float64)


def _metric(name: str, state: HostState) -> float | None:
    values = [metric.value for metric in state.metrics if metric.name == name]
    return values[-1] if values else None


def _image_props(table: HostTable, places: Places, request: SchedulingRequest, options: Options) -> Reals:
    """Return how many servers on the host have an image property in common with the request's image."""
    found = np.zeros(len(places), dtype=np.float64)
    if options.image_props_weight_multiplier == 0.0:
        return found
    setting = dict(options.image_props_weight_setting)
    for name, value in request.shape.image_props.items():
        ratio = setting.get(name, 0.0) if setting else 1.0
        if ratio:
            found += ratio * table.servers_with((name, text_of(value)))[places]
    return found


def _of_host(
    name: str,
    own: Own,
    option: str,
    *,
    floor: bool = False,
    sign: float = 1.0,
    step: Callable[[Flavor], float] = lambda flavor: 0.0,
) -> Weigher:
    def raw(table: HostTable, places: Places, request: SchedulingRequest, options: Options) -> Reals:
        return own(table, places)

    return Weigher(name, option, raw, floor, sign, own, step)


def disk_mb(flavor: Flavor) -> int:
    """Return what a server takes of its host's free disk. Source: Nova's HostState, which leaves swap out."""
    return 1024 * (flavor.root_gb + flavor.ephemeral_gb)


METRICS = Weigher("MetricsWeigher", "metrics_weight_multiplier", _metrics)
_ALL = (
    _of_host(
        "RAMWeigher",
        _figure(Figure.free_ram_mb),
        "ram_weight_multiplier",
        floor=True,
        step=lambda flavor: -float(flavor.memory_mb),
    ),
    _of_host("CPUWeigher", _free_cpus, "cpu_weight_multiplier", floor=True, step=lambda flavor: -float(flavor.vcpus)),
    _of_host(
        "DiskWeigher",
        _figure(Figure.free_disk_mb),
        "disk_weight_multiplier",
        floor=True,
        step=lambda flavor: -float(disk_mb(flavor)),
    ),
    _of_host(
        "IoOpsWeigher",
        _figure(Figure.num_io_ops),
        "io_ops_weight_multiplier",
        floor=True,
        step=lambda flavor: 1.0,
    ),
    _of_host(
        "NumInstancesWeigher",
        _figure(Figure.num_instances),
        "num_instances_weight_multiplier",
        step=lambda flavor: 1.0,
    ),
    _of_host("PCIWeigher", _figure(Figure.pci_weight), "pci_weight_multiplier"),
    _of_host("HypervisorVersionWeigher", _figure(Figure.hypervisor_version), "hypervisor_version_weight_multiplier"),
    _of_host("BuildFailureWeigher", _figure(Figure.failed_builds), "build_failure_weight_multiplier", sign=-1.0),
    Weigher(
        "ServerGroupSoftAffinityWeigher",
        "soft_affinity_weight_multiplier",
        _members(SOFT_AFFINITY, 1.0),
    ),
    Weigher(
        "ServerGroupSoftAntiAffinityWeigher",
        "soft_anti_affinity_weight_multiplier",
        _members(SOFT_ANTI_AFFINITY, -1.0),
    ),
    Weigher("CrossCellWeigher", "cross_cell_move_weight_multiplier", _same_cell),
    METRICS,
    Weigher("ImagePropertiesWeigher", "image_props_weight_multiplier", _image_props),
)
WEIGHERS: Mapping[str, Weigher] = {one.name: one for one in _ALL}


def weigh(
    table: HostTable, places: Places, request: SchedulingRequest, options: Options, weighers: tuple[Weigher, ...]
) -> Reals:
    """Return the weight of each place; higher is better. A single host is not weighed."""
    total = np.zeros(len(places), dtype=np.float64)
    if len(places) <= 1:
        return total
    for weigher in weighers:
        factors_by_class = multipliers(table, weigher, options)
        if not factors_by_class.any():
            continue
        factors = (
            factors_by_class[0]
            if (factors_by_class == factors_by_class[0]).all()
            else factors_by_class[table.host_classes.ids[places]]
        )
        total += factors * weigher.normalise(weigher.raw(table, places, request, options))
    return total


def multipliers(table: HostTable, weigher: Weigher, options: Options) -> Reals:
    """Return a weigher's multiplier for each host class."""
    key = (weigher.name, options)
    factors_by_class = table.host_classes.multipliers(key)
    if factors_by_class is None or len(factors_by_class) < len(table.host_classes):
        factors_by_class = np.array(
            [weigher.multiplier(host_class, options) for host_class in table.host_classes.values], dtype=np.float64
        )
        table.host_classes.keep_multipliers(key, factors_by_class)
    return factors_by_class


def sort(weight: Reals) -> Places:
    """Sort the places in ``weight``, best first; equal ones keep their order."""
    return np.asarray(np.argsort(-weight, kind="stable"), dtype=np.int64)
