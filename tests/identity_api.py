"""The embedded identity over HTTP, asked with tokens for whatever scope."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from cellcloud.embedded.identity import EmbeddedIdentity
from tests.embedded_cloud import PASSWORDS, EmbeddedCloud, make_cloud, make_top_database

SYSTEM: dict[str, Any] = {"system": {"all": True}}
PASSWORD = "a password"


class IdentityApi:
    """``admin``: a token of the administrator's for project admin."""

    def __init__(self, cloud: EmbeddedCloud) -> None:
        self.cloud = cloud
        self.client: FlaskClient = cloud.app().test_client()
        self._numbers = itertools.count()
        self.admin = cloud.token("admin", PASSWORDS.admin, "admin")
        self.roles = {role.name: role.id for role in self.identity.assignments.roles.list_all(domain_id="")}

    @property
    def identity(self) -> EmbeddedIdentity:
        return self.cloud.identity

    def ask(self, method: str, path: str, body: Any = None, token: str | None = None, **headers: str) -> TestResponse:
        given = {"X-Auth-Token": self.admin if token is None else token, **headers}
        return self.client.open(f"/identity/v3/{path}", method=method, json=body, headers=given)

    def make(self, kind: str, **fields: Any) -> dict[str, Any]:
        """One of that kind with a name of its own."""
        answer = self.ask("POST", f"{kind}s", {kind: {"name": f"{kind}-{next(self._numbers)}", **fields}})
        assert answer.status_code == 201, answer.text
        return dict(answer.get_json()[kind])

    def user(self, domain_id: str = "default", **fields: Any) -> str:
        return str(self.make("user", password=PASSWORD, domain_id=domain_id, **fields)["id"])

    def put(self, path: str) -> None:
        answer = self.ask("PUT", path)
        assert answer.status_code in (201, 204), answer.text

    def log_in(self, user_id: str, scope: Any = "unscoped", password: str = PASSWORD) -> TestResponse:
        user = {"id": user_id, "password": password}
        return self.log_in_by({"methods": ["password"], "password": {"user": user}}, scope)

    def log_in_by(self, identity: dict[str, Any], scope: Any = None) -> TestResponse:
        auth = {"identity": identity} | ({} if scope is None else {"scope": scope})
        return self.client.post("/identity/v3/auth/tokens", json={"auth": auth})

    def token(self, user_id: str, scope: Any = "unscoped", password: str = PASSWORD) -> str:
        answer = self.log_in(user_id, scope, password)
        assert answer.status_code == 201, answer.text
        return str(answer.headers["X-Subject-Token"])

    def holder(self, role: str, scope: Any, domain_id: str = "default") -> tuple[str, str]:
        """A user with that role there, and a token of its for it."""
        user_id = self.user(domain_id)
        self.put(f"{place_of(scope)}/users/{user_id}/roles/{self.roles[role]}")
        return user_id, self.token(user_id, scope)


def place_of(scope: dict[str, Any]) -> str:
    """The beginning of paths of grants in a scope."""
    ((kind, named),) = scope.items()
    return "system" if kind == "system" else f"{kind}s/{named['id']}"


@contextmanager
def identity_api(folder: Path) -> Iterator[IdentityApi]:
    """One of a fresh cloud."""
    database = make_top_database(folder / "top.db")
    try:
        yield IdentityApi(make_cloud(database, folder))
    finally:
        database.close()
