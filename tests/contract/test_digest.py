"""What a cell publishes of itself: true after every change, at a cost that does not grow with its servers."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from cell.conductor.capacity import Digests
from cellcloud.db import cell_schema, claims, hosts, scheduler_change_log
from cellcloud.db.claims import Claim
from cellcloud.db.engine import Database
from cellcloud.model.allocation import Allocation
from cellcloud.model.change_log import Changes
from tests.workflows.world import CellUnderTest, make_report

HOSTS = ("h1", "h2", "h3")
HOLDING = json.dumps({"resources": {"VCPU": 1, "MEMORY_MB": 128, "DISK_GB": 1}})


def wanted(server_id: str, host: str, resources: dict[str, int]) -> Claim:
    return Claim(server_id, server_id, host, Allocation(resources=resources))


def claim(database: Database, *wanted: Claim) -> None:
    with database.write() as connection:
        won, _ = claims.claim_judged(connection, wanted)
        scheduler_change_log.append(connection, claims.log(claimed=list(won.values())))


def release(database: Database, *server_ids: str) -> None:
    with database.write() as connection:
        claims.release_all(connection, server_ids)


def test_it_is_true_after_every_change(cell_database: Database) -> None:
    CellUnderTest(cell_database, HOSTS, vcpus=64)
    followed, chance, held = Digests(cell_database, "east"), random.Random(7), []
    followed.get()
    for turn in range(40):
        kind = chance.choice(["claim", "claim", "move", "release", "disable", "enable", "down", "zone"])
        host = chance.choice(HOSTS)
        if kind == "claim":
            held.append(str(uuid.uuid4()))
            claim(cell_database, wanted(held[-1], host, {"VCPU": chance.randint(1, 4), "MEMORY_MB": 128, "DISK_GB": 1}))
        elif kind == "move" and held:
            claim(cell_database, wanted(held[-1], host, {"VCPU": 1})._replace(id=str(uuid.uuid4())))
        elif kind == "release" and held:
            release(cell_database, held.pop(chance.randrange(len(held))))
        elif kind in ("disable", "enable", "down"):
            with cell_database.write() as connection:
                enabled = None if kind == "down" else kind == "enable"
                forced = chance.random() < 0.5 if kind == "down" else None
                hosts.set_state(connection, host, enabled=enabled, disabled_reason=None, forced_down=forced)
        elif kind == "zone":
            with cell_database.write() as connection:
                hosts.report(connection, [make_report(host, vcpus=64, zone=f"z{turn}")])
        digest = followed.get()
        assert digest == Digests(cell_database, "east").get(), kind
        assert digest.servers == len(held), "a server that moves is one"
        assert sum(bucket[3] for bucket in digest.buckets) == digest.hosts_up


def test_a_log_that_was_pruned_or_put_back_is_counted_anew(cell_database: Database) -> None:
    CellUnderTest(cell_database, HOSTS)
    followed = Digests(cell_database, "east")
    followed.get()
    claim(cell_database, wanted("a", "h1", {"VCPU": 1}), wanted("b", "h2", {"VCPU": 1}))
    with cell_database.write() as connection:
        connection.execute(sa.delete(cell_schema.changes))
    assert followed.get().servers == 2
    release(cell_database, "a")
    assert followed.get().servers == 1
    with cell_database.write() as connection:
        connection.execute(sa.update(cell_schema.change_counter).values(value=1))
    claim(cell_database, wanted("c", "h1", {"VCPU": 1}))
    assert followed.get().servers == 2


@contextmanager
def counted(database: Database) -> Iterator[list[int]]:
    """How many steps SQLite's machine takes, in tens."""
    steps = [0]

    def step() -> None:
        steps[0] += 1

    with database.engine.connect() as connection:
        raw = connection.connection.driver_connection
        raw.set_progress_handler(step, 10)
    yield steps
    raw.set_progress_handler(None, 10)


@pytest.mark.parametrize("changed", [False, True], ids=["at rest", "after a change"])
def test_its_work_does_not_grow_with_the_servers(tmp_path: Path, changed: bool) -> None:
    database = Database(f"sqlite:///{tmp_path}/cell.db", pool_size=1)
    with database.write() as connection:
        cell_schema.metadata.create_all(connection)
    CellUnderTest(database, HOSTS, vcpus=64)
    taken: list[int] = []
    for number in (0, 20_000):
        with database.write() as connection:
            ids = [str(uuid.uuid4()) for _ in range(number)]
            rows = [(one, one, HOSTS[each % 3], HOLDING) for each, one in enumerate(ids)]
            if rows:
                connection.exec_driver_sql(
                    "INSERT INTO claims (id, server_id, host, holding) VALUES (?, ?, ?, ?)", rows
                )
        digests = Digests(database, "east")
        digests.get()
        if changed:
            with database.write() as connection:
                scheduler_change_log.append(connection, Changes(dropped=("x",)))
        with counted(database) as steps:
            assert digests.get().servers == number
        taken.append(steps[0])
    assert taken[1] < taken[0] + 20, taken
    database.close()
