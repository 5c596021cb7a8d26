"""Every route and action by role and project: who is let in, who is refused, and to whom a thing is not there.

No handler runs: the enforcer stops each request that it has let through.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from cellcloud import errors
from cellcloud.db import top_schema
from cellcloud.db.engine import Database
from tests.api.world import CALLERS, DEMO, World
from tests.parity import samples
from top_api.authorization import Enforcer, list_rules
from top_api.authorization.enforcement import Subject
from top_api.json_schema import Compiled
from top_api.request_pipeline import Action, Actions, Route
from top_api.routes import RESOURCES
from top_api.validation import Versioned

# Source: the defaults of Nova's policies; what has no other prefix begins with os_compute_api.
NOVA = {
    "ADMIN": """
        compute:aggregates:images compute:server:topology:host:index compute:servers:create:requested_destination
        network:attach_external_network limits:other_project os-admin-actions:inject_network_info
        os-admin-actions:reset_state os-aggregates:add_host os-aggregates:create os-aggregates:delete
        os-aggregates:index os-aggregates:remove_host os-aggregates:set_metadata os-aggregates:show
        os-aggregates:update os-availability-zone:detail os-baremetal-nodes:list os-baremetal-nodes:show
        os-console-auth-tokens os-evacuate os-extended-server-attributes os-flavor-access
        os-flavor-access:add_tenant_access os-flavor-access:remove_tenant_access os-flavor-extra-specs:create
        os-flavor-extra-specs:delete os-flavor-extra-specs:update os-flavor-manage:create os-flavor-manage:delete
        os-flavor-manage:update os-hosts:list os-hosts:reboot os-hosts:show os-hosts:shutdown os-hosts:start
        os-hosts:update os-hypervisors:list os-hypervisors:list-detail os-hypervisors:search os-hypervisors:servers
        os-hypervisors:show os-hypervisors:statistics os-hypervisors:uptime os-instance-actions:events
        os-instance-actions:events:details os-instance-usage-audit-log:list os-instance-usage-audit-log:show
        os-lock-server:unlock:unlock_override os-migrate-server:migrate:host os-migrate-server:migrate_live:host
        os-migrations:index:all_projects os-migrations:index:host os-quota-class-sets:show os-quota-class-sets:update
        os-quota-sets:delete os-quota-sets:update os-server-diagnostics os-server-groups:index:all_projects
        os-services:delete os-services:list os-services:update os-shelve:shelve_offload os-shelve:unshelve_to_host
        os-simple-tenant-usage:list servers:allow_all_filters servers:create:forced_host
        servers:create:zero_disk_flavor servers:detail:get_all_tenants servers:index:get_all_tenants
        servers:migrations:index:host servers:migrations:show servers:show:host_status
        servers:show:host_status:unknown-only
    """,
    "MANAGER": """
        os-migrate-server:migrate os-migrate-server:migrate_live os-migrations:index servers:migrations:delete
        servers:migrations:force_complete servers:migrations:index
    """,
    "MEMBER": """
        os-admin-password os-attach-interfaces:create os-attach-interfaces:delete os-console-output os-create-backup
        os-deferred-delete:force os-deferred-delete:restore os-floating-ips:add os-floating-ips:create
        os-floating-ips:delete os-floating-ips:remove os-lock-server:lock os-lock-server:unlock os-multinic:add
        os-multinic:remove os-pause-server:pause os-pause-server:unpause os-remote-consoles os-rescue
        os-security-groups:add os-security-groups:create os-security-groups:delete os-security-groups:remove
        os-security-groups:rule:create os-security-groups:rule:delete os-security-groups:update
        os-server-groups:create os-server-groups:delete os-server-password:clear os-server-shares:create
        os-server-shares:delete os-server-tags:delete os-server-tags:delete_all os-server-tags:update
        os-server-tags:update_all os-shelve:shelve os-shelve:unshelve os-suspend-server:resume
        os-suspend-server:suspend os-unrescue os-volumes-attachments:create os-volumes-attachments:delete
        os-volumes-attachments:update os-volumes:create os-volumes:delete os-volumes:snapshots:create
        os-volumes:snapshots:delete server-metadata:create server-metadata:delete server-metadata:update
        server-metadata:update_all servers:confirm_resize servers:create servers:create:attach_network
        servers:create:attach_volume servers:create:trusted_certs servers:create_image
        servers:create_image:allow_volume_backed servers:delete servers:reboot servers:rebuild
        servers:rebuild:trusted_certs servers:resize servers:revert_resize servers:start servers:stop
        servers:trigger_crash_dump servers:update
    """,
    "READER": """
        compute:server:topology:index ips:index ips:show os-attach-interfaces:list os-attach-interfaces:show
        os-flavor-extra-specs:index os-flavor-extra-specs:show os-floating-ips:list os-floating-ips:show
        os-instance-actions:list os-instance-actions:show os-networks:list os-networks:show os-quota-sets:detail
        os-quota-sets:show os-security-groups:get os-security-groups:list os-security-groups:show
        os-server-groups:index os-server-groups:show os-server-password:show os-server-shares:index
        os-server-shares:show os-server-tags:index os-server-tags:show os-simple-tenant-usage:show
        os-tenant-networks:list os-tenant-networks:show os-volumes-attachments:index os-volumes-attachments:show
        os-volumes:detail os-volumes:list os-volumes:show os-volumes:snapshots:detail os-volumes:snapshots:list
        os-volumes:snapshots:show server-metadata:index server-metadata:show servers:detail servers:index
        servers:show servers:show:flavor-extra-specs
    """,
    "SERVICE": """
        os-assisted-volume-snapshots:create os-assisted-volume-snapshots:delete os-server-external-events:create
        os-volumes-attachments:swap
    """,
    "ANY": "extensions limits os-availability-zone:list os-floating-ip-pools os-quota-sets:defaults",
    "OWNER": "os-keypairs:create os-keypairs:delete os-keypairs:index os-keypairs:show",
    "NOBODY": "compute:servers:resize:cross_cell",
}
OURS = {"ANY": "flavors images cellcloud:gone", "ADMIN": "cellcloud:operator"}  # Nova asks no rule, or has no such API
PREFIXED = ("compute:", "network:", "cellcloud:")
WHO: dict[str, str] = {
    name if name.startswith(PREFIXED) else f"os_compute_api:{name}": kind
    for table in (NOVA, OURS)
    for kind, names in table.items()
    for name in names.split()
}
ROLE = {"ADMIN": "admin", "MANAGER": "manager", "MEMBER": "member", "READER": "reader", "SERVICE": "service"}
PERSONAS = ("nobody", "reader", "member", "colleague", "manager", "admin", "service", "other")
FOREIGN = ("<server_id>", "<group_id>")  # words of paths whose things are not there for other projects
LET_THROUGH, NO_ROLE = "let through", "The token gives no role"


class Stopping(Enforcer):
    """Lets nothing go on that it has let through."""

    stops = False

    def check(self, subject: Subject, rule: str, target: Mapping[str, str] | None = None) -> None:
        super().check(subject, rule, target)
        if self.stops:
            raise errors.Busy(LET_THROUGH)


class Asked:
    """The API, and something of DEMO's for each word of a path."""

    def __init__(self, database: Database, folder: Path) -> None:
        enforcer = Stopping()
        self.world = World(database, folder, enforcer=enforcer)
        body = {"server_group": {"name": "g", "policies": ["affinity"]}}
        group = self.world.post("/os-server-groups", body).get_json()["server_group"]["id"]
        self.words = {"<server_id>": self.world.create(), "<project_id>": DEMO, "<group_id>": group}
        enforcer.stops = True

    def ask(
        self, route: Route, action: Action | None, token: str | None, version: tuple[int, int] | None = None
    ) -> tuple[int, str]:
        """The status, and what is said. ``version``: the first that has it, unless another is given."""
        path = re.sub(r"<[^>]+>", lambda found: self.words.get(found[0], "1"), route.path)
        asked = action or route
        version = version or max(route.since, asked.since)
        body = example(asked.body, version) if asked.body else {action.name: None} if action else None
        prefix = next(one.api.prefix for one in RESOURCES if route in one.routes)
        answer = self.world.call(route.method, prefix + path, body, token=token, version=".".join(map(str, version)))
        return answer.status_code, answer.text


