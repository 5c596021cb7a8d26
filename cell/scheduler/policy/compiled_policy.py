"""A policy made ready: its filters and weighers found, and what of them a request meets."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from cell.scheduler.policy.filters import FILTERS, HostFilter
from cell.scheduler.policy.weighers import WEIGHERS, Weigher
from cellcloud.model.scheduling_policy import Options, SchedulingPolicy


@dataclass(frozen=True, slots=True, eq=False)
class CompiledPolicy:
    """Compared by identity: ``compile_policy`` makes one of equal policies."""

    policy: SchedulingPolicy
    filters: tuple[HostFilter, ...]
    weighers: tuple[Weigher, ...]

    @property
    def options(self) -> Options:
        return self.policy.options


@lru_cache(maxsize=64)
def compile_policy(policy: SchedulingPolicy) -> CompiledPolicy:
    """Compile a policy; equal ones give the same object."""
    return CompiledPolicy(
        policy,
        tuple(FILTERS[name] for name in policy.filters),
        tuple(WEIGHERS[name] for name in policy.weighers),
    )
