"""The top's index, quotas, keys and flavors: alike on every database."""

from __future__ import annotations

import datetime as dt
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from cellcloud import errors
from cellcloud.db import (
    flavors,
    idempotency,
    keypairs,
    quotas,
    retention,
    server_index,
    server_lists,
    top_schema,
    usage,
    user_quotas,
)
from cellcloud.db.engine import Database, retried
from cellcloud.db.idempotency import KeptAnswer
from cellcloud.db.server_conditions import SORT_KEYS, ServerQuery
from cellcloud.model.flavor import Flavor
from cellcloud.model.image import Image
from cellcloud.model.keypair import Keypair
from cellcloud.model.network import FixedIp, Port
from cellcloud.model.server import ServerRecord, ServerSpec
from cellcloud.server_states import VmState
from tests.statements import counted

PROJECT = "p"
TINY = Flavor(id="1", name="m1.tiny", vcpus=2, memory_mb=512, root_gb=1)
AT = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def a_record(number: int = 0, **changes: Any) -> ServerRecord:
    spec = ServerSpec(
        id=str(uuid.uuid4()),
        name=f"vm-{number % 5}",
        project_id=PROJECT,
        user_id="u",
        flavor=TINY,
        image=Image(id=str(uuid.UUID(int=7))),
        hostname=f"vm-{number}",
    )
    port = Port(
        id="x",
        network_id="n",
        network_name="net",
        mac_address="m",
        fixed_ips=(FixedIp(ip_address=f"10.0.0.{number % 250}", subnet_id="s"),),
    )
    record = ServerRecord(
        spec=spec,
        version=0,
        generation=0,
        vm_state=VmState.BUILDING,
        created_at=AT + dt.timedelta(seconds=number % 7),
        host=f"h{number % 3}" if number % 2 else None,
        ports=(port,),
    )
    return replace(record, **changes)


def insert(database: Database, *records: ServerRecord) -> None:
    with database.write() as connection:
        assert quotas.reserve(connection, PROJECT, quotas.cost_of(TINY, len(records)), {})
        server_index.insert_records(connection, records)


def find(database: Database, record: ServerRecord) -> ServerRecord | None:
    with database.read() as connection:
        return server_index.find_record(connection, record.id, deleted=None)


def used(database: Database) -> dict[str, int]:
    with database.read() as connection:
        assert quotas.recount(connection) == []
        return quotas.list_usages(connection, PROJECT)


def test_only_newer_copies_of_the_owning_cell_are_taken(top_database: Database) -> None:
    record = a_record(cell="east", version=3)
    insert(top_database, record)
    for changes, taken in (
        ({"version": 2}, 0),
        ({"version": 3}, 0),
        ({"version": 9, "cell": "west"}, 0),
        ({"version": 9, "cell": ""}, 0),
        ({"version": 4, "vm_state": VmState.ACTIVE}, 1),
        ({"version": 4, "vm_state": VmState.ERROR}, 0),
    ):
        with top_database.write() as connection:
            assert server_index.upsert(connection, [replace(record, **changes)]) == taken
    found = find(top_database, record)
    assert found is not None
    assert (found.version, found.vm_state, found.cell) == (4, VmState.ACTIVE, "east")


def test_a_batch_takes_the_newest_of_each_in_any_order(top_database: Database) -> None:
    records = [a_record(number, cell="east") for number in range(20)]
    insert(top_database, *records)
    copies = [replace(record, version=version) for version in (2, 5, 1) for record in records]
    with top_database.write() as connection:
        assert server_index.upsert(connection, copies) == 20
        assert server_index.upsert(connection, copies) == 0
        pairs = server_index.list_versions(connection, "east", "", None)
    assert [version for _, version in pairs] == [5] * 20
    assert [server_id for server_id, _ in pairs] == sorted(record.id for record in records)


