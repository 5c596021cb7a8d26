"""Fixtures that every test may use."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from cellcloud.db.engine import Database
from tests.empty_databases import make_empty

MEMORY = Path("/dev/shm")
ROOM = 2 << 30  # bytes that a whole run keeps at a time, and as much again

if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM:
    tempfile.tempdir = str(MEMORY)  # on a disk, databases wait for every transaction to be written

os.environ.setdefault("PYTHONHASHSEED", str(random.randrange(2**32)))  # workers are to collect in the same order

settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="give tests that are marked slow their full length")


@pytest.fixture
def long(request: pytest.FixtureRequest) -> bool:
    """Whether a slow test has its full length."""
    return bool(request.config.getoption("--long"))


@pytest.fixture
def cell_database(tmp_path: Path) -> Iterator[Database]:
    """An empty cell database on SQLite."""
    database = make_empty(tmp_path / "cell.db", "cell")
    yield database
    database.close()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Share the tests out by groups, in the order in which they were collected."""
    from tests.parallel import Groups

    config.option.loadscopereorder = False
    return Groups(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let a worker begin with what takes longest."""
    if hasattr(config, "workerinput"):
        from tests.parallel import order

        items.sort(key=order)
