"""Places on hosts' NUMA cells and devices have one owner each, whoever races for them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from cell.conductor import reconcile
from cell.conductor.runs.command_completion import attach_places, complete
from cell.scheduler.policy.compiled_policy import compile_policy
from cell.scheduler.request.scheduling_request import make
from cell.scheduler.select.filter_and_weigh import select_stepwise
from cell.scheduler.state.host_table import HostTable, build
from cellcloud.db import claims, hosts
from cellcloud.db.claims import Claim
from cellcloud.db.engine import Database, retried
from cellcloud.model import codec
from cellcloud.model.allocation import Allocation
from cellcloud.model.decision import ClaimConflict
from cellcloud.model.flavor import Flavor
from cellcloud.model.guest_commands import GuestCommand, RebootHard, Spawn
from cellcloud.model.image import Image
from cellcloud.model.numa import GuestCell, GuestNuma, NumaCell, Placed, Topology
from cellcloud.model.numa_pci_usage import consume
from cellcloud.model.observed_guests import GuestDescription, GuestState
from cellcloud.model.pci import PciPool
from cellcloud.model.scheduling_policy import parse
from cellcloud.model.server import ServerRecord, ServerSpec
from cellcloud.server_states import VmState
from tests.workflows.world import claim, make_report

IDS = [f"00000000-0000-4000-8000-{n:012d}" for n in range(40)]
CPUS = tuple(range(8))
CELLS = (NumaCell(id=0, pcpuset=CPUS, memory=4096),)
PINNED = {"hw:cpu_policy": "dedicated"}
POOL = PciPool(vendor_id="8086", product_id="10ed", count=2, numa_node=0)


def report(database: Database) -> None:
    made = make_report("h1", vcpus=100)
    with database.write() as connection:
        hosts.report(connection, [replace(made, facts=replace(made.facts, numa=CELLS, pci_pools=(POOL,)))])


def wanted(server_id: str, cpu: int, devices: int = 0) -> Claim:
    cell = GuestCell(id=0, pcpuset=(0,), memory=64, cpu_policy="dedicated", cpu_pinning=((0, cpu),))
    taken = (replace(POOL, count=devices),) if devices else ()
    placed = Placed(guest=GuestNuma(cells=(cell,)), devices=taken)
    holding = Allocation(resources={"VCPU": 1, "MEMORY_MB": 64}, placed=placed)
    return Claim(server_id, server_id, "h1", holding)


def held(database: Database) -> list[Placed]:
    with database.read() as connection:
        (state,) = hosts.list_states(connection)
        assert claims.list_mismatches(connection) == []
    return [server.placed for server in state.hosted if server.placed]


def test_one_owner_a_cpu_and_a_device_within_a_batch(cell_database: Database) -> None:
    report(cell_database)
    batch = [wanted(IDS[0], 0, 1), wanted(IDS[1], 0), wanted(IDS[2], 1, 1), wanted(IDS[3], 2, 1), wanted(IDS[4], 3)]
    with cell_database.write() as connection:
        lost = claim(connection, batch)
    assert sorted(lost) == [IDS[1], IDS[3]]
    assert lost[IDS[1]].resource_class == claims.TOPOLOGY
    assert len(held(cell_database)) == 3
    with cell_database.write() as connection:
        claims.release(connection, [IDS[0]])
        assert claim(connection, [wanted(IDS[3], 0, 1)]) == {}
    assert len(held(cell_database)) == 3


def test_places_that_are_free_are_taken_at_once(cell_database: Database) -> None:
    report(cell_database)
    with cell_database.write() as connection:
        claims.claim_all(connection, [wanted(IDS[0], 0, 1), wanted(IDS[1], 1, 1), wanted(IDS[2], 2)])
    assert len(held(cell_database)) == 3
    with pytest.raises(claims.Lost), cell_database.write() as connection:
        claims.claim_all(connection, [wanted(IDS[3], 3), wanted(IDS[4], 2)])
    with pytest.raises(claims.Lost), cell_database.write() as connection:
        claims.claim_all(connection, [wanted(IDS[3], 3, 1)])
    assert len(held(cell_database)) == 3


def test_one_owner_a_cpu_in_a_race(cell_database: Database) -> None:
    report(cell_database)
    barrier = threading.Barrier(4)

    @retried
    def claim_one(database: Database, server_id: str, cpu: int) -> dict[str, ClaimConflict]:
        with database.write() as connection:
            return claim(connection, [wanted(server_id, cpu)])

    def race(first: int) -> int:
        barrier.wait(timeout=30)
        return sum(not claim_one(cell_database, IDS[first + cpu], cpu) for cpu in CPUS)

    with ThreadPoolExecutor(4) as pool:
        won = sum(pool.map(race, range(0, 32, 8)))
    assert won == len(CPUS)
    left = Topology(cells=CELLS, pools=(POOL,))
    for placed in held(cell_database):
        left = consume(left, placed)
    assert (left.cells or ())[0].pinned_cpus == CPUS


def test_a_report_that_cannot_be_true_closes_its_host(cell_database: Database) -> None:
    made = make_report("h1")
    broken = (CELLS[0], replace(CELLS[0], id=1))
    with cell_database.write() as connection:
        hosts.report(connection, [replace(made, facts=replace(made.facts, numa=broken)), make_report("h2")])
    with cell_database.read() as connection:
        enabled = {state.host: state.enabled for state in hosts.list_states(connection)}
    assert enabled == {"h1": False, "h2": True}


def chosen(table: HostTable, server_id: str) -> Claim:
    """What a scheduler with this table wants for one more server."""
    specs = {"hw:cpu_policy": "dedicated"}
    flavor = Flavor(id="f", name="f", vcpus=2, memory_mb=64, root_gb=0, extra_specs=specs)
    request = make(servers=[server_id], project_id="p", flavor=flavor)
    choice = select_stepwise(table, request, compile_policy(parse({"filters": ["NUMATopologyFilter"]})))
    assert choice.hosts, choice.refused
    holding = Allocation(resources={"VCPU": 2}, placed=choice.placed[0])
    return Claim(server_id, server_id, table.states[choice.hosts[0][0]].host, holding)


def test_schedulers_that_saw_the_same_get_different_cpus(cell_database: Database) -> None:
    report(cell_database)
    with cell_database.read() as connection:
        first, second = (build(hosts.list_states(connection)) for _ in range(2))
    won, late = chosen(first, IDS[0]), chosen(second, IDS[1])
    with cell_database.write() as connection:
        assert claim(connection, [won]) == {}
        lost = claim(connection, [late])
    assert lost[IDS[1]].resource_class == claims.TOPOLOGY
    second.release(IDS[1])
    second.claim(IDS[0], "h1", won.allocation)
    again = chosen(second, IDS[1])
    with cell_database.write() as connection:
        assert claim(connection, [again]) == {}
    with cell_database.read() as connection:
        third = build(hosts.list_states(connection))
    assert third.topologies.at(0) == second.topologies.at(0)
    assert (third.topologies.at(0).cells or ())[0].pinned_cpus == (0, 1, 2, 3)


def test_hosts_are_told_what_was_claimed_of_them_and_nothing_else(cell_database: Database) -> None:
    report(cell_database)
    small, large = (Flavor(id="f", name="f", vcpus=n, memory_mb=64, root_gb=0, extra_specs=PINNED) for n in (1, 2))
    pair = GuestCell(id=0, pcpuset=(0, 1), memory=64, cpu_policy="dedicated", cpu_pinning=((0, 4), (1, 5)))
    moved = wanted(IDS[0], 0).allocation
    moved = replace(moved, resources={"VCPU": 2, "MEMORY_MB": 64}, placed=Placed(guest=GuestNuma(cells=(pair,))))
    own, plain = wanted(IDS[0], 3), wanted(IDS[1], 6)
    with cell_database.write() as connection:
        assert claim(connection, [own, Claim(IDS[9], IDS[0], "h1", moved), plain]) == {}

    def told(server_id: str, host: str, flavor: Flavor, kind: type[Spawn | RebootHard] = Spawn) -> Placed | None:
        spec = ServerSpec(id=server_id, name="vm", project_id="p", user_id="u", flavor=flavor, image=Image(id="i"))
        command = kind(run_id="r", step="s", server_id=server_id, generation=1, host=host, spec=spec)
        (whole,) = complete(cell_database, [command])
        assert isinstance(whole, kind)
        read: list[GuestCommand] = codec.from_wire(codec.to_wire([whole]), list[GuestCommand])
        assert read == [whole]
        return whole.spec.placed

    assert told(IDS[0], "h1", small) == own.allocation.placed
    assert told(IDS[0], "h1", large, RebootHard) == moved.placed  # of the size that it is about to get
    assert told(IDS[0], "h2", small) is None
    assert told(IDS[2], "h1", small) is None
    assert told(IDS[1], "h1", replace(small, extra_specs={})) is None

    def shown(server_id: str, host: str, flavor: Flavor) -> Placed | None:
        spec = ServerSpec(id=server_id, name="vm", project_id="p", user_id="u", flavor=flavor, image=Image(id="i"))
        with cell_database.read() as connection:
            kept = ServerRecord(spec=spec, host=host, version=1, generation=1, vm_state=VmState.ACTIVE)
            (record,) = attach_places(connection, [kept])
        return record.spec.placed

    assert shown(IDS[0], "h1", small) == own.allocation.placed
    assert shown(IDS[0], "", small) is None
    assert shown(IDS[1], "h1", replace(small, extra_specs={})) is None


def test_a_guest_that_is_adopted_keeps_its_places(cell_database: Database) -> None:
    report(cell_database)
    made = make_report("h1", vcpus=100)
    facts = replace(made.facts, numa=CELLS, pci_pools=(POOL,), resources={"PCPU": 8})
    with cell_database.write() as connection:
        hosts.report(connection, [replace(made, facts=facts)])
    guest = wanted(IDS[0], 5, 1).allocation.placed
    flavor = Flavor(id="f", name="f", vcpus=1, memory_mb=64, root_gb=0, extra_specs=PINNED)
    spec = ServerSpec(
        id=IDS[0], name="vm", project_id="p", user_id="u", flavor=flavor, image=Image(id="i"), placed=guest
    )
    state = GuestState(server_id=IDS[0], power_state=1, generation=1, project_id="p")
    reconcile.compare(cell_database, "h1", [state], fence=False)
    record = reconcile.adopt(cell_database, "h1", GuestDescription(state=state, spec=spec))
    assert record.spec.placed is None  # only the claim has it
    assert held(cell_database) == [guest]
    with cell_database.write() as connection:
        assert claim(connection, [wanted(IDS[1], 5)])[IDS[1]].resource_class == claims.TOPOLOGY
        assert [room.free["PCPU"] for room in hosts.list_room(connection)] == [7]