def test_quota_comes_back_once(top_database: Database) -> None:
    record = a_record(cell="east")
    insert(top_database, record, a_record(1))
    assert used(top_database) == {"cores": 4, "instances": 2, "ram": 1024}
    gone = replace(record, version=2, deleted=True, vm_state=VmState.DELETED, terminated_at=AT)
    for _ in range(2):
        with top_database.write() as connection:
            server_index.upsert(connection, [gone, replace(gone, version=3)])
            server_index.mark_deleted(connection, [record.id])
            server_index.give_back_quota(connection, [record.id])
    assert used(top_database) == {"cores": 2, "instances": 1, "ram": 512}


def test_servers_that_the_top_lost_are_taken_in_and_counted(top_database: Database) -> None:
    lost = a_record(cell="east", version=7)
    with top_database.write() as connection:
        told = [lost, a_record(1, cell="east", held=True), a_record(2, cell="east", deleted=True)]
        server_index.upsert(connection, told)
        assert server_index.find_record(connection, lost.id) is None
        server_index.upsert(connection, told, adopt=True)
    found = find(top_database, lost)
    assert found is not None
    assert found.version == 7
    assert used(top_database)["instances"] == 1


def test_a_task_shown_early_gives_way_to_the_cells_copy(top_database: Database) -> None:
    record = a_record(cell="east", version=3)
    insert(top_database, record)
    with top_database.write() as connection:
        server_index.mark_tasks(connection, [record], "deleting")
    early = find(top_database, record)
    assert early is not None
    assert (early.task_state, early.version) == ("deleting", 3)
    with top_database.write() as connection:
        assert server_index.upsert(connection, [replace(record, version=4)]) == 1
    later = find(top_database, record)
    assert later is not None
    assert later.task_state is None


@pytest.mark.parametrize("key", sorted(SORT_KEYS))
@pytest.mark.parametrize("descending", [False, True])
def test_pages_in_every_order(top_database: Database, key: str, descending: bool) -> None:
    records = [a_record(number) for number in range(11)]
    insert(top_database, *records)
    query = ServerQuery(
        project_id=PROJECT,
        sort=((key, descending), ("id", descending)) if key != "id" else (("id", descending),),
        limit=4,
    )
    met: list[str] = []
    with top_database.read() as connection:
        everything = server_lists.list_records(connection, replace(query, limit=100))
        while True:
            page = server_lists.list_records(connection, replace(query, marker=met[-1] if met else None))
            met += [record.id for record in page]
            if len(page) < 4:
                break
    assert met == [record.id for record in everything]
    assert sorted(met) == sorted(record.id for record in records)


def test_filters(top_database: Database) -> None:
    records = [a_record(number) for number in range(10)]
    insert(top_database, *records, a_record(11, spec=replace(a_record().spec, project_id="q", name="100%_a\\b")))

    def count(**query: Any) -> int:
        with top_database.read() as connection:
            return len(server_lists.list_records(connection, ServerQuery(**{"project_id": PROJECT, **query})))

    assert count() == 10
    assert count(project_id=None) == 11
    assert count(equal={"name": ["vm-1", "vm-2"]}) == 4
    assert count(containing={"name": ["VM-1"]}) == 2
    assert count(project_id="q", containing={"name": ["100%_A\\B"]}) == 1
    assert count(project_id="q", containing={"name": ["100_%"]}) == 0
    assert count(containing={"addresses": ["10.0.0.3"]}) == 1
    assert count(states=[(VmState.BUILDING, None)]) == 10
    assert count(states=[]) == 0
    assert count(keep=lambda record: record.host is None, limit=3) == 3
    assert count(changed_since=AT + dt.timedelta(seconds=5)) == 2
    assert count(deleted=True) == 0
    with top_database.read() as connection, pytest.raises(errors.NotFound):
        server_lists.list_records(connection, ServerQuery(project_id=PROJECT, marker="none"))


