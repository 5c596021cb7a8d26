"""The scheduler's kernel in plain Python with numpy: the reference that the compiled one must equal.

An ``Index`` holds a cell's hosts as columns and answers, for a class of requests, which hosts are best. A host is
named by its position, which is also the order of ties: of equal hosts the lowest position wins.

The words: N hosts; R resources, of which a request needs amounts; K weigh columns, of which each host has a raw value;
S host classes. A host class is all that stays of a host from claim to claim, so that a class of requests says once for
each whether such hosts pass its filters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Column = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

EXACT = 2**53
"""Beyond this a float64 no longer holds every whole number: such amounts are refused."""
LARGEST_MULTIPLIER = 1e30
LARGEST_HOST_CLASS = 2**20 - 1
MOST_COLUMNS = 32
MOST_TIMES = 2**20


@dataclass(slots=True)
class _RequestClass:
    """What every request of one class asks: amounts (R,), host classes that pass (S,), multipliers (1, K) or if varied
    (S, K), what one claim adds to the raw values (K,)."""

    need: Column
    passes: npt.NDArray[np.bool_]
    multipliers: Floats
    varied: bool
    step: Floats


class Index:
    """A cell's hosts, and the best of them for each class of requests.

    ``floors[k]`` is true where weigh column k is normalised from 0 as if it had Nova's ``minval = 0`` (values below
    count as 0), false where it is normalised from the lowest value of the hosts that passed.

    A host's score is the sum, in the order of the columns, of multiplier x (raw - low) / (high - low), over the hosts
    that pass and have room; a column whose high equals its low adds nothing; a host that is left alone is not weighed
    and has score 0. Source: Nova's ``nova.weights``.
    """

    def __init__(self, resources: int, floors: Sequence[bool]) -> None:
        if not 0 <= resources <= MOST_COLUMNS or len(floors) > MOST_COLUMNS:
            raise ValueError(f"resources, floors: more than {MOST_COLUMNS}")
        self._resources = resources
        self._floors = np.array(floors, dtype=np.bool_).reshape(-1)
        self._classes: dict[int, _RequestClass] = {}
        self._next_class = 0
        self._host_class = np.zeros(0, dtype=np.int32)
        self._free = np.zeros((resources, 0), dtype=np.int64)
        self._raw = np.zeros((len(self._floors), 0))

    @property
    def hosts(self) -> int:
        """How many hosts are loaded."""
        return len(self._host_class)

    @property
    def nbytes(self) -> int:
        """Bytes that the hosts' columns take."""
        return self._host_class.nbytes + self._free.nbytes + self._raw.nbytes

    def load(self, host_class: npt.ArrayLike, free: npt.ArrayLike, raw: npt.ArrayLike) -> None:
        """Replace all hosts: ``host_class`` (N,), ``free`` amounts (R, N), ``raw`` values (K, N). Classes stay.

        Raises ValueError, and changes nothing, when lengths differ or a number is not finite, beyond 2**53, or (a
        host class) negative.
        """
        kinds = whole(host_class, "host_class", (None,), lowest=0, highest=LARGEST_HOST_CLASS)
        amounts = whole(free, "free", (self._resources, len(kinds)))
        values = finite(raw, "raw", (len(self._floors), len(kinds)))
        self._host_class, self._free, self._raw = kinds.astype(np.int32), amounts, values

    def set_host(self, position: int, host_class: int, free: npt.ArrayLike, raw: npt.ArrayLike) -> None:
        """Take what a host's report or a change of its static facts says: its host class, free (R,), raw (K,)."""
        place = self._position(position)
        kind = whole([host_class], "host_class", (1,), lowest=0, highest=LARGEST_HOST_CLASS)
        amounts = whole(free, "free", (self._resources,))
        values = finite(raw, "raw", (len(self._floors),))
        self._host_class[place], self._free[:, place], self._raw[:, place] = kind[0], amounts, values

    def row(self, position: int) -> tuple[int, Column, Floats]:
        """Return a host's host class, free (R,) and raw (K,) as they are now."""
        place = self._position(position)
        return int(self._host_class[place]), self._free[:, place].copy(), self._raw[:, place].copy()

    def add_class(
        self, need: npt.ArrayLike, passes: npt.ArrayLike, multipliers: npt.ArrayLike, step: npt.ArrayLike
    ) -> int:
        """Return a class of requests; returns its id.

        ``need`` (R,) amounts, where 0 is not asked for and never compared; ``passes`` (S,) nonzero for the host classes
        whose hosts pass the filters (one beyond its end does not pass); ``multipliers`` (K,), or (S, K) where
        they differ by host class; ``step`` (K,) what one claim adds to the raw values.
        """
        amounts = whole(need, "need", (self._resources,), lowest=0)
        given = self._passes(passes, multipliers)
        steps = finite(step, "step", (len(self._floors),))
        class_id = self._next_class
        self._next_class += 1
        self._classes[class_id] = _RequestClass(amounts, *given, steps)
        return class_id

    def set_passes(self, class_id: int, passes: npt.ArrayLike, multipliers: npt.ArrayLike | None = None) -> None:
        """Say anew which host classes pass, for instance because there are more of them. ``multipliers`` stay when
        None, which is possible only if they were not given by host class."""
        wanted = self._class(class_id)
        if multipliers is None:
            if wanted.varied:
                raise ValueError("multipliers: they were given by host class, so they must come with the passes")
            multipliers = wanted.multipliers[0]
        wanted.passes, wanted.multipliers, wanted.varied = self._passes(passes, multipliers)

    def drop_class(self, class_id: int) -> None:
        """Forget a class."""
        self._class(class_id)
        del self._classes[class_id]

    def fitting(self, class_id: int) -> Column:
        """Positions of the hosts that pass and have room, ascending."""
        wanted = self._class(class_id)
        passes = np.append(wanted.passes, False)
        fits = passes[np.minimum(self._host_class, len(wanted.passes))]
        for free, need in zip(self._free, wanted.need, strict=True):
            if need:
                fits &= free >= need
        return np.flatnonzero(fits).astype(np.int64)

    def choose(self, class_id: int, count: int, exclude: Iterable[int] = ()) -> list[int]:
        """Return the ``count`` best hosts, best first, fewer when fewer fit. ``exclude``: positions that a filter of
        this one request refused; they count for nothing, not even as highs and lows."""
        return self.choose_scored(class_id, count, exclude)[0]

    def choose_scored(self, class_id: int, count: int, exclude: Iterable[int] = ()) -> tuple[list[int], list[float]]:
        """Return the ``count`` best hosts and their scores."""
        if count < 0:
            raise ValueError("count: negative")
        places = self.fitting(class_id)
        without = [self._position(place) for place in exclude]
        if without:
            places = places[~np.isin(places, without)]
        scores = self._scores(self._class(class_id), places)
        if count < len(places):
            threshold = np.partition(scores, len(scores) - count)[len(scores) - count] if count else np.inf
            good = scores >= threshold
            places, scores = places[good], scores[good]
        order = np.argsort(-scores, kind="stable")[:count]
        return places[order].tolist(), scores[order].tolist()

    def scan(self, class_id: int, count: int) -> list[int]:
        """Return the same as ``choose``, by looking at every host."""
        return self.choose(class_id, count)

    def claim(self, class_id: int, position: int, times: int = 1) -> None:
        """Take the class's amounts from a host, ``times`` over. Room is not asked: a forced host may go below 0."""
        wanted, place = self._class(class_id), self._position(position)
        if abs(times) > MOST_TIMES:
            raise ValueError(f"times: beyond {MOST_TIMES}")
        free = self._free[:, place] - wanted.need * times
        raw = self._raw[:, place] + wanted.step * times
        if (np.abs(free) > EXACT).any() or (np.abs(raw) > EXACT).any():
            raise ValueError("times: the host's amounts would be beyond 2**53")
        self._free[:, place], self._raw[:, place] = free, raw

    def release(self, class_id: int, position: int, times: int = 1) -> None:
        """Give the class's amounts back to a host."""
        self.claim(class_id, position, -times)

    def place(self, class_id: int, servers: int, count: int = 1) -> list[list[int]]:
        """Hosts for several servers: for each choose ``count``, claim the best, look at the next. Ends early, with a
        shorter list, when no host fits any more; what was claimed stays claimed."""
        if servers < 0 or count < 1:
            raise ValueError("servers: negative" if servers < 0 else "count: below 1")
        chosen: list[list[int]] = []
        for _ in range(servers):
            best = self.choose(class_id, count)
            if not best:
                break
            self.claim(class_id, best[0])
            chosen.append(best)
        return chosen

    def _scores(self, wanted: _RequestClass, places: Column) -> Floats:
        scores = np.zeros(len(places))
        if len(places) < 2:
            return scores
        multipliers = wanted.multipliers
        host_classes = self._host_class[places] if wanted.varied else None
        for column, floor in enumerate(self._floors):
            values = self._raw[column][places]
            if floor:
                values = np.maximum(values, 0.0)
            low, high = 0.0 if floor else values.min(), values.max()
            if low != high:
                factor = multipliers[0, column] if host_classes is None else multipliers[host_classes, column]
                scores += factor * ((values - low) / (high - low))
        return scores

    def _passes(self, passes: npt.ArrayLike, multipliers: npt.ArrayLike) -> tuple[npt.NDArray[np.bool_], Floats, bool]:
        passing = np.asarray(passes)
        if passing.ndim != 1:
            raise ValueError("passes: must be one value a host class")
        columns = len(self._floors)
        given = np.asarray(multipliers, dtype=np.float64)
        shape = (columns,) if given.ndim == 1 else (len(passing), columns)
        given = finite(given, "multipliers", shape, highest=LARGEST_MULTIPLIER)
        return passing.astype(np.bool_), given.reshape(shape if given.ndim == 2 else (1, columns)), given.ndim == 2

    def _class(self, class_id: int) -> _RequestClass:
        try:
            return self._classes[class_id]
        except KeyError:
            raise ValueError(f"class {class_id}: there is none") from None

    def _position(self, position: int) -> int:
        if not 0 <= position < len(self._host_class):
            raise ValueError(f"position {position}: there are {len(self._host_class)} hosts")
        return int(position)


