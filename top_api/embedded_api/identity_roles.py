"""Identity v3 over the embedded identity: roles, what they imply, and grants in projects, domains and the system."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cellcloud import errors
from cellcloud.embedded.identity_collections import new_id
from cellcloud.model.identity import (
    DOMAIN,
    GROUP,
    PROJECT,
    SYSTEM,
    USER,
    WHOLE_SYSTEM,
    Grant,
    IdentityRole,
)
from top_api.embedded_api import identity_list_filters, identity_targets, identity_views
from top_api.embedded_api.error_formats import IDENTITY
from top_api.embedded_api.identity_list_filters import listed
from top_api.embedded_api.identity_schemas import ROLE, ROLE_COLUMNS, ROLE_UPDATE, check_unchanged, fields_of
from top_api.request_pipeline import Call, Resource

roles_and_grants = Resource("identity_roles", IDENTITY)
_ROLE = "/v3/roles/<role_id>"
_IMPLIED = "/v3/roles/<prior_role_id>/implies/<implied_role_id>"


# ---- roles ---------------------------------------------------------------------------------------------------------
@roles_and_grants.route("GET", "/v3/roles", "identity:list_roles", lookup=identity_targets.of_path)
def roles(call: Call) -> dict[str, Any]:
    page = identity_list_filters.ROLES.page(call)
    of_domain = "domain_id" in call.query
    if of_domain:
        call.check("identity:list_domain_roles")
    found = call.embedded.identity.assignments.roles.list_all(page, **({} if of_domain else {"domain_id": ""}))
    if call.context.domain_id:  # whoever manages a domain sees what it may grant
        found = [role for role in found if _may_see(call, role)]
    return listed(call, "roles", [identity_views.role(call, role) for role in found], page)


def _may_see(call: Call, role: IdentityRole) -> bool:
    call.target = {"target.role.name": role.name, "target.role.domain_id": role.domain_id or None}
    return call.allows("identity:get_role")


@roles_and_grants.route("POST", "/v3/roles", "identity:create_role", status=201, body=ROLE)
def create_role(call: Call) -> dict[str, Any]:
    given = call.body["role"]
    domain_id = given.get("domain_id") or ""
    if domain_id:
        call.check("identity:create_domain_role")
    fields = fields_of(given, ROLE_COLUMNS, nullable=("description",))
    role = IdentityRole(id=new_id(), domain_id=domain_id, **fields)
    return {"role": identity_views.role(call, call.embedded.identity.assignments.roles.create(role))}


@roles_and_grants.route("GET", _ROLE, "identity:get_role", lookup=identity_targets.of_path)
def show_role(call: Call, role_id: str) -> dict[str, Any]:
    return {"role": identity_views.role(call, _role(call, role_id, "identity:get_domain_role"))}


@roles_and_grants.route("PATCH", _ROLE, "identity:update_role", lookup=identity_targets.of_path, body=ROLE_UPDATE)
def update_role(call: Call, role_id: str) -> dict[str, Any]:
    given = call.body["role"]
    changes = fields_of(given, ROLE_COLUMNS, known_id=role_id, nullable=("description",))
    before = _role(call, role_id, "identity:update_domain_role")
    check_unchanged(given, domain_id=before.domain_id or None)
    return {"role": identity_views.role(call, call.embedded.identity.assignments.roles.update(role_id, changes))}


@roles_and_grants.route("DELETE", _ROLE, "identity:delete_role", lookup=identity_targets.of_path, status=204)
def delete_role(call: Call, role_id: str) -> None:
    _role(call, role_id, "identity:delete_domain_role")
    call.embedded.identity.assignments.roles.delete(role_id)


def _role(call: Call, role_id: str, rule: str) -> IdentityRole:
    """Find a role. ``rule``: what is asked about one of a domain. Raises NotFound, Forbidden."""
    role = call.embedded.identity.assignments.roles.get(role_id)
    if role.domain_id:
        call.check(rule)
    return role


# ---- inference -----------------------------------------------------------------------------------------------------
def _inference(call: Call, prior: IdentityRole, implied: list[IdentityRole]) -> dict[str, Any]:
    return {
        "prior_role": identity_views.short_role(call, prior),
        "implies": [identity_views.short_role(call, role) for role in implied],
    }


@roles_and_grants.route("GET", "/v3/role_inferences", "identity:list_role_inference_rules")
def inferences(call: Call) -> dict[str, Any]:
    assignments = call.embedded.identity.assignments
    known = {role.id: role for role in assignments.roles.list_all()}
    rules = [
        _inference(call, known[prior], [known[implied] for implied in several if implied in known])
        for prior, several in assignments.list_implications().items()
        if prior in known
    ]
    return listed(call, "role_inferences", rules)


@roles_and_grants.route("GET", "/v3/roles/<prior_role_id>/implies", "identity:list_implied_roles")
def implied_roles(call: Call, prior_role_id: str) -> dict[str, Any]:
    assignments = call.embedded.identity.assignments
    prior = assignments.roles.get(prior_role_id)
    known = {role.id: role for role in assignments.roles.list_all()}
    implied = [known[one] for one in assignments.list_implications().get(prior.id, ()) if one in known]
    links = {"self": f"{identity_views.root(call)}/v3/roles/{prior.id}/implies"}
    return {"role_inference": _inference(call, prior, implied), "links": links}


def _rule(call: Call, prior_id: str, implied_id: str) -> dict[str, Any]:
    roles = call.embedded.identity.assignments.roles
    prior, implied = roles.get(prior_id), roles.get(implied_id)
    links = {"self": f"{identity_views.root(call)}/v3/roles/{prior.id}/implies/{implied.id}"}
    views = {"prior_role": identity_views.short_role(call, prior), "implies": identity_views.short_role(call, implied)}
    return {"role_inference": views, "links": links}


def _check_rule(call: Call, prior_id: str, implied_id: str) -> None:
    if implied_id not in call.embedded.identity.assignments.list_implications().get(prior_id, ()):
        raise errors.NotFound(f"{prior_id[:64]} does not imply {implied_id[:64]}.")


@roles_and_grants.route("HEAD", _IMPLIED, "identity:check_implied_role", status=204)
def has_implied_role(call: Call, prior_role_id: str, implied_role_id: str) -> None:
    _check_rule(call, prior_role_id, implied_role_id)


@roles_and_grants.route("GET", _IMPLIED, "identity:get_implied_role")
def show_implied_role(call: Call, prior_role_id: str, implied_role_id: str) -> dict[str, Any]:
    _check_rule(call, prior_role_id, implied_role_id)
    return _rule(call, prior_role_id, implied_role_id)


@roles_and_grants.route("PUT", _IMPLIED, "identity:create_implied_role", status=201)
def add_implied_role(call: Call, prior_role_id: str, implied_role_id: str) -> dict[str, Any]:
    call.embedded.identity.assignments.add_implication(prior_role_id, implied_role_id)
    return _rule(call, prior_role_id, implied_role_id)


@roles_and_grants.route("DELETE", _IMPLIED, "identity:delete_implied_role", status=204)
def remove_implied_role(call: Call, prior_role_id: str, implied_role_id: str) -> None:
    call.embedded.identity.assignments.remove_implication(prior_role_id, implied_role_id)


# ---- grants --------------------------------------------------------------------------------------------------------
def _grant(arguments: Mapping[str, str], inherited: bool) -> Grant:
    """Return the grant that the words of a path are about; without a role, where they name none."""
    actor = USER if "user_id" in arguments else GROUP
    scope = next((kind for kind in (PROJECT, DOMAIN) if f"{kind}_id" in arguments), SYSTEM)
    return Grant(
        actor=actor,
        actor_id=arguments[f"{actor}_id"],
        scope=scope,
        scope_id=WHOLE_SYSTEM if scope == SYSTEM else arguments[f"{scope}_id"],
        role_id=arguments.get("role_id", ""),
        inherited=inherited,
    )


def _list_grants(inherited: bool) -> Callable[..., Any]:
    def handler(call: Call, **arguments: str) -> dict[str, Any]:
        wanted = _grant(arguments, inherited)
        assignments = call.embedded.identity.assignments
        assignments.check_parties(wanted)
        known = {role.id: role for role in assignments.roles.list_all()}
        found = assignments.list_grants(
            actor=wanted.actor,
            actor_id=wanted.actor_id,
            scope=wanted.scope,
            scope_id=wanted.scope_id,
            inherited=inherited,
        )
        shown = [identity_views.role(call, known[grant.role_id]) for grant in found if grant.role_id in known]
        return listed(call, "roles", shown)

    return handler


def _check_grant(inherited: bool) -> Callable[..., Any]:
    def handler(call: Call, **arguments: str) -> None:
        wanted = _grant(arguments, inherited)
        assignments = call.embedded.identity.assignments
        assignments.check_parties(wanted)
        if wanted not in assignments.list_grants(
            actor_id=wanted.actor_id, scope_id=wanted.scope_id, role_id=wanted.role_id
        ):
            raise errors.NotFound(
                f"Could not find role assignment with role: {wanted.role_id[:64]}, user or group: "
                f"{wanted.actor_id[:64]}, project, domain, or system: {wanted.scope_id[:64]}."
            )

    return handler


def _add_grant(inherited: bool) -> Callable[..., Any]:
    def handler(call: Call, **arguments: str) -> None:
        call.embedded.identity.assignments.add_grant(_grant(arguments, inherited))

    return handler


def _remove_grant(inherited: bool) -> Callable[..., Any]:
    def handler(call: Call, **arguments: str) -> None:
        call.embedded.identity.assignments.remove_grant(_grant(arguments, inherited))

    return handler


def _declare() -> None:
    """Declare the routes of every pair of an actor and a scope, plain and inherited."""
    look_up = identity_targets.of_path
    for actor in (USER, GROUP):
        for scope in (PROJECT, DOMAIN, SYSTEM):
            place = "system" if scope == SYSTEM else f"{scope}s/<{scope}_id>"
            rule = f"system_grant_for_{actor}" if scope == SYSTEM else "grant"
            listing = f"list_system_grants_for_{actor}" if scope == SYSTEM else "list_grants"
            path = f"/v3/{place}/{actor}s/<{actor}_id>/roles"
            ways = [(path, f"{path}/<role_id>", False)]
            if scope != SYSTEM:
                above = f"/v3/OS-INHERIT/{place}/{actor}s/<{actor}_id>/roles"
                ways.append((f"{above}/inherited_to_projects", f"{above}/<role_id>/inherited_to_projects", True))
            for several, one, inherited in ways:
                declare = roles_and_grants.route
                if scope != PROJECT or not inherited:
                    declare("GET", several, f"identity:{listing}", lookup=look_up)(_list_grants(inherited))
                for method, verb, make in (
                    ("GET", "check", _check_grant),
                    ("PUT", "create", _add_grant),
                    ("DELETE", "revoke", _remove_grant),
                ):
                    declare(method, one, f"identity:{verb}_{rule}", lookup=look_up, status=204)(make(inherited))


_declare()


# ---- assignments ---------------------------------------------------------------------------------------------------
@roles_and_grants.route(
    "GET",
    "/v3/role_assignments",
    "identity:list_role_assignments",
    lookup=identity_targets.of_list("target.domain_id"),
)
def assignments(call: Call) -> dict[str, Any]:
    asked = identity_list_filters.read_assignments(call)
    if asked.subtree:
        call.check("identity:list_role_assignments_for_tree")
    found = _effective(call, asked) if asked.effective else _made(call, asked)
    names = _AssignmentViews(call, with_names=asked.include_names)
    return listed(call, "role_assignments", [names.shown(*one) for one in names.visible(found)])


_Found = tuple[Grant, Grant, str | None]  # as it counts, as it was made, and the role that implies it


def _made(call: Call, asked: identity_list_filters.AssignmentQuery) -> list[_Found]:
    service = call.embedded.identity.assignments
    equals = asked.equals
    if asked.subtree and asked.scope is not None:
        equals = {name: value for name, value in equals.items() if name not in ("scope", "scope_id")}
        grants = [
            grant
            for grant in service.list_in_subtree(asked.scope[1])
            if all(getattr(grant, name) == value for name, value in equals.items())
        ]
    else:
        grants = service.list_grants(**equals)
    return [(grant, grant, None) for grant in grants]


def _effective(call: Call, asked: identity_list_filters.AssignmentQuery) -> list[_Found]:
    scope, scope_id = asked.scope or (None, None)
    found = call.embedded.identity.assignments.list_effective(
        user_id=asked.user_id, scope=scope, scope_id=scope_id, subtree=asked.subtree
    )
    return [
        (one.grant, one.source, one.prior_role_id)
        for one in found
        if asked.role_id in (None, one.grant.role_id) and (asked.inherited is None or one.source.inherited)
    ]


class _AssignmentViews:
    """Names of what assignments are about, read once for all of them."""

    def __init__(self, call: Call, *, with_names: bool) -> None:
        self._call = call
        self._with_names = with_names
        identity = call.embedded.identity
        self._of_domain = bool(call.context.domain_id)
        wanted = with_names or self._of_domain
        self._domains = {d.id: d.name for d in identity.directory.domains.list_all()} if wanted else {}
        self._projects = {p.id: p for p in identity.directory.projects.list_all()} if wanted else {}
        self._users = {u.id: u for u in identity.accounts.users.list_all()} if with_names else {}
        self._groups = {g.id: g for g in identity.directory.groups.list_all()} if with_names else {}
        self._roles = {r.id: r for r in identity.assignments.roles.list_all()} if with_names else {}

    def visible(self, found: list[_Found]) -> list[_Found]:
        """Return those in the domain that the caller's token is for, if it is for one."""
        own = self._call.context.domain_id
        if not own:
            return found
        return [one for one in found if self._domain_of(one[0]) == own]

    def _domain_of(self, grant: Grant) -> str | None:
        if grant.scope == PROJECT:
            project = self._projects.get(grant.scope_id)
            return None if project is None else project.domain_id
        return grant.scope_id if grant.scope == DOMAIN else None

    def shown(self, grant: Grant, source: Grant, prior: str | None) -> dict[str, Any]:
        base = f"{identity_views.root(self._call)}/v3"
        if grant.scope == SYSTEM:
            scope: dict[str, Any] = {"system": {"all": True}}
        else:
            scope = {grant.scope: self._place(grant)}
        if source.inherited:
            scope["OS-INHERIT:inherited_to"] = "projects"
        links = {"assignment": f"{base}/{_path(source)}"}
        if source.actor == GROUP and grant.actor == USER:
            links["membership"] = f"{base}/groups/{source.actor_id}/users/{grant.actor_id}"
        if prior is not None:
            links["prior_role"] = f"{base}/prior_role/{prior}/implies/{grant.role_id}"
        actors = self._users if grant.actor == USER else self._groups
        return {
            grant.actor: self._named(actors.get(grant.actor_id), grant.actor_id),
            "scope": scope,
            "role": self._role(grant.role_id),
            "links": links,
        }

    def _place(self, grant: Grant) -> dict[str, Any]:
        if not self._with_names:
            return {"id": grant.scope_id}
        if grant.scope == DOMAIN:
            return {"id": grant.scope_id, "name": self._domains.get(grant.scope_id, "")}
        return self._named(self._projects.get(grant.scope_id), grant.scope_id)

    def _named(self, record: Any, record_id: str) -> dict[str, Any]:
        if record is None:
            return {"id": record_id}
        domain = {"id": record.domain_id, "name": self._domains.get(record.domain_id, "")}
        return {"id": record_id, "name": record.name, "domain": domain}

    def _role(self, role_id: str) -> dict[str, Any]:
        role = self._roles.get(role_id)
        if role is None:
            return {"id": role_id}
        found: dict[str, Any] = {"id": role_id, "name": role.name}
        if role.domain_id:
            found["domain"] = {"id": role.domain_id, "name": self._domains.get(role.domain_id, "")}
        return found


def _path(grant: Grant) -> str:
    place = "system" if grant.scope == SYSTEM else f"{grant.scope}s/{grant.scope_id}"
    path = f"{place}/{grant.actor}s/{grant.actor_id}/roles/{grant.role_id}"
    return f"OS-INHERIT/{path}/inherited_to_projects" if grant.inherited else path
