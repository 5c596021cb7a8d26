"""Guests' NUMA cells on hosts' cells: who fits, where to, and what is used there."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, permutations
from operator import le

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cell.scheduler.filter_rejection import HostRefusal
from cell.scheduler.numa import cell_fitting, topology
from cell.scheduler.policy.filters import numa_topology
from cellcloud import errors
from cellcloud.model import codec
from cellcloud.model.host_report_validation import find_topology_defect
from cellcloud.model.numa import (
    ANY_PAGES,
    LARGE_PAGES,
    SMALL_PAGES,
    GuestCell,
    GuestNuma,
    MemoryPages,
    NumaCell,
    Placed,
    Topology,
    TopologyRequest,
)
from cellcloud.model.numa_pci_usage import consume_cells, release_cells
from cellcloud.model.pci import PciPool, PciRequest
from tests.processor_time import least_seconds

KIB = 1024


def cell(number: int = 0, *, cores: int = 4, threads: int = 2, dedicated: bool = True, **values: object) -> NumaCell:
    """A cell of 4096 MiB in small pages and 1024 pages of 2 MiB."""
    first = number * cores * threads
    siblings = tuple(tuple(range(first + core * threads, first + core * threads + threads)) for core in range(cores))
    cpus = tuple(chain(*siblings))
    found = NumaCell(
        id=number,
        cpuset=() if dedicated else cpus,
        pcpuset=cpus if dedicated else (),
        memory=4096,
        siblings=siblings,
        socket=number,
        mempages=(MemoryPages(size_kb=4, total=512 * KIB), MemoryPages(size_kb=2048, total=1024)),
    )
    return replace(found, **values)  # type: ignore[arg-type]  # fields by name


def guest(*sizes: int, memory: int = 1024, emulator: str | None = None, **values: object) -> GuestNuma:
    """Cells of so many dedicated CPUs each, or of shared ones with ``cpu_policy`` None or shared."""
    values.setdefault("cpu_policy", "dedicated")
    kind = "pcpuset" if values["cpu_policy"] == "dedicated" else "cpuset"
    cells, first = [], 0
    for number, size in enumerate(sizes):
        cpus = tuple(range(first, first + size))
        cells.append(GuestCell(id=number, memory=memory, **{kind: cpus}, **values))  # type: ignore[arg-type]
        first += size
    return GuestNuma(cells=tuple(cells), emulator_threads_policy=emulator)


def place(cells: tuple[NumaCell, ...], asked: GuestNuma, limits: cell_fitting.Limits | None = None) -> GuestNuma:
    placed = cell_fitting.fit(cells, asked, limits=limits)
    assert not isinstance(placed, HostRefusal), placed
    return placed


def refusal(cells: tuple[NumaCell, ...], asked: GuestNuma, limits: cell_fitting.Limits | None = None) -> str:
    refused = cell_fitting.fit(cells, asked, limits=limits)
    assert isinstance(refused, HostRefusal)
    return str(refused)


def pins(placed: GuestNuma) -> list[int]:
    return [host for part in placed.cells for _, host in part.cpu_pinning]


@pytest.mark.parametrize(
    ("policy", "pinned", "expected"),
    [
        (None, (), [0, 1, 2]),
        ("prefer", (0,), [2, 3, 4]),
        ("require", (0, 2, 4), [6, 7]),
        ("prefer", (0, 2, 4, 6), [1, 3, 5]),
    ],
)
def test_whole_cores_come_first(policy: str | None, pinned: tuple[int, ...], expected: list[int]) -> None:
    host = cell(pinned_cpus=pinned)
    assert pins(place((host,), guest(len(expected), cpu_thread_policy=policy))) == expected


def test_require_takes_no_single_threads() -> None:
    host = cell(pinned_cpus=(0, 2, 4))
    assert "require policy" in refusal((host,), guest(3, cpu_thread_policy="require"))
    assert "no threads" in refusal((cell(threads=1),), guest(1, cpu_thread_policy="require"))


def test_isolate_takes_whole_cores_where_the_host_pins_everything() -> None:
    cpus = tuple(range(8))
    host = cell(cpuset=cpus, pcpuset=cpus, pinned_cpus=(0,))
    placed = place((host,), guest(2, cpu_thread_policy="isolate"))
    assert pins(placed) == [2, 4]
    assert consume_cells((host,), placed)[0].pinned_cpus == (0, 2, 3, 4, 5)
    assert "isolate policy forbids" in refusal((cell(),), guest(2, cpu_thread_policy="isolate"))


def test_isolated_emulator_threads_get_a_cpu_beside_the_first_cell() -> None:
    hosts = (cell(0), cell(1))
    placed = place(hosts, guest(2, 2, emulator="isolate"))
    assert [part.cpuset_reserved for part in placed.cells] == [(2,), ()]
    assert [host.pinned_cpus for host in consume_cells(hosts, placed)] == [(0, 1, 2), (8, 9)]
    assert "lacks 1 dedicated CPUs" in refusal((cell(),), guest(8, emulator="isolate"))


@pytest.mark.parametrize(("asked", "got"), [(SMALL_PAGES, 4), (LARGE_PAGES, 2048), (ANY_PAGES, 2048), (2048, 2048)])
def test_pages_are_chosen_and_counted(asked: int, got: int) -> None:
    host = cell()
    placed = place((host,), guest(1, pagesize=asked))
    assert placed.cells[0].pagesize == got
    used = {pages.size_kb: pages.used for pages in consume_cells((host,), placed)[0].mempages}
    assert used == {4: 0, 2048: 0} | {got: KIB * KIB // got}


def test_pages_that_are_reserved_used_or_too_large_are_not_there() -> None:
    host = cell(mempages=(MemoryPages(size_kb=4, total=512 * KIB), MemoryPages(size_kb=2048, total=600, reserved=89)))
    assert refusal((host,), guest(1, pagesize=2048)) == (
        "lacks 1 free memory pages of 2048 KiB in NUMA cell 0: 512 needed, 511 there"
    )
    assert "no multiple" in refusal((cell(),), guest(1, pagesize=2048, memory=1023))
    assert "no memory pages of 1048576 KiB" in refusal((cell(),), guest(1, pagesize=1048576))
    assert place((host,), guest(1, pagesize=ANY_PAGES)).cells[0].pagesize == 4


def test_shared_cpus_and_memory_may_be_overcommitted_to_the_ratios() -> None:
    host = cell(dedicated=False, cpu_usage=8, memory_usage=3072)
    asked = guest(4, cpu_policy="shared")
    assert place((host,), asked, cell_fitting.Limits(2.0, 1.0))
    assert "lacks 2 shares of shared CPUs" in refusal((host,), asked, cell_fitting.Limits(1.25, 1.0))
    assert "lacks 308" in refusal((host,), asked, cell_fitting.Limits(2.0, 0.925))
    assert "lacks 1 shared CPUs" in refusal((host,), guest(9, cpu_policy=None), cell_fitting.Limits(9.0, 9.0))
    assert place((host,), asked, None), "no limits at all"


def test_pinned_guests_never_overcommit_memory() -> None:
    bare = cell(memory_usage=3073, mempages=())
    assert "lacks 1 MiB of memory" in refusal((bare,), guest(1), cell_fitting.Limits(16.0, 16.0))
    full = cell(mempages=(MemoryPages(size_kb=4, total=1024 * KIB, used=1024 * KIB),))
    assert "free memory pages" in refusal((full,), guest(1))
    assert place((replace(full, cpuset=(0, 1), pcpuset=()),), guest(1, cpu_policy=None))


def test_the_emptiest_cells_are_tried_first_and_with_devices_those_near_them() -> None:
    hosts = (cell(0, pinned_cpus=(0,)), cell(1), cell(2, memory_usage=5))
    pools = (PciPool(vendor_id="8086", product_id="10ed", count=2, numa_node=0),)
    devices = (PciRequest(count=1, spec=({"vendor_id": "8086", "product_id": "10ed"},)),)

    def first(**values: object) -> int:
        placed = cell_fitting.fit(hosts, guest(1), limits=None, **values)  # type: ignore[arg-type]
        assert isinstance(placed, GuestNuma)
        return placed.cells[0].id

    assert first() == 1
    assert first(pack=True) == 0
    assert first(pools=pools) == 1
    assert first(pools=pools, devices=devices) == 0


def test_what_a_guest_cannot_have_on_one_cell_it_gets_on_the_next_arrangement() -> None:
    hosts = (cell(0, cores=1), cell(1))
    placed = place(hosts, guest(4, 2))
    assert [part.id for part in placed.cells] == [1, 0]
    assert "lacks 1 NUMA cells" in refusal(hosts, guest(1, 1, 1))


def test_a_search_among_many_cells_ends() -> None:
    hosts = tuple(cell(number, cores=1) for number in range(16))
    pools = (PciPool(vendor_id="8086", product_id="10ed", count=1, numa_node=99),)
    devices = (PciRequest(count=1, spec=({"vendor_id": "8086"},), numa_policy="required"),)
    refused = cell_fitting.fit(hosts, guest(*[1] * 8, memory=64), limits=None, pools=pools, devices=devices)
    assert isinstance(refused, HostRefusal)
    one_full = (cell(0, pinned_cpus=tuple(range(8))), *(cell(number) for number in range(1, 16)))
    assert place(one_full, guest(*[1] * 15, memory=64))


SIZES = st.sampled_from([100, 200, 300, 400, 500])


@settings(max_examples=200, deadline=None)
@given(st.lists(SIZES, min_size=5, max_size=6), st.lists(SIZES, min_size=5, max_size=5))
def test_it_is_known_whether_any_arrangement_can_be_right(host: list[int], asked: list[int]) -> None:
    cells = tuple(NumaCell(id=number, cpuset=(number,), memory=size) for number, size in enumerate(host))
    parts = tuple(GuestCell(id=number, cpuset=(number,), memory=size) for number, size in enumerate(asked))
    search = cell_fitting._Search(
        [cell_fitting._trial_of(part) for part in parts], cell_fitting.Limits(1.0, 1.0), isolated=False
    )
    possible = any(all(map(le, asked, order)) for order in permutations(host, len(asked)))
    assert search.can_succeed(cells) is possible
    found = cell_fitting.fit(cells, GuestNuma(cells=parts), limits=cell_fitting.Limits(1.0, 1.0))
    assert possible or isinstance(found, HostRefusal)


@pytest.mark.parametrize(("there", "wanted"), [(8, 8), (16, 8), (16, 12)])
def test_what_fits_in_no_way_is_not_tried_in_all(there: int, wanted: int) -> None:
    cells = tuple(NumaCell(id=n, cpuset=(n,), memory=1000 if n == 0 else 600) for n in range(there))
    parts = tuple(GuestCell(id=n, cpuset=(n,), memory=500 if n < wanted - 2 else 900) for n in range(wanted))
    refused: list[object] = []

    def fit() -> None:
        refused.append(cell_fitting.fit(cells, GuestNuma(cells=parts), limits=cell_fitting.Limits(1.0, 1.0)))

    assert least_seconds(fit) < 0.01
    assert isinstance(refused[0], HostRefusal)
    assert "lacks 300 MiB of memory" in str(refused[0])


def test_cells_of_a_host_that_a_placed_guest_no_longer_fits_are_left_as_they_are() -> None:
    host = cell()
    placed = place((host,), guest(2))
    with pytest.raises(errors.ClaimLost):
        consume_cells(consume_cells((host,), placed), placed)
    assert release_cells((host,), placed) == (host,)


def test_the_filter_says_what_is_lacking() -> None:
    asked = TopologyRequest(guest=guest(9))
    assert str(numa_topology.refuse(Topology(cells=(cell(),)), asked)) == (
        "lacks 1 dedicated CPUs in NUMA cell 0: 9 needed, 8 there"
    )
    assert str(numa_topology.refuse(Topology(), asked)) == "reports no NUMA topology"
    assert numa_topology.refuse(Topology(), TopologyRequest()) is None
    threads = TopologyRequest(guest=guest(1), needs_threads=True)
    assert "no threads" in str(numa_topology.refuse(Topology(cells=(cell(threads=1),)), threads))


def test_the_next_server_of_a_request_gets_the_pages_of_the_one_before() -> None:
    host = cell(mempages=(MemoryPages(size_kb=4, total=512 * KIB), MemoryPages(size_kb=2048, total=512)))
    first = topology.settle(Topology(cells=(host,)), TopologyRequest(guest=guest(1, pagesize=ANY_PAGES)))
    assert first.complete
    assert first.request.guest is not None
    assert first.request.guest.cells[0].pagesize == 2048
    assert "free memory pages of 2048 KiB" in str(numa_topology.refuse(first.topology, first.request))


@pytest.mark.parametrize(
    ("broken", "word"),
    [
        ({"memory_usage": -1}, "absurd amount"),
        ({"memory": 10**30}, "absurd amount"),
        ({"mempages": (MemoryPages(size_kb=0, total=1),)}, "absurd size"),
        ({"mempages": (MemoryPages(size_kb=4, total=1), MemoryPages(size_kb=4, total=1))}, "twice"),
        ({"pinned_cpus": (77,)}, "not for pinning"),
        ({"siblings": ((0, 1), (1, 2))}, "two cores"),
        ({"siblings": ((0, 1),)}, "no core"),
        ({"cpuset": (-5,)}, "CPU number"),
    ],
)
def test_cells_that_cannot_be_true_are_told(broken: dict[str, object], word: str) -> None:
    assert find_topology_defect(Topology(cells=(cell(),))) is None
    told = find_topology_defect(Topology(cells=(replace(cell(), **broken),)))  # type: ignore[arg-type]  # fields by name
    assert word in str(told)


def test_cells_that_share_what_they_cannot_are_told() -> None:
    assert "one id" in str(find_topology_defect(Topology(cells=(cell(), cell()))))
    assert "of another" in str(find_topology_defect(Topology(cells=(cell(), replace(cell(), id=1)))))


def test_a_topology_travels_as_plain_data() -> None:
    pool = PciPool(vendor_id="8086", product_id="10ed", count=2, tags={"dev_type": "type-VF"})
    state = Topology(cells=(cell(0), cell(1)), pools=(pool,))
    again: Topology = codec.from_plain(codec.to_plain(state), Topology)
    assert again == state
    assert hash(again) == hash(state)
    placed = Placed(guest=place((cell(),), guest(2)), devices=(pool,))
    assert codec.from_plain(codec.to_plain(placed), Placed) == placed


# ---- any host, any guest ----------------------------------------------------------------------------------------
@st.composite
def host_cells(draw: st.DrawFn) -> tuple[NumaCell, ...]:
    threads = draw(st.sampled_from([1, 2, 4]))
    cores = draw(st.integers(1, 4))
    made = []
    for number in range(draw(st.integers(1, 4))):
        plain = cell(number, cores=cores, threads=threads)
        cpus = plain.pcpuset
        dedicated = tuple(sorted(draw(st.sets(st.sampled_from(cpus)))))
        shared = cpus if draw(st.booleans()) else tuple(cpu for cpu in cpus if cpu not in dedicated)
        pinned = tuple(sorted(draw(st.sets(st.sampled_from(dedicated))))) if dedicated else ()
        pages = tuple(
            MemoryPages(size_kb=size, total=total, used=draw(st.integers(0, total)), reserved=draw(st.integers(0, 9)))
            for size, total in ((4, 512 * KIB), (2048, 1024), (1048576, 4))
            if draw(st.booleans())
        )
        usage, socket = draw(st.integers(0, 5000)), draw(st.sampled_from([0, 1, None]))
        made.append(
            replace(
                plain,
                memory_usage=usage,
                socket=socket,
                cpuset=shared,
                pcpuset=dedicated,
                pinned_cpus=pinned,
                mempages=pages,
            )
        )
    return tuple(made)


@st.composite
def guests(draw: st.DrawFn) -> GuestNuma:
    policy = draw(st.sampled_from([None, "shared", "dedicated", "mixed"]))
    threads = (
        draw(st.sampled_from([None, "prefer", "require", "isolate"])) if policy in ("dedicated", "mixed") else None
    )
    pagesize = draw(st.sampled_from([None, SMALL_PAGES, LARGE_PAGES, ANY_PAGES, 4, 2048, 1048576]))
    cells, first = [], 0
    for number in range(draw(st.integers(1, 4))):
        cpus = tuple(range(first, first + draw(st.integers(1, 4))))
        first += len(cpus)
        kept = {"dedicated": 0, "mixed": draw(st.integers(0, len(cpus)))}.get(policy or "", len(cpus))
        memory = draw(st.sampled_from([0, 512, 1024, 2048, 333]))
        cells.append(
            GuestCell(
                id=number,
                cpuset=cpus[:kept],
                pcpuset=cpus[kept:],
                memory=memory,
                pagesize=pagesize,
                cpu_policy=policy,
                cpu_thread_policy=threads,
            )
        )
    emulator = draw(st.sampled_from([None, "share", "isolate"])) if policy in ("dedicated", "mixed") else None
    return GuestNuma(cells=tuple(cells), emulator_threads_policy=emulator)


LIMITS = st.sampled_from([None, cell_fitting.Limits(1.0, 1.0), cell_fitting.Limits(4.0, 1.5)])


@settings(max_examples=400, deadline=None)
@given(host_cells(), guests(), LIMITS)
def test_no_fit_goes_beyond_what_a_host_has(
    hosts: tuple[NumaCell, ...], asked: GuestNuma, limits: cell_fitting.Limits | None
) -> None:
    placed = cell_fitting.fit(hosts, asked, limits=limits)
    if isinstance(placed, HostRefusal):
        assert str(placed)
        return
    by_id = {host.id: host for host in hosts}
    after = {host.id: host for host in consume_cells(hosts, placed)}
    assert len({part.id for part in placed.cells}) == len(asked.cells)
    for part, wanted in zip(placed.cells, asked.cells, strict=True):
        before, now = by_id[part.id], after[part.id]
        assert [cpu for cpu, _ in part.cpu_pinning] == list(wanted.pcpuset)
        taken = [host for _, host in part.cpu_pinning] + list(part.cpuset_reserved)
        assert len(set(taken)) == len(taken)
        assert set(taken) <= set(before.pcpuset) - set(before.pinned_cpus)
        assert set(now.pinned_cpus) <= set(now.pcpuset)
        for old, new in zip(before.mempages, now.mempages, strict=True):
            free = old.total - old.used - old.reserved
            if wanted.pagesize or part.pinned:
                assert new.used - old.used <= max(0, free)
        if wanted.pagesize:
            assert part.pagesize in [pages.size_kb for pages in before.mempages]
        if limits is not None and part.cpu_policy != "dedicated":
            assert now.cpu_usage <= len(now.cpuset) * limits.cpu_ratio
            assert now.memory_usage <= now.memory * limits.memory_ratio


@settings(max_examples=200, deadline=None)
@given(host_cells(), st.lists(guests(), min_size=1, max_size=5), LIMITS, st.randoms(use_true_random=False))
def test_what_is_taken_is_given_back_in_any_order(
    hosts: tuple[NumaCell, ...], asked: list[GuestNuma], limits: cell_fitting.Limits | None, random: object
) -> None:
    now, placed, alone = hosts, [], {}
    for number, wanted in enumerate(asked):
        found = cell_fitting.fit(now, wanted, limits=limits)
        if isinstance(found, GuestNuma):
            assert release_cells(consume_cells(now, found), found) == now
            now = consume_cells(now, found)
            placed.append(number)
            alone[number] = found
    random.shuffle(placed)  # type: ignore[attr-defined]  # hypothesis gives a random.Random
    for done, number in enumerate(placed):
        now = release_cells(now, alone[number])
        again = hosts
        for left in placed[done + 1 :]:
            again = consume_cells(again, alone[left])
        assert now == again
    assert now == hosts
