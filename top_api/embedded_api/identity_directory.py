"""Identity v3 over the embedded identity: domains, and projects in trees with their tags."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cellcloud import errors
from cellcloud.db.listing import ALL
from cellcloud.embedded.identity_collections import new_id
from cellcloud.model.identity import Domain, Project
from top_api.embedded_api import identity_list_filters, identity_targets, identity_views
from top_api.embedded_api.error_formats import IDENTITY
from top_api.embedded_api.identity_list_filters import listed
from top_api.embedded_api.identity_schemas import (
    DOMAIN,
    DOMAIN_COLUMNS,
    DOMAIN_UPDATE,
    PROJECT,
    PROJECT_COLUMNS,
    PROJECT_UPDATE,
    TAG,
    TAGS,
    check_unchanged,
    fields_of,
)
from top_api.embedded_api.lists import all_pairs
from top_api.request_pipeline import Answer, Call, Resource
from top_api.validation import Versioned, check_body

directory = Resource("identity_directory", IDENTITY)
_DOMAIN = "/v3/domains/<domain_id>"
_PROJECT = "/v3/projects/<project_id>"


# ---- domains -------------------------------------------------------------------------------------------------------
@directory.route("GET", "/v3/domains", "identity:list_domains", lookup=identity_targets.of_list("target.domain.id"))
def domains(call: Call) -> dict[str, Any]:
    page = identity_list_filters.DOMAINS.page(call)
    equals = {"id": call.context.domain_id} if call.context.domain_id else {}
    found = call.embedded.identity.directory.domains.list_all(page, **equals)
    return listed(call, "domains", [identity_views.domain(call, domain) for domain in found], page)


@directory.route("POST", "/v3/domains", "identity:create_domain", status=201, body=DOMAIN)
def create_domain(call: Call) -> dict[str, Any]:
    return {"domain": identity_views.domain(call, _create_domain(call, call.body["domain"]))}


def _create_domain(call: Call, given: dict[str, Any]) -> Domain:
    wanted = fields_of(given, DOMAIN_COLUMNS)
    return call.embedded.identity.directory.domains.create(
        Domain(id=given.get("explicit_domain_id") or new_id(), **wanted)
    )


@directory.route("GET", _DOMAIN, "identity:get_domain", lookup=identity_targets.of_path)
def show_domain(call: Call, domain_id: str) -> dict[str, Any]:
    return {"domain": identity_views.domain(call, call.embedded.identity.directory.domains.get(domain_id))}


@directory.route("PATCH", _DOMAIN, "identity:update_domain", lookup=identity_targets.of_path, body=DOMAIN_UPDATE)
def update_domain(call: Call, domain_id: str) -> dict[str, Any]:
    changes = fields_of(call.body["domain"], DOMAIN_COLUMNS, known_id=domain_id)
    return {"domain": identity_views.domain(call, call.embedded.identity.directory.domains.update(domain_id, changes))}


@directory.route("DELETE", _DOMAIN, "identity:delete_domain", lookup=identity_targets.of_path, status=204)
def delete_domain(call: Call, domain_id: str) -> None:
    call.embedded.identity.directory.domains.delete(domain_id)


# ---- projects ------------------------------------------------------------------------------------------------------
@directory.route("GET", "/v3/projects", "identity:list_projects", lookup=identity_targets.of_list("target.domain_id"))
def projects(call: Call) -> dict[str, Any]:
    page = identity_list_filters.PROJECTS.page(call)
    identity, own = call.embedded.identity, call.context.domain_id
    if identity_list_filters.wants_domains(call):
        page = identity_list_filters.DOMAINS.page(call)
        domains = (
            []
            if {"domain_id", "parent_id"} & set(call.query)
            else identity.directory.domains.list_all(page, **({"id": own} if own else {}))
        )
        return listed(call, "projects", [identity_views.domain_as_project(call, domain) for domain in domains], page)
    found = identity.directory.projects.list_all(page, **({"domain_id": own} if own else {}))
    return listed(call, "projects", [identity_views.project(call, project) for project in found], page)


@directory.route(
    "POST",
    "/v3/projects",
    "identity:create_project",
    lookup=identity_targets.of_new("project"),
    status=201,
    body=PROJECT,
)
def create_project(call: Call) -> dict[str, Any]:
    given = call.body["project"]
    if given.get("is_domain"):
        if given.get("parent_id") or given.get("domain_id"):
            raise errors.Invalid("is_domain: only root projects are allowed to act as domains.")
        call.target = {}
        call.check("identity:create_domain")
        return {"project": identity_views.domain_as_project(call, _create_domain(call, given))}
    identity = call.embedded.identity
    domain_id, parent_id = _place(call, given)
    call.target = {"target.project.domain_id": domain_id}
    call.check("identity:create_project")
    project = Project(id=new_id(), domain_id=domain_id, parent_id=parent_id, **fields_of(given, PROJECT_COLUMNS))
    return {"project": identity_views.project(call, identity.directory.projects.create(project))}


def _place(call: Call, given: dict[str, Any]) -> tuple[str, str | None]:
    """Return the domain of a new project, and its parent where that is a project. Raises NotFound."""
    parent_id, domain_id = given.get("parent_id"), given.get("domain_id")
    if parent_id is None:
        return identity_targets.home_of(call, given), None
    identity = call.embedded.identity
    try:
        parent = identity.directory.projects.get(parent_id)
    except errors.NotFound:
        try:
            identity.directory.domains.get(parent_id)
        except errors.NotFound:
            raise errors.NotFound(f"Could not find project: {parent_id}.") from None
        if domain_id not in (None, parent_id):
            raise errors.Invalid("parent_id: the parent is acting as a domain, and domain_id names another.") from None
        return parent_id, None
    return domain_id or parent.domain_id, parent.id


@directory.route("GET", _PROJECT, "identity:get_project", lookup=identity_targets.of_path)
def show_project(call: Call, project_id: str) -> dict[str, Any]:
    identity = call.embedded.identity
    try:
        project = identity.directory.projects.get(project_id)
    except errors.NotFound:
        domain = _domain_or_raise(call, project_id)
        return {"project": identity_views.domain_as_project(call, domain)}
    return {"project": identity_views.project(call, project) | _relatives(call, project)}


def _domain_or_raise(call: Call, project_id: str) -> Domain:
    try:
        return call.embedded.identity.directory.domains.get(project_id)
    except errors.NotFound:
        raise errors.NotFound(f"Could not find project: {project_id[:64]}.") from None


def _relatives(call: Call, project: Project) -> dict[str, Any]:
    """Return what the query asks about the tree that a project is in. Raises Invalid."""
    asked = {name for name, value in all_pairs(call.query) if identity_list_filters.is_true(value)}
    found: dict[str, Any] = {}
    identity = call.embedded.identity
    for relation in ("parents", "subtree"):
        as_list, as_ids = f"{relation}_as_list", f"{relation}_as_ids"
        if {as_list, as_ids} <= asked:
            raise errors.Invalid(f"Cannot use {as_list} and {as_ids} query params at the same time.")
        if not {as_list, as_ids} & asked:
            continue
        above = relation == "parents"
        tree = identity.directory
        relatives = tree.list_ancestors(project.id) if above else tree.list_descendants(project.id)
        if as_ids in asked:
            found[relation] = _parents(project, relatives) if above else _subtree(project.id, relatives)
            continue
        mine = {own.id for own in identity.assignments.list_projects_of(call.context.user_id)}
        found[relation] = [
            {"project": identity_views.project(call, relative)} for relative in relatives if relative.id in mine
        ]
    return found


def _parents(project: Project, ancestors: Sequence[Project]) -> dict[str, Any]:
    """Return the ids above a project, each within the one below it; a domain is above all."""
    tree: dict[str, Any] | None = None
    for above in reversed([*(ancestor.id for ancestor in ancestors), project.domain_id]):
        tree = {above: tree}
    return tree or {}


def _subtree(project_id: str, descendants: Sequence[Project]) -> dict[str, Any] | None:
    children: dict[str | None, list[str]] = {}
    for project in descendants:
        children.setdefault(project.parent_id, []).append(project.id)

    def below(one: str) -> dict[str, Any] | None:
        return {child: below(child) for child in children[one]} if one in children else None

    return below(project_id)


@directory.route("PATCH", _PROJECT, "identity:update_project", lookup=identity_targets.of_path, body=PROJECT_UPDATE)
def update_project(call: Call, project_id: str) -> dict[str, Any]:
    given, identity = call.body["project"], call.embedded.identity
    changes = fields_of(given, PROJECT_COLUMNS, known_id=project_id)
    try:
        before = identity.directory.projects.get(project_id)
    except errors.NotFound:
        _domain_or_raise(call, project_id)
        check_unchanged(given, domain_id=None, parent_id=None, is_domain=True)
        call.check("identity:update_domain")
        return {
            "project": identity_views.domain_as_project(call, identity.directory.domains.update(project_id, changes))
        }
    check_unchanged(given, domain_id=before.domain_id, is_domain=False)
    if given.get("parent_id", before.parent_id or before.domain_id) != (before.parent_id or before.domain_id):
        raise errors.Forbidden("Update of `parent_id` is not allowed.")
    return {"project": identity_views.project(call, identity.directory.projects.update(project_id, changes))}


@directory.route("DELETE", _PROJECT, "identity:delete_project", lookup=identity_targets.of_path, status=204)
def delete_project(call: Call, project_id: str) -> None:
    identity = call.embedded.identity
    try:
        identity.directory.projects.delete(project_id)
    except errors.NotFound:
        _domain_or_raise(call, project_id)
        call.check("identity:delete_domain")
        identity.directory.domains.delete(project_id)


@directory.route("GET", "/v3/users/<user_id>/projects", "identity:list_user_projects", lookup=identity_targets.of_path)
def projects_of(call: Call, user_id: str) -> dict[str, Any]:
    call.embedded.identity.accounts.users.get(user_id)
    page = identity_list_filters.PROJECTS_OF_USER.page(call)
    found = call.embedded.identity.assignments.list_projects_of(user_id, page)
    return listed(call, "projects", [identity_views.project(call, project) for project in found], page)


# ---- tags ----------------------------------------------------------------------------------------------------------
_ONE_TAG = f"{_PROJECT}/tags/<value>"
_ITS_NAME = Versioned(TAG)


def _tagged(call: Call, project_id: str, tags: Sequence[str]) -> tuple[str, ...]:
    if len(tags) > 80:
        raise errors.Invalid("A project has at most 80 tags.")
    return call.embedded.identity.directory.projects.update(project_id, {"tags": list(tags)}).tags


@directory.route("GET", f"{_PROJECT}/tags", "identity:list_project_tags", lookup=identity_targets.of_path)
def tags(call: Call, project_id: str) -> dict[str, Any]:
    found = call.embedded.identity.directory.projects.get(project_id).tags
    return {"tags": list(found), "links": identity_list_filters.links(call, (), ALL)}


@directory.route("PUT", f"{_PROJECT}/tags", "identity:update_project_tags", lookup=identity_targets.of_path, body=TAGS)
def replace_tags(call: Call, project_id: str) -> dict[str, Any]:
    found = _tagged(call, project_id, call.body["tags"])
    return {"tags": list(found), "links": identity_list_filters.links(call, (), ALL)}


@directory.route(
    "DELETE", f"{_PROJECT}/tags", "identity:delete_project_tags", lookup=identity_targets.of_path, status=204
)
def delete_tags(call: Call, project_id: str) -> None:
    _tagged(call, project_id, ())


@directory.route("GET", _ONE_TAG, "identity:get_project_tag", lookup=identity_targets.of_path, status=204)
def has_tag(call: Call, project_id: str, value: str) -> None:
    if value not in call.embedded.identity.directory.projects.get(project_id).tags:
        raise errors.NotFound(f"Could not find project tag: {value[:64]}.")


@directory.route("PUT", _ONE_TAG, "identity:create_project_tag", lookup=identity_targets.of_path, status=201)
def add_tag(call: Call, project_id: str, value: str) -> Answer:
    check_body(_ITS_NAME, call.version, value, words=IDENTITY.words)
    call.embedded.identity.directory.add_tag(project_id, value)
    return Answer(
        status=201, headers={"Location": f"{identity_views.root(call)}/v3/projects/{project_id}/tags/{value}"}
    )


@directory.route("DELETE", _ONE_TAG, "identity:delete_project_tag", lookup=identity_targets.of_path, status=204)
def delete_tag(call: Call, project_id: str, value: str) -> None:
    call.embedded.identity.directory.delete_tag(project_id, value)
