"""Defaults of the Compute API's rules: Nova's names, roles and scope types."""

from __future__ import annotations

from oslo_policy.policy import RuleDefault

from cellcloud.model.operations import FIRST_VARIANTS, Operation

ADMIN = "rule:context_is_admin"
MEMBER = "rule:project_member_or_admin"
READER = "rule:project_reader_or_admin"
SERVICE = "rule:service_or_admin"
MANAGER = "rule:project_manager_or_admin"
KEY_OWNER = "(rule:context_is_admin) or user_id:%(user_id)s"
ANY = "@"

_ROLES = (
    ("context_is_admin", "role:admin", "Who administrates the cloud."),
    ("project_member_api", "role:member and project_id:%(project_id)s", "Who changes what is their project's."),
    ("project_reader_api", "role:reader and project_id:%(project_id)s", "Who reads what is their project's."),
    ("project_manager_api", "role:manager and project_id:%(project_id)s", "Who manages what is their project's."),
    ("project_manager_or_admin", "rule:project_manager_api or rule:context_is_admin", "Either of the two."),
    ("project_member_or_admin", "rule:project_member_api or rule:context_is_admin", "Either of the two."),
    ("project_reader_or_admin", "rule:project_reader_api or rule:context_is_admin", "Either of the two."),
    ("service_or_admin", "rule:service_api or rule:context_is_admin", "Either of the two."),
)
_ROLE_FOR = {Operation.MIGRATE: MANAGER, Operation.SHELVE_OFFLOAD: ADMIN, Operation.EXTEND_VOLUME: SERVICE}
"""Operation -> who may, where members may not."""
_SERVERS = (
    ("servers:index", READER, "List servers."),
    ("servers:index:get_all_tenants", ADMIN, "List the servers of every project."),
    ("servers:detail", READER, "List servers with their details."),
    ("servers:detail:get_all_tenants", ADMIN, "List the servers of every project with their details."),
    ("servers:show", READER, "Show a server."),
    ("servers:show:flavor-extra-specs", READER, "See the extra specs of a server's flavor (from 2.47)."),
    ("servers:show:host_status", ADMIN, "See the state of a server's host (from 2.16)."),
    ("servers:show:host_status:unknown-only", ADMIN, "See that the state of a server's host is unknown (from 2.16)."),
    ("servers:create:forced_host", ADMIN, "Create a server on a host named in the availability zone."),
    ("compute:servers:create:requested_destination", ADMIN, "Create a server on a named host (from 2.74)."),
    ("servers:create:attach_network", MEMBER, "Create a server on named networks or ports."),
    ("servers:create:attach_volume", MEMBER, "Create a server with block devices of its own."),
    ("servers:create:zero_disk_flavor", ADMIN, "Create a server from an image with a flavor without a disk."),
    ("servers:update", MEMBER, "Change a server's name, description and the like."),
    *{
        spec.policy: (spec.policy, _ROLE_FOR.get(spec.operation, MEMBER), spec.summary)
        for spec in reversed(FIRST_VARIANTS.values())
    }.values(),
    ("os-volumes-attachments:index", READER, "List a server's volumes."),
    ("os-volumes-attachments:show", READER, "Show a volume of a server."),
    ("os-volumes-attachments:update", MEMBER, "Say whether a volume is deleted with its server (from 2.85)."),
    ("os-volumes-attachments:swap", SERVICE, "Give a server another volume in the place of one that is migrated."),
    ("os-migrate-server:migrate:host", ADMIN, "Migrate a server to a named host (from 2.56)."),
    ("os-shelve:unshelve_to_host", ADMIN, "Unshelve a server on a named host (from 2.91)."),
    ("os-deferred-delete:force", MEMBER, "Delete a server at once, also one that could still be restored."),
    ("os-admin-password", MEMBER, "Change the password of a server's administrator, by its guest's agent."),
    ("servers:trigger_crash_dump", MEMBER, "Interrupt a server so that it dumps its memory (from 2.17)."),
    ("os-server-diagnostics", ADMIN, "See what a server has used of its host so far."),
    ("os-server-password:show", READER, "See the password of a server, sealed by its key."),
    ("os-server-password:clear", MEMBER, "Forget the sealed password of a server."),
    ("compute:server:topology:index", READER, "See how a server's processors and memory lie (from 2.78)."),
    ("compute:server:topology:host:index", ADMIN, "See where on its host a server's processors and memory lie."),
    ("os-admin-actions:reset_state", ADMIN, "Reset the state of a server."),
    ("os-extended-server-attributes", ADMIN, "See a server's host, hypervisor, user data and the like."),
    ("os-lock-server:lock", MEMBER, "Lock a server."),
    ("os-lock-server:unlock", MEMBER, "Unlock a server."),
    ("os-lock-server:unlock:unlock_override", ADMIN, "Unlock a server that somebody else locked."),
    ("os-admin-actions:inject_network_info", ADMIN, "Have a server's ports read anew."),
    ("os-console-output", MEMBER, "See a server's console log."),
    ("os-remote-consoles", MEMBER, "Open a server's console."),
    ("server-metadata:index", READER, "List a server's metadata."),
    ("server-metadata:show", READER, "Show an item of a server's metadata."),
    ("server-metadata:create", MEMBER, "Add to a server's metadata."),
    ("server-metadata:update_all", MEMBER, "Replace a server's metadata."),
    ("server-metadata:update", MEMBER, "Set an item of a server's metadata."),
    ("server-metadata:delete", MEMBER, "Delete an item of a server's metadata."),
    ("os-server-tags:index", READER, "List a server's tags."),
    ("os-server-tags:show", READER, "Ask whether a server has a tag."),
    ("os-server-tags:update", MEMBER, "Give a server a tag."),
    ("os-server-tags:update_all", MEMBER, "Replace a server's tags."),
    ("os-server-tags:delete", MEMBER, "Take a tag from a server."),
    ("os-server-tags:delete_all", MEMBER, "Take all tags from a server."),
    ("ips:index", READER, "List a server's addresses."),
    ("ips:show", READER, "List a server's addresses in one network."),
    ("os-security-groups:list", READER, "List the security groups of a server."),
    ("os-security-groups:add", MEMBER, "Put a server into a security group."),
    ("os-security-groups:remove", MEMBER, "Take a server out of a security group."),
    ("os-migrations:index", MANAGER, "List the migrations of one's project, without their hosts."),
    ("os-migrations:index:all_projects", ADMIN, "List the migrations of every project."),
    ("os-migrations:index:host", ADMIN, "See the hosts of migrations."),
    ("servers:migrations:index", MANAGER, "List a server's live migrations under way, without their hosts."),
    ("servers:migrations:index:host", ADMIN, "See the hosts of a server's live migrations."),
    ("servers:migrations:show", ADMIN, "Show a server's live migration under way."),
    ("servers:migrations:delete", MANAGER, "Abort a server's live migration."),
    ("servers:migrations:force_complete", MANAGER, "Force a server's live migration to complete."),
    ("os-instance-actions:list", READER, "List what happened to a server."),
    ("os-instance-actions:show", READER, "Show something that happened to a server."),
    ("os-instance-actions:events", ADMIN, "See tracebacks and hosts of what happened (and below 2.51, events at all)."),
    ("os-instance-actions:events:details", ADMIN, "See why an event failed (from 2.84)."),
)
_RESOURCES = (
    ("os-security-groups:get", READER, "List security groups (below 2.36)."),
    ("os-security-groups:show", READER, "Show a security group (below 2.36)."),
    ("os-security-groups:create", MEMBER, "Create a security group (below 2.36)."),
    ("os-security-groups:update", MEMBER, "Change a security group (below 2.36)."),
    ("os-security-groups:delete", MEMBER, "Delete a security group (below 2.36)."),
    ("os-security-groups:rule:create", MEMBER, "Add a rule to a security group (below 2.36)."),
    ("os-security-groups:rule:delete", MEMBER, "Delete a rule of a security group (below 2.36)."),
    ("os-server-groups:index", READER, "List server groups."),
    ("os-server-groups:index:all_projects", ADMIN, "List the server groups of every project."),
    ("os-server-groups:show", READER, "Show a server group."),
    ("os-server-groups:create", MEMBER, "Make a server group."),
    ("os-server-groups:delete", MEMBER, "Delete a server group."),
    ("flavors", ANY, "List and show flavors: Nova asks no rule."),
    ("os-flavor-extra-specs:index", READER, "List a flavor's extra specs, and see them in the flavor (from 2.61)."),
    ("os-flavor-extra-specs:show", READER, "Show one of a flavor's extra specs."),
    ("os-flavor-extra-specs:create", ADMIN, "Give a flavor extra specs."),
    ("os-flavor-extra-specs:update", ADMIN, "Change one of a flavor's extra specs."),
    ("os-flavor-extra-specs:delete", ADMIN, "Take an extra spec from a flavor."),
    ("os-flavor-access", ADMIN, "List the projects that may use a private flavor."),
    ("os-flavor-access:add_tenant_access", ADMIN, "Let a project use a private flavor."),
    ("os-flavor-access:remove_tenant_access", ADMIN, "Let a project use a private flavor no longer."),
    ("os-flavor-manage:create", ADMIN, "Create a flavor."),
    ("os-flavor-manage:update", ADMIN, "Change a flavor's description (from 2.55)."),
    ("os-flavor-manage:delete", ADMIN, "Delete a flavor."),
    ("os-keypairs:index", KEY_OWNER, "List keypairs of a user."),
    ("os-keypairs:show", KEY_OWNER, "Show a keypair of a user."),
    ("os-keypairs:create", KEY_OWNER, "Create or import a keypair of a user."),
    ("os-keypairs:delete", KEY_OWNER, "Delete a keypair of a user."),
    ("limits", ANY, "Show the limits of one's project."),
    ("limits:other_project", ADMIN, "Show the limits of another project."),
    ("os-quota-sets:show", READER, "Show a project's quotas."),
    ("os-quota-sets:detail", READER, "Show a project's quotas with what is used."),
    ("os-quota-sets:defaults", ANY, "Show the default quotas."),
    ("os-quota-sets:update", ADMIN, "Change a project's quotas."),
    ("os-quota-sets:delete", ADMIN, "Give a project the default quotas."),
    ("os-quota-class-sets:show", ADMIN, "Show the quotas of a class."),
    ("os-quota-class-sets:update", ADMIN, "Change the quotas of a class."),
    ("os-availability-zone:list", ANY, "List availability zones."),
    ("os-availability-zone:detail", ADMIN, "List availability zones with their hosts."),
    ("os-services:list", ADMIN, "List compute services."),
    ("os-services:update", ADMIN, "Enable, disable or force down a compute service."),
    ("os-services:delete", ADMIN, "Remove a compute service."),
    ("os-hypervisors:list", ADMIN, "List hypervisors."),
    ("os-hypervisors:list-detail", ADMIN, "List hypervisors with their details."),
    ("os-hypervisors:statistics", ADMIN, "Show the sums over all hypervisors (below 2.88)."),
    ("os-hypervisors:show", ADMIN, "Show a hypervisor."),
    ("os-hypervisors:uptime", ADMIN, "Show a hypervisor's uptime (below 2.88)."),
    ("os-hypervisors:search", ADMIN, "Search hypervisors by name (below 2.53)."),
    ("os-hypervisors:servers", ADMIN, "List servers of the hypervisors of a name (below 2.53)."),
    ("os-aggregates:index", ADMIN, "List aggregates of hosts."),
    ("os-aggregates:show", ADMIN, "Show an aggregate of hosts."),
    ("os-aggregates:create", ADMIN, "Create an aggregate of hosts."),
    ("os-aggregates:update", ADMIN, "Change an aggregate's name or availability zone."),
    ("os-aggregates:delete", ADMIN, "Delete an aggregate of hosts."),
    ("os-aggregates:add_host", ADMIN, "Put a host into an aggregate."),
    ("os-aggregates:remove_host", ADMIN, "Take a host out of an aggregate."),
    ("os-aggregates:set_metadata", ADMIN, "Change an aggregate's metadata."),
    ("compute:aggregates:images", ADMIN, "Have an aggregate's hosts fetch images."),
    ("os-simple-tenant-usage:list", ADMIN, "List what every project used."),
    ("os-simple-tenant-usage:show", READER, "Show what a project used."),
    ("os-console-auth-tokens", ADMIN, "See where the token of a console leads."),
    ("os-hosts:list", ADMIN, "List hosts (below 2.43)."),
    ("os-hosts:show", ADMIN, "Show what a host has and what is used of it (below 2.43)."),
    ("os-hosts:update", ADMIN, "Enable or disable a host (below 2.43)."),
    ("os-hosts:start", ADMIN, "Start a host (below 2.43): none here does."),
    ("os-hosts:shutdown", ADMIN, "Shut a host down (below 2.43): none here does."),
    ("os-hosts:reboot", ADMIN, "Reboot a host (below 2.43): none here does."),
    ("os-instance-usage-audit-log:list", ADMIN, "See which hosts have reported the usage of the last month."),
    ("os-instance-usage-audit-log:show", ADMIN, "See which hosts have reported the usage of a month."),
    ("os-assisted-volume-snapshots:create", SERVICE, "Snapshot a volume that lies as a file on a host."),
    ("os-assisted-volume-snapshots:delete", SERVICE, "Delete a snapshot of a volume that lies as a file on a host."),
    ("os-baremetal-nodes:list", ADMIN, "List nodes of Ironic's (below 2.36): there is none here."),
    ("os-baremetal-nodes:show", ADMIN, "Show a node of Ironic's (below 2.36): there is none here."),
    (
        "images",
        ANY,
        "Use the image service below 2.36, images' metadata below 2.39: Nova asks no rule, Glance its own.",
    ),
    ("extensions", ANY, "List and show the extensions of the API."),
)
_OWN = (
    ("cellcloud:operator", ADMIN, "Use the operators' API, and cellctl over it."),
    ("cellcloud:gone", ANY, "Be told that an API of Nova's is gone: Nova asks no rule."),
)


def list_rules() -> list[RuleDefault]:
    """Defaults of the Compute API, and the rules of roles that those of all services build on."""
    named = [
        *_ROLES,
        *(
            (f"os_compute_api:{name}" if not name.startswith("compute:") else name, check, text)
            for name, check, text in (*_SERVERS, *_RESOURCES)
        ),
        *_OWN,
    ]
    return [RuleDefault(name, check, text, scope_types=["project"]) for name, check, text in named]
