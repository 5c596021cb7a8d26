"""Patterns that users search names and addresses with. RE2 answers in linear time whatever the pattern."""

from __future__ import annotations

import re
from collections.abc import Callable

import re2

from cellcloud import errors
from cellcloud.safe_regex import Pattern

_SPECIAL = re.compile(r"[\\^$.|?*+()\[\]{}]")
_MOST_NEEDED = 5  # texts: the longest
_ESCAPED = {"\\.": "\x01", "\\-": "\x02", "\\:": "\x03"}  # characters that stand for themselves
_BRANCHES = re.compile(r"[\\|()\[\]{}]")
_BREAKS = re2.compile(r".?[*?+]+|[.^$]|[^\x00-\x7f]")  # databases differ in what is a letter's other case
_EXACT = Pattern(r"\^([^\\^$.|?*+()\[\]{}]+)\$")
_ONE_ADDRESS = Pattern(r"\^([0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3})\$")
_ADDRESS = Pattern(r"[0-9a-fA-F.:]+")


def plain_text(pattern: str, *, address: bool = False) -> str | None:
    """Return the text that a pattern without special characters looks for; in addresses a dot is just a dot."""
    if address and _ADDRESS.matches(pattern):
        return pattern
    return None if _SPECIAL.search(pattern) else pattern


def needed_address(pattern: str) -> str | None:
    """Return the one address that ``^address$`` stands for: with four numbers, whatever is between them is a dot."""
    match = _ONE_ADDRESS.groups(pattern.replace("\\.", "."))
    return match[0] if match else None


def needed_texts(pattern: str) -> list[str]:
    """Return texts that whatever matches the pattern has in it, as far as that is plain to see."""
    for escape, stand_in in _ESCAPED.items():
        pattern = pattern.replace(escape, stand_in)
    found = [] if _BRANCHES.search(pattern) else _BREAKS.split(pattern)
    for escape, stand_in in _ESCAPED.items():
        found = [text.replace(stand_in, escape[1:]) for text in found]
    return sorted({text for text in found if text}, key=lambda text: (-len(text), text))[:_MOST_NEEDED]


def exact_text(pattern: str) -> str | None:
    """Return the one text that ``^text$`` stands for."""
    match = _EXACT.groups(pattern)
    return match[0] if match else None


def matcher(name: str, pattern: str) -> Callable[[str], bool]:
    """Whether a text has the pattern in it, without regard to case. Raises Invalid for one that cannot be read."""
    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = False
    options.max_mem = 1 << 20
    try:
        compiled = re2.compile(pattern, options)
    except re2.error as error:
        raise errors.Invalid(f"Invalid input for query parameters {name}: not a regular expression.") from error
    return lambda text: compiled.search(text) is not None
