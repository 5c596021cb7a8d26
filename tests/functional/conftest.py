"""A router's world with two cells; a module that needs another has fixtures of its own under these names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.router_world import Line, World, open_lines, open_world


@pytest.fixture(scope="module")
def lines() -> Iterator[list[Line]]:
    with open_lines("east", "west") as made:
        yield made


@pytest.fixture
def world(tmp_path: Path, lines: list[Line]) -> Iterator[World]:
    with open_world(tmp_path, lines) as made:
        yield made
