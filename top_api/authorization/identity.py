"""Defaults of the embedded identity's rules: Keystone's names, roles and scope types."""

from __future__ import annotations

from oslo_policy.policy import RuleDefault

ANY = "@"
ADMIN = "rule:admin_required"
SYSTEM_READER = "(role:reader and system_scope:all)"
READER = f"{ADMIN} or {SYSTEM_READER}"
SUBJECT = "rule:token_subject"


def _domain(role: str, *targets: str) -> str:
    """Ask for the role in the domain that all of these are in."""
    return f"(role:{role} and {' and '.join(f'domain_id:%(target.{target})s' for target in targets)})"


_OF_PROJECT = "domain_id:%(target.project.domain_id)s and not None:%(target.project.domain_id)s"
PROJECT_READER = f"{READER} or (role:reader and {_OF_PROJECT}) or project_id:%(target.project.id)s"
PROJECT_MANAGER = f"{ADMIN} or (role:manager and {_OF_PROJECT})"
DOMAIN_READER = f"{READER} or {_domain('reader', 'domain_id')}"
USER_READER = f"{READER} or {_domain('reader', 'user.domain_id')} or user_id:%(target.user.id)s"
USER_MANAGER = f"{ADMIN} or {_domain('manager', 'user.domain_id')}"
GROUP_READER = f"{READER} or {_domain('reader', 'group.domain_id')}"
GROUP_MANAGER = f"{ADMIN} or {_domain('manager', 'group.domain_id')}"
MEMBER_READER = f"{READER} or {_domain('reader', 'group.domain_id', 'user.domain_id')}"
MEMBER_MANAGER = f"{ADMIN} or {_domain('manager', 'group.domain_id', 'user.domain_id')}"
OWNER = "user_id:%(user_id)s"
_ROLE_THERE = "(domain_id:%(target.role.domain_id)s or None:%(target.role.domain_id)s)"


def _grants(role: str) -> str:
    """Ask for the role in the domain that both the actor and the scope of a grant are in."""
    pairs = [(actor, scope) for actor in ("user", "group") for scope in ("project.domain_id", "domain.id")]
    return f"({' or '.join(_domain(role, f'{actor}.domain_id', scope) for actor, scope in pairs)})"


