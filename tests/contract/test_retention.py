"""What is over is forgotten after its days, some at a time, and never what is still needed; hosts can be removed."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from cell.conductor import audit, reconcile
from cell.conductor.placement.claiming import place
from cell.conductor.placement.reservation_confirmation import hold
from cell.scheduler.state.scheduler_state import SchedulerState
from cellcloud import errors, metrics
from cellcloud.context import RequestContext
from cellcloud.db import (
    cell_schema,
    consoles,
    decisions,
    feed,
    hosts,
    identity_tokens,
    image_cachings,
    image_tasks,
    intents,
    retention,
    scheduler_change_log,
    services,
    top_schema,
    user_data,
)
from cellcloud.db.engine import Connection, Database, Json, UtcDateTime, transact, utc_after
from cellcloud.model import migration
from cellcloud.model.change_log import CellState
from cellcloud.model.intent import IntentKind
from cellcloud.model.observed_guests import GuestState
from cellcloud.model.operations import Operation
from tests.contract.test_scheduling_store import CONTEXT, LocalScheduler, asked
from tests.workflows.world import CellUnderTest, make_report

ONE, TWO, THREE, FOUR = (f"11111111-0000-4000-8000-00000000000{n}" for n in range(1, 5))
DAY = 86400.0


def age(database: Database, table: sa.Table, days: float, **where: Any) -> None:
    """Move what the table's rows say of the past."""
    columns = [c for c in table.columns if c.name in ("terminated_at", "finished_at", "last_seen", "compared_at")]
    chosen = [table.c[name] == value for name, value in where.items()]
    with database.write() as connection:
        connection.execute(sa.update(table).where(*chosen).values({c: utc_after(-days * DAY) for c in columns}))


def purge(database: Database) -> Mapping[str, int]:
    return retention.purge_cell(database, deleted_days=30, runs_days=90)


def delete(cell: CellUnderTest, server_id: str) -> None:
    cell.create(server_id)
    cell.run()
    cell.begin(server_id, Operation.DELETE)
    cell.run()


def count(database: Database, table: sa.Table) -> int:
    with database.read() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


def look(database: Database, host: str, *server_ids: str) -> None:
    """The host tells of the guests it holds."""
    states = [GuestState(server_id=each, power_state=1, generation=1) for each in server_ids]
    reconcile.compare(database, host, states, fence=False)


def test_a_deleted_servers_row_stays_until_its_host_has_shown_that_nothing_is_left(cell_database: Database) -> None:
    cell = CellUnderTest(cell_database, ("h1", "h2"))
    delete(cell, ONE)
    cell.create(TWO)
    cell.run()
    look(cell_database, "h1", TWO)
    assert purge(cell_database)["servers"] == 0  # not old enough
    age(cell_database, cell_schema.servers, 31, id=ONE)
    age(cell_database, cell_schema.hosts, 40)
    look(cell_database, "h1", ONE, TWO)  # it was away, and still holds the guest
    look(cell_database, "h2")
    assert purge(cell_database)["servers"] == 0
    waiting = [finding.subject for finding in audit.check(cell_database, down_time=1e9) if finding.check == "retention"]
    assert waiting == ["h1"]
    look(cell_database, "h1", TWO)
    before = metrics.PURGED.labels("servers")._value.get()
    assert purge(cell_database)["servers"] == 1
    assert metrics.PURGED.labels("servers")._value.get() == before + 1
    assert cell.record(TWO).vm_state == "active"
    assert count(cell_database, cell_schema.servers) == 1


def test_a_deleted_server_that_is_still_being_taken_away_stays(cell_database: Database) -> None:
    """Users saw the end of it when its host went; the run that waits for the host moves its record."""
    cell = CellUnderTest(cell_database, ("h1", "h2"))
    cell.create(ONE)
    cell.run()
    cell.away.add("h1")
    cell.begin(ONE, Operation.DELETE)
    for _ in range(3):
        with pytest.raises(AssertionError):
            cell.run(limit=2)
    assert cell.record(ONE).deleted
    age(cell_database, cell_schema.servers, 31)
    look(cell_database, "h1")  # it is back, and the run has not been told yet
    assert purge(cell_database)["servers"] == 0
    cell.away.clear()
    cell.run()
    assert purge(cell_database)["servers"] == 1


