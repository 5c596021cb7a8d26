"""Tests of Tempest that do not pass, each with its reason. One that passes all the same fails the run."""

from __future__ import annotations

_NETWORKS = "a proxy of the network service that is not there yet"
_LIMITS = "sets limits of nova-network (fixed and floating IPs), which nothing here would apply: they are refused"
NOT_PASSING: dict[str, str] = {
    "NetworksTest.test_get_network": _NETWORKS,
    "NetworksTest.test_list_all_networks": _NETWORKS,
    "ComputeNetworksTest.test_list_networks": _NETWORKS,
    "ServerActionsTestOtherA.test_remove_server_all_security_groups": _NETWORKS,
    "QuotaClassesAdminTestJSON.test_update_default_quotas": _LIMITS,
    "QuotasAdminTestJSON.test_update_all_quota_resources_for_tenant": _LIMITS,
}
"""Class or test, without what stands before the class -> why."""
AT_TIMES = {
    "UnshelveToHostMultiNodesTest.test_unshelve_to_specific_host": "names any host, and servers are unshelved within "
    "their cell: fails where the host is in the other",
}
"""Those that fail by chance, or pass."""