def example(versioned: Versioned, version: tuple[int, int]) -> Any:
    """A body that is taken at that microversion."""

    def is_valid(schema: Any, value: Any) -> bool:
        return Compiled(schema).find_error(value) is None

    schema = [schema for since, schema in versioned if since <= max(version, (2, 1))][-1]
    body = samples.whole(schema, is_valid)
    assert is_valid(schema, body), body
    return body


def served() -> Iterator[tuple[str, Route, Action | None, str]]:
    """(name, route, action, rule) of all that asks one."""
    for resource in RESOURCES:
        for route in resource.routes:
            if isinstance(route.rule, Actions):
                for name, action in route.rule.by_name.items():
                    yield f"{route.path} [{name}]", route, action, action.rule
            elif route.rule is not None:
                yield f"{route.method} {route.path}", route, None, route.rule


SERVED = [*served()]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    folder = tmp_path_factory.mktemp("access")
    database = Database(f"sqlite:///{folder}/top.db")
    with database.write() as connection:
        top_schema.metadata.create_all(connection)
    made = Asked(database, folder)
    yield made
    made.world.close()
    database.close()


def may(kind: str, persona: str, *, theirs: bool) -> bool:
    """Whether such a rule lets somebody in. ``theirs``: it is asked about the caller's own project."""
    roles = CALLERS[persona][2]
    if kind in ("ANY", "OWNER"):
        return bool(roles)
    if "admin" in roles:
        return kind != "NOBODY"
    return ROLE.get(kind) in roles and (theirs or kind == "SERVICE")


