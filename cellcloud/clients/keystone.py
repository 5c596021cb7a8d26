"""Identity by Keystone."""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
import threading
from typing import Any

from keystoneauth1 import exceptions as keystone_errors
from keystoneauth1.session import Session

from cellcloud import clock, errors
from cellcloud.clients.identity import Caller
from cellcloud.clients.session import RestService, identity_url, make_session
from cellcloud.config import Config
from cellcloud.safe_regex import Pattern

_CACHED_TOKENS = 4096
_PROJECT_ID = Pattern("[0-9A-Za-z_-]+", most=255)
# Without it Keystone knows no token that may make some requests only.
_HEADERS = {"OpenStack-Identity-Access-Rules": "1.0"}
LOG = logging.getLogger(__name__)


class KeystoneClient:
    """Implements ``IdentityClient``. An answer is reused for ``cache_seconds``: the bound of a revocation."""

    def __init__(self, session: Session, *, auth_url: str, cache_seconds: float) -> None:
        self._session = session
        self._service = RestService(session, "identity", url=identity_url(auth_url))
        self._cache_seconds = cache_seconds
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, Caller]] = {}

    @classmethod
    def from_config(cls, config: Config) -> KeystoneClient:
        """With the service account of ``[identity]``."""
        identity = config.identity
        return cls(make_session(identity), auth_url=identity.auth_url, cache_seconds=identity.cache_seconds)

    def validate_token(self, token: str) -> Caller:
        """See ``IdentityClient``."""
        if not token or not token.isascii() or not token.isprintable():
            raise errors.Unauthenticated("No valid token.")
        key = hashlib.sha256(token.encode()).hexdigest()
        now = clock.monotonic()
        with self._lock:
            known = self._known.get(key)
        if known is not None and known[0] > now and known[1].expires_at > clock.now():
            return known[1]
        try:
            body = self._service.get("/auth/tokens?nocatalog", headers=_HEADERS | {"X-Subject-Token": token})
        except (errors.NotFound, errors.Invalid):
            raise errors.Unauthenticated("No valid token.") from None
        caller = _caller(body["token"])
        with self._lock:
            if len(self._known) >= _CACHED_TOKENS:
                self._known.clear()
            self._known[key] = (now + self._cache_seconds, caller)
        return caller

    def has_project(self, project_id: str) -> bool:
        """See ``IdentityClient``."""
        if not _PROJECT_ID.matches(project_id):
            return False
        try:
            self._service.get(f"/projects/{project_id}")
        except errors.NotFound:
            return False
        except errors.CellcloudError as error:
            LOG.warning("a project could not be looked up", extra={"project": project_id, "why": error.message})
        return True

    def get_token(self) -> str:
        """See ``IdentityClient``."""
        try:
            return str(self._session.get_token())
        except keystone_errors.Unauthorized as error:
            raise errors.Misconfigured("The service account was refused.", detail=str(error)) from error
        except keystone_errors.ClientException as error:
            raise errors.Unreachable("The identity service does not answer.", detail=str(error)) from error


def _caller(token: dict[str, Any]) -> Caller:
    project = token.get("project") or {}
    return Caller(
        user_id=token["user"]["id"],
        user_name=token["user"]["name"],
        project_id=project.get("id", ""),
        project_name=project.get("name", ""),
        roles=tuple(role["name"] for role in token.get("roles", ())),
        expires_at=dt.datetime.fromisoformat(token["expires_at"]),
        domain_id=token["user"]["domain"]["id"],
        project_domain_id=(project.get("domain") or {}).get("id", ""),
        scope_domain_id=(token.get("domain") or {}).get("id", ""),
        system=bool(token.get("system")),
        access_rules=_access_rules(token.get("application_credential") or {}),
    )


def _access_rules(credential: dict[str, Any]) -> tuple[tuple[str, str, str], ...] | None:
    rules = credential.get("access_rules")
    return None if rules is None else tuple((rule["service"], rule["method"], rule["path"]) for rule in rules)
