"""Statements of lists of servers that are alike but for the project: built once, as they are asked for again and again.

Building one takes longer than all else that a short list costs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from typing import Any, Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa

from cellcloud.db.server_conditions import OTHER, ServerQuery
from cellcloud.db.top_schema import server_index

P = ParamSpec("P")
R = TypeVar("R")
MOST = 128  # statements that are kept, of each kind
_NAME = "of_project"
_PROJECT: Any = sa.bindparam(_NAME, type_=server_index.c.project_id.type)


@dataclass(frozen=True, slots=True)
class _Shape:
    key: Hashable
    query: ServerQuery = field(compare=False)


def values_of(query: ServerQuery) -> dict[str, str]:
    """Return what a kept statement is executed with."""
    project = query.project_id
    return {} if project is None else {_NAME: project, f"{_NAME}{OTHER}": f"{project}\x01"}


def built_once(
    build: Callable[Concatenate[ServerQuery, P], R],
) -> Callable[Concatenate[ServerQuery, P], R]:
    """Keep what is built for queries that name nothing but states and a project: it is to be executed with
    ``values_of`` the query. Other arguments are hashable, and given by place."""

    anew: Any = build
    kept: Any = functools.lru_cache(maxsize=MOST)(lambda shape, *args: anew(shape.query, *args))

    def get(query: ServerQuery, /, *args: P.args, **kwargs: P.kwargs) -> R:
        shape = _shape_of(query)
        made: R = build(query, *args, **kwargs) if shape is None else kept(shape, *args)
        return made

    return get


def _shape_of(query: ServerQuery) -> _Shape | None:
    named = (query.equal, query.containing, query.seconds, query.terms, query.lacking)
    if any(named) or query.changed_since is not None or query.changed_before is not None:
        return None
    states = None if query.states is None else tuple(query.states)
    apart = frozenset((name, frozenset(tasks)) for name, tasks in query.task_states_apart.items())
    sort = tuple((name, descending) for name, descending in query.sort)
    key = (query.project_id is None, states, apart, query.deleted, query.soft_deleted, sort)
    return _Shape(key, query if query.project_id is None else replace(query, project_id=_PROJECT))
