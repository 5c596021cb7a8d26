"""Compares our scheduler with what real Nova answered. ``make oracle FILE=...``; a file of any seeds will do.

For each request: each filter alone, each weigher's raw weight, score and order, all weighers together, both decisions
with the state they leave behind, the NUMA request and the questions to Placement.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cell.scheduler.policy.compiled_policy import CompiledPolicy, compile_policy
from cell.scheduler.policy.filters import FILTERS, FilterContext, HostFilter
from cell.scheduler.policy.weighers import WEIGHERS, Weigher, multipliers, sort, weigh
from cell.scheduler.request.scheduling_request import SchedulingRequest
from cell.scheduler.select.filter_and_weigh import candidates, pass_filters, select_stepwise
from cell.scheduler.state.host_columns import Figure
from cell.scheduler.state.host_table import HostTable
from cellcloud import errors
from tests.oracle.knowing import find_case
from tests.oracle.queries import queries_of, read
from tests.oracle.scenario import FILTER_LISTS, Json, cell_of, cells_in, policy_of, request_of, table_of

OWN_FILE = Path(__file__).with_name("nova34-decisions.jsonl.gz")
TOLERANCE = 1e-9
FIGURES = ("free_disk_mb", "free_ram_mb", "num_instances", "num_io_ops", "vcpus_used")
SHOWN = 600


@dataclass(frozen=True, slots=True)
class Disagreement:
    seed: int
    request: int
    what: str
    ours: object
    nova: object

    def __str__(self) -> str:
        ours, nova = (str(answer)[:SHOWN] for answer in (self.ours, self.nova))
        return f"seed {self.seed}, request {self.request}: {self.what}\n    ours {ours}\n    Nova {nova}"


@dataclass(slots=True)
class Verdict:
    """``known``: case -> how often it was met; ``compared``: how many answers were compared."""

    scenarios: int = 0
    compared: int = 0
    disagreements: list[Disagreement] = field(default_factory=list)
    known: Counter[str] = field(default_factory=Counter)

    def report(self) -> str:
        lines = [str(one) for one in self.disagreements]
        lines += [f"differs knowingly, {name}: {count} answers" for name, count in sorted(self.known.items())]
        lines.append(f"{self.compared} answers compared")
        lines.append(f"{self.scenarios} scenarios, {len(self.disagreements)} disagreements")
        return "\n".join(lines)


class Checker:
    """Checks the requests of one scenario."""

    def __init__(self, scenario: Json, verdict: Verdict) -> None:
        self.scenario, self.verdict = scenario, verdict
        self.table = table_of(scenario)
        self.plans = {name: compile_policy(policy_of(scenario, filters)) for name, filters in FILTER_LISTS.items()}
        self.options = self.plans["full"].options
        self.given: Json = {}

    def run(self) -> None:
        for given, answer in zip(self.scenario["requests"], self.scenario["answers"], strict=True):
            self.given = given
            try:
                request = request_of(given)
            except errors.Invalid as error:
                if "invalid_request" not in answer:
                    self._disagree("the request", f"refused: {error.message}", "taken")
                self.verdict.compared += 1
                continue
            if "invalid_request" in answer:
                self._disagree("the request", "taken", answer["invalid_request"])
                continue
            self._check(request, answer)

    def _check(self, request: SchedulingRequest, answer: Json) -> None:
        self._compare("candidates", candidates_of(self.table, request), answer["candidates"])
        for name, nova in answer["filters"].items():
            self._guarded(f"filter {name}", nova, self._passing(FILTERS[name], request), self._compare)
        for name, nova in answer["weighers"].items():
            self._guarded(f"weigher {name}", nova, self._weighed(WEIGHERS[name], request), self._compare_weight)
        self._guarded("all weighers", answer["weigh_all"], self._weighed_all(request), self._compare_weight)
        for name, nova in answer["decisions"].items():
            self._check_decision(name, request, nova)
        self._compare("NUMA request", shown_numa(request), canonical_numa(answer["numa_request"]))
        ours = queries_of(self.given, self.scenario["hosts"], request, self.options, self.table.host_classes.aggregates)
        self._compare("Placement queries", ours, [read(text) for text in answer["placement_queries"] or []])

    def _guarded(self, what: str, nova: Any, ours: Any, compare: Callable[[str, Any, Any], None]) -> None:
        """Compare, unless Nova's answer is an error: then the case must be a known one."""
        error = nova.get("error") if isinstance(nova, dict) else None
        if error is None or error == "NoValidHost":
            compare(what, ours, nova)
            return
        case = find_case(self.scenario, self.given, error)
        if case is None:
            self._disagree(what, ours, nova)
        else:
            self.verdict.known[case.name] += 1

    def _compare(self, what: str, ours: Any, nova: Any) -> None:
        self.verdict.compared += 1
        if ours != nova:
            self._disagree(what, ours, nova)

    def _disagree(self, what: str, ours: object, nova: object) -> None:
        self.verdict.disagreements.append(Disagreement(self.scenario["seed"], self.given["id"], what, ours, nova))

    # ---- filters and weighers --------------------------------------------------------------------------------------
    def _context(self, request: SchedulingRequest, plan: CompiledPolicy) -> FilterContext:
        return FilterContext(plan.options, self.table.host_classes.aggregates, request.servers[0])

    def _passing(self, rule: HostFilter, request: SchedulingRequest) -> list[int]:
        """Positions that pass one filter: by columns, and host by host, which must be the same."""
        everywhere = list(range(len(self.table)))
        context = self._context(request, self.plans["full"])
        if (request.shape.rebuild and not rule.on_rebuild) or not rule.applies(request, context):
            return everywhere
        passing: list[int] = np.flatnonzero(
            rule.passes(self.table, np.arange(len(self.table)), request, context)
        ).tolist()
        single = [place for place in everywhere if rule.refuse_at(self.table, place, request, context) is None]
        if single != passing:
            self._disagree(f"filter {rule.name}, host by host and by columns", single, passing)
        return passing

    def _weighed(self, weigher: Weigher, request: SchedulingRequest) -> Json:
        raw = weigher.raw(self.table, np.arange(len(self.table)), request, self.options)
        shown = np.maximum(raw, 0.0) if weigher.floor else raw
        factors = multipliers(self.table, weigher, self.options)[self.table.host_classes.ids]
        score = factors * weigher.normalise(raw)
        return {"raw": shown.tolist(), "score": score.tolist(), "order": sort(score).tolist()}

    def _weighed_all(self, request: SchedulingRequest) -> Json:
        places = np.arange(len(self.table))
        weight = weigh(self.table, places, request, self.options, self.plans["full"].weighers)
        return {"weight": weight.tolist(), "order": sort(weight).tolist()}

    def _compare_weight(self, what: str, ours: Json, nova: Json) -> None:
        for name in nova:
            if name == "order":
                weight = nova["score" if "score" in nova else "weight"]
                same = [weight[place] for place in ours["order"]], [weight[place] for place in nova["order"]]
                agrees = close(*same) and (ours["order"] == nova["order"] or not exact(ours, nova))
            else:
                agrees = close(ours[name], nova[name])
            self.verdict.compared += 1
            if not agrees:
                self._disagree(f"{what}: {name}", ours[name], nova[name])

    # ---- decisions -------------------------------------------------------------------------------------------------
    def _check_decision(self, name: str, request: SchedulingRequest, nova: Json) -> None:
        plan = self.plans[name]
        self._guarded(f"decision {name}: passing", nova["passing"], self._filtered(request, plan), self._compare)
        self._guarded(
            f"decision {name}: select",
            nova["select"],
            self._chosen(request, plan, nova.get("after", {}), name),
            self._compare,
        )

    def _filtered(self, request: SchedulingRequest, plan: CompiledPolicy) -> list[int]:
        places = candidates(self.table, request)
        passing, _ = pass_filters(self.table, places, request, plan, self._context(request, plan), first=True)
        found: list[int] = passing.tolist()
        return found

    def _chosen(self, request: SchedulingRequest, plan: CompiledPolicy, after: Json, name: str) -> object:
        """The choice; what it left behind is compared, and then given back."""
        before = self._state(range(len(self.table)))
        choice = select_stepwise(self.table, request, plan, seed=self.scenario["seed"], carries_order=True)
        for position, nova in after.items():
            if choice.hosts:
                self._compare(f"decision {name}: host {position} after", *self._after(int(position), nova))
        if choice.hosts:
            for server_id in request.servers:
                self.table.release(server_id)
        if self._state(range(len(self.table))) != before:
            self._disagree(f"decision {name}: what was taken is not what came back", None, None)
        return [list(hosts) for hosts in choice.hosts] or {"error": "NoValidHost"}

    def _after(self, position: int, nova: Json) -> tuple[Json, Json]:
        topology = self.table.topologies.at(position)
        ours: Json = {name: int(self.table.columns.figure(Figure[name])[position]) for name in FIGURES}
        ours["numa"] = topology.cells or ()
        ours["pci_pools"] = sorted(
            (
                {
                    "vendor_id": pool.vendor_id,
                    "product_id": pool.product_id,
                    "numa_node": pool.numa_node,
                    "count": pool.count,
                    **pool.tags,
                }
                for pool in topology.pools
                if pool.count
            ),
            key=repr_of,
        )
        theirs = {name: nova[name] for name in FIGURES}
        theirs["numa"] = tuple(cell_of(one) for one in cells_in(nova["numa"] or ()))
        theirs["pci_pools"] = sorted((pool for pool in nova["pci_pools"] if pool["count"]), key=repr_of)
        return ours, theirs

    def _state(self, positions: Iterable[int]) -> object:
        figures = [self.table.columns.figure(figure).tolist() for figure in Figure]
        return figures, [self.table.topologies.at(place) for place in positions], [*map(dict, self.table.hosted)]