GRANT_READER = f"{READER} or ({_grants('reader')} and {_ROLE_THERE})"
GRANT_LISTER = f"{READER} or {_grants('reader')}"
GRANT_MANAGER = (
    f"{ADMIN} or ({_grants('admin')} and {_ROLE_THERE}) or ({_grants('manager')} and rule:domain_managed_target_role)"
)
CREDENTIAL_OWNER = "user_id:%(target.credential.user_id)s"
_NAMED = (
    ("admin_required", "role:admin or is_admin:1", "Who administrates the cloud."),
    ("service_role", "role:service", "The services themselves."),
    ("token_subject", "user_id:%(target.token.user_id)s", "Whose token it is."),
    (
        "domain_managed_target_role",
        "'manager':%(target.role.name)s or 'member':%(target.role.name)s or 'reader':%(target.role.name)s",
        "The roles that a domain's manager may grant.",
    ),
)
ANYWHERE, NOT_DOMAIN = ("system", "domain", "project"), ("system", "project")
_Rule = tuple[str, str, str]
_VERBS = ("create", "update", "delete")
_DIRECTORY: tuple[_Rule, ...] = (
    ("validate_token", f"{READER} or rule:service_role or {SUBJECT}", "See whose a token is."),
    ("revoke_token", f"{ADMIN} or {SUBJECT}", "Revoke a token."),
    ("list_domains", f"{READER} or {_domain('reader', 'domain.id')}", "List domains."),
    (
        "get_domain",
        f"{READER} or token.domain.id:%(target.domain.id)s or token.project.domain.id:%(target.domain.id)s",
        "Show a domain.",
    ),
    ("list_projects", DOMAIN_READER, "List projects."),
    ("get_project", PROJECT_READER, "Show a project."),
    ("create_project", PROJECT_MANAGER, "Create a project."),
    ("update_project", PROJECT_MANAGER, "Change a project."),
    ("delete_project", PROJECT_MANAGER, "Delete a project."),
    ("list_user_projects", USER_READER, "List the projects that a user has roles in."),
    ("list_project_tags", PROJECT_READER, "List a project's tags."),
    ("get_project_tag", PROJECT_READER, "Ask whether a project has a tag."),
    ("update_project_tags", PROJECT_MANAGER, "Replace a project's tags."),
    ("create_project_tag", PROJECT_MANAGER, "Give a project a tag."),
    ("delete_project_tags", PROJECT_MANAGER, "Take all tags of a project."),
    ("delete_project_tag", PROJECT_MANAGER, "Take a tag of a project."),
    ("list_users", DOMAIN_READER, "List users."),
    ("get_user", USER_READER, "Show a user."),
    ("create_user", USER_MANAGER, "Create a user."),
    ("update_user", USER_MANAGER, "Change a user."),
    ("delete_user", USER_MANAGER, "Delete a user."),
    ("list_groups", GROUP_READER, "List groups."),
    ("get_group", GROUP_READER, "Show a group."),
    ("create_group", GROUP_MANAGER, "Create a group."),
    ("update_group", GROUP_MANAGER, "Change a group."),
    ("delete_group", GROUP_MANAGER, "Delete a group."),
    ("list_groups_for_user", USER_READER, "List the groups that a user is in."),
    ("list_users_in_group", GROUP_READER, "List the users of a group."),
    ("check_user_in_group", MEMBER_READER, "Ask whether a user is in a group."),
    ("add_user_to_group", MEMBER_MANAGER, "Put a user into a group."),
    ("remove_user_from_group", MEMBER_MANAGER, "Take a user out of a group."),
    ("get_role", f"{READER} or (role:manager and rule:domain_managed_target_role)", "Show a role."),
    ("list_roles", f"{READER} or (role:manager and not domain_id:None)", "List roles."),
    ("list_role_assignments", DOMAIN_READER, "List who has which role where."),
    ("list_role_assignments_for_tree", DOMAIN_READER, "List who has which role in a project and below it."),
    ("list_grants", GRANT_LISTER, "List the roles of a user or group in a project or domain."),
    ("check_grant", GRANT_READER, "Ask whether a user or group has a role in a project or domain."),
    ("create_grant", GRANT_MANAGER, "Give a user or group a role in a project or domain."),
    ("revoke_grant", GRANT_MANAGER, "Take a role of a user or group in a project or domain."),
    ("list_regions", ANY, "List regions."),
    ("get_region", ANY, "Show a region."),
)
_CLOUD: tuple[_Rule, ...] = (
    *((f"{verb}_domain", ADMIN, f"{verb.capitalize()} a domain.") for verb in _VERBS),
    *((f"{verb}_role", ADMIN, f"{verb.capitalize()} a role.") for verb in _VERBS),
    *((f"{verb}_domain_role", ADMIN, f"{verb.capitalize()} a role of a domain.") for verb in _VERBS),
    ("get_domain_role", READER, "Show a role of a domain."),
    ("list_domain_roles", READER, "List roles of a domain."),
    ("list_implied_roles", READER, "List what a role implies."),
    ("get_implied_role", READER, "Show that a role implies another."),
    ("check_implied_role", READER, "Ask whether a role implies another."),
    ("list_role_inference_rules", READER, "List what roles imply."),
    ("create_implied_role", ADMIN, "Have a role imply another."),
    ("delete_implied_role", ADMIN, "Have a role imply another no more."),
    *(
        rule
        for actor in ("user", "group")
        for rule in (
            (f"list_system_grants_for_{actor}", READER, f"List the roles of a {actor} in the system."),
            (f"check_system_grant_for_{actor}", READER, f"Ask whether a {actor} has a role in the system."),
            (f"create_system_grant_for_{actor}", ADMIN, f"Give a {actor} a role in the system."),
            (f"revoke_system_grant_for_{actor}", ADMIN, f"Take a role of a {actor} in the system."),
        )
    ),
    *(
        rule
        for kind, shown in (("service", "services"), ("endpoint", "endpoints"))
        for rule in (
            (f"list_{shown}", READER, f"List {shown}."),
            (f"get_{kind}", READER, f"Show one of the {shown}."),
            *((f"{verb}_{kind}", ADMIN, f"{verb.capitalize()} one of the {shown}.") for verb in _VERBS),
        )
    ),
    *((f"{verb}_region", ADMIN, f"{verb.capitalize()} a region.") for verb in _VERBS),
)
_CREDENTIAL_READER = f"{READER} or {CREDENTIAL_OWNER}"
_CREDENTIALS: tuple[_Rule, ...] = (
    ("get_credential", _CREDENTIAL_READER, "Show a credential."),
    ("list_credentials", _CREDENTIAL_READER, "List credentials."),
    ("create_credential", f"{ADMIN} or {CREDENTIAL_OWNER}", "Create a credential."),
    ("update_credential", f"{ADMIN} or {CREDENTIAL_OWNER}", "Change a credential."),
    ("delete_credential", f"{ADMIN} or {CREDENTIAL_OWNER}", "Delete a credential."),
    ("get_limit_model", ANY, "See how limits are meant."),
    (
        "get_limit",
        f"{READER} or domain_id:%(target.limit.domain.id)s or domain_id:%(target.limit.project.domain_id)s"
        " or (project_id:%(target.limit.project_id)s and not None:%(target.limit.project_id)s)",
        "Show a limit.",
    ),
    ("list_limits", ANY, "List limits."),
    ("get_registered_limit", ANY, "Show a registered limit."),
    ("list_registered_limits", ANY, "List registered limits."),
)
_MEMBERS_OWN = f"{ADMIN} or (role:member and {CREDENTIAL_OWNER})"
_OF_USERS: tuple[_Rule, ...] = (
    ("get_access_rule", f"{SYSTEM_READER} or user_id:%(target.user.id)s", "Show a rule of access."),
    ("list_access_rules", f"{SYSTEM_READER} or user_id:%(target.user.id)s", "List a user's rules of access."),
    (
        "delete_access_rule",
        "(role:admin and system_scope:all) or user_id:%(target.user.id)s",
        "Delete a rule of access.",
    ),
    ("get_application_credential", f"{READER} or {OWNER}", "Show an application credential."),
    ("list_application_credentials", f"{READER} or {OWNER}", "List a user's application credentials."),
    ("delete_application_credential", f"{ADMIN} or {OWNER}", "Delete an application credential."),
    ("ec2_get_credential", _CREDENTIAL_READER, "Show a credential of EC2's."),
    ("ec2_list_credentials", f"{READER} or {OWNER}", "List a user's credentials of EC2's."),
    ("ec2_create_credential", _MEMBERS_OWN, "Create a credential of EC2's."),
    ("ec2_delete_credential", _MEMBERS_OWN, "Delete a credential of EC2's."),
    ("ec2tokens_validate", f"{ADMIN} or rule:service_role", "Learn who signed a request as EC2 has it."),
    ("s3tokens_validate", f"{ADMIN} or rule:service_role", "Learn who signed a request as S3 has it."),
    ("create_limits", ADMIN, "Create limits."),
    ("update_limit", ADMIN, "Change a limit."),
    ("delete_limit", ADMIN, "Delete a limit."),
    ("create_registered_limits", ADMIN, "Register limits."),
    ("update_registered_limit", ADMIN, "Change a registered limit."),
    ("delete_registered_limit", ADMIN, "Delete a registered limit."),
)
_IN_PROJECT: tuple[_Rule, ...] = (
    ("create_application_credential", OWNER, "Create an application credential of one's own."),
)
# Of who has a token, whatever it is for.
_OF_ONESELF: tuple[_Rule, ...] = (
    ("get_auth_catalog", ANY, "See the catalog of services."),
    ("get_auth_projects", ANY, "List the projects one has roles in."),
    ("get_auth_domains", ANY, "List the domains one has roles in."),
    ("get_auth_system", ANY, "See whether one has a role in the system."),
)


def list_rules() -> list[RuleDefault]:
    """Return the defaults of the embedded identity's rules."""
    named = [RuleDefault(name, check, text, scope_types=list(ANYWHERE)) for name, check, text in _NAMED]
    for rules, scopes in (
        ((*_DIRECTORY, *_CREDENTIALS, *_OF_ONESELF), ANYWHERE),
        ((*_CLOUD, *_OF_USERS), NOT_DOMAIN),
        (_IN_PROJECT, ("project",)),
    ):
        for name, check, text in rules:
            named.append(RuleDefault(f"identity:{name}", check, text, scope_types=list(scopes)))
    return named
