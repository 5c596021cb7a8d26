"""A claim has an identity of its own: a server may hold several, each made, exchanged and given back by its id."""

from __future__ import annotations

import uuid

import pytest
import sqlalchemy as sa

from cell.conductor import audit
from cell.conductor.scheduling_store import SchedulingStoreService
from cellcloud import errors
from cellcloud.db import cell_schema, claims, hosts, migrate, scheduler_change_log
from cellcloud.db.claims import Claim
from cellcloud.db.engine import Database
from cellcloud.model.allocation import Allocation
from cellcloud.model.change_log import Changes
from cellcloud.model.host import HostState
from cellcloud.model.numa import GuestCell, GuestNuma, NumaCell, Placed
from tests.workflows.world import CONTEXT, CellUnderTest, claim

SERVER, MIGRATION, OTHER = (str(uuid.UUID(int=number, version=4)) for number in (1, 2, 3))
SMALL = Allocation(resources={"VCPU": 1, "MEMORY_MB": 128, "DISK_GB": 1})
LARGE = Allocation(resources={"VCPU": 4, "MEMORY_MB": 512, "DISK_GB": 2}, image_props={"os_distro": "debian"})
HOSTS = ("h1", "h2")


def states(database: Database) -> dict[str, HostState]:
    with database.read() as connection:
        assert claims.list_mismatches(connection) == []
        return {state.host: state for state in hosts.list_states(connection)}


def used(database: Database) -> dict[str, int]:
    return {host: state.used["VCPU"] for host, state in states(database).items()}


def hold(database: Database, *held: Claim) -> None:
    with database.write() as connection:
        assert claim(connection, held) == {}
        scheduler_change_log.append(connection, claims.log(claimed=held))


def entry(database: Database) -> Changes:
    """The last of the log."""
    with database.read() as connection:
        newest = scheduler_change_log.get_newest(connection)
    return SchedulingStoreService(database).list_changes(CONTEXT, newest - 1, 5).entries[-1].changes


def moving(source: str, destination: str) -> tuple[Claim, Claim]:
    return Claim(SERVER, SERVER, source, SMALL), Claim(MIGRATION, SERVER, destination, LARGE)


@pytest.mark.parametrize("destination", HOSTS, ids=["in place", "to another"])
def test_a_server_holds_two_claims_and_gives_back_either(cell_database: Database, destination: str) -> None:
    CellUnderTest(cell_database, HOSTS)
    own, moved = moving("h1", destination)
    hold(cell_database, own, Claim(OTHER, OTHER, destination, SMALL))
    hold(cell_database, moved)
    assert entry(cell_database).claimed == ((MIGRATION, destination, 0),)
    assert entry(cell_database).servers == {MIGRATION: SERVER}
    assert sum(used(cell_database).values()) == 6
    with cell_database.read() as connection:
        assert claims.list_of(connection, SERVER) == [own, moved]
        assert sorted(claims.list_owners(connection)) == [SERVER, OTHER]
    hosted = [(one.uuid, one.claim_id) for one in states(cell_database)[destination].hosted]
    assert (SERVER, MIGRATION) in hosted
    with cell_database.write() as connection:
        claims.release(connection, [MIGRATION, "unknown"])
        claims.release(connection, [MIGRATION])
    assert entry(cell_database).released == ((MIGRATION, destination, 0),)
    assert entry(cell_database).servers == {MIGRATION: SERVER}
    assert sum(used(cell_database).values()) == 2
    hold(cell_database, moved)
    with cell_database.write() as connection:
        claims.release(connection, [SERVER])
    assert used(cell_database)[destination] == 5
    with cell_database.write() as connection:
        claims.release_all(connection, [SERVER])
    assert sum(used(cell_database).values()) == 1


@pytest.mark.parametrize("destination", HOSTS, ids=["in place", "to another"])
def test_a_move_is_confirmed_or_reverted_and_every_transaction_adds_up(
    cell_database: Database, destination: str
) -> None:
    CellUnderTest(cell_database, HOSTS)
    own, moved = moving("h1", destination)
    hold(cell_database, own, moved)
    both = used(cell_database)
    with cell_database.write() as connection:
        claims.swap(connection, SERVER, MIGRATION)
        assert claims.list_of(connection, SERVER) == [
            own._replace(host=destination, allocation=LARGE),
            moved._replace(host="h1", allocation=SMALL),
        ]
    assert used(cell_database) == both
    assert entry(cell_database).swapped == ((SERVER, "h1", MIGRATION, destination),)
    with cell_database.write() as connection:
        claims.swap(connection, SERVER, MIGRATION)
        assert claims.list_of(connection, SERVER) == [own, moved]
    with cell_database.write() as connection:
        claims.confirm(connection, SERVER, MIGRATION)
        assert claims.list_of(connection, SERVER) == [own._replace(host=destination, allocation=LARGE)]
    made = entry(cell_database)
    assert made.swapped == ((SERVER, "h1", MIGRATION, destination),)
    assert [(claim_id, host, made.holdings[number]) for claim_id, host, number in made.released] == [
        (MIGRATION, "h1", SMALL)
    ]
    assert used(cell_database)[destination] == 4
    for exchange in (claims.swap, claims.confirm):
        with pytest.raises(errors.Conflict), cell_database.write() as connection:
            exchange(connection, SERVER, MIGRATION)
    assert sum(used(cell_database).values()) == 4