def test_a_race_for_the_last_of_a_quota(top_database: Database) -> None:
    @retried
    def take(database: Database) -> bool:
        with database.write() as connection:
            fits = quotas.reserve(connection, PROJECT, {"cores": 1, "instances": 1}, {"instances": 10})
            if not fits:
                connection.rollback()
            return fits

    answers: list[bool] = []
    threads = [threading.Thread(target=lambda: answers.append(take(top_database))) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers.count(True) == 10
    with top_database.read() as connection:
        assert quotas.list_usages(connection, PROJECT) == {"cores": 10, "instances": 10, "ram": 0}


def test_a_key_is_taken_once(top_database: Database) -> None:
    kept = KeptAnswer(body_hash="b", answer={"server_ids": ["1"]})
    with top_database.write() as connection:
        assert idempotency.keep_answer(connection, PROJECT, "k", kept)
        assert not idempotency.keep_answer(connection, PROJECT, "k", kept)
        assert idempotency.keep_answer(connection, "other", "k", kept)
        assert idempotency.find_answer(connection, PROJECT, "k") == kept
        assert idempotency.find_answer(connection, PROJECT, "K") is None


def test_flavors_and_keypairs(top_database: Database) -> None:
    with top_database.write() as connection:
        flavors.ensure_starters(connection)
        flavors.ensure_starters(connection)
        with pytest.raises(errors.Conflict):
            flavors.create_flavor(connection, flavors.STARTERS[0])
        private = replace(TINY, id="secret", name="secret", is_public=False)
        flavors.create_flavor(connection, private)
        assert flavors.find_flavor(connection, "secret", project_id=PROJECT) is None
        flavors.add_project(connection, "secret", PROJECT)
        assert flavors.find_flavor(connection, "secret", project_id=PROJECT) == private
        flavors.set_extra_specs(connection, "secret", {"a": "1", "b": "2"})
        flavors.delete_extra_spec(connection, "secret", "b")
        with pytest.raises(errors.NotFound):
            flavors.delete_extra_spec(connection, "secret", "b")
        assert flavors.get_flavor(connection, "secret", project_id=None).extra_specs == {"a": "1"}
        flavors.delete_flavor(connection, "secret")
        with pytest.raises(errors.NotFound):
            flavors.get_flavor(connection, "secret", project_id=None)
        made = keypairs.create_keypair(connection, Keypair(name="k", user_id="u", public_key="p", fingerprint="f"))
        assert made.id > 0
        with pytest.raises(errors.Conflict):
            keypairs.create_keypair(connection, made)
        assert keypairs.list_keypairs(connection, "u") == [made]
        keypairs.delete_keypair(connection, "u", "k")
        assert keypairs.list_keypairs(connection, "u") == []


def test_five_hundred_copies_are_taken_in_by_few_statements(top_database: Database) -> None:
    records = [a_record(number, cell="east") for number in range(500)]
    with top_database.write() as connection:
        server_index.insert_records(connection, records)
    with counted(top_database) as statements, top_database.write() as connection:
        assert server_index.upsert(connection, [replace(record, version=2) for record in records]) == 500
    assert len(statements) < 30


@retried
def _take_one(database: Database, project: str) -> bool:
    with database.write() as connection:
        return quotas.reserve(connection, project, {"cores": 1, "instances": 1, "ram": 1}, {"instances": 100})


@pytest.mark.parametrize("project", ["p1", "p2", "p3"])
def test_nobody_is_refused_while_a_projects_counters_are_made(top_database: Database, project: str) -> None:
    barrier = threading.Barrier(4)

    def take(_: int) -> bool:
        barrier.wait(60)
        return _take_one(top_database, project)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(take, range(4))) == [True] * 4


