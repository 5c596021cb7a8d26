"""Plans of networks as files, and security groups as rules of nftables."""

from __future__ import annotations

from pathlib import Path

import pytest

from cell.compute.drivers.libvirt.nft_tables import Elements, Table, difference
from cell.compute.drivers.libvirt.security_groups import combination, make_chains
from cell.compute.network_plans import PlanStore
from cellcloud.model.network_plan import GroupPlan, GroupRule, NetworkPlan, PlanChanges


def rule(first: int | None = None, last: int | None = None, protocol: int | None = 6, **more: object) -> GroupRule:
    return GroupRule(ingress=True, protocol=protocol, first=first, last=last, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([rule(22, 22)], ["meta nfproto ipv4 meta l4proto 6 ct original proto-dst { 22 } accept;"]),
        ([rule(22, 22), rule(23, 30), rule(80, 80)], ["proto-dst { 22-30, 80 } accept;"]),
        ([rule(1, 65535)], ["proto-dst { 1-65535 } accept;"]),
        ([rule(protocol=None)], ["meta nfproto ipv4 accept;"]),
        ([rule(protocol=None, ipv6=True)], ["meta nfproto ipv6 accept;"]),
        ([rule(8, 0, protocol=1)], ["meta l4proto 1 ct original proto-dst { 2048 } accept;"]),
        ([rule(8, protocol=1)], ["proto-dst { 2048-2303 } accept;"]),
        (
            [rule(128, protocol=58, ipv6=True)],
            ["meta nfproto ipv6 meta l4proto 58 ct original proto-dst { 32768-33023 }"],
        ),
        ([rule(22, 22, remote="10.0.0.0/9"), rule(22, 22, remote="10.128.0.0/9")], ["ip saddr { 10.0.0.0/8 } accept;"]),
        ([rule(22, 22, remote="0.0.0.0/0")], ["proto-dst { 22 } accept;"]),
        ([rule(22, 22, remote="10.1.2.3/24")], ["ip saddr { 10.1.2.0/24 } accept;"]),
        ([rule(22, 22, remote="fd00::/64")], []),  # of another family than its rule's
        (
            [rule(22, 22, remote_group="peers")],
            ["ip saddr @members4-peers accept;", "ip saddr { 10.9.0.0/16 } accept;"],
        ),
        ([rule(22, 22), rule(22, 22, remote="10.0.0.0/8")], ["proto-dst { 22 } accept;"]),
    ],
)
def test_rules_become_as_few_as_they_can(rules: list[GroupRule], expected: list[str]) -> None:
    groups = {
        "web": GroupPlan(id="web", version=1, rules=tuple(rules)),
        "peers": GroupPlan(id="peers", version=1, members=("10.0.0.5", "fd00::5", "10.9.0.0/16")),
    }
    chains, sets = make_chains([("web",)], groups)
    found = chains["takes-web"]
    assert len(found) == len(expected)
    assert all(part in line for part, line in zip(expected, found, strict=True)), found
    assert chains["sends-web"] == ()
    if any(one.remote_group for one in rules):
        assert sets["members4-peers"].elements == {"10.0.0.5"}
        assert sets["members6-peers"].elements == {"fd00::5"}


def test_a_group_that_is_not_known_lets_nothing_through() -> None:
    chains, _ = make_chains([("gone",), ()], {})
    assert chains[f"takes-{combination(('gone',))}"] == chains[f"sends-{combination(())}"] == ("drop;",)


def test_a_change_says_no_more_than_what_changes() -> None:
    def table(members: str, *rules: str, more: bool = False) -> Table:
        sets = {"members": Elements(kind="type ipv4_addr", elements=frozenset(members.split()))}
        chains = {"in": ("type filter hook input priority 0; policy accept;", "jump group;"), "group": rules}
        return Table(name="inet t", sets=sets, chains=chains | ({"other": ("drop;",)} if more else {}))

    old = table("10.0.0.1 10.0.0.2", "tcp dport 1 accept;")
    assert difference(old, old) == ""
    assert difference(old, table("10.0.0.2 10.0.0.3", "tcp dport 1 accept;")).splitlines() == [
        "delete element inet t members { 10.0.0.1 }",
        "add element inet t members { 10.0.0.3 }",
    ]
    assert difference(old, table("10.0.0.1 10.0.0.2", "drop;", more=True)).splitlines() == [
        "add chain inet t other",
        "flush chain inet t group",
        "add rule inet t group drop",
        "add rule inet t other drop",
    ]
    assert difference(table("", more=True), table("")).splitlines() == [
        "flush chain inet t other",
        "delete chain inet t other",
    ]


def test_plans_outlive_the_process_and_a_file_that_is_spoilt_closes_ports(tmp_path: Path) -> None:
    store = PlanStore(tmp_path / "state" / "plans")
    assert not store.get().known
    store.change(PlanChanges(networks=(NetworkPlan(id="n", version=3, endpoints={"h": "10.0.0.1"}),)))
    assert PlanStore(tmp_path / "state" / "plans").get() == store.get()
    assert store.get().known
    (tmp_path / "state" / "plans").write_bytes(b"spoilt")
    spoilt = PlanStore(tmp_path / "state" / "plans").get()
    assert spoilt.known
    assert spoilt.versions() == {}