def whole(
    given: npt.ArrayLike, name: str, shape: tuple[int | None, ...], *, lowest: int = -EXACT, highest: int = EXACT
) -> Column:
    """Return a copy as int64 of that shape (None: any length), each within the bounds, or ValueError with the
    ``name``."""
    array = np.asarray(given)
    if array.dtype.kind not in "iub" and not (array.dtype.kind == "f" and array.size == 0):
        raise ValueError(f"{name}: must be whole numbers, not {array.dtype}")
    _shaped(array, name, shape)
    if array.size and (int(array.min()) < lowest or int(array.max()) > highest):
        raise ValueError(f"{name}: a value is not within {lowest} to {highest}")
    return np.array(array, dtype=np.int64)


def finite(given: npt.ArrayLike, name: str, shape: tuple[int | None, ...], *, highest: float = EXACT) -> Floats:
    """Return a copy as float64 of that shape, each finite and within +-``highest``, or ValueError with the ``name``."""
    array = np.array(given, dtype=np.float64)
    _shaped(array, name, shape)
    if not (np.abs(array) <= highest).all():
        raise ValueError(f"{name}: a value is not finite or beyond {highest:g}")
    return array


def _shaped(array: npt.NDArray[np.generic], name: str, shape: tuple[int | None, ...]) -> None:
    if len(array.shape) != len(shape) or any(
        want not in (None, got) for want, got in zip(shape, array.shape, strict=True)
    ):
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"{name}: shape {array.shape}, not ({wanted})")
