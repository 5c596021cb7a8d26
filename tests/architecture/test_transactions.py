"""A transaction that loses a race is run again: whatever writes does so where it is retried."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.architecture.test_budgets import PRODUCT, ROOT

# Each with why it is not run again, or by whom it is.
EXCUSED = {
    "cellcloud/db/migrate.py:upgrade": "MariaDB commits each change of a schema: an operator runs it again",
    "cell/conductor/placement/claiming.py:_Claiming.run": "all of _claim is retried, its only caller",
}


def _unretried(tree: ast.AST, around: Sequence[ast.FunctionDef | ast.ClassDef] = ()) -> Iterator[str]:
    """Functions that begin a writing transaction (a call of ``write`` without arguments) and are not retried."""
    for node in ast.iter_child_nodes(tree):
        within = (*around, node) if isinstance(node, ast.FunctionDef | ast.ClassDef) else around
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "write":
            decorators = {ast.unparse(each) for one in within for each in one.decorator_list}
            if not (node.args or node.keywords or "retried" in decorators):
                yield ".".join(one.name for one in within)
        yield from _unretried(node, within)


def _found(path: Path) -> set[str]:
    return {f"{path.relative_to(ROOT)}:{name}" for name in _unretried(ast.parse(path.read_text()))}


@pytest.mark.parametrize("path", PRODUCT, ids=lambda path: str(path.relative_to(ROOT)))
def test_whatever_writes_is_retried(path: Path) -> None:
    mine = {name for name in EXCUSED if name.startswith(f"{path.relative_to(ROOT)}:")}
    assert _found(path) == mine


def test_a_write_that_is_not_retried_is_seen() -> None:
    written = "class A:\n    def b(self):\n        with self._database.write() as c, x:\n            c.execute(1)\n"
    assert list(_unretried(ast.parse(written))) == ["A.b"]
    assert list(_unretried(ast.parse(f"@retried\n{written.replace('class A:', 'def a(database):')}"))) == []
    assert list(_unretried(ast.parse("file.write(data)"))) == []
