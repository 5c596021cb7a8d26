"""No pattern that may take more than linear time meets a text that others send."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from re import _parser as parser  # type: ignore[attr-defined]

import pytest

from tests.architecture.test_budgets import PRODUCT, ROOT

OWN_TEXTS = {"cellcloud/launcher"}
"""Folders whose texts are this machine's: files and the output of programs."""
SINGLE = {"IN", "LITERAL", "NOT_LITERAL", "ANY", "CATEGORY"}


def patterns_in(path: Path) -> Iterator[tuple[int, str | None]]:
    """The patterns that a file gives to the library ``re``; None: one that is not written out."""
    for node in ast.walk(ast.parse(path.read_text())):
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name) and called.value.id == "re":
            first = node.args[0] if isinstance(node, ast.Call) and node.args else None
            yield node.lineno, first.value if isinstance(first, ast.Constant) else None


def is_one_set(pattern: str) -> bool:
    """Whether it is no more than some characters of one set, which no text makes slow."""
    parsed = list(parser.parse(pattern))
    if len(parsed) == 1 and str(parsed[0][0]) == "MAX_REPEAT":
        parsed = list(parsed[0][1][2])
    return len(parsed) == 1 and str(parsed[0][0]) in SINGLE


@pytest.mark.parametrize("path", PRODUCT, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_standard_library_s_patterns_are_single_sets(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    if not any(name.startswith(folder) for folder in OWN_TEXTS):
        found = [(line, pattern) for line, pattern in patterns_in(path) if pattern is None or not is_one_set(pattern)]
        assert not found, "use cellcloud.safe_regex: RE2 is linear"
        assert not re.search(r"^\s*from re import|^\s*import regex", path.read_text(), re.MULTILINE)


@pytest.mark.parametrize("path", PRODUCT, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_pattern_ends_before_the_end_of_a_line(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            found = [each for key, each in pairs if isinstance(key, ast.Constant) and key.value == "pattern"]
        elif isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "Pattern":
            found = list(node.args)
        else:
            continue
        for each in found:
            text = each.value if isinstance(each, ast.Constant) else ""
            anchored = text.startswith("^") or re.search(r"(?<!\\)\$$|\\[Zz]$", text)
            assert not anchored, f"line {each.lineno}: a pattern is for the whole text without anchors"


def test_sets_are_told_from_what_may_be_slow() -> None:
    assert all(map(is_one_set, ["[a-z]", "[^a-z]+", r"\s", "a*", "."]))
    assert not any(map(is_one_set, ["a+b", "(a+)+", "[a-z]$", "^a", "a|bc", r"\s*a"]))
