"""A cell's database is one cell's: a conductor of another that was given it does not start."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cell.conductor.__main__ import build
from cellcloud import config, errors
from cellcloud.db.engine import Database
from cellcloud.rpc.transport import Transport
from tests.workflows.world import FakeNetworks


def test_two_cells_with_one_database_are_told_apart(cell_database: Database, tmp_path: Path) -> None:
    settings = replace(config.load(), state_dir=tmp_path)
    transport = Transport("owner", "kombu+memory://")
    for name, refused in (("east", False), ("east", False), ("west", True)):
        options = replace(settings, cell=replace(settings.cell, name=name))
        networks = FakeNetworks()
        process = build(options, transport=transport, database=cell_database, networks=networks)  # type: ignore[arg-type]
        if refused:
            with pytest.raises(errors.Misconfigured, match="cell east"):
                process.start()
        else:
            process.start()
            process.stop()
    transport.close()
