"""Random worlds and random lives of them, lived by two indices at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from cellcloud import _fastsched_py as reference

HOSTS = (0, 1, 2, 3, 20, 63, 64, 65, 200, 1100, 2100)
MULTIPLIERS = (0.0, 1.0, 1.0, -1.0, 0.5, -0.5, -1e6, 2.25, 1 / 3)


@dataclass
class Life:
    """One world in the reference and in another index. Every answer is compared, to the bit."""

    kernel: ModuleType
    seed: int
    halves: bool = field(init=False)
    decisions: int = 0

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.hosts = int(self.rng.choice(HOSTS))
        self.resources, self.columns = int(self.rng.integers(0, 4)), int(self.rng.integers(0, 6))
        self.host_classes = int(self.rng.integers(1, 8))
        self.halves = bool(self.rng.integers(0, 2))
        self.most = int(self.rng.choice([2, 5, 30, 1000]))
        floors = [bool(bit) for bit in self.rng.integers(0, 2, self.columns)]
        self.index = self.kernel.Index(self.resources, floors)
        self.reference = reference.Index(self.resources, floors)
        rows = [self._row() for _ in range(self.hosts)]
        host_class = np.array([row[0] for row in rows], dtype=np.int32)
        free = np.array([row[1] for row in rows], dtype=np.int64).reshape(self.hosts, self.resources).T
        raw = np.array([row[2] for row in rows], dtype=np.float64).reshape(self.hosts, self.columns).T
        self._both("load", host_class, free, raw)
        self.classes = [self._both("add_class", *self._wishes()) for _ in range(int(self.rng.integers(1, 6)))]
        self.claims: list[tuple[int, int]] = []

    def live(self, steps: int) -> None:
        """Take so many random steps."""
        doings = (self._decide, self._release, self._report, self._reclass, self._repass, self._place, self._look)
        for _ in range(steps):
            self.rng.choice(doings, p=[0.66, 0.14, 0.1, 0.03, 0.03, 0.02, 0.02])()

    def _both(self, method: str, *given: Any) -> Any:
        ours, theirs = getattr(self.index, method)(*given), getattr(self.reference, method)(*given)
        assert ours == theirs, (self.seed, method, given)
        return ours

    def _row(self) -> tuple[int, Any, Any]:
        raw = self.rng.integers(-self.most // 2, self.most, self.columns).astype(np.float64)
        host_class = int(self.rng.integers(0, self.host_classes + (self.rng.random() < 0.02)))
        return host_class, self.rng.integers(-1, self.most, self.resources), raw / 2 if self.halves else raw

    def _wishes(self) -> tuple[Any, Any, Any, Any]:
        known = max(0, self.host_classes + int(self.rng.integers(-1, 2)))
        passes = (self.rng.random(known) < self.rng.choice([0.2, 0.7, 1.0])).astype(np.uint8)
        shape = (known, self.columns) if self.rng.random() < 0.25 else self.columns
        step = self.rng.choice([0.0, 1.0, -1.0, -2.0, 3.0], self.columns)
        need = self.rng.integers(0, max(2, self.most // 8 + 1), self.resources)
        return need, passes, self.rng.choice(MULTIPLIERS, shape), step / 2 if self.halves else step

    def _class(self) -> int:
        return int(self.rng.choice(self.classes))

    def _decide(self) -> None:
        class_id, count = self._class(), int(self.rng.choice([1, 1, 2, 3, 3, 5, 8, 70]))
        exclude: list[int] = []
        if self.hosts and self.rng.random() < 0.2:
            exclude = self.rng.integers(0, self.hosts, int(self.rng.integers(1, 6))).tolist()
            exclude += self.reference.choose(class_id, int(self.rng.integers(0, 4)))
        best, _scores = self._both("choose_scored", class_id, count, exclude)
        assert self.index.choose(class_id, count, exclude) == best, (self.seed, "choose", class_id, count, exclude)
        self.decisions += 2
        if self.rng.random() < 0.15:
            self._both("scan", class_id, count)
            self.decisions += 1
        if best and self.rng.random() < 0.7:
            self._both("claim", class_id, best[0])
            self.claims.append((class_id, best[0]))

    def _release(self) -> None:
        if self.claims:
            class_id, position = self.claims.pop(int(self.rng.integers(len(self.claims))))
            if class_id in self.classes:
                self._both("release", class_id, position)

    def _report(self) -> None:
        if self.hosts:
            self._both("set_host", int(self.rng.integers(self.hosts)), *self._row())

    def _reclass(self) -> None:
        if len(self.classes) > 1 and self.rng.random() < 0.3:
            self._both("drop_class", self.classes.pop(int(self.rng.integers(len(self.classes)))))
        self.classes.append(self._both("add_class", *self._wishes()))

    def _repass(self) -> None:
        self.host_classes += int(self.rng.integers(0, 2))
        _need, passes, multipliers, _step = self._wishes()
        self._both("set_passes", self._class(), passes, multipliers)

    def _place(self) -> None:
        self.decisions += len(self._both("place", self._class(), 5, 2))

    def _look(self) -> None:
        class_id = self._class()
        assert self.index.fitting(class_id).tolist() == self.reference.fitting(class_id).tolist()
        if self.hosts:
            position = int(self.rng.integers(self.hosts))
            for ours, theirs in zip(self.index.row(position), self.reference.row(position), strict=True):
                assert np.array_equal(ours, theirs), (self.seed, position)
