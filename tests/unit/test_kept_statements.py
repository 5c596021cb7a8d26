"""Which statements of lists are built once, and for whom."""

from __future__ import annotations

from typing import Any

import pytest

from cellcloud.db import kept_statements
from cellcloud.db.kept_statements import built_once
from cellcloud.db.server_conditions import ServerQuery
from cellcloud.server_states import VmState

ACTIVE = {"states": [(VmState.ACTIVE, None)]}


@pytest.mark.parametrize(
    ("one", "other", "is_shared"),
    [
        ({"project_id": "a"}, {"project_id": "b"}, True),
        ({"project_id": "a", **ACTIVE}, {"project_id": "b", **ACTIVE, "marker": "m", "limit": 3}, True),
        ({"project_id": None}, {"project_id": None}, True),
        ({"project_id": "a"}, {"project_id": None}, False),
        ({"project_id": "a"}, {"project_id": "a", **ACTIVE}, False),
        ({"project_id": "a"}, {"project_id": "a", "deleted": True}, False),
        ({"project_id": "a"}, {"project_id": "a", "soft_deleted": True}, False),
        ({"project_id": "a"}, {"project_id": "a", "sort": (("name", True), ("id", True))}, False),
        ({"project_id": "a", **ACTIVE}, {"project_id": "a", **ACTIVE, "task_states_apart": {"active": ["x"]}}, False),
        *(
            ({"project_id": "a", **named}, {"project_id": "a", **named}, False)
            for named in ({"equal": {"host": ["h"]}}, {"containing": {"name": ["n"]}}, {"terms": [["t"]]})
        ),
    ],
)
def test_what_is_built_once(one: dict[str, Any], other: dict[str, Any], is_shared: bool) -> None:
    built: list[str | None] = []

    def build(query: ServerQuery, size: int) -> object:
        built.append(query.project_id)
        return object()

    get = built_once(build)
    assert (get(ServerQuery(**one), 5) is get(ServerQuery(**other), 5)) is is_shared
    assert len(built) == (1 if is_shared else 2)
    get(ServerQuery(**one), 6)
    assert len(built) == (2 if is_shared else 3)


def test_what_is_kept_is_bounded() -> None:
    get = built_once(lambda query, size: object())
    first = get(ServerQuery(project_id="a"), 0)
    for size in range(1, kept_statements.MOST + 1):
        get(ServerQuery(project_id="a"), size)
    assert get(ServerQuery(project_id="a"), 0) is not first
