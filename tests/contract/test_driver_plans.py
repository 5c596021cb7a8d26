"""What every driver does with the plans of networks that it is given."""

from __future__ import annotations

from cell.compute.driver import Driver
from cellcloud.model.network_plan import GroupPlan, GroupRule, NetworkPlan, PlanChanges, RouterPlan

NETWORK, GROUP, ROUTER = (f"{number}0000000-0000-4000-8000-000000000000" for number in (1, 2, 3))


def test_the_newest_of_each_plan_is_kept(driver: Driver) -> None:
    network, router = NetworkPlan(id=NETWORK, version=7), RouterPlan(id=ROUTER, version=2)
    group = GroupPlan(id=GROUP, version=5, rules=(GroupRule(ingress=True, protocol=6, first=22, last=22),))
    driver.change_plans(PlanChanges(networks=(network,), groups=(group,), routers=(router,)))
    assert driver.list_plans() == {f"network/{NETWORK}": 7, f"group/{GROUP}": 5, f"router/{ROUTER}": 2}

    older, newer = GroupPlan(id=GROUP, version=4), NetworkPlan(id=NETWORK, version=8)
    driver.change_plans(PlanChanges(networks=(newer,), groups=(older,), removed=(f"router/{ROUTER}", "group/none")))
    assert driver.list_plans() == {f"network/{NETWORK}": 8, f"group/{GROUP}": 5}
    driver.change_plans(PlanChanges(removed=(f"network/{NETWORK}", f"group/{GROUP}")))
    assert driver.list_plans() == {}
