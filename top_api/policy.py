"""Who may do what: one table of defaults. Names are Nova's.

Roles nest: admin > manager > member > reader. Whether a server, a key or a flavor belongs to the caller is decided
where it is looked up: a foreign one is not found.
"""

from __future__ import annotations

from cellcloud import errors
from cellcloud.context import RequestContext

ADMIN, MANAGER, MEMBER, READER, ANY = "admin", "manager", "member", "reader", "any"
_ENOUGH = {
    ADMIN: frozenset({"admin"}),
    MANAGER: frozenset({"admin", "manager"}),
    MEMBER: frozenset({"admin", "manager", "member"}),
    READER: frozenset({"admin", "manager", "member", "reader"}),
    ANY: frozenset({"admin", "manager", "member", "reader", "service"}),
}

RULES: dict[str, str] = {
    "os_compute_api:extensions": ANY,
    "os_compute_api:flavors": READER,
    "os_compute_api:os-flavor-extra-specs:index": READER,
    "os_compute_api:os-flavor-extra-specs:show": READER,
    "os_compute_api:os-flavor-extra-specs:create": ADMIN,
    "os_compute_api:os-flavor-extra-specs:update": ADMIN,
    "os_compute_api:os-flavor-extra-specs:delete": ADMIN,
    "os_compute_api:os-flavor-access": ADMIN,
    "os_compute_api:os-flavor-manage:create": ADMIN,
    "os_compute_api:os-flavor-manage:update": ADMIN,
    "os_compute_api:os-flavor-manage:delete": ADMIN,
    "os_compute_api:limits": ANY,
    "os_compute_api:limits:other_project": ADMIN,
    "os_compute_api:os-availability-zone:list": ANY,
    "os_compute_api:os-availability-zone:detail": ADMIN,
    "os_compute_api:os-aggregates": ADMIN,
    "os_compute_api:os-hypervisors": ADMIN,
    "os_compute_api:os-services:list": ADMIN,
    "os_compute_api:os-services:update": ADMIN,
    "os_compute_api:os-services:delete": ADMIN,
    "os_compute_api:os-keypairs": ANY,
    "os_compute_api:os-keypairs:other_user": ADMIN,
    "os_compute_api:os-quota-sets:show": READER,
    "os_compute_api:os-quota-sets:defaults": ANY,
    "os_compute_api:os-quota-sets:update": ADMIN,
    "os_compute_api:os-quota-class-sets:show": ADMIN,
    "os_compute_api:os-quota-class-sets:update": ADMIN,
    "os_compute_api:servers:index": READER,
    "os_compute_api:servers:detail": READER,
    "os_compute_api:servers:index:get_all_tenants": ADMIN,
    "os_compute_api:servers:show": READER,
    "os_compute_api:servers:show:host_status": ADMIN,
    "os_compute_api:os-extended-server-attributes": ADMIN,
    "os_compute_api:servers:create": MEMBER,
    "os_compute_api:servers:create:forced_host": ADMIN,
    "os_compute_api:servers:create:requested_destination": ADMIN,
    "os_compute_api:servers:create:zero_disk_flavor": ADMIN,
    "os_compute_api:servers:update": MEMBER,
    "os_compute_api:servers:delete": MEMBER,
    "os_compute_api:servers:start": MEMBER,
    "os_compute_api:servers:stop": MEMBER,
    "os_compute_api:servers:reboot": MEMBER,
    "os_compute_api:os-lock-server:lock": MEMBER,
    "os_compute_api:os-lock-server:unlock": MEMBER,
    "os_compute_api:os-lock-server:unlock:unlock_override": ADMIN,
    "os_compute_api:os-console-output": MEMBER,
    "os_compute_api:os-remote-consoles": MEMBER,
    "os_compute_api:server-metadata:index": READER,
    "os_compute_api:server-metadata:show": READER,
    "os_compute_api:server-metadata:change": MEMBER,
    "os_compute_api:os-server-tags:index": READER,
    "os_compute_api:os-server-tags:change": MEMBER,
    "os_compute_api:ips": READER,
    "os_compute_api:os-instance-actions:list": READER,
    "os_compute_api:os-instance-actions:show": READER,
    "cellcloud:operator": ADMIN,
}


def allows(context: RequestContext, rule: str) -> bool:
    """Whether the caller may do what the rule is about."""
    return not _ENOUGH[RULES[rule]].isdisjoint(context.roles)


def check(context: RequestContext, rule: str) -> None:
    """Raises Forbidden."""
    if not allows(context, rule):
        raise errors.Forbidden(f"Policy doesn't allow {rule} to be performed.")
