"""Users and projects: each field that is given is shown again as given, or refused by its name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.embedded_cloud import PASSWORDS, EmbeddedCloud, make_cloud, make_top_database
from top_api.embedded_api.identity_schemas import DOMAIN, GROUP, PROJECT, ROLE, USER

_USER_FLAGS = ("ignore_password_expiry", "ignore_lockout_failure_attempts", "lock_password")
_UNSET_FLAGS = ("ignore_change_password_upon_first_use", "ignore_user_inactivity", "multi_factor_auth_enabled")
_TAGS = ([["a", "b"], [], ['"quoted"', "é"]], [["a", "a"], ["a,b"], ["a/b"], [""], "a", ["x" * 256], [1]])
_IMMUTABLE = ([{}, {"immutable": False}, {"immutable": True}], [{"immutable": "x"}, {"x": 1}])
_OWN = {
    "email": (["a@example.com"], ["x" * 16384]),
    "id": ([], ["x"]),
    "links": ([], [{}]),
}
# Kind -> field -> values that are shown again, values that are refused.
FIELDS: dict[str, dict[str, tuple[list[Any], list[Any]]]] = {
    "user": {
        "name": (["new"], ["", " ", 5, "x" * 256]),
        "enabled": ([False, True], ["yes", None]),
        "default_project_id": (["some"], [5, "x" * 65]),
        "domain_id": (["default"], ["other"]),
        "description": (["of it", None, ""], [5]),
        "email": (["a@example.com", None, ["x"]], ["x" * 16384]),
        "phone": (["1", {"deep": [1]}], []),
        "options": (
            [
                {},
                *({name: False} for name in (*_USER_FLAGS, *_UNSET_FLAGS)),
                *({name: True} for name in _USER_FLAGS),
                {"multi_factor_auth_rules": []},
            ],
            [*({name: True} for name in _UNSET_FLAGS), {"multi_factor_auth_rules": [["password"]]}, {"x": 1}, 5],
        ),
        "id": ([], ["x"]),
        "links": ([], [{}]),
        "federated": ([], [[]]),
        "password_expires_at": ([], [None]),
        "original_password": ([], ["x"]),
    },
    "project": {
        "name": (["new"], ["", " ", 5, "x" * 65]),
        "enabled": ([False, True], ["yes", None]),
        "domain_id": (["default"], ["other"]),
        "parent_id": (["default"], ["other"]),
        "is_domain": ([False], [None]),
        "description": (["of it", ""], [5]),
        "tags": _TAGS,
        "options": _IMMUTABLE,
        **_OWN,
    },
    "domain": {
        "name": (["new"], ["", " ", 5, "x" * 65]),
        "enabled": ([False, True], ["yes", None]),
        "description": (["of it", ""], [5]),
        "tags": _TAGS,
        "options": _IMMUTABLE,
        **_OWN,
    },
    "group": {
        "name": (["new"], ["", " ", 5, "x" * 65]),
        "domain_id": (["default"], ["other"]),
        "description": (["of it", ""], [5]),
        **_OWN,
    },
    "role": {
        "name": (["new"], ["", " ", 5, "x" * 256]),
        "domain_id": ([None], ["other"]),
        "description": (["of it", "", None], [5]),
        "options": _IMMUTABLE,
        **_OWN,
    },
}
SCHEMAS = {"user": USER, "project": PROJECT, "domain": DOMAIN, "group": GROUP, "role": ROLE}
CASES = [
    (kind, field, value, shown)
    for kind, fields in FIELDS.items()
    for field, both in fields.items()
    for shown, values in zip((True, False), both, strict=True)
    for value in values
]


class Admin:
    def __init__(self, cloud: EmbeddedCloud) -> None:
        self.cloud = cloud
        self.client: FlaskClient = cloud.app().test_client()
        self.token = cloud.token("admin", PASSWORDS.admin, "admin")
        self.made = 0

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"X-Auth-Token": self.token}
        return self.client.open(f"/identity/v3/{path}", method=method, json=body, headers=headers)

    def create(self, kind: str, **fields: Any) -> Any:
        self.made += 1
        return self("POST", f"{kind}s", {kind: {"name": f"n{self.made}", **fields}})


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    folder: Path = tmp_path_factory.mktemp("fields")
    database = make_top_database(folder / "top.db")
    yield Admin(make_cloud(database, folder))
    database.close()


def test_every_field_of_every_schema_is_tried() -> None:
    for kind, schema in SCHEMAS.items():
        ((_, only),) = schema
        declared = set(only["properties"][kind]["properties"])
        assert declared - set(FIELDS[kind]) <= {"password", "explicit_domain_id", "options"}


@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize(("kind", "field", "value", "shown"), CASES)
def test_a_field_is_shown_as_given_or_refused_by_name(
    admin: Admin, kind: str, field: str, value: Any, shown: bool, method: str
) -> None:
    value = f"{value}{admin.made}" if field == "name" and shown else value
    if method == "POST":
        answered = admin.create(kind, **{field: value})
    else:
        made = admin.create(kind).get_json()[kind]["id"]
        answered = admin("PATCH", f"{kind}s/{made}", {kind: {field: value}})
    if not shown:
        named = field in answered.get_json()["error"]["message"]
        if field == "parent_id" and method == "PATCH":
            assert (answered.status_code, named) == (403, True)
        elif value == "other" and method == "POST":  # the place is looked for
            assert answered.status_code == 404
        else:
            assert answered.status_code == 400
            assert named or field == "email"  # too long a whole is refused as a whole
        return
    assert answered.status_code in (200, 201), answered.text
    item = answered.get_json()[kind]
    again = admin("GET", f"{kind}s/{item['id']}").get_json()[kind]
    (listed,) = (i for i in admin("GET", f"{kind}s").get_json()[f"{kind}s"] if i["id"] == item["id"])
    assert item[field] == again[field] == listed[field] == value


@pytest.mark.parametrize("kind", ["user", "project"])
def test_an_update_keeps_what_it_does_not_name(admin: Admin, kind: str) -> None:
    made = admin.create(kind, email="a", phone="1", options={}).get_json()[kind]["id"]
    shown = admin("PATCH", f"{kind}s/{made}", {kind: {"phone": "2", "id": made}}).get_json()[kind]
    assert (shown["email"], shown["phone"]) == ("a", "2")
    assert admin("PATCH", f"{kind}s/{made}", {kind: {}}).status_code == 400
    flag = "immutable" if kind == "project" else "lock_password"
    assert admin("PATCH", f"{kind}s/{made}", {kind: {"options": {flag: False}}}).get_json()[kind]["email"] == "a"
    shown = admin("PATCH", f"{kind}s/{made}", {kind: {"options": {flag: None}}}).get_json()[kind]
    assert shown["options"] == {}


def test_own_attributes_are_bounded_in_all(admin: Admin) -> None:
    made = admin.create("user", **{f"key{n}": "x" * 4000 for n in range(4)}).get_json()["user"]["id"]
    assert admin("PATCH", f"users/{made}", {"user": {"more": "x" * 400}}).status_code == 400


def test_what_is_immutable_stays(admin: Admin) -> None:
    made = admin.create("project", options={"immutable": True}).get_json()["project"]["id"]
    for changes in ({"enabled": False}, {"email": "x"}, {"options": {"immutable": False}, "enabled": False}):
        assert admin("PATCH", f"projects/{made}", {"project": changes}).status_code == 403
    assert admin("DELETE", f"projects/{made}").status_code == 403
    assert admin("PATCH", f"projects/{made}", {"project": {"options": {"immutable": False}}}).status_code == 200
    assert admin("PATCH", f"projects/{made}", {"project": {"email": "x"}}).status_code == 200
    assert admin("DELETE", f"projects/{made}").status_code == 204


def test_a_password_that_is_taken_away_opens_nothing(admin: Admin) -> None:
    made = admin.create("user", password="secret").get_json()["user"]

    def login() -> int:
        user = {"id": made["id"], "password": "secret"}
        identity = {"methods": ["password"], "password": {"user": user}}
        body = {"auth": {"identity": identity, "scope": "unscoped"}}
        return admin.client.post("/identity/v3/auth/tokens", json=body).status_code

    assert login() == 201
    assert admin("PATCH", f"users/{made['id']}", {"user": {"password": None}}).status_code == 200
    assert login() == 401
    disabled = admin.create("user", password="secret", enabled=False).get_json()["user"]
    assert not disabled["enabled"]