def test_usage_is_the_same_before_and_after_the_index_forgets(top_database: Database) -> None:
    """By project and id, in pages, with the window's edges left out; a server that never ran is in none."""
    hour, ended = dt.timedelta(hours=1), {"deleted": True, "vm_state": VmState.DELETED}
    insert(
        top_database,
        a_record(launched_at=AT, terminated_at=AT + hour, **ended),
        a_record(launched_at=AT - 2 * hour, terminated_at=AT, **ended),
        a_record(launched_at=AT + 2 * hour),
        a_record(launched_at=AT + hour, terminated_at=AT + 3 * hour, **ended),
        a_record(terminated_at=AT + hour, **ended),
        a_record(launched_at=AT + dt.timedelta(microseconds=1)),
    )
    with top_database.write() as connection:
        connection.execute(sa.update(top_schema.server_index).values(quota_held=False))

    def read(project_id: str | None) -> list[usage.ServerUsage]:
        found: list[usage.ServerUsage] = []
        place: usage.Place | None = None
        with top_database.read() as connection:
            while True:
                page = usage.list_usages(connection, AT, AT + 2 * hour, project_id=project_id, after=place, limit=1)
                if not page:
                    return found
                found += page
                place = usage.find_place(connection, page[-1].id, project_id)
                assert place == (PROJECT, page[-1].id)

    def read_whole(project_id: str | None) -> list[usage.ServerUsage]:
        with top_database.read() as connection:
            places = usage.find_places(connection, AT, AT + 2 * hour, project_id=project_id)
            return usage.list_of(connection, places)

    before = read(PROJECT)
    assert [one.id for one in before] == sorted(one.id for one in before)
    assert sorted(one.seconds(AT, AT + 2 * hour) for one in before) == [3600, 3600, 7200 - 1e-6]
    assert read_whole(PROJECT) == read_whole(None) == before
    assert retention.purge_top(top_database, deleted_days=1, keys_days=1)["server_index"] == 4
    assert read(PROJECT) == read(None) == read_whole(PROJECT) == read_whole(None) == before
    assert read("another") == read_whole("another") == []
    assert retention.purge_top(top_database, deleted_days=1, keys_days=1, usage_days=1)["past_servers"] == 3
    assert len(read(None)) == 1


def test_resizes_that_are_asked_for_at_once_are_let_go_by_none_of_them(top_database: Database) -> None:
    record = a_record(cell="east", vm_state=VmState.ACTIVE)
    insert(top_database, record)
    wide, high = ({"cores": cores, "instances": 1, "ram": ram} for cores, ram in ((8, 512), (2, 4096)))
    limits = {"cores": 8, "ram": 4096, "instances": 10}

    def ask(cost: dict[str, int]) -> tuple[bool, dt.datetime] | None:
        with top_database.write() as connection:
            return server_index.begin_asking(connection, record, cost, limits)

    first = ask(wide)
    assert first is not None
    with top_database.write() as connection:
        server_index.end_asking(connection, record, first[1])
    assert used(top_database)["cores"] == 2
    asked = [ask(wide), ask(high)]
    assert [one and one[0] for one in asked] == [True, False]
    for one in asked[:1]:
        assert one is not None
        with top_database.write() as connection:
            server_index.end_asking(connection, record, one[1])
    assert (used(top_database)["cores"], used(top_database)["ram"]) == (8, 4096)
    with top_database.write() as connection:
        assert server_index.list_asked(connection, 60.0) == []
        assert server_index.list_asked(connection, -60.0) == [record.id]
        server_index.forget_asked(connection, [record.id])
        assert server_index.list_asked(connection, -60.0) == []
    assert used(top_database) == quotas.cost_of(TINY)


def test_a_users_servers_are_summed_up_without_reading_their_records(top_database: Database) -> None:
    """Of servers that say what they are counted for; and where the user's own use is counted, that is all that is
    read."""
    records = [a_record(number) for number in range(5)]
    insert(top_database, *records, a_record(5, spec=replace(a_record().spec, user_id="another")))
    index = top_schema.server_index
    with top_database.write() as connection:
        told = index.c.id.in_([record.id for record in records[1:]])
        connection.execute(sa.update(index).where(index.c.id == records[0].id).values(quota_cores=None))
        connection.execute(sa.update(index).where(told).values(record={}))  # no record of a server
    expected = {"cores": 10, "instances": 5, "ram": 2560}
    with top_database.read() as connection:
        assert user_quotas.list_usages(connection, PROJECT, "u") == expected
    with top_database.write() as connection:
        user_quotas.set_limits(connection, PROJECT, "u", dict.fromkeys(quotas.RESOURCES, 100))
    with top_database.read() as connection, counted(top_database) as asked:
        assert user_quotas.list_usages(connection, PROJECT, "u") == expected
    assert len([each for each in asked if each != "BEGIN"]) == 1
    assert "server_index" not in str(asked)