@pytest.mark.parametrize("persona", PERSONAS)
def test_who_is_let_in(asked: Asked, persona: str) -> None:
    wrong = []
    for name, route, action, rule in SERVED:
        foreign = CALLERS[persona][1] != DEMO
        looked_up = rule != "cellcloud:operator" and any(word in route.path for word in FOREIGN)
        if looked_up and foreign and persona != "admin":
            wanted = 404
        else:
            theirs = not foreign or "<project_id>" not in route.path
            wanted = 503 if may(WHO[rule], persona, theirs=theirs) else 403
        status, text = asked.ask(route, action, persona)
        told = {503: LET_THROUGH, 403: NO_ROLE if persona == "nobody" else rule, 404: "could not be found"}[wanted]
        if status != wanted or told not in text:
            wrong.append((name, rule, wanted, status, text[:200]))
    assert wrong == []


def test_nobody_is_let_in_without_a_token(asked: Asked) -> None:
    found = [(name, asked.ask(route, action, None)[0]) for name, route, action, _ in SERVED]
    assert [one for one in found if one[1] != 401] == []
    assert len(found) > 100


def test_every_rule_has_novas_default(asked: Asked) -> None:
    enforcer = Enforcer()
    novas = [rule.name for rule in list_rules() if rule.name.startswith(("os_compute_api:", "compute:"))]
    assert sorted(set(novas) - WHO.keys()) == []
    for name in novas:
        for persona in PERSONAS:
            user_id, project_id, roles = CALLERS[persona]
            subject = _Subject(user_id, project_id, roles)
            for target in (project_id, "f" * 32):
                about = {"project_id": target, "user_id": user_id}
                if persona == "nobody":
                    continue  # its token opens nothing at all
                wanted = may(WHO[name], persona, theirs=target == project_id)
                assert enforcer.allows(subject, name, about) is wanted, (name, persona, target)


class _Subject:
    def __init__(self, user_id: str, project_id: str, roles: tuple[str, ...]) -> None:
        self.user_id, self.project_id, self.roles = user_id, project_id, roles
        self.user_domain_id = self.project_domain_id = "default"
        self.domain_id, self.system = "", False
