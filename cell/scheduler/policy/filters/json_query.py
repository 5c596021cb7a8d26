"""A host must meet the condition of the ``query`` hint: operators over its attributes. Source: Nova's JsonFilter.

Where Nova fails the whole request (a number compared with text), the host is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cell.scheduler.filter_rejection import HostRefusal
from cell.scheduler.policy.filters.interface import FilterContext
from cell.scheduler.policy.filters.json_columns import COMPARISONS, Unwieldy, column_of, evaluate
from cell.scheduler.policy.host_state_attributes import NOTHING, Path, codes_of, value_at
from cell.scheduler.request.scheduling_request import SchedulingRequest
from cell.scheduler.state.array_types import Flags, Places
from cell.scheduler.state.host_table import HostTable

Values = dict[Path, Any]
MOST_WORK = 200_000  # terms looked at in one question, one by one


class JsonQueryFilter:
    """Asked in columns where it can be, else once a combination of values of the attributes that are named."""

    name = "JsonFilter"
    once = False
    on_rebuild = False

    def applies(self, request: SchedulingRequest, context: FilterContext) -> bool:
        return bool(request.shape.query)

    def passes(self, table: HostTable, places: Places, request: SchedulingRequest, context: FilterContext) -> Flags:
        query = request.shape.query
        paths = sorted(set(_paths(query or [])))
        if not query or not paths:
            return np.full(len(places), not query or _refuse(query, {}) is None)
        columns = {path: codes_of(table, "variable", path) for path in paths}
        try:
            with np.errstate(all="ignore"):
                found = evaluate(
                    query, {path: column_of(values, codes[places]) for path, (codes, values) in columns.items()}
                )
        except Unwieldy:
            return _pass_by_combination(query, paths, columns, places)
        return np.broadcast_to(found.truth() & np.logical_not(found.failed), len(places)).copy()

    def refuse_at(
        self, table: HostTable, position: int, request: SchedulingRequest, context: FilterContext
    ) -> HostRefusal | None:
        query = request.shape.query
        if not query:
            return None
        paths = sorted(set(_paths(query)))
        return _refuse(query, {path: value_at(table, position, "variable", path) for path in paths})


def _pass_by_combination(query: list[Any], paths: list[Path], columns: Mapping[Path, Any], places: Places) -> Flags:
    """Return which hosts pass, asked once a combination of values: of none where that would be too many questions."""
    codes = np.stack([columns[path][0][places] for path in paths])
    combinations, kinds = np.unique(codes, axis=1, return_inverse=True)
    if combinations.shape[1] * _size(query) > MOST_WORK:
        return np.zeros(len(places), dtype=np.bool_)
    verdicts = [
        _refuse(query, {path: columns[path][1][code] for path, code in zip(paths, row, strict=True)}) is None
        for row in combinations.T
    ]
    return np.asarray(np.array(verdicts, dtype=np.bool_)[np.ravel(kinds)])


def _size(query: Sequence[object]) -> int:
    return sum(_size(term) if isinstance(term, list) else 1 for term in query)


def _paths(query: Sequence[object]) -> Iterator[Path]:
    for term in query[1:]:
        if isinstance(term, list):
            yield from _paths(term)
        elif isinstance(term, str) and term.startswith("$"):
            yield tuple(term[1:].split("."))


def _refuse(query: Sequence[Any], values: Values) -> HostRefusal | None:
    try:
        found = _evaluate(query, values)
    except TypeError:
        return HostRefusal("has values that the query cannot compare")
    if isinstance(found, list):
        found = any(found)
    return None if found else HostRefusal(f"does not meet the query: has {_shown(values)}")


def _shown(values: Values) -> str:
    return ", ".join(f"{'.'.join(path)} {str(value)[:100]}" for path, value in values.items()) or "no such attributes"


def _evaluate(query: Sequence[Any], values: Values) -> Any:
    """Evaluate as Nova does: terms without value are left out, and ``not`` gives a list."""
    if not query:
        return True
    sign, terms = query[0], [_term(term, values) for term in query[1:]]
    terms = [term for term in terms if term is not None]
    if sign == "not":
        return [not term for term in terms]
    if sign in ("or", "and"):
        return any(terms) if sign == "or" else all(terms)
    if len(terms) < 2:
        return False
    if sign == "in":
        return terms[0] in terms[1:]
    return all(COMPARISONS[sign](terms[0], term) for term in terms[1:])


def _term(term: Any, values: Values) -> Any:
    if isinstance(term, list):
        return _evaluate(term, values)
    if not isinstance(term, str):
        return term
    if not term:
        return None
    if not term.startswith("$"):
        return term
    found = values[tuple(term[1:].split("."))]
    if found is NOTHING:
        raise TypeError(term)
    return found


FILTER = JsonQueryFilter()
