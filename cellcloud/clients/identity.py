"""Identity: who holds a token."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """What a valid token says of its holder. ``domain_id``: the user's own. A token is for a project, for the domain
    ``scope_domain_id``, for the ``system``, or for nothing: then without roles. ``access_rules``: (service, method,
    path) of the only requests that it may make; None: any."""

    user_id: str
    user_name: str
    project_id: str
    project_name: str
    roles: tuple[str, ...]
    expires_at: dt.datetime
    domain_id: str = "default"
    project_domain_id: str = ""
    scope_domain_id: str = ""
    system: bool = False
    access_rules: tuple[tuple[str, str, str], ...] | None = None


class IdentityClient(Protocol):
    """Safe to call from several threads."""

    def validate_token(self, token: str) -> Caller:
        """Return whom the token stands for. Raises Unauthenticated for an unknown, expired or revoked token;
        Unreachable with the service away."""
        ...

    def has_project(self, project_id: str) -> bool:
        """Return whether there is such a project; also where the service cannot tell now."""
        ...

    def get_token(self) -> str:
        """Return a token of the service's own account, for calls to the other services."""
        ...
