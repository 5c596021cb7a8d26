"""Patterns that users search names and addresses with. RE2 answers in linear time whatever the pattern."""

from __future__ import annotations

import re
from collections.abc import Callable

import re2

from cellcloud import errors
from cellcloud.safe_regex import Pattern

_SPECIAL = re.compile(r"[\\^$.|?*+()\[\]{}]")
_BRANCHES = re.compile(r"[\\|()\[\]{}]")
_BREAKS = re2.compile(r".?[*?+]+|[.^$]|[^\x00-\x7f]")  # databases differ in what is a letter's other case
_EXACT = Pattern(r"\^([^\\^$.|?*+()\[\]{}]+)\$")
_ADDRESS = Pattern(r"[0-9a-fA-F.:]+")


def plain_text(pattern: str, *, address: bool = False) -> str | None:
    """Return the text that a pattern without special characters looks for; in addresses a dot is just a dot."""
    if address and _ADDRESS.matches(pattern):
        return pattern
    return None if _SPECIAL.search(pattern) else pattern


def needed_text(pattern: str) -> str:
    """Return the longest text that whatever matches the pattern has in it, as far as that is plain to see."""
    return "" if _BRANCHES.search(pattern) else max(_BREAKS.split(pattern), key=len)


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
