"""What is left of each host's topology, whatever is reported, placed and removed in whatever order."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cell.scheduler.filter_rejection import HostRefusal
from cell.scheduler.numa.topology import find_numa_lack, fit
from cell.scheduler.state.host_topologies import NO_TOPOLOGY, HostTopologies
from cellcloud.model.numa import GuestCell, GuestNuma, NumaCell, Placed, Topology, TopologyRequest
from cellcloud.model.pci import PciPool, PciRequest

CPUS = (0, 1, 2, 3)
HOST = Topology(
    cells=(NumaCell(id=0, pcpuset=CPUS, memory=4096, siblings=((0, 1), (2, 3))),),
    pools=(PciPool(vendor_id="8086", product_id="10ed", count=2, numa_node=0),),
)
SMALLER = Topology(cells=(NumaCell(id=0, pcpuset=(0, 1), memory=4096),))


def request(cpus: int = 1, devices: int = 0) -> TopologyRequest:
    cell = GuestCell(id=0, pcpuset=tuple(range(cpus)), memory=64, cpu_policy="dedicated")
    wanted = (PciRequest(count=devices, spec=({"vendor_id": "8086"},)),) if devices else ()
    return TopologyRequest(guest=GuestNuma(cells=(cell,)), devices=wanted)


def placed(topology: Topology, cpus: int = 1, devices: int = 0) -> Placed:
    found = fit(topology, request(cpus, devices))
    assert isinstance(found, Placed), found
    return found


def test_what_servers_have_outlives_a_report() -> None:
    found = HostTopologies()
    found.place(3, "early", placed(HOST))
    assert found.at(3) == NO_TOPOLOGY
    found.report(3, HOST)
    assert (found.at(3).cells or ())[0].pinned_cpus == (0,)
    found.place(3, "late", placed(found.at(3), 2, 1))
    found.report(3, HOST)
    assert (found.at(3).cells or ())[0].pinned_cpus == (0, 2, 3)
    assert found.at(3).pools[0].count == 1
    for server_id in ("early", "late", "late", "never"):
        found.remove(3, server_id)
    assert found.at(3) == HOST
    assert len(found) == 2, "nothing is kept of what no host has"


def test_a_contradiction_hurts_nobody_else_and_heals() -> None:
    found = HostTopologies()
    found.report(0, HOST)
    found.report(1, HOST)
    same = placed(HOST, 2)
    found.place(0, "first", same)
    found.place(0, "second", same)
    assert (found.at(0).cells or ())[0].pinned_cpus == (0, 1)
    found.remove(0, "first")
    assert (found.at(0).cells or ())[0].pinned_cpus == (0, 1), "the second counts now"
    found.report(0, Topology())
    found.report(0, HOST)
    found.remove(0, "second")
    assert found.at(0) == found.at(1) == HOST


def test_a_rule_is_asked_once_of_a_topology() -> None:
    found = HostTopologies()
    asked: list[Topology] = []

    def refuse(topology: Topology) -> HostRefusal | None:
        asked.append(topology)
        return find_numa_lack(topology, request(3))

    for position, topology in enumerate([HOST, SMALLER, HOST, SMALLER]):
        found.report(position, topology)
    places = np.arange(5)
    for _ in range(2):
        assert found.passing("three", places, refuse).tolist() == [True, False, True, False, False]
    assert len(asked) == 3
    for number in range(300):
        found.place(0, str(number), placed(HOST, 2))
        assert found.passing("three", places, refuse).tolist() == [False, False, True, False, False]
        found.remove(0, str(number))
    assert found.passing("three", places[:0], refuse).tolist() == []
    assert len(found) == 3


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["report", "shrink", "place", "clash", "remove"]), st.integers(0, 5)), max_size=30
    )
)
def test_what_is_left_is_what_was_reported_less_what_is_placed(steps: list[tuple[str, int]]) -> None:
    found, reported, servers = HostTopologies(), NO_TOPOLOGY, dict[str, Placed]()
    clashed = False
    for step, number in steps:
        server_id = str(number)
        if step in ("report", "shrink"):
            reported = HOST if step == "report" else SMALLER
            found.report(0, reported)
            clashed = clashed or (step == "shrink" and bool(servers))
        elif step == "remove":
            servers.pop(server_id, None)
            found.remove(0, server_id)
        elif server_id not in servers:
            fitted = fit(HOST if step == "clash" else found.at(0), request(number % 3 + 1, number % 2))
            if isinstance(fitted, Placed):
                clashed = clashed or step == "clash"
                servers[server_id] = fitted
                found.place(0, server_id, fitted)
    for cell in found.at(0).cells or ():
        assert set(cell.pinned_cpus) <= set(cell.pcpuset)
    if not clashed and reported is HOST:
        pins = [cpu for one in servers.values() if one.guest for _, cpu in one.guest.cells[0].cpu_pinning]
        assert (found.at(0).cells or ())[0].pinned_cpus == tuple(sorted(pins))
    for server_id in servers:
        found.remove(0, server_id)
    assert found.at(0) == reported
