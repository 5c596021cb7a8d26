"""Bad requests to the embedded identity: each is answered with Keystone's status, and in its form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.identity_api import PASSWORD, SYSTEM, IdentityApi, identity_api

NOBODY = "0" * 32
LONG = "x" * 300


class There:
    """What there is when something wrong is asked: ids by what paths and bodies name them."""

    def __init__(self, api: IdentityApi) -> None:
        self.api = api
        user = api.user()
        domain, home = api.make("domain")["id"], api.make("domain", enabled=False)["id"]
        parent = api.make("project")["id"]
        role, other_role = api.make("role")["id"], api.make("role")["id"]
        service = self._made("services", "service", type="own", name="own")
        region = self._made("regions", "region")
        endpoint = {"interface": "public", "service_id": service, "url": "http://own.example/", "region_id": region}
        limit = {"service_id": service, "resource_name": "things", "default_limit": 5}
        registered = api.ask("POST", "registered_limits", {"registered_limits": [limit]}).get_json()
        own = {"service_id": service, "resource_name": "things", "resource_limit": 6, "project_id": parent}
        holder, token = api.holder("member", {"project": {"id": parent}})
        application = {"application_credential": {"name": "taken"}}
        made = api.ask("POST", f"users/{holder}/application_credentials", application, token).get_json()
        self.member, self.holder = token, holder
        self.ids = {
            "user": user,
            "domain": domain,
            "disabled": home,
            "project": parent,
            "child": api.make("project", parent_id=parent)["id"],
            "group": api.make("group")["id"],
            "role": role,
            "other_role": other_role,
            "domain_role": api.make("role", domain_id=domain)["id"],
            "admin_role": api.roles["admin"],
            "service": service,
            "region": region,
            "endpoint": self._made("endpoints", "endpoint", **endpoint),
            "registered": registered["registered_limits"][0]["id"],
            "limit": api.ask("POST", "limits", {"limits": [own]}).get_json()["limits"][0]["id"],
            "credential": self._made("credentials", "credential", user_id=user, type="cert", blob="b"),
            "holder": holder,
            "application": made["application_credential"]["id"],
            "nobody": NOBODY,
        }

    def _made(self, path: str, kind: str, **fields: Any) -> str:
        answer = self.api.ask("POST", path, {kind: fields})
        assert answer.status_code == 201, answer.text
        return str(answer.get_json()[kind]["id"])

    def filled(self, value: Any) -> Any:
        """The same with ids in the place of names in angles."""
        if isinstance(value, str):
            for name, known in self.ids.items():
                value = value.replace(f"<{name}>", known)
            return value
        if isinstance(value, dict):
            return {name: self.filled(inner) for name, inner in value.items()}
        return [self.filled(inner) for inner in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[There]:
    with identity_api(tmp_path_factory.mktemp("bad")) as api:
        yield There(api)


def body(kind: str, **fields: Any) -> dict[str, Any]:
    return {kind: fields}


def grant(place: str, actor: str, role: str) -> str:
    return f"{place}/{actor}/roles/{role}"


NAMED = ("user", "group", "project", "domain", "role")
SHOWN = (*NAMED, "service", "region", "endpoint", "credential", "registered_limit", "limit")
IN_USE = {name: {"name": "taken"} for name in NAMED}
Request = tuple[str, str, Any, int]
DIRECTORY: list[Request] = [
    *((method, f"{kind}s/{NOBODY}", None, 404) for kind in SHOWN for method in ("GET", "DELETE")),
    *(("PATCH", f"{kind}s/{NOBODY}", body(kind, description="d"), 404) for kind in (*NAMED, "service", "region")),
    *(
        ("PATCH", f"{kind}s/<{kind}>", {kind: {}}, 400)
        for kind in (*NAMED, "service", "region", "endpoint", "credential")
    ),
    *(("PATCH", f"{kind}s/<{kind}>", body(kind, id=NOBODY), 400) for kind in SHOWN),
    *(("PATCH", f"{kind}s/<{kind}>", body(kind, name=5), 400) for kind in (*NAMED, "service")),
    *(("POST", f"{kind}s", given, 400) for kind in NAMED for given in ({}, {kind: {}}, {kind: None}, {kind: []})),
    *(("POST", f"{kind}s", body(kind, name=name), 400) for kind in NAMED for name in ("", " ", LONG, None)),
    *(("POST", f"{kind}s", {kind: {"name": "n"}, "other": {}}, 400) for kind in NAMED),
    *(("PUT", f"{kind}s", body(kind, name="n"), 405) for kind in NAMED),
    ("POST", "users", body("user", name="n", domain_id=NOBODY), 404),
    ("POST", "users", body("user", name="n", domain_id=LONG), 400),
    ("POST", "users", body("user", name="n", enabled="maybe"), 400),
    ("POST", "users", body("user", name="n", password=5), 400),
    ("POST", "users", body("user", name="own", default_project_id="<domain>"), 400),
    ("PATCH", "users/<user>", body("user", default_project_id="<domain>"), 400),
    ("PATCH", "users/<user>", body("user", domain_id="<domain>"), 400),
    ("GET", "users?password_expires_at=soon", None, 400),
    ("GET", "users?password_expires_at=about:2026-01-01T00:00:00Z", None, 400),
    ("POST", "users/<user>/password", body("user", password="p"), 400),
    ("POST", "users/<user>/password", body("user", original_password="wrong", password="p"), 401),
    ("POST", f"users/{NOBODY}/password", body("user", original_password="wrong", password="p"), 401),
    ("GET", "users/<user>/password", None, 405),
    ("GET", f"users/{NOBODY}/groups", None, 404),
    ("GET", f"users/{NOBODY}/projects", None, 404),
    ("POST", "groups", body("group", name="n", domain_id=NOBODY), 404),
    ("PATCH", "groups/<group>", body("group", domain_id="<domain>"), 400),
    ("GET", f"groups/{NOBODY}/users", None, 404),
    *((method, f"groups/{NOBODY}/users/<user>", None, 404) for method in ("GET", "PUT", "DELETE")),
    *((method, f"groups/<group>/users/{NOBODY}", None, 404) for method in ("GET", "PUT", "DELETE")),
    *((method, "groups/<group>/users/<user>", None, 404) for method in ("GET", "DELETE")),
    ("POST", "projects", body("project", name="n", domain_id=NOBODY), 404),
    ("POST", "projects", body("project", name="n", parent_id=NOBODY), 404),
    ("POST", "projects", body("project", name="n", parent_id="<project>", domain_id="<domain>"), 400),
    ("POST", "projects", body("project", name="n", parent_id="<project>", is_domain=True), 400),
    ("POST", "projects", body("project", name="n", domain_id="<disabled>"), 400),
    ("POST", "projects", body("project", name="n", tags=["a,b"]), 400),
    ("POST", "projects", body("project", name="n", options={"x": True}), 400),
    ("PATCH", "projects/<project>", body("project", parent_id="<child>"), 403),
    ("PATCH", "projects/<project>", body("project", domain_id="<domain>"), 400),
    ("PATCH", "projects/<project>", body("project", is_domain=True), 400),
    ("PATCH", "projects/<project>", body("project", enabled=False), 403),
    ("DELETE", "projects/<project>", None, 403),
    ("GET", "projects/<project>?parents_as_list&parents_as_ids", None, 400),
    ("GET", "projects/<project>?subtree_as_list&subtree_as_ids", None, 400),
    *((method, "projects/<project>/tags/none", None, 404) for method in ("GET", "DELETE")),
    ("PUT", f"projects/{NOBODY}/tags/a", None, 404),
    ("PUT", "projects/<project>/tags/a,b", None, 400),
    ("PUT", f"projects/<project>/tags/{LONG}", None, 400),
    ("PUT", "projects/<project>/tags", {"tags": [1]}, 400),
    ("PUT", "projects/<project>/tags", {"tags": [f"t{number}" for number in range(81)]}, 400),
    ("GET", f"projects/{NOBODY}/tags", None, 404),
    ("DELETE", "domains/<domain>", None, 403),
    ("DELETE", "domains/default", None, 403),
    ("POST", "domains", body("domain", name="n", explicit_domain_id="x"), 400),
    ("POST", "domains", body("domain", name="Default"), 409),
    ("GET", "domains/<domain>/config", None, 404),
    *(("POST", f"{kind}s", body(kind, name="taken"), 409) for kind in NAMED),
]
ROLES: list[Request] = [
    ("POST", "roles", body("role", name="n", domain_id=NOBODY), 404),
    ("PATCH", "roles/<role>", body("role", domain_id="<domain>"), 400),
    ("PUT", "roles/<role>/implies/<admin_role>", None, 403),
    ("PUT", "roles/<role>/implies/<domain_role>", None, 403),
    ("PUT", f"roles/<role>/implies/{NOBODY}", None, 404),
    ("PUT", f"roles/{NOBODY}/implies/<role>", None, 404),
    *((method, "roles/<role>/implies/<other_role>", None, 404) for method in ("GET", "HEAD", "DELETE")),
    ("GET", f"roles/{NOBODY}/implies", None, 404),
    *(
        ("PUT", grant(place, actor, role), None, 404)
        for place in ("projects/<project>", "domains/<domain>", f"projects/{NOBODY}", f"domains/{NOBODY}", "system")
        for actor, role in ((f"users/{NOBODY}", "<role>"), (f"groups/{NOBODY}", "<role>"), ("users/<user>", NOBODY))
    ),
    *(
        (method, grant(place, actor, "<role>"), None, 404)
        for place in ("projects/<project>", "domains/<domain>", "system")
        for actor in ("users/<user>", "groups/<group>")
        for method in ("GET", "HEAD", "DELETE")
    ),
    ("PUT", "OS-INHERIT/projects/<project>/users/<user>/roles/<role>", None, 404),
    ("GET", "OS-INHERIT/domains/<domain>/users/<user>/roles/<role>/inherited_to_projects", None, 404),
    ("PUT", grant("system", "users/<user>", "<domain_role>"), None, 400),
    ("PUT", grant("projects/<project>", "users/<user>", "<domain_role>"), None, 403),
    ("GET", "role_assignments?user.id=<user>&group.id=<group>", None, 400),
    ("GET", "role_assignments?scope.project.id=<project>&scope.domain.id=<domain>", None, 400),
    ("GET", "role_assignments?scope.project.id=<project>&scope.system=all", None, 400),
    ("GET", "role_assignments?scope.domain.id=<domain>&scope.system=all", None, 400),
    ("GET", "role_assignments?effective&group.id=<group>", None, 400),
    (
        "GET",
        "role_assignments?effective&scope.domain.id=<domain>&scope.OS-INHERIT:inherited_to=projects",
        None,
        400,
    ),
    ("GET", "role_assignments?include_subtree", None, 400),
]
ENDPOINT = {"interface": "public", "service_id": "<service>", "url": "http://a.example/"}
LIMIT = {"service_id": "<service>", "resource_name": "things", "resource_limit": 1, "project_id": "<child>"}
REGISTERED = {"service_id": "<service>", "resource_name": "others", "default_limit": 1}


def limits(kind: str, base: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {kind: [{name: value for name, value in {**base, **changes}.items() if value is not ...}]}


CATALOG: list[Request] = [
    ("POST", "services", body("service", name="n"), 400),
    ("POST", "services", body("service", type="", name="n"), 400),
    ("POST", "services", body("service", type=LONG), 400),
    ("POST", "services", body("service", type="t", enabled="maybe"), 400),
    *(
        ("POST", "endpoints", {"endpoint": {name: v for name, v in ENDPOINT.items() if name != missing}}, 400)
        for missing in ENDPOINT
    ),
    ("POST", "endpoints", {"endpoint": ENDPOINT | {"interface": "secret"}}, 400),
    ("POST", "endpoints", {"endpoint": ENDPOINT | {"url": "no url"}}, 400),
    ("POST", "endpoints", {"endpoint": ENDPOINT | {"service_id": NOBODY}}, 400),
    ("POST", "endpoints", {"endpoint": ENDPOINT | {"region_id": 5}}, 400),
    ("PATCH", "endpoints/<endpoint>", body("endpoint", service_id=NOBODY), 400),
    ("POST", "regions", body("region", id="<region>"), 409),
    ("POST", "regions", body("region", id="n", parent_region_id=NOBODY), 404),
    ("PUT", "regions/a", body("region", id="b"), 400),
    ("PATCH", "regions/<region>", body("region", parent_region_id=NOBODY), 404),
    ("DELETE", "regions/<region>", None, 403),
    ("POST", "registered_limits", limits("registered_limits", REGISTERED, service_id=NOBODY), 400),
    ("POST", "registered_limits", limits("registered_limits", REGISTERED, region_id=NOBODY), 400),
    ("POST", "registered_limits", limits("registered_limits", REGISTERED, default_limit="many"), 400),
    ("POST", "registered_limits", limits("registered_limits", REGISTERED, default_limit=-2), 400),
    ("POST", "registered_limits", limits("registered_limits", REGISTERED, resource_name="things"), 409),
    ("POST", "registered_limits", {"registered_limits": []}, 400),
    ("DELETE", "registered_limits/<registered>", None, 403),
    ("PATCH", "registered_limits/<registered>", {"registered_limit": {"resource_name": "other"}}, 403),
    ("POST", "limits", limits("limits", LIMIT, service_id=NOBODY), 400),
    ("POST", "limits", limits("limits", LIMIT, project_id=NOBODY), 400),
    ("POST", "limits", limits("limits", LIMIT, project_id=...), 400),
    ("POST", "limits", limits("limits", LIMIT, domain_id="<domain>"), 400),
    ("POST", "limits", limits("limits", LIMIT, resource_limit=1.5), 400),
    ("POST", "limits", limits("limits", LIMIT, resource_name="unregistered"), 403),
    ("POST", "limits", limits("limits", LIMIT, project_id="<project>"), 409),
    ("PATCH", "limits/<limit>", {"limit": {"project_id": "<child>"}}, 400),
]
CREDENTIAL = {"user_id": "<user>", "type": "cert", "blob": "b"}
EC2 = {"user_id": "<user>", "type": "ec2", "blob": '{"access": "a", "secret": "s"}', "project_id": "<project>"}
OWN = "users/<holder>/application_credentials"
CREDENTIALS: list[Request] = [
    *(
        ("POST", "credentials", {"credential": {name: v for name, v in CREDENTIAL.items() if name != missing}}, 400)
        for missing in CREDENTIAL
    ),
    ("POST", "credentials", {"credential": CREDENTIAL | {"type": 5}}, 400),
    ("POST", "credentials", {"credential": EC2 | {"project_id": None}}, 400),
    ("POST", "credentials", {"credential": EC2 | {"blob": "no json"}}, 400),
    ("POST", "credentials", {"credential": EC2 | {"blob": "[]"}}, 400),
    ("POST", "users/<user>/credentials/OS-EC2", {"tenant_id": NOBODY}, 404),
    ("POST", f"users/{NOBODY}/credentials/OS-EC2", {"tenant_id": "<project>"}, 404),
    ("GET", f"users/{NOBODY}/credentials/OS-EC2", None, 404),
    *((method, f"users/<user>/credentials/OS-EC2/{NOBODY}", None, 404) for method in ("GET", "DELETE")),
    *((method, f"{OWN}/{NOBODY}", None, 404) for method in ("GET", "DELETE")),
    ("PATCH", f"{OWN}/<application>", body("application_credential", name="n"), 405),
]
APPLICATIONS: list[Request] = [
    *((method, f"users/<holder>/access_rules/{NOBODY}", None, 404) for method in ("GET", "DELETE")),
    ("POST", OWN, body("application_credential", name="taken"), 409),
    ("POST", OWN, body("application_credential"), 400),
    ("POST", OWN, body("application_credential", name=LONG), 400),
    ("POST", OWN, body("application_credential", name="n", other=1), 400),
    ("POST", OWN, body("application_credential", name="n", expires_at="soon"), 400),
    ("POST", OWN, body("application_credential", name="n", expires_at="2020-01-01T00:00:00"), 400),
    ("POST", OWN, body("application_credential", name="n", roles=[{"id": "<admin_role>"}]), 400),
    ("POST", OWN, body("application_credential", name="n", roles=[{"id": NOBODY}]), 404),
    ("POST", OWN, body("application_credential", name="n", roles=[{"name": "none of that name"}]), 404),
    ("POST", OWN, body("application_credential", name="n", roles=[{}]), 400),
    ("POST", OWN, body("application_credential", name="n", access_rules=[{"path": "/"}]), 400),
    ("POST", OWN, body("application_credential", name="n", unrestricted="maybe"), 400),
    ("POST", "users/<user>/application_credentials", body("application_credential", name="n"), 403),
]
NOT_OFFERED = [
    ("GET", "OS-TRUST/trusts"),
    ("POST", "OS-TRUST/trusts"),
    ("GET", "OS-OAUTH1/consumers"),
    ("POST", "OS-OAUTH2/token"),
    ("GET", "OS-FEDERATION/identity_providers"),
    ("GET", "OS-EP-FILTER/endpoint_groups"),
    ("GET", "OS-REVOKE/events"),
    ("GET", "policies"),
    ("GET", "nothing"),
    ("POST", "auth/OS-FEDERATION/saml2"),
]
TABLE = [*DIRECTORY, *ROLES, *CATALOG, *CREDENTIALS, *((*one, 404) for one in ((m, p, None) for m, p in NOT_OFFERED))]


def refused(answer: Any, status: int, *, head: bool = False) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["Vary"] == "X-Auth-Token"
    if head:
        return
    error = answer.get_json()["error"]
    assert error.keys() == {"code", "title", "message"}
    assert error["code"] == status
    assert error["message"]


def test_a_bad_request_is_answered_as_keystone_does(there: There) -> None:
    for kind in NAMED:
        there.api.ask("POST", f"{kind}s", body(kind, name="taken"))
    wrong = []
    for method, path, given, status in TABLE:
        answer = there.api.ask(method, there.filled(path), there.filled(given))
        try:
            refused(answer, status, head=method == "HEAD")
        except AssertionError:
            wrong.append((method, path, given, status, answer.status_code, answer.text[:160]))
    assert not wrong, "\n".join(map(str, wrong))


def test_a_bad_application_credential_is_refused(there: There) -> None:
    for method, path, given, status in APPLICATIONS:
        refused(there.api.ask(method, there.filled(path), there.filled(given), there.member), status)
    (only,) = there.api.ask("GET", there.filled(OWN), None, there.member).get_json()["application_credentials"]
    assert only["name"] == "taken"


def test_nobody_gets_in_unasked(there: There) -> None:
    """Without a token, with one that is none, and as somebody who may not."""
    for method, path in dict.fromkeys((method, path) for method, path, _, status in TABLE if status in (400, 403, 409)):
        if path.endswith("/password"):
            continue
        for token in ("", "unknown"):
            refused(there.api.ask(method, there.filled(path), {}, token), 401)
    for method, path, given, status in TABLE:
        if status in (403, 409):
            refused(there.api.ask(method, there.filled(path), there.filled(given), there.member), 403)


PROOF = {"id": "<user>", "password": PASSWORD}
BY_PASSWORD = {"methods": ["password"], "password": {"user": PROOF}}
LOGINS: list[tuple[Any, Any, int]] = [
    ({}, None, 400),
    ({"methods": ["password"]}, None, 400),
    ({"methods": ["magic"]}, None, 400),
    ({"methods": ["magic"], "magic": {}}, None, 401),
    ({"methods": ["password", "totp"], "password": {"user": PROOF}, "totp": {}}, None, 401),
    ({"methods": ["password"], "password": {}}, None, 400),
    ({"methods": ["password"], "password": {"user": {"password": PASSWORD}}}, None, 400),
    ({"methods": ["password"], "password": {"user": {"name": "n", "password": PASSWORD}}}, None, 400),
    ({"methods": ["password"], "password": {"user": PROOF | {"password": "wrong"}}}, None, 401),
    ({"methods": ["password"], "password": {"user": PROOF | {"id": NOBODY}}}, None, 401),
    (
        {"methods": ["password"], "password": {"user": {"name": "n", "password": "p", "domain": {"id": NOBODY}}}},
        None,
        401,
    ),
    ({"methods": ["token"]}, None, 400),
    ({"methods": ["token"], "token": {}}, None, 400),
    ({"methods": ["token"], "token": {"id": "unknown"}}, None, 404),
    ({"methods": ["application_credential"], "application_credential": {"secret": "s"}}, None, 400),
    ({"methods": ["application_credential"], "application_credential": {"id": NOBODY, "secret": "s"}}, None, 401),
    (BY_PASSWORD, {}, 400),
    (BY_PASSWORD, "everything", 400),
    (BY_PASSWORD, {"project": {}}, 400),
    (BY_PASSWORD, {"project": {"name": "n"}}, 400),
    (BY_PASSWORD, {"project": {"id": "<project>"}}, 401),
    (BY_PASSWORD, {"project": {"id": NOBODY}}, 401),
    (BY_PASSWORD, {"project": {"id": "<project>"}, "domain": {"id": "default"}}, 400),
    (BY_PASSWORD, {"domain": {"id": NOBODY}}, 401),
    (BY_PASSWORD, {"domain": {"id": "<domain>"}}, 401),
    (BY_PASSWORD, SYSTEM, 401),
    (BY_PASSWORD, {"OS-TRUST:trust": {"id": NOBODY}}, 400),
]


@pytest.mark.parametrize(("proof", "scope", "status"), LOGINS)
def test_a_login_that_is_none(there: There, proof: Any, scope: Any, status: int) -> None:
    answer = there.api.log_in_by(there.filled(proof), there.filled(scope))
    refused(answer, status)
    assert "X-Subject-Token" not in answer.headers


def test_a_token_that_is_none(there: There) -> None:
    for method in ("GET", "HEAD", "DELETE"):
        for subject in ({}, {"X-Subject-Token": "unknown"}):
            refused(there.api.ask(method, "auth/tokens", None, **subject), 404, head=method == "HEAD")
        refused(there.api.ask(method, "auth/tokens", None, "", **{"X-Subject-Token": there.member}), 401, head=True)


def test_an_unscoped_token_leads_to_no_catalog(there: There) -> None:
    token = there.api.token(there.ids["user"])
    refused(there.api.ask("GET", "auth/catalog", None, token), 403)
    for path in ("auth/projects", "auth/domains", "auth/system"):
        assert there.api.ask("GET", path, None, token).status_code == 200
    answer = there.api.log_in(there.holder, {"project": {"id": there.ids["project"]}})
    assert "catalog" in answer.get_json()["token"]
    user = {"id": there.holder, "password": PASSWORD}
    asked = {"identity": {"methods": ["password"], "password": {"user": user}}}
    asked["scope"] = {"project": {"id": there.ids["project"]}}
    brief = there.api.client.post("/identity/v3/auth/tokens?nocatalog", json={"auth": asked})
    assert (brief.status_code, "catalog" in brief.get_json()["token"]) == (201, False)
    headers = {"X-Subject-Token": there.member}
    shown = there.api.ask("GET", "auth/tokens?nocatalog", None, **headers).get_json()["token"]
    assert ("roles" in shown, "catalog" in shown) == (True, False)