def test_a_move_in_place_takes_cpus_that_are_free_beside_its_own(cell_database: Database) -> None:
    cell = CellUnderTest(cell_database, ("h1",))
    cells = (NumaCell(id=0, pcpuset=(0, 1), memory=4096),)
    with cell_database.write() as connection:
        facts = connection.execute(sa.select(cell_schema.hosts.c.facts)).scalar_one()
        facts["numa"] = [{"id": one.id, "pcpuset": list(one.pcpuset), "memory": one.memory} for one in cells]
        connection.execute(sa.update(cell_schema.hosts).values(facts=facts))

    def pinned(claim_id: str, server_id: str, cpu: int) -> Claim:
        guest = GuestCell(id=0, pcpuset=(0,), memory=64, cpu_policy="dedicated", cpu_pinning=((0, cpu),))
        return Claim(
            claim_id,
            server_id,
            "h1",
            Allocation(resources={"VCPU": 1}, placed=Placed(guest=GuestNuma(cells=(guest,)))),
        )

    hold(cell_database, pinned(SERVER, SERVER, 0))
    with cell_database.write() as connection:
        assert claim(connection, [pinned(MIGRATION, SERVER, 0)])[MIGRATION].resource_class == claims.TOPOLOGY
    hold(cell_database, pinned(MIGRATION, SERVER, 1))
    with cell_database.write() as connection:
        assert claim(connection, [pinned(OTHER, OTHER, 1)]).keys() == {OTHER}
        claims.confirm(connection, SERVER, MIGRATION)
    hold(cell_database, pinned(OTHER, OTHER, 0))
    assert cell


def test_claims_that_no_record_accounts_for_are_told(cell_database: Database) -> None:
    cell = CellUnderTest(cell_database, HOSTS)
    cell.create(SERVER)
    cell.run()
    home = cell.record(SERVER).host
    other = next(name for name in HOSTS if name != home)
    found = {one.check: one for one in audit.check(cell_database, down_time=15)}
    assert found["owners"].severity == "ok"
    hold(cell_database, Claim(MIGRATION, SERVER, other, SMALL), Claim(OTHER, OTHER, other, SMALL))
    owners = [one for one in audit.check(cell_database, down_time=15) if one.check == "owners"]
    assert {one.subject: one.text.partition(",")[0] for one in owners} == {
        SERVER: f"holds a claim on {other} of migration {MIGRATION}",
        OTHER: f"holds a claim on {other} but does not exist",
    }
    with cell_database.write() as connection:
        connection.execute(
            sa.update(cell_schema.servers).where(cell_schema.servers.c.id == SERVER).values(vm_state="resized")
        )
        claims.release(connection, [OTHER])
    assert [one.severity for one in audit.check(cell_database, down_time=15) if one.check == "owners"] == ["ok"]
    with cell_database.write() as connection:
        claims.swap(connection, SERVER, MIGRATION)
    (one,) = [one for one in audit.check(cell_database, down_time=15) if one.check == "owners"]
    assert f"its claim on {other}" in one.text


def test_claims_of_before_get_their_servers_ids(cell_database: Database) -> None:
    with cell_database.write() as connection:
        cell_schema.metadata.drop_all(connection)
        connection.execute(sa.text("DROP TABLE alembic_version"))
        migrate.migrate(connection, "cell", "0013")
        old = sa.table("claims", *(sa.column(name) for name in ("server_id", "host", "holding")))
        rows = [(SERVER, "h1"), (OTHER, "h1"), (OTHER, "h2")]
        values = [{"server_id": server_id, "host": host, "holding": "{}"} for server_id, host in rows]
        connection.execute(sa.insert(old), values)
    migrate.upgrade(cell_database, "cell")
    with cell_database.read() as connection:
        found = connection.execute(sa.select(cell_schema.claims).order_by(cell_schema.claims.c.host)).all()
    assert [(row.server_id, row.host) for row in found] == sorted(rows, key=lambda row: row[1])
    assert [row.id == row.server_id for row in found] == [True, True, False]
    assert len({row.id for row in found}) == 3
