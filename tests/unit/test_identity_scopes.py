"""Scopes of tokens, and who may do what with them: nobody comes to more than was granted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.identity_api import PASSWORD, SYSTEM, IdentityApi, identity_api, place_of


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdentityApi]:
    with identity_api(tmp_path_factory.mktemp("scopes")) as made:
        yield made


def test_a_token_says_what_it_is_for(api: IdentityApi) -> None:
    domain = api.make("domain")["id"]
    project = api.make("project", domain_id=domain)["id"]
    for scope, shown in (
        ({"project": {"id": project}}, {"project", "is_domain"}),
        ({"domain": {"id": domain}}, {"domain"}),
        (SYSTEM, {"system"}),
    ):
        user_id, token = api.holder("reader", scope, domain)
        body = api.ask("GET", "auth/tokens", None, token, **{"X-Subject-Token": token}).get_json()["token"]
        assert {"project", "domain", "system", "is_domain"} & set(body) == shown
        assert [role["name"] for role in body["roles"]] == ["reader"]
        assert body["user"]["domain"]["id"] == domain
        assert body["catalog"]
        caller = api.identity.validate_token(token)
        assert (caller.project_id != "", caller.scope_domain_id != "", caller.system) == (
            "project" in shown,
            "domain" in shown,
            "system" in shown,
        )
        assert api.log_in(user_id, {"project": {"id": api.cloud.project("demo")}}).status_code == 401
        for other in (SYSTEM, {"domain": {"id": domain}}, {"project": {"id": project}}):
            assert api.log_in(user_id, other).status_code == (201 if other == scope else 401)
    assert api.ask("GET", "auth/catalog", None, api.token(user_id)).status_code == 403  # for nothing


@pytest.mark.parametrize(
    "scope",
    [{"system": {}}, {"system": {"all": False}}, {"domain": {}}, {}, {"project": {"id": "x"}, "system": {"all": True}}],
)
def test_a_scope_is_one_thing(api: IdentityApi, scope: Any) -> None:
    assert api.log_in(api.user(), scope).status_code == 400
    assert api.log_in(api.user(), {"OS-TRUST:trust": {"id": "x"}}).status_code == 400


def test_what_a_user_may_have_a_token_for(api: IdentityApi) -> None:
    domain = api.make("domain")["id"]
    first, second, off = (api.make("project", domain_id=domain)["id"] for _ in range(3))
    group = api.make("group", domain_id=domain)["id"]
    user = api.user(domain)
    reader = api.roles["reader"]
    api.put(f"groups/{group}/users/{user}")
    for path in (
        f"projects/{first}/users/{user}",
        f"projects/{second}/groups/{group}",
        f"domains/{domain}/users/{user}",
    ):
        api.put(f"{path}/roles/{reader}")
    api.put(f"projects/{off}/users/{user}/roles/{reader}")
    assert api.ask("PATCH", f"projects/{off}", {"project": {"enabled": False}}).status_code == 200
    api.put(f"system/groups/{group}/roles/{reader}")
    token = api.token(user)

    def ids(kind: str) -> set[str]:
        return {one["id"] for one in api.ask("GET", f"auth/{kind}", None, token).get_json()[kind]}

    assert ids("projects") == {first, second}
    assert ids("domains") == {domain}
    assert api.ask("GET", "auth/system", None, token).get_json()["system"] == [{"all": True}]
    for scope in (SYSTEM, {"project": {"id": second}}, {"domain": {"id": domain}}):
        assert api.log_in(user, scope).status_code == 201


def test_inherited_roles_count_below_and_nowhere_else(api: IdentityApi) -> None:
    domain = api.make("domain")["id"]
    top = api.make("project", domain_id=domain)["id"]
    middle = api.make("project", domain_id=domain, parent_id=top)["id"]
    leaf = api.make("project", domain_id=domain, parent_id=middle)["id"]
    other = api.make("project")["id"]
    member = api.roles["member"]

    def reached(user: str) -> set[str]:
        places = {"top": top, "middle": middle, "leaf": leaf, "other": other}
        found = {name for name, one in places.items() if api.log_in(user, {"project": {"id": one}}).status_code == 201}
        listed = api.ask("GET", f"users/{user}/projects").get_json()["projects"]
        effective = api.ask("GET", f"role_assignments?effective&user.id={user}").get_json()["role_assignments"]
        assert {places[name] for name in found} == {project["id"] for project in listed}
        assert {places[name] for name in found} == {one["scope"]["project"]["id"] for one in effective}
        return found

    of_domain, of_top = api.user(domain), api.user(domain)
    api.put(f"OS-INHERIT/domains/{domain}/users/{of_domain}/roles/{member}/inherited_to_projects")
    assert reached(of_domain) == {"top", "middle", "leaf"}
    assert api.log_in(of_domain, {"domain": {"id": domain}}).status_code == 401
    path = f"OS-INHERIT/projects/{top}/users/{of_top}/roles/{member}/inherited_to_projects"
    api.put(path)
    assert reached(of_top) == {"middle", "leaf"}
    assert api.ask("DELETE", path).status_code == 204
    assert reached(of_top) == set()
    assert api.ask("DELETE", path).status_code == 404


def test_domain_managers_rule_their_domain_and_no_more(api: IdentityApi) -> None:
    """The routes of another domain answer as those of what does not exist."""
    mine, foreign = (api.make("domain")["id"] for _ in range(2))
    _, token = api.holder("manager", {"domain": {"id": mine}}, mine)
    theirs = {kind: api.make(kind, domain_id=foreign)["id"] for kind in ("user", "group", "project")}
    own: dict[str, str] = {}
    for kind in ("user", "group", "project"):
        made = api.ask("POST", f"{kind}s", {kind: {"name": f"made-{kind}"}}, token)
        assert made.status_code == 201, made.text
        assert made.get_json()[kind]["domain_id"] == mine  # the token's, where the body says none
        own[kind] = made.get_json()[kind]["id"]
        refused = api.ask("POST", f"{kind}s", {kind: {"name": "made", "domain_id": foreign}}, token)
        assert refused.status_code == 403
        listed = api.ask("GET", f"{kind}s", None, token).get_json()[f"{kind}s"]
        assert {one["domain_id"] for one in listed} == {mine}
        for method, body in (("GET", None), ("PATCH", {kind: {"description": "x"}}), ("DELETE", None)):
            assert api.ask(method, f"{kind}s/{theirs[kind]}", body, token).status_code == 403
            assert api.ask(method, f"{kind}s/absent", body, token).status_code == 403
    for role, status in (("member", 204), ("reader", 204), ("manager", 204), ("admin", 403), ("service", 403)):
        paths = (f"projects/{own['project']}", f"domains/{mine}")
        for place in paths:
            for actor in ("user", "group"):
                path = f"{place}/{actor}s/{own[actor]}/roles/{api.roles[role]}"
                assert api.ask("PUT", path, None, token).status_code == status, path
    reader = api.roles["reader"]
    for place in (
        f"projects/{theirs['project']}/users/{own['user']}",
        f"projects/{own['project']}/users/{theirs['user']}",
        f"domains/{foreign}/users/{own['user']}",
        f"system/users/{own['user']}",
        f"projects/{own['project']}/groups/{theirs['group']}",
        f"OS-INHERIT/domains/{foreign}/users/{own['user']}",
    ):
        path = f"{place}/roles/{reader}"
        path += "/inherited_to_projects" if "INHERIT" in place else ""
        assert api.ask("PUT", path, None, token).status_code == 403, path
    assert api.ask("PUT", f"groups/{own['group']}/users/{own['user']}", None, token).status_code == 204
    assert api.ask("PUT", f"groups/{own['group']}/users/{theirs['user']}", None, token).status_code == 403
    for method, path, body in (
        ("POST", "domains", {"domain": {"name": "more"}}),
        ("PATCH", f"domains/{mine}", {"domain": {"enabled": False}}),
        ("POST", "roles", {"role": {"name": "more"}}),
        ("POST", "projects", {"project": {"name": "more", "is_domain": True}}),
        ("PUT", f"roles/{reader}/implies/{api.roles['manager']}", None),
        ("POST", "services", {"service": {"type": "x"}}),
        ("POST", "regions", {"region": {}}),
    ):
        assert api.ask(method, path, body, token).status_code == 403, path
    roles = api.ask("GET", "roles", None, token).get_json()["roles"]
    assert {role["name"] for role in roles} == {"manager", "member", "reader"}


@pytest.mark.parametrize("scope", ["system", "domain", "project"])
def test_readers_change_nothing(api: IdentityApi, scope: str) -> None:
    domain = api.make("domain")["id"]
    project = api.make("project", domain_id=domain)["id"]
    where: dict[str, Any] = {"system": {"all": True}, "domain": {"id": domain}, "project": {"id": project}}
    user, token = api.holder("reader", {scope: where[scope]}, domain)
    for kind in ("user", "group", "project", "domain", "role", "region", "service"):
        allowed = scope == "system" or (scope == "domain" and kind in ("user", "group", "project", "domain"))
        listed = api.ask("GET", f"{kind}s", None, token)
        assert listed.status_code == (200 if allowed or kind == "region" else 403), kind
        fields = {"name": "x"} if kind != "service" else {"type": "x"}
        assert api.ask("POST", f"{kind}s", {kind: fields}, token).status_code == 403
    for place in (place_of({"domain": {"id": domain}}), place_of({"project": {"id": project}}), "system"):
        assert api.ask("PUT", f"{place}/users/{user}/roles/{api.roles['admin']}", None, token).status_code == 403
    demo = api.cloud.token("demo", "demo-password")
    shown = api.ask("GET", "auth/tokens", None, token, **{"X-Subject-Token": demo})
    assert shown.status_code == (200 if scope == "system" else 403)
    assert api.ask("DELETE", "auth/tokens", None, token, **{"X-Subject-Token": demo}).status_code == 403


def test_tokens_of_other_scopes_open_no_projects(api: IdentityApi) -> None:
    domain = api.make("domain")["id"]
    for scope in (SYSTEM, {"domain": {"id": domain}}, None):
        user, token = api.holder("admin", scope or SYSTEM)
        token = token if scope else api.token(user)
        for path in ("/v2.1/servers", "/image/v2/images", "/network/v2.0/networks"):
            assert api.client.get(path, headers={"X-Auth-Token": token}).status_code == 403


def test_rescoping_leads_to_no_more_than_a_login(api: IdentityApi) -> None:
    domain = api.make("domain")["id"]
    project, foreign = (api.make("project", domain_id=domain)["id"] for _ in range(2))
    user, system = api.holder("reader", SYSTEM, domain)
    api.put(f"projects/{project}/users/{user}/roles/{api.roles['member']}")

    def rescoped(token: str, scope: Any) -> int:
        return api.log_in_by({"methods": ["token"], "token": {"id": token}}, scope).status_code

    plain = api.token(user)
    assert rescoped(plain, {"project": {"id": project}}) == 201
    assert rescoped(plain, SYSTEM) == 201
    for place in ({"project": {"id": foreign}}, {"domain": {"id": domain}}):
        assert rescoped(plain, place) == 401
        assert rescoped(system, place) == 403
    assert rescoped(system, {"project": {"id": project}}) == 403
    both = {"methods": ["token", "password"], "token": {"id": system}}
    mine = both | {"password": {"user": {"id": user, "password": PASSWORD}}}
    assert api.log_in_by(mine, {"project": {"id": project}}).status_code == 403
    others = both | {"password": {"user": {"id": api.user(), "password": PASSWORD}}}
    assert api.log_in_by(others, SYSTEM).status_code == 401


def test_roles_of_domains_count_by_what_they_imply(api: IdentityApi) -> None:
    domain = api.make("domain")["id"]
    project, foreign = api.make("project", domain_id=domain)["id"], api.make("project")["id"]
    role, other = api.make("role", domain_id=domain)["id"], api.make("role", domain_id=domain)["id"]
    user = api.user(domain)
    assert api.ask("PUT", f"projects/{foreign}/users/{user}/roles/{role}").status_code == 403
    api.put(f"projects/{project}/users/{user}/roles/{role}")
    for prior, implied in ((role, other), (other, role), (other, api.roles["reader"])):  # a circle
        api.put(f"roles/{prior}/implies/{implied}")
    body = api.log_in(user, {"project": {"id": project}}).get_json()["token"]
    assert [one["name"] for one in body["roles"]] == ["reader"]
    assert api.ask("PUT", f"roles/{api.roles['reader']}/implies/{role}").status_code == 403
    effective = api.ask("GET", f"role_assignments?effective&user.id={user}").get_json()["role_assignments"]
    assert [one["role"]["id"] for one in effective] == [api.roles["reader"]]
    listed = api.ask("GET", f"roles?domain_id={domain}").get_json()["roles"]
    assert {one["id"] for one in listed} == {role, other}


def test_no_role_comes_to_imply_the_administrators(api: IdentityApi) -> None:
    for prior in ("reader", "manager", "service", "admin"):
        assert api.ask("PUT", f"roles/{api.roles[prior]}/implies/{api.roles['admin']}").status_code == 403


def test_regions_in_no_circle(api: IdentityApi) -> None:
    def region(**fields: Any) -> str:
        return str(api.ask("POST", "regions", {"region": fields}).get_json()["region"]["id"])

    first = region()
    second = region(parent_region_id=first)
    third = region(parent_region_id=second)
    for parent in (first, third, second):
        circle = {"region": {"parent_region_id": parent}}
        status = 200 if parent == second else 400
        assert api.ask("PATCH", f"regions/{first if parent != second else third}", circle).status_code == status
    assert api.ask("POST", "regions", {"region": {"id": first}}).status_code == 409
    assert api.ask("POST", "regions", {"region": {"parent_region_id": "absent"}}).status_code == 404
    service = api.make("service", type="x")["id"]
    wanted = {"service_id": service, "interface": "public", "url": "http://x", "region_id": third}
    made = api.ask("POST", "endpoints", {"endpoint": wanted}).get_json()["endpoint"]["id"]
    assert api.ask("DELETE", f"regions/{first}").status_code == 403
    assert api.ask("DELETE", f"endpoints/{made}").status_code == 204
    assert api.ask("DELETE", f"regions/{first}").status_code == 204
    for one in (first, second, third):
        assert api.ask("GET", f"regions/{one}").status_code == 404


def test_an_operators_endpoints_stand_beside_the_clouds_own(api: IdentityApi) -> None:
    project = api.make("project")["id"]
    user, token = api.holder("reader", {"project": {"id": project}})
    service = api.make("service", type="object-store")["id"]
    for interface, url, shown in (
        ("public", "http://x/$(project_id)s/%(user_id)s", f"http://x/{project}/{user}"),
        ("internal", "http://x/%(admin_token)s{0.__class__}", "http://x/%(admin_token)s{0.__class__}"),
        ("admin", "http://x/$(tenant_id)s", f"http://x/{project}"),
    ):
        wanted = {"service_id": service, "interface": interface, "url": url, "region": "elsewhere"}
        made = api.ask("POST", "endpoints", {"endpoint": wanted})
        assert made.status_code == 201, made.text
        catalog = api.ask("GET", "auth/catalog", None, token).get_json()["catalog"]
        (entry,) = (one for one in catalog if one["id"] == service)
        (endpoint,) = (one for one in entry["endpoints"] if one["interface"] == interface)
        assert (endpoint["url"], endpoint["region_id"]) == (shown, "elsewhere")
    assert {"compute", "identity"} <= {one["type"] for one in catalog}
    for wrong in (
        {"url": "/relative"},
        {"url": "http://x y"},
        {"interface": "other"},
        {"service_id": "absent"},
        {"region_id": "absent", "region": None},
    ):
        assert api.ask("POST", "endpoints", {"endpoint": wanted | wrong}).status_code == 400, wrong
    off = api.ask("PATCH", f"services/{service}", {"service": {"enabled": False}})
    assert off.get_json()["service"]["enabled"] is False
    catalog = api.ask("GET", "auth/catalog", None, token).get_json()["catalog"]
    assert service not in {one["id"] for one in catalog}


def test_unified_limits(api: IdentityApi) -> None:
    service = api.make("service", type="limited")["id"]
    project, domain = api.make("project")["id"], api.make("domain")["id"]
    name = {"service_id": service, "resource_name": "widgets"}
    registered = api.ask("POST", "registered_limits", {"registered_limits": [name | {"default_limit": 5}]})
    (kind,) = registered.get_json()["registered_limits"]
    assert kind["region_id"] is None
    twice = {"registered_limits": [name | {"default_limit": 5}]}
    assert api.ask("POST", "registered_limits", twice).status_code == 409
    assert api.ask("POST", "limits", {"limits": [name | {"resource_limit": 9}]}).status_code == 400  # nobody's
    other = {"service_id": service, "resource_name": "others", "resource_limit": 9, "project_id": project}
    mine = [name | {"resource_limit": 9, "project_id": project}, name | {"resource_limit": 8, "domain_id": domain}]
    assert api.ask("POST", "limits", {"limits": [*mine, other]}).status_code == 403
    assert api.ask("GET", f"limits?project_id={project}").get_json()["limits"] == []  # all of them, or none
    made = api.ask("POST", "limits", {"limits": mine}).get_json()["limits"]
    assert [(one["project_id"], one["domain_id"]) for one in made] == [(project, None), (None, domain)]
    assert api.ask("POST", "limits", {"limits": mine}).status_code == 409
    _, reader = api.holder("reader", {"project": {"id": project}})
    assert [one["id"] for one in api.ask("GET", "limits", None, reader).get_json()["limits"]] == [made[0]["id"]]
    assert api.ask("GET", f"limits/{made[0]['id']}", None, reader).status_code == 200
    assert api.ask("GET", f"limits/{made[1]['id']}", None, reader).status_code == 403
    assert api.ask("PATCH", f"limits/{made[0]['id']}", {"limit": {"resource_limit": 1}}, reader).status_code == 403
    changed = api.ask("PATCH", f"limits/{made[0]['id']}", {"limit": {"resource_limit": 7}}).get_json()["limit"]
    assert (changed["resource_limit"], changed["resource_name"]) == (7, "widgets")
    path = f"registered_limits/{kind['id']}"
    assert api.ask("PATCH", path, {"registered_limit": {"default_limit": 6}}).status_code == 200
    assert api.ask("PATCH", path, {"registered_limit": {"resource_name": "x"}}).status_code == 403
    assert api.ask("DELETE", path).status_code == 403
    assert api.ask("DELETE", f"services/{service}").status_code == 403
    for one in made:
        assert api.ask("DELETE", f"limits/{one['id']}").status_code == 204
    assert api.ask("DELETE", path).status_code == 204
    assert api.ask("GET", "limits/model").get_json()["model"]["name"] == "flat"


def test_trees_of_projects(api: IdentityApi) -> None:
    domain = api.make("domain")["id"]
    chain: list[str] = []
    for _ in range(5):
        chain.append(api.make("project", domain_id=domain, **({"parent_id": chain[-1]} if chain else {}))["id"])
    deeper = api.ask("POST", "projects", {"project": {"name": "x", "parent_id": chain[-1], "domain_id": domain}})
    assert deeper.status_code == 403
    shown = api.ask("GET", f"projects/{chain[2]}?parents_as_ids&subtree_as_ids").get_json()["project"]
    assert shown["parents"] == {chain[1]: {chain[0]: {domain: None}}}
    assert shown["subtree"] == {chain[3]: {chain[4]: None}}
    assert api.ask("GET", f"projects/{chain[2]}?parents_as_ids&parents_as_list").status_code == 400
    assert api.ask("GET", f"projects/{chain[2]}?subtree_as_list").get_json()["project"]["subtree"] == []  # not its own
    off = {"project": {"enabled": False}}
    assert api.ask("PATCH", f"projects/{chain[3]}", off).status_code == 403
    assert api.ask("PATCH", f"projects/{chain[4]}", off).status_code == 200
    assert api.ask("PATCH", f"projects/{chain[3]}", off).status_code == 200
    assert api.ask("PATCH", f"projects/{chain[4]}", {"project": {"enabled": True}}).status_code == 403
    below = {"project": {"name": "y", "parent_id": chain[3], "domain_id": domain}}
    assert api.ask("POST", "projects", below).status_code == 400
    assert api.ask("DELETE", f"projects/{chain[3]}").status_code == 403
    for project in reversed(chain):
        assert api.ask("PATCH", f"projects/{project}", {"project": {"parent_id": chain[-1]}}).status_code == 403
        assert api.ask("DELETE", f"projects/{project}").status_code == 204


def test_a_domain_goes_with_all_that_is_in_it(api: IdentityApi) -> None:
    domain = api.make("domain")["id"]
    made = {kind: api.make(kind, domain_id=domain)["id"] for kind in ("user", "group", "project", "role")}
    assert api.ask("DELETE", f"domains/{domain}").status_code == 403
    assert api.ask("PATCH", f"domains/{domain}", {"domain": {"enabled": False}}).status_code == 200
    assert api.ask("DELETE", f"domains/{domain}").status_code == 204
    for kind, one in made.items():
        assert api.ask("GET", f"{kind}s/{one}").status_code == 404
    assert api.ask("GET", f"domains/{domain}").status_code == 404