def test_one_that_was_on_no_host_waits_for_all(cell_database: Database) -> None:
    cell = CellUnderTest(cell_database, ("h1", "h2"))
    delete(cell, ONE)
    with cell_database.write() as connection:
        values = {"host": None, "terminated_at": utc_after(-31 * DAY)}
        connection.execute(sa.update(cell_schema.servers).values(values))
    look(cell_database, "h1")
    assert purge(cell_database)["servers"] == 0
    look(cell_database, "h2")
    assert purge(cell_database)["servers"] == 1


def test_a_host_that_is_gone_for_good_is_not_waited_for(cell_database: Database) -> None:
    delete(CellUnderTest(cell_database, ("h1", "h2")), ONE)
    age(cell_database, cell_schema.servers, 31)
    assert purge(cell_database)["servers"] == 0
    with cell_database.write() as connection:
        hosts.remove(connection, "h1", force=True)
    assert purge(cell_database)["servers"] == 1


def test_runs_go_with_their_steps_and_unfinished_ones_never(cell_database: Database) -> None:
    cell = CellUnderTest(cell_database, ("h1",))
    cell.create(ONE)
    cell.run()
    cell.create(TWO)
    assert count(cell_database, cell_schema.run_steps) > 0
    with cell_database.write() as connection:
        old = {"created_at": utc_after(-100 * DAY)}
        connection.execute(sa.update(cell_schema.runs).values(old))
        ended = cell_schema.runs.c.active.is_(None)
        connection.execute(sa.update(cell_schema.runs).where(ended).values(finished_at=utc_after(-100 * DAY)))
    assert purge(cell_database)["runs"] == 1
    assert (count(cell_database, cell_schema.runs), count(cell_database, cell_schema.run_steps)) == (1, 0)


def test_services_that_are_gone_go_and_those_that_live_stay(cell_database: Database) -> None:
    with cell_database.write() as connection:
        services.beat(connection, "nova-conductor", "here")
        services.beat(connection, "nova-conductor", "gone")
    age(cell_database, cell_schema.services, 8, host="gone")
    assert purge(cell_database)["services"] == 1
    with cell_database.read() as connection:
        assert [each.host for each in services.list_all(connection, down_time=15)] == ["here"]


def test_much_goes_some_at_a_time(cell_database: Database) -> None:
    rows = [
        {"id": str(uuid.uuid4()), "binary": "b", "host": f"h{n}", "zone": "z"} for n in range(retention.AT_ONCE + 7)
    ]
    old = utc_after(-9 * DAY)
    with cell_database.write() as connection:
        connection.execute(sa.insert(cell_schema.services).values(created_at=old, last_seen=old), rows)
    assert [purge(cell_database)["services"] for _ in range(3)] == [retention.AT_ONCE, 7, 0]


