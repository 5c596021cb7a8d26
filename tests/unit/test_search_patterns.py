"""What a pattern is looked for by, before it is asked about each name."""

from __future__ import annotations

import pytest

from top_api.search_patterns import matcher, needed_address, needed_texts

PATTERNS = {
    "^db-.*7-": (["db-", "7-"], "db-17-x"),
    "web-1$": (["web-1"], "a-web-1"),
    "a+bcd?": (["bc"], "aabc"),
    "x.*longer*.": (["longe", "x"], "xx longe!"),
    "(web|db)-1": ([], "db-1"),
    "[ab]cd": ([], "bcd"),
    r"\d7": ([], "17"),
    r"^10\.0\.7\.": (["10.0.7."], "10.0.7.77"),
    r"a\-b\.?c": (["a-b", "c"], "a-bc"),
    r"a\\.bc": ([], "a\\xbc"),
    "a{0}b": ([], "b"),
    "...": ([], "abc"),
    "a*": ([], ""),
    "^École-1": (["cole-1"], "École-1"),
    "^É.*": ([], "École"),
    "a.b.c.d.e.f.gg": (["gg", "a", "b", "c", "d"], "a-b-c-d-e-f-gg"),
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_what_matches_has_the_needed_texts(pattern: str) -> None:
    needed, name = PATTERNS[pattern]
    assert needed_texts(pattern) == needed
    assert matcher("name", pattern)(name)
    assert all(text in name for text in needed)


@pytest.mark.parametrize(
    ("pattern", "address"),
    {
        "^10.0.7.77$": "10.0.7.77",
        r"^10\.0\.7\.77$": "10.0.7.77",
        "^10.0.7.7": None,
        "10.0.7.7$": None,
        "^10.0.7.$": None,
        "^2001:db8::1$": None,
    }.items(),
)
def test_one_whole_address_is_looked_for(pattern: str, address: str | None) -> None:
    assert needed_address(pattern) == address
