"""Application credentials, their rules of access, and other credentials: less than their user, never more."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest

from cellcloud import errors
from tests.identity_api import IdentityApi, identity_api
from top_api import access_rules

EXTRA = {"OpenStack-Identity-Access-Rules": "1.0"}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdentityApi]:
    with identity_api(tmp_path_factory.mktemp("credentials")) as made:
        yield made


class Owner:
    """A manager of a project, with a token for it."""

    def __init__(self, api: IdentityApi, role: str = "manager") -> None:
        self.api = api
        self.project = api.make("project")["id"]
        self.scope = {"project": {"id": self.project}}
        self.id, self.token = api.holder(role, self.scope)

    def create(self, token: str | None = None, **fields: Any) -> Any:
        body = {"application_credential": {"name": "c", **fields}}
        return self.api.ask("POST", f"users/{self.id}/application_credentials", body, token or self.token)

    def credential(self, **fields: Any) -> dict[str, Any]:
        made = self.create(**fields)
        assert made.status_code == 201, made.text
        return dict(made.get_json()["application_credential"])

    def log_in(self, credential: dict[str, Any], scope: Any = None, **changes: Any) -> Any:
        given = {"id": credential["id"], "secret": credential["secret"]} | changes
        named = {"methods": ["application_credential"], "application_credential": given}
        return self.api.log_in_by(named, scope)

    def enter(self, credential: dict[str, Any]) -> str:
        answer = self.log_in(credential)
        assert answer.status_code == 201, answer.text
        return str(answer.headers["X-Subject-Token"])


def test_a_secret_is_shown_once_and_opens_its_project(api: IdentityApi) -> None:
    owner = Owner(api)
    made = owner.credential(description="of it")
    path = f"users/{owner.id}/application_credentials"
    for shown in (
        api.ask("GET", f"{path}/{made['id']}", None, owner.token).get_json()["application_credential"],
        api.ask("GET", f"{path}?name=c", None, owner.token).get_json()["application_credentials"][0],
    ):
        assert "secret" not in shown
        assert shown == {name: value for name, value in made.items() if name != "secret"}
    assert {role["name"] for role in made["roles"]} == {"manager", "member", "reader"}
    token = owner.log_in(made).get_json()["token"]
    assert token["project"]["id"] == owner.project
    assert token["methods"] == ["application_credential"]
    assert token["application_credential"] == {"id": made["id"], "name": "c", "restricted": True}
    by_name = {"id": None, "name": "c", "user": {"id": owner.id}}
    given = {name: value for name, value in by_name.items() if value is not None} | {"secret": made["secret"]}
    named = {"methods": ["application_credential"], "application_credential": given}
    assert api.log_in_by(named).status_code == 201
    for wrong in (
        owner.log_in(made, secret="wrong"),
        owner.log_in(made, id="absent"),
        owner.log_in(made, owner.scope),
        owner.log_in(made, {"system": {"all": True}}),
        owner.log_in(made, "unscoped"),
    ):
        assert wrong.status_code == 401
    assert owner.create().status_code == 409
    assert api.ask("DELETE", f"{path}/{made['id']}", None, owner.token).status_code == 204
    assert owner.log_in(made).status_code == 401


def test_a_credential_has_no_role_that_its_maker_has_not(api: IdentityApi) -> None:
    owner = Owner(api, "member")
    assert owner.create(roles=[{"name": "admin"}]).status_code == 400
    assert owner.create(roles=[{"name": "manager"}]).status_code == 400
    assert owner.create(roles=[{"name": "absent"}]).status_code == 404
    less = owner.credential(roles=[{"name": "reader"}])
    assert [role["name"] for role in owner.log_in(less).get_json()["token"]["roles"]] == ["reader"]
    api.put(f"projects/{owner.project}/users/{owner.id}/roles/{api.roles['admin']}")
    assert [role["name"] for role in owner.log_in(less).get_json()["token"]["roles"]] == ["reader"]
    narrow = owner.enter(owner.credential(name="n", roles=[{"name": "reader"}], unrestricted=True))
    assert owner.create(narrow, name="more", roles=[{"name": "member"}]).status_code == 400
    assert owner.create(narrow, name="same").status_code == 201


def test_what_a_restricted_credential_may_not_do(api: IdentityApi) -> None:
    owner = Owner(api)
    made = owner.credential()
    token = owner.enter(made)
    path = f"users/{owner.id}/application_credentials"
    assert owner.create(token, name="more").status_code == 403
    assert api.ask("DELETE", f"{path}/{made['id']}", None, token).status_code == 403
    of_project = {"tenant_id": owner.project}
    assert api.ask("POST", f"users/{owner.id}/credentials/OS-EC2", of_project, token).status_code == 403
    blob = {"access": "a", "secret": "b"}
    ec2 = {"credential": {"user_id": owner.id, "project_id": owner.project, "type": "ec2", "blob": blob}}
    assert api.ask("POST", "credentials", ec2, token).status_code == 403
    other = api.make("project")["id"]
    api.put(f"projects/{other}/users/{owner.id}/roles/{api.roles['member']}")
    for scope in ({"project": {"id": other}}, owner.scope, "unscoped"):
        again = api.log_in_by({"methods": ["token"], "token": {"id": token}}, scope)
        assert again.status_code == 403
    kept = api.log_in_by({"methods": ["token"], "token": {"id": token}})
    assert kept.get_json()["token"]["project"]["id"] == owner.project
    assert kept.get_json()["token"]["application_credential"]["id"] == made["id"]
    assert owner.create(kept.headers["X-Subject-Token"], name="more").status_code == 403
    both = {
        "methods": ["token", "password"],
        "token": {"id": token},
        "password": {"user": {"id": owner.id, "password": "a password"}},
    }
    assert api.log_in_by(both, {"project": {"id": other}}).status_code == 401
    unrestricted = owner.enter(owner.credential(name="u", unrestricted=True))
    assert owner.create(unrestricted, name="made").status_code == 201
    foreign = {"credential": {"user_id": owner.id, "project_id": other, "type": "cert", "blob": "x"}}
    assert api.ask("POST", "credentials", foreign, unrestricted).status_code == 403


def test_what_ends_a_credential_ends_its_tokens(api: IdentityApi) -> None:
    def dead(token: str) -> bool:
        try:
            api.identity.validate_token(token)
        except errors.Unauthenticated:
            return True
        return False

    reader = api.roles["reader"]
    for end in ("delete", "revoke", "project", "user", "disable"):
        owner = Owner(api, "reader")
        made = owner.credential()
        token = owner.enter(made)
        assert not dead(token)
        path = {
            "delete": f"users/{owner.id}/application_credentials/{made['id']}",
            "revoke": f"projects/{owner.project}/users/{owner.id}/roles/{reader}",
            "project": f"projects/{owner.project}",
            "user": f"users/{owner.id}",
            "disable": f"users/{owner.id}",
        }[end]
        body = {"user": {"enabled": False}} if end == "disable" else None
        assert api.ask("PATCH" if body else "DELETE", path, body).status_code in (200, 204)
        assert dead(token), end
        assert owner.log_in(made).status_code == 401, end


def test_others_see_nothing_of_it(api: IdentityApi) -> None:
    owner, other = Owner(api), Owner(api)
    made = owner.credential(access_rules=[{"service": "compute", "method": "GET", "path": "/v2.1/servers"}])
    rule = made["access_rules"][0]["id"]
    for user in (owner.id, other.id):
        for path in (f"application_credentials/{made['id']}", f"access_rules/{rule}"):
            status = 403 if user == owner.id else 404
            for method in ("GET", "DELETE"):
                assert api.ask(method, f"users/{user}/{path}", None, other.token).status_code == status
    assert api.ask("POST", f"users/{owner.id}/application_credentials", {"application_credential": {"name": "x"}},
                   other.token).status_code == 403  # fmt: skip
    assert owner.create(api.admin, name="y").status_code == 403  # not an administrator's either
    assert owner.create(api.token(owner.id), name="y").status_code == 400  # for no project


RULES = [
    ("/v2.1/servers", "/v2.1/servers", True),
    ("/v2.1/servers", "/v2.1/servers/x", False),
    ("/v2.1/servers/{id}", "/v2.1/servers/x", True),
    ("/v2.1/servers/{id}", "/v2.1/servers/x/ips", False),
    ("/v2.1/servers/*/ips", "/v2.1/servers/x/ips", True),
    ("/v2.1/servers/*/ips", "/v2.1/servers/x/y/ips", False),
    ("/v2.1/**", "/v2.1/servers/x/ips", True),
    ("/v2.1/**", "/v2.1", False),
    ("/v2.1/server.", "/v2.1/servers", False),
    ("/v2.1/(a|b)+$", "/v2.1/a", False),
    ("/v2.1/{", "/v2.1/{", True),
    ("/" + "*" * 200 + "x", "/" + "y" * 4000, False),
]


@pytest.mark.parametrize(("rule", "path", "fits"), RULES)
def test_a_path_of_a_rule(rule: str, path: str, fits: bool) -> None:
    rules = [("compute", "GET", rule)]
    for service, method, expected in (("compute", "GET", fits), ("image", "GET", False), ("compute", "POST", False)):
        try:
            access_rules.check(rules, service, method, path)
        except errors.Unauthenticated:
            assert not expected
        else:
            assert expected


def test_rules_of_access_are_obeyed_by_every_service(api: IdentityApi) -> None:
    owner = Owner(api)
    allowed = {
        "compute": ("/v2.1/servers", "/v2.1/flavors"),
        "image": ("/v2/images", "/v2/schemas/images"),
        "network": ("/v2.0/networks", "/v2.0/ports"),
        "identity": ("/v3/auth/projects", "/v3/auth/domains"),
    }
    rules = [{"service": service, "method": "GET", "path": paths[0]} for service, paths in allowed.items()]
    token = owner.enter(owner.credential(access_rules=rules))
    headers = {"X-Auth-Token": token}
    for service, (good, bad) in allowed.items():
        root = "" if service == "compute" else f"/{service}"
        assert api.client.get(root + good, headers=headers).status_code == 200, service
        assert api.client.get(root + bad, headers=headers).status_code == 401, service
        assert api.client.post(root + good, headers=headers, json={}).status_code in (401, 405), service
    assert api.client.get("/operator/v1/cells", headers=headers).status_code == 401
    assert api.client.get(f"/v2.1/{owner.project}/servers", headers=headers).status_code == 200
    subject = {"X-Subject-Token": token}
    assert api.ask("GET", "auth/tokens", None, token, **subject).status_code == 404  # asked by who obeys no rules
    shown = api.ask("GET", "auth/tokens", None, token, **subject, **EXTRA).get_json()["token"]
    assert [rule["path"] for rule in shown["application_credential"]["access_rules"]] == [
        paths[0] for paths in allowed.values()
    ]


def test_a_rule_lives_until_nothing_has_it(api: IdentityApi) -> None:
    owner = Owner(api)
    rule = {"service": "compute", "method": "GET", "path": "/v2.1/servers"}
    first, second = (owner.credential(name=name, access_rules=[rule]) for name in "ab")
    (kept,) = api.ask("GET", f"users/{owner.id}/access_rules", None, owner.token).get_json()["access_rules"]
    assert first["access_rules"] == second["access_rules"] == [{**rule, "id": kept["id"]}]
    path = f"users/{owner.id}/access_rules/{kept['id']}"
    for made in (first, second):
        assert api.ask("DELETE", path, None, owner.token).status_code == 403
        api.ask("DELETE", f"users/{owner.id}/application_credentials/{made['id']}", None, owner.token)
    assert api.ask("DELETE", path, None, owner.token).status_code == 204
    assert api.ask("GET", path, None, owner.token).status_code == 404


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""},
        {"name": " "},
        {"name": "x" * 256},
        {"secret": "x" * 5000},
        {"secret": 5},
        {"expires_at": "tomorrow"},
        {"expires_at": "2001-01-01T00:00:00Z"},
        {"expires_at": "9999-12-31T23:59:59Z"},
        {"unrestricted": "yes"},
        {"roles": [{}]},
        {"roles": [{"id": "x"}] * 101},
        {"access_rules": [{"service": "compute"}]},
        {"access_rules": [{"service": "compute", "method": "GET", "path": "no slash"}]},
        {"access_rules": [{"service": "compute", "method": "OPTIONS", "path": "/"}]},
        {"access_rules": [{"service": "compute", "method": "GET", "path": "/" + "x" * 300}]},
        {"project_id": "x"},
        {"unknown": 1},
    ],
)
def test_a_wrong_credential_is_refused(api: IdentityApi, fields: dict[str, Any]) -> None:
    owner = Owner(api, "reader")
    assert owner.create(**fields).status_code == 400


def test_a_token_ends_with_its_credential(api: IdentityApi) -> None:
    owner = Owner(api)
    made = owner.credential(expires_at="2099-01-01T00:00:00.000000Z")
    assert made["expires_at"] == "2099-01-01T00:00:00.000000"
    assert owner.log_in(made).get_json()["token"]["expires_at"] < "2099"
    facts = api.identity.get_token_facts(owner.enter(made))
    hour = (facts.issued_at + dt.timedelta(hours=1)).isoformat()
    brief = owner.credential(name="b", expires_at=hour)
    assert api.identity.get_token_facts(owner.enter(brief)).expires_at == facts.issued_at + dt.timedelta(hours=1)


def test_ec2s_credentials_are_their_users(api: IdentityApi) -> None:
    owner, other = Owner(api), Owner(api)
    path = f"users/{owner.id}/credentials/OS-EC2"
    made = api.ask("POST", path, {"tenant_id": owner.project}, owner.token).get_json()["credential"]
    assert (made["user_id"], made["tenant_id"]) == (owner.id, owner.project)
    shown = api.ask("GET", f"{path}/{made['access']}", None, owner.token).get_json()["credential"]
    assert shown == made
    assert api.ask("GET", path, None, owner.token).get_json()["credentials"] == [made]
    for method in ("GET", "DELETE"):
        assert api.ask(method, f"{path}/{made['access']}", None, other.token).status_code == 403
        foreign = f"users/{other.id}/credentials/OS-EC2/{made['access']}"
        assert api.ask(method, foreign, None, other.token).status_code == 404
    assert api.ask("POST", path, {"tenant_id": owner.project}, other.token).status_code == 403
    assert api.ask("POST", path, {"tenant_id": "absent"}, owner.token).status_code == 404
    assert api.ask("DELETE", f"{path}/{made['access']}", None, owner.token).status_code == 204
    assert api.ask("GET", f"{path}/{made['access']}", None, owner.token).status_code == 404


def test_other_credentials_are_their_users(api: IdentityApi) -> None:
    owner, other = Owner(api), Owner(api)
    given = {"user_id": owner.id, "project_id": owner.project, "type": "cert", "blob": {"key": "x"}}
    made = api.ask("POST", "credentials", {"credential": given}, owner.token).get_json()["credential"]
    assert made["blob"] == '{"key":"x"}'
    path = f"credentials/{made['id']}"
    assert [one["id"] for one in api.ask("GET", "credentials", None, owner.token).get_json()["credentials"]] == [
        made["id"]
    ]
    assert api.ask("GET", "credentials", None, other.token).get_json()["credentials"] == []
    change = {"credential": {"blob": "y"}}
    for method, body in (("GET", None), ("PATCH", change), ("DELETE", None)):
        assert api.ask(method, path, body, other.token).status_code == 403
        assert api.ask(method, "credentials/absent", body, other.token).status_code == 403
    to_other = {"credential": {"user_id": other.id}}
    assert api.ask("PATCH", path, to_other, owner.token).status_code == 403
    assert api.ask("POST", "credentials", {"credential": given | {"user_id": other.id}}, owner.token).status_code == 403
    assert api.ask("PATCH", path, change, owner.token).get_json()["credential"]["blob"] == "y"
    for wrong in ({"blob": 5}, {"type": ""}, {"blob": "x" * 17000}, {"user_id": "x" * 65}):
        assert api.ask("POST", "credentials", {"credential": given | wrong}, owner.token).status_code == 400
    ec2 = given | {"type": "ec2", "blob": "no JSON"}
    for blob, project in (("no JSON", owner.project), ("{}", owner.project), ('{"access": "k"}', None)):
        wrong_ec2 = ec2 | {"blob": blob, "project_id": project}
        assert api.ask("POST", "credentials", {"credential": wrong_ec2}, owner.token).status_code == 400
    good = {"credential": ec2 | {"blob": '{"access": "k", "secret": "s"}'}}
    assert api.ask("POST", "credentials", good, owner.token).status_code == 201
    assert api.ask("POST", "credentials", good, owner.token).status_code == 409
    assert api.ask("DELETE", path, None, owner.token).status_code == 204
