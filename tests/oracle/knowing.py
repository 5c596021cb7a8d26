"""Where we differ from Nova knowingly: cases in which Nova answers with an error for the whole request.

Each is found by what is in the scenario, not by its number. What is answered instead is the same decision with the
offending host refused, or weighed as the table says; it must be an answer, not an error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cell.scheduler.policy.filters.operators import NUMBERS, OPERATORS

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Case:
    """``error`` is Nova's answer, ``applies`` whether scenario and request are of this case."""

    name: str
    error: str
    why: str
    instead: str
    applies: Callable[[Json, Json], bool]


def _specs(given: Json) -> list[list[str]]:
    specs = [str(value).split() for value in given["flavor"]["extra_specs"].values()]
    return [words for words in specs if words and words[0] in OPERATORS]


CASES = (
    Case(
        "address width",
        "AttributeError",
        "Nova holds cpu_info as text and reads hw_maxphysaddr_bits from it as from an object",
        "the width of the host's addresses is compared; a host that does not say it passes",
        lambda scenario, given: "hw_maxphysaddr_bits" in given["image"]["properties"],
    ),
    Case(
        "number against text",
        "ValueError",
        "an extra spec compares a host's text as a number, which fails the whole request in Nova",
        "the host is refused by the filter whose extra spec it cannot meet",
        lambda scenario, given: any(words[0] in NUMBERS for words in _specs(given)),
    ),
    Case(
        "operator without operand",
        "IndexError",
        "an extra spec ends after its operator, which fails the whole request in Nova",
        "all hosts are refused, and the refusal names the extra spec",
        lambda scenario, given: any(len(words) == 1 for words in _specs(given)),
    ),
    Case(
        "metric not reported",
        "ComputeHostMetricNotFound",
        "one host without a required metric fails every request in Nova",
        "the host weighs weight_of_unavailable, as where metrics are not required",
        lambda scenario, given: (
            bool(scenario["options"].get("metrics.weight_setting"))
            and scenario["options"].get("metrics.required", True)
        ),
    ),
    Case(
        "image of a server just placed",
        "OrphanedObjectError",
        "Nova does not know the image of the servers it has placed a moment ago for the same request",
        "their image is the request's, and counts",
        lambda scenario, given: (
            bool(scenario["options"].get("filter_scheduler.image_props_weight_multiplier"))
            and given["instance_group"] is not None
            and len(given["instance_uuids"]) > 1
        ),
    ),
)


def find_case(scenario: Json, given: Json, error: str) -> Case | None:
    """The case that explains an error of Nova's."""
    return next((case for case in CASES if case.error == error and case.applies(scenario, given)), None)
