"""Comparing a host's value with what an extra spec says of it, operator first. Source: Nova's extra_specs_ops.

Where Nova fails the whole request (a number compared with text, an operator without operand), the host is refused.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence

NUMBERS: dict[str, Callable[[float, float], bool]] = {
    "=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
}
TEXTS: dict[str, Callable[[str, str], bool]] = {
    "s==": operator.eq,
    "s!=": operator.ne,
    "s<": operator.lt,
    "s<=": operator.le,
    "s>": operator.gt,
    "s>=": operator.ge,
    "<in>": operator.contains,
}
OPERATORS = frozenset(["<or>", "<all-in>", *NUMBERS, *TEXTS])


def meets(value: str, requirement: str) -> bool:
    """Return whether a host's value is as required; a requirement that begins with no operator is the value itself."""
    words = requirement.split()
    sign = words[0] if words else ""
    if sign not in OPERATORS:
        return value == requirement
    operands = words[1:]
    if not operands:
        return False
    if sign == "<or>":
        return value in operands[::2]
    if sign == "<all-in>":
        return all(word in value for word in operands)
    if sign in TEXTS:
        return TEXTS[sign](value, operands[0])
    return _compare(NUMBERS[sign], value, operands[0])


def flaw_of(requirement: str) -> str | None:
    """Return what is malformed in a requirement, whatever the host; None when nothing is."""
    words = requirement.split()
    if not words or words[0] not in OPERATORS:
        return None
    if len(words) == 1:
        return f"operator {words[0]} has no operand"
    if words[0] in NUMBERS and _number(words[1]) is None:
        return f"{words[1]!r} is no number"
    return None


def _compare(compare: Callable[[float, float], bool], value: str, operand: str) -> bool:
    numbers: Sequence[float | None] = (_number(value), _number(operand))
    left, right = numbers
    return left is not None and right is not None and compare(left, right)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
