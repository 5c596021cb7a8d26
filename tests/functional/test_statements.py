"""What each operation tells the databases and the hosts: what is more than this is a change to be made on purpose."""

from __future__ import annotations

from pathlib import Path

from benchmarks.statements import Cost, at_the_top, in_a_cell
from cellcloud.db.engine import Database
from tests.empty_databases import make_empty
from tests.workflows.test_every_step import SPECS

ALONE = Cost(statements=31, writes=8, commands=1)  # one command to the server's host
IN_A_CELL = {
    "create": Cost(statements=35, writes=8, commands=1),
    "delete": Cost(statements=41, writes=9, commands=1),
    "createImage": Cost(statements=51, writes=12, commands=3),
    "createBackup": Cost(statements=56, writes=13, commands=3),
    "restore": Cost(statements=35, writes=9, commands=1),
    "resize": Cost(statements=114, writes=22, commands=7),
    "migrate": Cost(statements=114, writes=22, commands=7),
    "confirmResize": Cost(statements=37, writes=8, commands=1),
    "revertResize": Cost(statements=79, writes=17, commands=5),
    "rebuild": Cost(statements=66, writes=14, commands=3),
    "shelve": Cost(statements=71, writes=17, commands=5),
    "shelveOffload": Cost(statements=46, writes=9, commands=1),
    "unshelve": Cost(statements=42, writes=9, commands=1),
    "unshelve offloaded": Cost(statements=57, writes=11, commands=1),
    "attach_volume": Cost(statements=43, writes=9, commands=1),
    "detach_volume": Cost(statements=38, writes=9, commands=1),
    "extend_volume": Cost(statements=32, writes=8, commands=1),
    "attach_interface": Cost(statements=37, writes=8, commands=1),
    "detach_interface": Cost(statements=37, writes=9, commands=1),
}
AT_THE_TOP = {
    "create": Cost(statements=7, writes=1),
    "create of 100": Cost(statements=7, writes=1),
    "os-stop": Cost(statements=5, writes=1),
    "os-start": Cost(statements=5, writes=1),
    "lock": Cost(statements=6, writes=1),
    "show": Cost(statements=2, writes=0),
    "list in detail": Cost(statements=2, writes=0),
    "limits": Cost(statements=3, writes=0),
    "100 copies of a cell": Cost(statements=27, writes=1),
    "100 copies with other tags": Cost(statements=7, writes=1),
}


def over(found: dict[str, Cost], most: dict[str, Cost]) -> dict[str, Cost]:
    def is_over(name: str, cost: Cost) -> bool:
        bound = most.get(name, ALONE)
        pairs = ((cost.statements, bound.statements), (cost.writes, bound.writes), (cost.commands, bound.commands))
        return any(have > may for have, may in pairs)

    return {name: cost for name, cost in found.items() if is_over(name, cost)}


def test_operations_cost_a_cell_no_more(cell_database: Database) -> None:
    found = dict(in_a_cell(cell_database))
    assert found.keys() == SPECS.keys() >= IN_A_CELL.keys()
    assert over(found, IN_A_CELL) == {}


def test_requests_cost_the_top_no_more(tmp_path: Path) -> None:
    top = make_empty(tmp_path / "top.db", "top")
    found = dict(at_the_top(top, tmp_path))
    top.close()
    assert found.keys() == AT_THE_TOP.keys()
    assert over(found, AT_THE_TOP) == {}
