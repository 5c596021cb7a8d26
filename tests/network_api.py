"""The network API of an embedded cloud, asked by several at once."""

from __future__ import annotations

import json
from typing import Any

from flask.testing import FlaskClient

from cellcloud.model.identity import Grant
from tests.embedded_cloud import EmbeddedCloud


def add_member(cloud: EmbeddedCloud, name: str) -> str:
    """Make a project with a member of that name; return the member's token."""
    project = cloud.identity.directory.create_project(name)
    user = cloud.identity.accounts.create_user(name, f"{name}-password")
    (role,) = cloud.identity.assignments.roles.list_all(name="member")
    cloud.identity.assignments.add_grant(Grant(actor_id=user.id, scope_id=project.id, role_id=role.id))
    return cloud.token(name, f"{name}-password", name)


class NetworkApi:
    """``tokens``: by who asks."""

    def __init__(self, cloud: EmbeddedCloud, tokens: dict[str, str]) -> None:
        self.cloud = cloud
        self.tokens = tokens
        self._client: FlaskClient = cloud.app().test_client()

    def __call__(
        self, method: str, path: str, body: Any = None, *, who: str = "demo", match: str = ""
    ) -> tuple[int, Any]:
        """Return the status and the body; None: there is none. ``match``: the precondition."""
        answer = self._client.open(
            f"/network/v2.0/{path}",
            method=method,
            headers={"X-Auth-Token": self.tokens[who]} | ({"If-Match": match} if match else {}),
            data=None if body is None else json.dumps(body),
            content_type=None if body is None else "application/json",
        )
        return answer.status_code, answer.get_json() if answer.data else None

    def make(self, collection: str, fields: dict[str, Any], *, who: str = "demo") -> dict[str, Any]:
        """Create one of a collection; return it as it is shown."""
        name = collection.replace("-", "_").removesuffix("s")
        status, body = self("POST", collection, {name: fields}, who=who)
        assert status == 201, body
        made: dict[str, Any] = body[name]
        return made
