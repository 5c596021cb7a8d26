"""Every route and action of the Compute API says what it answers, at microversions that are promised."""

from __future__ import annotations

import re
from pathlib import Path

from top_api.microversion import LAST
from top_api.request_pipeline import Action, Actions, Route
from top_api.response_schema import NEVER, NOTHING, Fields, fields_of, inner_parts
from top_api.routes import RESOURCES
from top_api.service_api_definition import COMPUTE, DISCOVERY

TABLE = Path(__file__).parents[2] / "docs" / "microversions.md"
ROWS = {int(row[1]): row[2] for row in re.finditer(r"(?m)^\| 2\.(\d+) \|.*\| ([^|]+) \|$", TABLE.read_text())}


def _declared() -> dict[str, Route | Action]:
    """What is served -> its declaration; an action in place of the route that its body goes to."""
    found: dict[str, Route | Action] = {}
    for resource in RESOURCES:
        for route in resource.routes if resource.api in (COMPUTE, DISCOVERY) else ():
            if isinstance(route.rule, Actions):
                found |= {f"{route.path}: {name}": action for name, action in route.rule.by_name.items()}
            else:
                found[f"{route.method} {route.path}"] = route
    return found


DECLARED = _declared()
ANSWERS = [what.answer for what in DECLARED.values() if what.answer is not None]


def test_everything_that_is_served_says_what_it_answers() -> None:
    """``answer=``: a shape of top_api/answers, NOTHING for an answer without a body, NEVER where nobody succeeds."""
    assert [what for what, one in DECLARED.items() if one.answer is None] == []


def test_what_answers_with_204_has_no_body() -> None:
    assert [what for what, one in DECLARED.items() if one.status == 204 and one.answer not in (NOTHING, NEVER)] == []


def test_a_name_stands_for_one_thing() -> None:
    named: dict[str, set[int]] = {}
    for part in inner_parts(*ANSWERS):
        if isinstance(part, Fields) and part.name:
            named.setdefault(part.name, set()).add(id(part))
    assert len(named) > 15
    assert {name: len(things) for name, things in named.items() if len(things) > 1} == {}


def test_fields_come_and_go_at_microversions_that_are_promised() -> None:
    """docs/microversions.md says so of each, and tests/api/test_microversions.py asks for one thing at each."""
    changes = {field.since for _, field in fields_of(*ANSWERS)} | {field.until + 1 for _, field in fields_of(*ANSWERS)}
    changes |= {minor for part in inner_parts(*ANSWERS) for minor in getattr(part, "changes", ())}
    changes -= {1, LAST.minor + 1}
    assert len(changes) > 30
    assert {minor: ROWS[minor] for minor in changes if ROWS[minor] != "served"} == {}
