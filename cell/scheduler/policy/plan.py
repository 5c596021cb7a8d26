"""A policy made ready: its filters and weighers found, and what of them a request meets."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from cell.scheduler.policy.filters import FILTERS, Filter
from cell.scheduler.policy.weighers import WEIGHERS, Weigher
from cellcloud.model.policy import Options, Policy


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Compared by identity: ``plan_of`` makes one of equal policies."""

    policy: Policy
    filters: tuple[Filter, ...]
    weighers: tuple[Weigher, ...]

    @property
    def options(self) -> Options:
        return self.policy.options


@lru_cache(maxsize=64)
def plan_of(policy: Policy) -> Plan:
    """The plan of a policy; the same object for equal ones."""
    return Plan(
        policy,
        tuple(FILTERS[name] for name in policy.filters),
        tuple(WEIGHERS[name] for name in policy.weighers),
    )