def test_the_tails_of_feed_and_log_go_some_at_a_time(cell_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """One statement over all that has gathered while nobody pruned would outlive its time-out, each time anew."""
    cell = CellUnderTest(cell_database)
    for server_id in (ONE, TWO, THREE):
        cell.create(server_id)
    cell.run()
    monkeypatch.setattr(feed, "PRUNED_AT_ONCE", 4)
    monkeypatch.setattr(scheduler_change_log, "PRUNED_AT_ONCE", 4)
    told, changed = count(cell_database, cell_schema.feed), count(cell_database, cell_schema.changes)
    assert min(told, changed) > 5
    for table, prune, all_but in (
        (cell_schema.feed, lambda connection: feed.prune(connection, 1), 1),
        (cell_schema.changes, lambda connection: scheduler_change_log.prune(connection, -1.0), 0),
    ):
        gone = [transact(cell_database, prune)]
        while gone[-1]:
            gone.append(transact(cell_database, prune))
        assert set(gone[:-2]) == {4}
        assert count(cell_database, table) == all_but


@pytest.mark.parametrize(("large", "left"), [(0, 60), (4, 5), (40, 4)])
def test_large_entries_of_the_feed_push_others_out(
    cell_database: Database, monkeypatch: pytest.MonkeyPatch, large: int, left: int
) -> None:
    """The feed takes no more room for who changes much text often; its newest entry stays."""
    monkeypatch.setattr(feed, "PRUNED_AT_ONCE", 7)
    monkeypatch.setattr(feed, "ENTRY_SIZE", 2000)
    cell = CellUnderTest(cell_database)
    cell.create(ONE)
    small = cell.record(ONE)
    big = replace(small, spec=replace(small.spec, metadata={f"{n:03}": "v" * 255 for n in range(100)}))
    with cell_database.write() as connection:
        connection.execute(sa.delete(cell_schema.feed))
        connection.execute(sa.update(cell_schema.feed_counter).values(size=0))
        for number in range(100):
            feed.append(connection, [big if number >= 100 - large else small])
    while transact(cell_database, lambda connection: feed.prune(connection, 60)):
        continue
    with cell_database.read() as connection:
        kept = connection.execute(sa.select(cell_schema.feed.c.sequence, cell_schema.feed.c.size)).all()
        size = connection.execute(sa.select(cell_schema.feed_counter.c.size)).scalar_one()
        assert max(row.sequence for row in kept) == feed.newest(connection)
    assert size == sum(row.size for row in kept) <= 60 * 2000
    assert len(kept) >= left


OF_HOSTS, OF_OPERATORS, BY_QUOTA, ONE_ROW = "hosts' own", "operators' own", "bounded by quotas", "one row"
OF_SERVERS = "living servers' own"
OF_USERS = "bounded by users, and gone with them"
OF_TOP = "copies, which go when the top says so"
UNDER_WAY = "what has not been answered yet, a row a thing at most"
STAYS = {
    "cell": {
        **dict.fromkeys(("hosts", "inventories", "host_names", "unknown_guests"), OF_HOSTS),
        **dict.fromkeys(("policies", "policy_roles", "host_aggregates"), OF_OPERATORS),
        **dict.fromkeys(("clock_steps", "owner", "incarnations", "aggregates_version", "listening"), ONE_ROW),
        **dict.fromkeys(("change_counter", "feed_counter"), ONE_ROW),
        "claims": OF_SERVERS,
        **dict.fromkeys(("network_plans", "network_plan_hosts"), OF_TOP),
        "marks": "a row a state directory, which the next one's first look forgets",
    },
    "top": {
        **dict.fromkeys(("cells", "aggregates", "aggregate_hosts", "flavors", "flavor_projects"), OF_OPERATORS),
        **dict.fromkeys(("identity_domains", "identity_projects", "identity_users"), OF_OPERATORS),
        **dict.fromkeys(("identity_roles", "identity_grants", "quota_limits", "user_quotas"), OF_OPERATORS),
        **dict.fromkeys(("identity_implied_roles", "identity_assignments", "identity_groups"), OF_OPERATORS),
        **dict.fromkeys(("identity_group_members", "identity_limits", "identity_registered_limits"), OF_OPERATORS),
        **dict.fromkeys(("identity_regions", "identity_services", "identity_endpoints"), OF_OPERATORS),
        **dict.fromkeys(("identity_credentials", "identity_application_credentials"), OF_USERS),
        **dict.fromkeys(("identity_access_rules", "identity_old_passwords"), OF_USERS),
        **dict.fromkeys(("keypairs", "server_groups", "images", "networks", "subnets", "ports"), BY_QUOTA),
        **dict.fromkeys(("port_addresses", "network_usages", "quota_usages", "image_members"), BY_QUOTA),
        **dict.fromkeys(("security_groups", "security_group_rules", "port_security_groups"), BY_QUOTA),
        **dict.fromkeys(("routers", "router_interfaces", "router_hosts", "floating_ips"), BY_QUOTA),
        **dict.fromkeys(("network_rbac_policies", "volumes", "volume_snapshots", "volume_attachments"), BY_QUOTA),
        **dict.fromkeys(("volume_transfers", "volume_usages"), BY_QUOTA),
        **dict.fromkeys(("volume_types", "volume_type_projects", "volume_default_types"), OF_OPERATORS),
        **dict.fromkeys(("network_hosts", "volume_hosts"), OF_HOSTS),
        "volume_tasks": UNDER_WAY,
        **dict.fromkeys(("clock_steps", "incarnations", "aggregates_version", "identity_epoch"), ONE_ROW),
        "marks": "a row a state directory, which the next one's first look forgets",
        "walks": "some a project, which its next walk forgets",
    },
}


def old_row(table: sa.Table) -> dict[str, Any]:
    """A row of something that ended five hundred days ago."""
    over = {"deleted": True, **dict.fromkeys(("deleted_at", "terminated_at", "finished_at"), utc_after(-500 * DAY))}
    found: dict[str, Any] = {name: value for name, value in over.items() if name in table.columns}
    for column in table.columns:
        if column.name in found or (column.nullable and not column.primary_key):
            continue
        if isinstance(column.type, UtcDateTime):
            found[column.name] = utc_after(-500 * DAY)
        elif isinstance(column.type, sa.Boolean):
            found[column.name] = False
        elif isinstance(column.type, sa.Integer):
            found[column.name] = 1
        elif isinstance(column.type, Json):
            found[column.name] = {}
        else:
            found[column.name] = "x"
    return found


def in_the_cell(connection: Connection) -> None:
    """What the conductor's loops forget, beside its purge."""
    feed.prune(connection, 0)
    scheduler_change_log.prune(connection, 90 * DAY)
    decisions.prune(connection, 90 * DAY)
    consoles.prune(connection)
    user_data.prune(connection, user_data.CELL, seconds=DAY)
    image_cachings.expire(connection, DAY)


def at_the_top(connection: Connection) -> None:
    """What the router's loops forget, beside its purge; tokens go as others are issued."""
    user_data.prune(connection, user_data.TOP, seconds=DAY)
    intents.prune(connection, seconds=DAY)
    identity_tokens.delete_expired_tokens(connection)
    image_tasks.delete_old(connection, older_than=DAY)


def test_every_table_of_a_cell_forgets_or_stays_small(cell_database: Database) -> None:
    with cell_database.write() as connection:
        hosts.report(connection, [make_report("h1", vcpus=2)])
    place(cell_database, LocalScheduler(cell_database), CONTEXT, asked([ONE, TWO, THREE]), store=hold(60))
    with cell_database.write() as connection:
        for table in (cell_schema.claims, cell_schema.servers, cell_schema.hosts):  # all is gone but its traces
            connection.execute(sa.delete(cell_schema.inventories if table is cell_schema.hosts else table))
        connection.execute(sa.delete(cell_schema.hosts))
        for name in ("changes", "decision_batches"):
            connection.execute(sa.update(cell_schema.metadata.tables[name]).values(at=utc_after(-500 * DAY)))
    assert forgotten(cell_database, cell_schema.metadata, "cell", in_the_cell, purge) == []


def test_every_table_of_the_top_forgets_or_stays_small(top_database: Database) -> None:
    with top_database.write() as connection:
        connection.execute(sa.insert(top_schema.identity_schema.identity_domains).values(id="default", name="x"))
        connection.execute(
            sa.insert(top_schema.identity_schema.identity_users).values(
                **old_row(top_schema.identity_schema.identity_users)
            )
        )
    assert forgotten(top_database, top_schema.metadata, "top", at_the_top, purge_top) == []


def purge_top(database: Database) -> Mapping[str, int]:
    return retention.purge_top(database, deleted_days=30, keys_days=30)


def forgotten(
    database: Database,
    metadata: sa.MetaData,
    tree: str,
    prune: Callable[[Connection], None],
    purge_all: Callable[[Database], Mapping[str, int]],
) -> list[str]:
    """The tables that neither forget an old row nor are among those that stay small."""
    tables = [table for table in metadata.sorted_tables if table.name not in STAYS[tree]]
    assert len(tables) + len(STAYS[tree]) == len(metadata.tables)
    for table in tables:
        if count(database, table) == 0:
            with database.write() as connection:
                connection.execute(sa.insert(table).values(old_row(table)))
    for _ in range(3):
        transact(database, prune)
        purge_all(database)
    return [table.name for table in tables if count(database, table) > (table.name == "feed")]


def test_moves_of_a_living_server_are_forgotten_once_its_record_does_not_tell_of_them(top_database: Database) -> None:
    moves = top_schema.migrations
    with top_database.write() as connection:
        connection.execute(sa.insert(top_schema.server_index).values(old_row(top_schema.server_index) | {"id": ONE}))
        for number in range(migration.TOLD + 3):
            own = {
                "id": number + 1,
                "uuid": f"m{number}",
                "server_id": ONE,
                "status": "confirmed" if number else "running",
            }
            connection.execute(sa.insert(moves).values(old_row(moves) | own))
        connection.execute(sa.update(top_schema.server_index).values(deleted=False))
    assert retention.purge_top(top_database, deleted_days=30, keys_days=30, usage_days=501)["migrations"] == 0
    assert retention.purge_top(top_database, deleted_days=30, keys_days=30)["migrations"] == 2  # one is under way
    assert count(top_database, moves) == migration.TOLD + 1


def test_the_top_forgets_too(top_database: Database) -> None:
    index, keys = top_schema.server_index, top_schema.idempotency_keys
    then = utc_after(-31 * DAY)
    row = {
        **{column.name: "" for column in index.columns if not column.nullable and isinstance(column.type, sa.String)},
        "version": 1,
        "power_state": 0,
        "record": {},
    }
    with top_database.write() as connection:
        delete = intents.make_intent(IntentKind.DELETE, FOUR, RequestContext(), cell="east")
        intents.add_intents(connection, [delete], owner="api", lease=30.0, deadline=300.0)
        for server_id, deleted, held in (
            (ONE, True, False),
            (TWO, True, True),  # its quota is not given back yet
            (THREE, False, False),
            (FOUR, True, False),  # a cell is still asked to delete it
        ):
            own = {"id": server_id, "deleted": deleted, "quota_held": held, "deleted_at": then if deleted else None}
            connection.execute(sa.insert(index).values(row | own | {"created_at": then, "updated_at": then}))
        for name, made in (("old", then), ("new", utc_after(-1))):
            key = {"project_id": "p", "key_hash": name, "body_hash": "b", "answer": {}, "created_at": made}
            connection.execute(sa.insert(keys).values(key))
    gone = retention.purge_top(top_database, deleted_days=30, keys_days=30)
    assert (gone["server_index"], gone["idempotency_keys"]) == (1, 1)
    with top_database.read() as connection:
        assert sorted(connection.execute(sa.select(index.c.id)).scalars()) == [TWO, THREE, FOUR]
        assert list(connection.execute(sa.select(keys.c.key_hash)).scalars()) == ["new"]


@pytest.mark.parametrize(
    ("state", "force", "refused"),
    [
        ("down", False, ""),
        ("up", False, "is up"),
        ("up", True, ""),
        ("with a server", True, "1 servers"),
        ("with a held server", True, "1 servers"),
        ("with unknown guests", False, "1 guests"),
        ("with unknown guests", True, ""),
    ],
)
def test_a_host_is_removed_unless_something_is_on_it(
    cell_database: Database, state: str, force: bool, refused: str
) -> None:
    cell = CellUnderTest(cell_database, ("h1", "h2"))
    if state == "with a server":
        cell.create(ONE)
        cell.run()
    if state == "with a held server":
        cell.hold(ONE)
    if state == "with unknown guests":
        look(cell_database, "h1", THREE)
    if state != "up":
        with cell_database.write() as connection:
            hosts.set_state(connection, "h1", enabled=None, disabled_reason=None, forced_down=True)
    believed = SchedulerState(CellState(sequence=0))

    def remove() -> None:
        with cell_database.write() as connection:
            hosts.remove(connection, "h1", force=force)

    if refused:
        with pytest.raises(errors.Conflict, match=refused):
            remove()
    else:
        remove()
        with pytest.raises(errors.NotFound):
            remove()
    left = ["h2"] if not refused else ["h1", "h2"]
    with cell_database.read() as connection:
        assert [host.host for host in hosts.list_hosts(connection, down_time=1e9)] == left
        believed.follow(scheduler_change_log.list_after(connection, 0, 1000).entries)
    assert sorted(believed.table.positions.names()) == left
    assert count(cell_database, cell_schema.inventories) == 3 * len(left)
