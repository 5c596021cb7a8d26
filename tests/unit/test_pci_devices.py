"""PCI devices: which pools serve a request, and what is left of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cell.scheduler.filter_rejection import HostRefusal
from cell.scheduler.numa import pci, topology
from cell.scheduler.policy.filters import pci_passthrough
from cellcloud import errors
from cellcloud.model import codec
from cellcloud.model.flavor import Flavor
from cellcloud.model.host_report_validation import find_topology_defect
from cellcloud.model.numa import GuestCell, GuestNuma, NumaCell, Topology, TopologyRequest
from cellcloud.model.numa_pci_usage import consume_devices, release_devices
from cellcloud.model.pci import NUMA_POLICIES, PciPool, PciRequest, check_requests, requests_of
from cellcloud.model.scheduling_policy import parse, to_plain

CELLS = (NumaCell(id=0, socket=0), NumaCell(id=1, socket=1), NumaCell(id=2, socket=0))
IN_FIRST = pci.Nearness((0,), CELLS)


def pool(count: int = 1, node: int | None = 0, product: str = "10ed", **tags: str) -> PciPool:
    return PciPool(vendor_id="8086", product_id=product, count=count, numa_node=node, tags=tags)


def wanted(count: int = 1, policy: str | None = None, **spec: str) -> PciRequest:
    return PciRequest(count=count, spec=({"vendor_id": "8086", **spec},), numa_policy=policy)


def taken(pools: Sequence[PciPool], *requests: PciRequest, near: pci.Nearness | None = None) -> list[int]:
    """How many were taken of each pool."""
    found = pci.take(tuple(pools), requests, near)
    assert found.refusal is None, found.refusal
    return [before.count - after.count for before, after in zip(pools, found.pools, strict=True)]


def lack(pools: Sequence[PciPool], *requests: PciRequest, near: pci.Nearness | None = None) -> str:
    found = pci.take(tuple(pools), requests, near)
    assert found.refusal is not None
    return str(found.refusal)


def test_devices_are_taken_from_pools_with_few_tags_first() -> None:
    pools = [pool(2, physical_network="net1"), pool(2, 1)]
    assert taken(pools, wanted(3)) == [1, 2]
    assert taken(pools, wanted(2, physical_network="NET1")) == [2, 0]
    assert taken(pools, wanted(1), wanted(1, product_id="10ED")) == [0, 2]


def test_what_one_request_takes_the_next_does_not_have() -> None:
    assert lack([pool(3)], wanted(2), wanted(2)) == ("lacks 1 PCI devices (vendor_id=8086): 2 needed, 1 there")


@pytest.mark.parametrize(
    ("tags", "asked"),
    [
        ({"dev_type": "type-PF"}, {"dev_type": "type-PF"}),
        ({"dev_type": "vdpa"}, {"dev_type": "vdpa"}),
        ({"remote_managed": "True"}, {"remote_managed": "true"}),
    ],
)
def test_some_kinds_go_only_to_those_who_ask_for_them(tags: dict[str, str], asked: dict[str, str]) -> None:
    pools = [PciPool(vendor_id="8086", product_id="10ed", count=1, tags=tags)]
    assert "for such a request" in lack(pools, wanted(product_id="10ed"))
    assert taken(pools, PciRequest(count=1, spec=(asked,))) == [1]


def test_live_migratable_devices_are_told_apart_only_when_asked_to() -> None:
    pools = [pool(1, live_migratable="true"), pool(1, 1, live_migratable="false"), pool(1, 2)]
    assert taken(pools, wanted(3)) == [1, 1, 1]
    assert taken(pools, wanted(1, live_migratable="false")) == [0, 1, 0]
    assert "lacks 1" in lack(pools, wanted(2, live_migratable="true"))


def test_any_of_several_specs_will_do() -> None:
    either = PciRequest(count=2, spec=({"product_id": "1"}, {"product_id": "2", "traits": "CUSTOM_X"}))
    assert taken([pool(1, product="1"), pool(1, product="2"), pool(1, product="3")], either) == [1, 1, 0]


@pytest.mark.parametrize(
    ("policy", "counts", "expected"),
    [
        ("required", {0: 2, None: 5}, [2, 0]),
        ("required", {0: 1, None: 5}, None),
        (None, {0: 1, None: 1}, [1, 1]),
        ("legacy", {0: 1, 1: 5}, None),
        ("preferred", {1: 5, 0: 1}, [1, 1]),
        ("preferred", {1: 5, None: 1}, [1, 1]),
        ("socket", {2: 5, 1: 5}, [2, 0]),
        ("socket", {None: 5, 1: 5}, None),
    ],
)
def test_how_near_devices_must_be(
    policy: str | None, counts: dict[int | None, int], expected: list[int] | None
) -> None:
    pools = [pool(count, node) for node, count in counts.items()]
    if expected is None:
        assert "reach of NUMA cell 0" in lack(pools, wanted(2, policy), near=IN_FIRST)
    else:
        assert taken(pools, wanted(2, policy), near=IN_FIRST) == expected
    assert sum(taken(pools, wanted(2, policy))) == 2, "without a NUMA topology any place will do"


def test_sockets_are_not_known_when_one_is_not() -> None:
    cells = (*CELLS, NumaCell(id=3))
    assert "lacks 1" in lack([pool(1, 2)], wanted(1, "socket"), near=pci.Nearness((0,), cells))


def test_the_filter_counts_devices_anywhere_and_the_numa_filter_those_in_reach() -> None:
    state = Topology(cells=(NumaCell(id=0, cpuset=(0, 1), memory=64),), pools=(pool(1, 1),))
    guest = GuestNuma(cells=(GuestCell(id=0, cpuset=(0,), memory=64),))
    asked = TopologyRequest(guest=guest, devices=(wanted(1, "required"),))
    assert pci_passthrough.refuse(state, asked) is None
    assert isinstance(topology.fit(state, asked), HostRefusal)
    assert "lacks 1" in str(pci_passthrough.refuse(Topology(), asked))
    assert pci_passthrough.refuse(Topology(), TopologyRequest()) is None


def test_devices_that_are_gone_are_not_claimed_and_come_back_to_a_pool_of_their_own() -> None:
    found = pci.take((pool(2),), [wanted(2)])
    assert consume_devices((pool(2), pool(1, 1)), found.devices) == (pool(0), pool(1, 1))
    with pytest.raises(errors.ClaimLost):
        consume_devices((pool(1),), found.devices)
    assert release_devices((pool(1, 1),), found.devices) == (pool(1, 1), pool(2))


@pytest.mark.parametrize(
    "request_",
    [wanted(0), wanted(-3), wanted(10**30), PciRequest(count=1), wanted(1, "nearest"), PciRequest(count=1, spec=({},))],
)
def test_requests_that_cannot_be_are_refused(request_: PciRequest) -> None:
    with pytest.raises(errors.Invalid):
        check_requests([request_])


def test_pools_that_cannot_be_true_are_told() -> None:
    assert (
        find_topology_defect(
            Topology(
                pools=(
                    pool(),
                    pool(1, 1),
                )
            )
        )
        is None
    )
    assert "-1 PCI devices" in str(find_topology_defect(Topology(pools=(pool(-1),))))
    assert "twice" in str(
        find_topology_defect(
            Topology(
                pools=(
                    pool(1),
                    pool(2),
                )
            )
        )
    )


def test_pools_travel_as_plain_data_and_equal_ones_are_one() -> None:
    state = Topology(pools=(pool(1, a="1", b="2"),))
    other = Topology(
        pools=(PciPool(vendor_id="8086", product_id="10ed", count=1, numa_node=0, tags={"b": "2", "a": "1"}),)
    )
    again: Topology = codec.from_plain(codec.to_plain(state), Topology)
    assert len({state, other, again}) == 1
    assert len({wanted(1, "socket"), codec.from_plain(codec.to_plain(wanted(1, "socket")), PciRequest)}) == 1


KINDS = st.sampled_from(["type-PF", "type-VF", "type-PCI", "vdpa"])
NODES = st.sampled_from([None, 0, 1, 2, 7])
POOLS = st.lists(
    st.builds(lambda count, node, kind: pool(count, node, dev_type=kind), st.integers(0, 4), NODES, KINDS),
    max_size=8,
    unique_by=lambda found: (found.numa_node, found.tags["dev_type"]),
).map(tuple)
POLICIES = st.sampled_from([None, *NUMA_POLICIES])
REQUESTS = st.lists(
    st.builds(wanted, st.integers(1, 4), POLICIES)
    | st.builds(lambda count, policy, kind: wanted(count, policy, dev_type=kind), st.integers(1, 4), POLICIES, KINDS),
    min_size=1,
    max_size=3,
)
NEAR = st.none() | st.just(IN_FIRST) | st.just(pci.Nearness((1, 2), CELLS))


@settings(max_examples=300, deadline=None)
@given(POOLS, REQUESTS, NEAR)
def test_no_device_is_given_twice_nor_lost(
    pools: tuple[PciPool, ...], requests: list[PciRequest], near: pci.Nearness | None
) -> None:
    found = pci.take(pools, requests, near)
    assert all(after.count >= 0 for after in found.pools)
    given = sum(pool.count for pool in found.devices)
    assert sum(pool.count for pool in pools) - sum(pool.count for pool in found.pools) == given
    if found.refusal is None:
        assert given == sum(request.count for request in requests)
    assert consume_devices(pools, found.devices) == found.pools
    assert release_devices(found.pools, found.devices) == pools


@settings(max_examples=200, deadline=None)
@given(POOLS, st.lists(REQUESTS, max_size=4), st.randoms(use_true_random=False))
def test_devices_of_several_servers_come_back_in_any_order(
    pools: tuple[PciPool, ...], servers: list[list[PciRequest]], random: object
) -> None:
    now, held = pools, []
    for requests in servers:
        found = pci.take(now, requests)
        now = found.pools
        held.append(found.devices)
    random.shuffle(held)  # type: ignore[attr-defined]  # hypothesis gives a random.Random
    for devices in held:
        now = release_devices(now, devices)
    assert now == pools


ALIASES = (
    '{"name": "gpu", "vendor_id": "10de", "product_id": "1eb8", "device_type": "type-PCI", "numa_policy": "required"}',
    '{"name": "gpu", "vendor_id": "10DE", "product_id": "1EB9", "device_type": "type-PCI", "numa_policy": "required"}',
    '{"name": " nic ", "vendor_id": "8086", "product_id": "10ed", "live_migratable": "yes"}',
)


def test_flavors_ask_for_devices_by_the_policys_names() -> None:
    flavor = Flavor(id="f", name="f", vcpus=1, memory_mb=1, root_gb=1)
    specs = {"pci_passthrough:alias": "gpu:2, nic:1"}
    gpu, nic = requests_of(replace(flavor, extra_specs=specs), None, ALIASES)
    assert (gpu.count, gpu.numa_policy, gpu.alias_name, len(gpu.spec)) == (2, "required", "gpu", 2)
    assert (nic.count, nic.numa_policy) == (1, "legacy")
    assert nic.spec == ({"vendor_id": "8086", "product_id": "10ed", "live_migratable": "true"},)
    assert [one.numa_policy for one in requests_of(replace(flavor, extra_specs=specs), "socket", ALIASES)] == [
        "socket",
        "socket",
    ]
    assert requests_of(flavor, None, ()) == ()
    for text in ("tpu:1", "gpu", "gpu:", "gpu:-1", "gpu:many", "gpu:1,", "gpu:" + "9" * 30):
        with pytest.raises(errors.Invalid):
            requests_of(replace(flavor, extra_specs={"pci_passthrough:alias": text}), None, ALIASES)


@pytest.mark.parametrize(
    "text",
    [
        "gpu",
        "[]",
        '{"name": 1}',
        "{}",
        '{"name": "a", "color": "red"}',
        '{"name": "a", "vendor_id": "10de"}',
        '{"name": "a", "vendor_id": "10de", "product_id": "xyz!"}',
        '{"name": "a", "vendor_id": "10de", "product_id": "1eb8", "device_type": "vdpa"}',
        '{"name": "a", "vendor_id": "10de", "product_id": "1eb8", "numa_policy": "near"}',
        '{"name": "a", "vendor_id": "10de", "product_id": "1eb8", "live_migratable": "perhaps"}',
        '{"name": "nic", "vendor_id": "10de", "product_id": "1eb8", "numa_policy": "socket"}',
        '{"name": "nic", "vendor_id": "10de", "product_id": "1eb8", "device_type": "type-VF"}',
    ],
)
def test_names_for_devices_that_cannot_be_are_refused_with_the_policy(text: str) -> None:
    with pytest.raises(errors.Invalid):
        parse({"options": {"pci.alias": [*ALIASES, text]}})
    policy = parse({"options": {"pci.alias": list(ALIASES)}})
    assert parse(to_plain(policy)) == policy
