"""Defaults of the embedded network service's rules: Neutron's names, roles and scope types.

What Neutron's defaults say of shared networks and of a network's owner is looked at where the network is found. Who
administrates the cloud may write ``binding:profile``, as before Neutron knew a role of services.
"""

from __future__ import annotations

from oslo_policy.policy import RuleDefault

ADMIN = "rule:admin_only"
SERVICE = "rule:service_api"
ADMIN_OR_SERVICE = f"({ADMIN}) or ({SERVICE})"
MEMBER = f"({ADMIN}) or (role:member and project_id:%(project_id)s)"
READER = f"({ADMIN}) or (role:reader and project_id:%(project_id)s)"
MANAGER = f"({ADMIN}) or (role:manager and project_id:%(project_id)s)"
_RULES = (
    ("admin_only", "rule:context_is_admin", "Who administrates the cloud."),
    ("service_api", "role:service", "The services themselves."),
    ("get_network", f"{READER} or {SERVICE}", "List and show networks."),
    ("create_network", MEMBER, "Create a network."),
    ("create_network:shared", ADMIN, "Create a network that every project may use."),
    ("update_network", MEMBER, "Change a network."),
    ("update_network:shared", ADMIN, "Let every project use a network."),
    ("delete_network", MEMBER, "Delete a network."),
    ("get_subnet", f"{READER} or {SERVICE}", "List and show subnets."),
    ("create_subnet", MEMBER, "Create a subnet."),
    ("update_subnet", MEMBER, "Change a subnet."),
    ("delete_subnet", MEMBER, "Delete a subnet."),
    ("get_port", f"{READER} or {SERVICE}", "List and show ports."),
    ("get_port:binding:host_id", ADMIN_OR_SERVICE, "See the host a port is bound to."),
    ("get_port:binding:profile", ADMIN_OR_SERVICE, "See what a port is to its server."),
    ("get_port:binding:vif_type", ADMIN_OR_SERVICE, "See how a port is plugged."),
    ("get_port:binding:vif_details", ADMIN_OR_SERVICE, "See what a port is plugged with."),
    ("create_port", f"{MEMBER} or {SERVICE}", "Create ports."),
    ("create_port:device_owner", ADMIN_OR_SERVICE, "Create a port of the network itself (device_owner network:...)."),
    ("create_port:binding:host_id", ADMIN_OR_SERVICE, "Create a port that is bound to a host."),
    ("create_port:binding:profile", ADMIN_OR_SERVICE, "Create a port that says what it is to its server."),
    ("update_port", f"{MEMBER} or {SERVICE}", "Change a port."),
    ("update_port:device_owner", ADMIN_OR_SERVICE, "Make a port one of the network itself (device_owner network:...)."),
    ("update_port:binding:host_id", ADMIN_OR_SERVICE, "Bind a port to a host."),
    ("update_port:binding:profile", ADMIN_OR_SERVICE, "Say what a port is to its server."),
    ("delete_port", f"{MEMBER} or {SERVICE}", "Delete a port."),
    ("get_security_group", f"{READER} or {SERVICE}", "List and show security groups."),
    ("create_security_group", MEMBER, "Create a security group."),
    ("update_security_group", MEMBER, "Change a security group."),
    ("delete_security_group", MEMBER, "Delete a security group."),
    ("get_security_group_rule", f"{READER} or {SERVICE}", "List and show rules of security groups."),
    ("create_security_group_rule", MEMBER, "Add a rule to a security group."),
    ("delete_security_group_rule", MEMBER, "Delete a rule of a security group."),
    ("get_router", READER, "List and show routers."),
    ("create_router", MEMBER, "Create a router."),
    ("create_router:external_gateway_info:enable_snat", ADMIN, "Say whether a new router translates addresses."),
    ("create_router:external_gateway_info:external_fixed_ips", ADMIN, "Choose a new router's outer addresses."),
    ("update_router", MEMBER, "Change a router."),
    ("update_router:external_gateway_info:enable_snat", ADMIN, "Say whether a router translates addresses."),
    ("update_router:external_gateway_info:external_fixed_ips", ADMIN, "Choose a router's outer addresses."),
    ("delete_router", MEMBER, "Delete a router."),
    ("add_router_interface", MEMBER, "Add an interface to a router."),
    ("remove_router_interface", MEMBER, "Take an interface from a router."),
    ("add_extraroutes", MEMBER, "Add routes to a router."),
    ("remove_extraroutes", MEMBER, "Take routes from a router."),
    ("get_floatingip", f"{READER} or {SERVICE}", "List and show floating IPs."),
    ("create_floatingip", MEMBER, "Create a floating IP."),
    ("create_floatingip:floating_ip_address", ADMIN, "Choose the address of a floating IP."),
    ("update_floatingip", MEMBER, "Change a floating IP, and where it is forwarded to."),
    ("delete_floatingip", MEMBER, "Delete a floating IP."),
    ("create_network:router:external", ADMIN, "Create an external network."),
    ("create_network:is_default", ADMIN, "Create the external network that is taken where none is named."),
    ("create_network:provider:network_type", ADMIN, "Choose the kind of a network's segment."),
    ("create_network:provider:physical_network", ADMIN, "Choose the physical network of a segment."),
    ("create_network:provider:segmentation_id", ADMIN, "Choose the number of a network's segment."),
    ("get_network:provider:network_type", ADMIN, "See the kind of a network's segment."),
    ("get_network:provider:physical_network", ADMIN, "See the physical network of a segment."),
    ("get_network:provider:segmentation_id", ADMIN, "See the number of a network's segment."),
    ("update_network:router:external", ADMIN, "Make a network external, or no longer."),
    ("update_network:is_default", ADMIN, "Say which external network is taken where none is named."),
    ("update_port:mac_address", ADMIN_OR_SERVICE, "Change a port's MAC address."),
    ("get_availability_zone", "@", "List zones of networks and routers."),
    ("get_agent", ADMIN, "List and show what hosts do for networks."),
    ("get_network_ip_availability", ADMIN_OR_SERVICE, "List and show how many addresses networks have left."),
    ("get_rbac_policy", READER, "List and show policies that let other projects use networks and security groups."),
    ("create_rbac_policy", MEMBER, "Let another project use a network or security group."),
    ("create_rbac_policy:target_tenant", ADMIN, "Let every project use a network or security group."),
    ("update_rbac_policy", MEMBER, "Let another project use it instead."),
    ("update_rbac_policy:target_tenant", ADMIN, "Let every project use it instead."),
    ("delete_rbac_policy", MEMBER, "Let another project use it no more."),
    ("get_quota", MANAGER, "List quotas of the network API, and show another project's."),
    ("update_quota", ADMIN, "Change a project's quotas of the network API."),
    ("delete_quota", ADMIN, "Give a project the default quotas of the network API."),
    (
        "cellcloud:own_network_quota",
        "rule:get_quota or project_id:%(project_id)s",
        "Show one's own project's quotas of the network API: Neutron asks no rule.",
    ),
    ("cellcloud:network_discovery", "@", "See the network API's resources and extensions: Neutron asks no rule."),
)


def list_rules() -> list[RuleDefault]:
    """Defaults of the embedded network service's rules."""
    return [RuleDefault(name, check, text, scope_types=["project"]) for name, check, text in _RULES]
