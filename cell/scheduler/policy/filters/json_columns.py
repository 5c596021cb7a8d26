"""The condition of a ``query`` hint over many hosts at once: a column a term, not an answer a host.

What it says of a host is what the filter says of one alone, for all that has a simple answer: comparisons of figures,
numbers and texts, and these joined. The rest (lists compared, attributes of several kinds) raises Unwieldy.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell.scheduler.policy.host_state_attributes import NOTHING, Path

COMPARISONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}
MOST_EXACT = 1 << 53  # numbers up to here are compared alike as integers and as floats
Flags = NDArray[np.bool_]


class Unwieldy(Exception):
    """A condition that has no answer in columns."""


@dataclass(frozen=True, slots=True)
class Column:
    """A term's value at each host. ``values``: an array, or one value for all; ``failed``: where there is none, and the
    condition fails; ``listed``: the value is a list, of which only whether it is empty matters."""

    values: Any
    failed: Any = False
    listed: bool = False

    @property
    def numeric(self) -> bool:
        """Whether it compares with numbers."""
        if isinstance(self.values, np.ndarray):
            return bool(self.values.dtype != object)
        return isinstance(self.values, int | float | np.bool_)

    def truth(self) -> Any:
        """Return where it counts as true."""
        if isinstance(self.values, np.ndarray):
            return self.values.astype(bool)
        return bool(self.values)


def column_of(values: Sequence[Any], codes: NDArray[np.int32]) -> Column:
    """Return the column of an attribute. Raises Unwieldy for one whose values are of several kinds."""
    absent = np.array([value is NOTHING for value in values], dtype=np.bool_)
    there = [value for value in values if value is not NOTHING]
    failed = absent[codes] if absent.any() else False
    if all(type(value) in (int, float) and abs(value) <= MOST_EXACT for value in there):
        return Column(np.array([0 if value is NOTHING else value for value in values])[codes], failed)
    if all(type(value) is str for value in there):
        texts = np.empty(len(values), dtype=object)
        texts[:] = ["" if value is NOTHING else value for value in values]
        return Column(texts[codes], failed)
    raise Unwieldy


def evaluate(query: Sequence[Any], columns: Mapping[Path, Column]) -> Column:
    """Find where the condition holds. Raises Unwieldy."""
    if not query:
        return Column(True)
    sign = query[0]
    terms = [_term(term, columns) for term in _said(query)]
    failed = reduce(operator.or_, (term.failed for term in terms), False)
    truths = [term.truth() for term in terms]
    if sign == "not":
        return Column(reduce(operator.or_, map(np.logical_not, truths), False), failed, listed=True)
    if sign in ("or", "and"):
        join = operator.or_ if sign == "or" else operator.and_
        return Column(reduce(join, truths, sign == "and"), failed)
    if len(terms) < 2:
        return Column(False, failed)
    if any(term.listed for term in terms):
        raise Unwieldy
    first, rest = terms[0], terms[1:]
    if sign == "in":
        return Column(reduce(operator.or_, (_compare("=", first, term)[0] for term in rest)), failed)
    found: Any = True
    for term in rest:
        holds, fails = _compare(sign, first, term)
        failed = failed | (found & fails)
        found = found & holds
    return Column(found, failed)


def _said(query: Sequence[Any]) -> list[Any]:
    """Return the terms without those that say nothing."""
    return [term for term in query[1:] if term is not None and term != ""]


def _term(term: Any, columns: Mapping[Path, Column]) -> Column:
    if isinstance(term, list):
        found = evaluate(term, columns)
        # a list that is not empty counts as true, whatever is in it
        return Column(bool(_said(term)), found.failed, listed=True) if found.listed else found
    if isinstance(term, str):
        return columns[tuple(term[1:].split("."))] if term.startswith("$") else Column(term)
    if isinstance(term, int) and abs(term) > MOST_EXACT:
        raise Unwieldy
    return Column(term)


def _compare(sign: str, one: Column, other: Column) -> tuple[Any, Any]:
    """Return where it holds, and whether it fails everywhere: numbers and texts are never equal, and in no order."""
    if one.numeric != other.numeric:
        return False, sign != "="
    return np.asarray(COMPARISONS[sign](one.values, other.values), dtype=np.bool_), False
