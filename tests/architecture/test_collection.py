"""Each worker of a run collects the tests by itself, so their names come to the same in every process."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
CHANCE = {"uuid1", "uuid4", "random", "randint", "choice", "token_hex", "token_urlsafe", "time", "getpid"}


def _calls_at_import(node: ast.AST) -> Iterator[ast.Call]:
    """Yield the calls that are made while the module is loaded: not those in functions' bodies."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            for decorator in child.decorator_list:
                yield from _calls_at_import(ast.Expr(decorator))
        elif not isinstance(child, ast.Lambda):
            if isinstance(child, ast.Call):
                yield child
            yield from _calls_at_import(child)


def _named(call: ast.Call) -> str:
    match call.func:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
    return ""


@pytest.mark.parametrize(
    "path", sorted(TESTS.rglob("test_*.py")), ids=lambda path: str(path.relative_to(TESTS).with_suffix(""))
)
def test_no_parameter_comes_by_chance(path: Path) -> None:
    calls = _calls_at_import(ast.parse(path.read_text()))
    assert not [(_named(call), call.lineno) for call in calls if _named(call) in CHANCE]