def candidates_of(table: HostTable, request: SchedulingRequest) -> list[int]:
    """The hosts before filtering: only a destination's cell can rule some out."""
    wanted = request.destination
    cell = wanted.cell if wanted is not None and not wanted.allow_cross_cell_move else None
    return [place for place in range(len(table)) if not cell or table.host_classes.at(place).cell == cell]


def repr_of(pool: Json) -> str:
    return repr(sorted(pool.items(), key=str))


def exact(ours: Json, nova: Json) -> bool:
    """Whether weights are the same to the last bit, so that the order must be."""
    name = "score" if "score" in nova else "weight"
    return bool(ours[name] == nova[name])


def close(ours: Iterable[float], nova: Iterable[float]) -> bool:
    return bool(np.allclose(np.array(ours), np.array(nova), rtol=TOLERANCE, atol=1e-12))


def shown_numa(request: SchedulingRequest) -> object:
    guest = request.shape.topology.guest
    if guest is None:
        return None
    cells = [
        (
            cell.id,
            cell.cpuset,
            cell.pcpuset,
            cell.memory,
            cell.pagesize,
            cell.cpu_policy,
            cell.cpu_thread_policy,
            dict(cell.cpu_pinning) or None,
        )
        for cell in guest.cells
    ]
    return cells, guest.emulator_threads_policy


def canonical_numa(nova: Json | None) -> object:
    if nova is None:
        return None
    cells = [
        (
            cell["id"],
            tuple(sorted(cell["cpuset"])),
            tuple(sorted(cell["pcpuset"])),
            cell["memory"],
            cell["pagesize"],
            cell["cpu_policy"],
            cell["cpu_thread_policy"],
            cell["cpu_pinning"],
        )
        for cell in nova["cells"]
    ]
    return cells, nova["emulator_threads_policy"]


def scenarios_in(path: Path) -> Iterator[Json]:
    """The scenarios of a file, one a line, packed or not."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        for line in lines:
            if line.strip():
                yield json.loads(line)


def check(path: Path) -> Verdict:
    """Compare all scenarios of a file."""
    verdict = Verdict()
    for scenario in scenarios_in(path):
        verdict.scenarios += 1
        Checker(scenario, verdict).run()
    return verdict


def main() -> int:
    verdict = check(Path(sys.argv[1]) if len(sys.argv) > 1 else OWN_FILE)
    print(verdict.report())
    return 1 if verdict.disagreements else 0


if __name__ == "__main__":
    sys.exit(main())
