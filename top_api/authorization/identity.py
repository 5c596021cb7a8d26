"""Defaults of the embedded identity's rules: Keystone's names, roles and scope types.

Tokens are for projects and there is one domain, so that what Keystone's defaults say of tokens for the system or for a
domain can never be true here; the rules say it all the same, for they are meant to be the same.
"""

from __future__ import annotations

from oslo_policy.policy import RuleDefault

ANY = "@"
ADMIN = "rule:admin_required"
READER = "rule:admin_required or (role:reader and system_scope:all)"
SUBJECT = "rule:token_subject"
OWN_USER = f"{READER} or user_id:%(target.user.id)s"
_ROLES = (
    ("admin_required", "role:admin or is_admin:1", "Who administrates the cloud."),
    ("service_role", "role:service", "The services themselves."),
    ("token_subject", "user_id:%(target.token.user_id)s", "Whose token it is."),
)
_RULES = (
    ("get_auth_catalog", ANY, "See the catalog of services."),
    ("get_auth_projects", ANY, "List the projects one has roles in."),
    ("validate_token", f"{READER} or rule:service_role or {SUBJECT}", "See whose a token is."),
    ("revoke_token", f"{ADMIN} or {SUBJECT}", "Revoke a token."),
    ("list_services", READER, "List services."),
    ("get_service", READER, "Show a service."),
    ("list_endpoints", READER, "List endpoints."),
    ("list_regions", ANY, "List regions."),
    ("get_region", ANY, "Show a region."),
    ("list_domains", f"{READER} or (role:reader and domain_id:%(target.domain.id)s)", "List domains."),
    ("get_domain", f"{READER} or 'default':%(target.domain.id)s", "Show a domain."),
    ("list_projects", READER, "List projects."),
    ("get_project", f"{READER} or project_id:%(target.project.id)s", "Show a project."),
    ("create_project", ADMIN, "Create a project."),
    ("update_project", ADMIN, "Change a project."),
    ("delete_project", ADMIN, "Delete a project."),
    ("list_user_projects", OWN_USER, "List the projects that a user has roles in."),
    ("list_users", READER, "List users."),
    ("get_user", OWN_USER, "Show a user."),
    ("create_user", ADMIN, "Create a user."),
    ("update_user", ADMIN, "Change a user."),
    ("delete_user", ADMIN, "Delete a user."),
    ("list_roles", READER, "List roles."),
    ("get_role", READER, "Show a role."),
    ("list_role_assignments", READER, "List who has which role in which project."),
    ("list_grants", READER, "List a user's roles in a project."),
    ("check_grant", READER, "Ask whether a user has a role in a project."),
    ("create_grant", ADMIN, "Give a user a role in a project."),
    ("revoke_grant", ADMIN, "Take a user's role in a project."),
)


def list_rules() -> list[RuleDefault]:
    """Defaults of the embedded identity's rules."""
    named = [*_ROLES, *((f"identity:{name}", check, text) for name, check, text in _RULES)]
    return [RuleDefault(name, check, text, scope_types=["system", "domain", "project"]) for name, check, text in named]
