"""What a pattern is looked for by, before it is asked about each name."""

from __future__ import annotations

import pytest

from top_api.search_patterns import matcher, needed_text

PATTERNS = {
    "^db-.*7-": ("db-", "db-17-x"),
    "web-1$": ("web-1", "a-web-1"),
    "a+bcd?": ("bc", "aabc"),
    "x.*longer*.": ("longe", "xx longe!"),
    "(web|db)-1": ("", "db-1"),
    "[ab]cd": ("", "bcd"),
    r"\d7": ("", "17"),
    "a{0}b": ("", "b"),
    "...": ("", "abc"),
    "a*": ("", ""),
    "^École-1": ("cole-1", "École-1"),
    "^É.*": ("", "École"),
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_what_matches_has_the_needed_text(pattern: str) -> None:
    needed, name = PATTERNS[pattern]
    assert needed_text(pattern) == needed
    assert matcher("name", pattern)(name)
    assert needed in name
