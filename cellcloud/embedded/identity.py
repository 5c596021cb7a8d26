"""The embedded identity: passwords, tokens, projects and the catalog of a cloud without Keystone.

A token is 256 random bits; only its SHA-256 is stored. It expires by the database's clock, a token made from a token
expires with its parent, and one whose user or project is gone or disabled is worth nothing at once. Answers are
reused in this process for at most ``cache_seconds``.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError

from cellcloud import clock, errors
from cellcloud.clients.identity import Caller
from cellcloud.db import identity as db
from cellcloud.db import pagination_snapshots
from cellcloud.db.engine import Connection, Database, transact
from cellcloud.db.listing import ALL, Page
from cellcloud.model.identity import Grant, IdentityRole, Project, Token, User

T = TypeVar("T")
DOMAIN_ID, DOMAIN_NAME = "default", "Default"
REGION = "RegionOne"
ROLES = ("admin", "manager", "member", "reader", "service")
SERVICE_USER, SERVICE_PROJECT = "cellcloud", "service"
MAX_PASSWORD = 4096
# A role includes those after it: Keystone's nesting.
_IMPLIED = {"admin": ("manager", "member", "reader"), "manager": ("member", "reader"), "member": ("reader",)}
_CACHED_TOKENS = 4096
_PURGE_EVERY = 256
_REFUSED = "The request you have made requires authentication."
# OWASP's least argon2id setting: 7 MiB and five passes, some 20 ms, since clients fetch a token per command.
_HASHER = PasswordHasher(time_cost=5, memory_cost=7168, parallelism=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """One user's proof: a password for a user named by id or by name and domain, or a token."""

    user_id: str | None = None
    user_name: str | None = None
    domain_id: str | None = None
    domain_name: str | None = None
    password: str | None = None
    token: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a token shall be for. All empty: the user's default project; ``unscoped``: no project at all."""

    project_id: str | None = None
    project_name: str | None = None
    domain_id: str | None = None
    domain_name: str | None = None
    unscoped: bool = False


class EmbeddedIdentity:
    """Implements ``IdentityClient`` and what the identity API needs. Safe to call from several threads."""

    def __init__(self, database: Database, *, token_hours: float = 8.0, cache_seconds: float = 1.0) -> None:
        self._database = database
        self._token_seconds = token_hours * 3600
        self._cache_seconds = cache_seconds
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, Token]] = {}
        self._revocations = 0
        self._issued = 0
        self._own: tuple[float, str] | None = None

    # ---- tokens --------------------------------------------------------------------------------------------------
    def validate_token(self, token: str) -> Caller:
        """See ``IdentityClient``."""
        return caller_of(self.get_token_facts(token))

    def has_project(self, project_id: str) -> bool:
        """See ``IdentityClient``."""
        with self._database.read() as c:
            return db.find_project(c, id=project_id[:255]) is not None

    def get_token(self) -> str:
        """See ``IdentityClient``. Renewed well before it expires."""
        with self._lock:
            if self._own is not None and self._own[0] > clock.monotonic():
                return self._own[1]
        with self._database.read() as c:
            user = db.find_user(c, name=SERVICE_USER, domain_id=DOMAIN_ID)
            project = db.find_project(c, name=SERVICE_PROJECT, domain_id=DOMAIN_ID)
        if user is None or project is None:
            raise errors.Misconfigured("The service account does not exist.")
        token, _ = self._store(user.id, project.id, ("password",), (_audit_id(),))
        with self._lock:
            self._own = (clock.monotonic() + self._token_seconds / 2, token)
        return token

    def issue_token(self, logins: Sequence[Login], scope: Scope) -> tuple[str, Token]:
        """Return a new token and what it says. Raises Unauthenticated, for whatever reason, with one text."""
        if not logins:
            raise errors.Invalid("No authentication method was given.")
        proofs = [self._prove(login) for login in logins]
        user, parents = proofs[0][0], [token for _, token in proofs if token is not None]
        if any(other.id != user.id for other, _ in proofs):
            raise errors.Unauthenticated(_REFUSED)
        project_id = self._find_scope(user, scope)
        methods = dict.fromkeys(m for parent in parents for m in parent.methods)
        methods |= dict.fromkeys("token" if login.token is not None else "password" for login in logins)
        audit = (_audit_id(), *(parents[0].audit_ids[-1:] if parents else ()))
        oldest = min(parents, key=lambda parent: parent.expires_at, default=None)
        return self._store(user.id, project_id, tuple(methods), audit, parent=oldest)

    def get_token_facts(self, token: str) -> Token:
        """Return what a valid token says. Raises Unauthenticated."""
        key = _hashed(token)
        now = clock.monotonic()
        with self._lock:
            known = self._known.get(key)
            revocations = self._revocations
        if known is not None and known[0] > now and known[1].expires_at > clock.now():
            return known[1]
        with self._database.read() as c:
            found = db.find_token(c, key)
            roles = db.list_roles(c) if found is not None else []
        if found is None:
            raise errors.Unauthenticated(_REFUSED)
        found = replace(found, roles=_with_implied(found.roles, roles))
        with self._lock:
            if len(self._known) >= _CACHED_TOKENS:
                self._known.clear()
            if revocations == self._revocations:
                self._known[key] = (now + self._cache_seconds, found)
        return found

    def revoke_token(self, token: str) -> None:
        """End a token's life now. Raises NotFound."""
        key = _hashed(token)
        gone = transact(self._database, lambda c: db.delete_token(c, key))
        self._forget_answers()
        if not gone:
            raise errors.NotFound("Could not find token.")

    def _prove(self, login: Login) -> tuple[User, Token | None]:
        if login.token is not None:
            parent = self.get_token_facts(login.token)
            return parent.user, parent
        password = login.password or ""
        _check_password_length(password)
        with self._database.read() as c:
            user = db.find_user(c, **_named(c, login.user_id, login.user_name, login.domain_id, login.domain_name))
            stored = db.get_password_hash(c, user.id) if user is not None else ""
        try:
            _HASHER.verify(stored or _hash_of_nobody(), password)
        except (VerifyMismatchError, InvalidHashError):
            raise errors.Unauthenticated(_REFUSED) from None
        if user is None or not stored or not user.enabled:
            raise errors.Unauthenticated(_REFUSED)
        return user, None

    def _find_scope(self, user: User, scope: Scope) -> str | None:
        if scope.unscoped:
            return None
        wanted = scope.project_id or scope.project_name
        with self._database.read() as c:
            if wanted:
                named = _named(c, scope.project_id, scope.project_name, scope.domain_id, scope.domain_name)
                project = db.find_project(c, **named)
            else:
                project = db.find_project(c, id=user.default_project_id or "")
            granted = project is not None and db.list_grants(c, user_id=user.id, project_id=project.id)
        if project is not None and project.enabled and granted:
            return project.id
        if wanted:
            raise errors.Unauthenticated(_REFUSED)
        return None

    def _store(
        self,
        user_id: str,
        project_id: str | None,
        methods: Sequence[str],
        audit_ids: Sequence[str],
        *,
        parent: Token | None = None,
    ) -> tuple[str, Token]:
        token = secrets.token_urlsafe(32)
        with self._lock:
            self._issued += 1
            purge = self._issued % _PURGE_EVERY == 0

        def work(c: Connection) -> None:
            db.insert_token(
                c,
                _hashed(token),
                user_id=user_id,
                project_id=project_id,
                methods=methods,
                audit_ids=audit_ids,
                seconds=self._token_seconds,
                not_after=parent.expires_at if parent else None,
            )
            if purge:
                db.delete_expired_tokens(c)

        transact(self._database, work)
        return token, self.get_token_facts(token)

    # ---- catalog -------------------------------------------------------------------------------------------------
    def catalog(self, root_url: str) -> list[dict[str, Any]]:
        """Return the services that answer, in Keystone's form. ``root_url``: how the caller reaches them all."""
        root = root_url.rstrip("/")
        return [
            _service("compute", "nova", f"{root}/v2.1"),
            _service("image", "glance", f"{root}/image"),
            _service("network", "neutron", f"{root}/network"),
            _service("identity", "keystone", f"{root}/identity"),
        ]

    # ---- users, projects, roles ------------------------------------------------------------------------------------
    def list_users(self, page: Page = ALL, **equals: str) -> list[User]:
        return pagination_snapshots.listed(self._database, page.walk, lambda c: db.list_users(c, page, **equals))

    def get_user(self, user_id: str) -> User:
        """Return a user. Raises NotFound."""
        return _one(self.list_users(id=user_id), "user", user_id)

    def create_user(self, name: str, password: str | None, **fields: Any) -> User:
        """``fields``: of ``User``. Raises Conflict for a name in use, Invalid for what is too long."""
        user = User(id=new_id(), name=name, **fields)
        hashed = hash_password(password) if password is not None else ""

        def work(c: Connection) -> None:
            db.insert_user(c, user, hashed)

        transact(self._database, work)
        return self.get_user(user.id)

    def update_user(self, user_id: str, changes: dict[str, Any], *, password: str | None = None) -> User:
        """Change a user. Another password or a disabled user ends all of its tokens. Raises NotFound, Conflict."""
        if password is not None:
            changes = changes | {"password_hash": hash_password(password)}

        def work(c: Connection) -> None:
            if not db.update_user(c, user_id, changes):
                raise errors.NotFound(f"Could not find user: {user_id}.")
            if "password_hash" in changes or changes.get("enabled") is False:
                db.delete_tokens_of(c, user_id)

        transact(self._database, work)
        self._forget_answers()
        return self.get_user(user_id)

    def delete_user(self, user_id: str) -> None:
        """Delete a user; its tokens end with it. Raises NotFound."""

        def work(c: Connection) -> None:
            if not db.delete_user(c, user_id):
                raise errors.NotFound(f"Could not find user: {user_id}.")

        transact(self._database, work)
        self._forget_answers()

    def list_projects(self, page: Page = ALL, *, user_id: str | None = None, **equals: str) -> list[Project]:
        return pagination_snapshots.listed(
            self._database, page.walk, lambda c: db.list_projects(c, page, user_id=user_id, **equals)
        )

    def get_project(self, project_id: str) -> Project:
        """Return a project. Raises NotFound."""
        return _one(self.list_projects(id=project_id), "project", project_id)

    def create_project(self, name: str, **fields: Any) -> Project:
        """``fields``: of ``Project``. Raises Conflict for a name in use, Invalid for what is too long."""
        project = Project(id=new_id(), name=name, **fields)

        def work(c: Connection) -> None:
            db.insert_project(c, project)

        transact(self._database, work)
        return self.get_project(project.id)

    def update_project(self, project_id: str, changes: dict[str, Any]) -> Project:
        """Change a project. Raises NotFound, Conflict, Forbidden."""

        def work(c: Connection) -> None:
            if not db.update_project(c, project_id, changes):
                raise errors.NotFound(f"Could not find project: {project_id}.")

        transact(self._database, work)
        self._forget_answers()
        return self.get_project(project_id)

    def delete_project(self, project_id: str) -> None:
        """Delete a project. Raises NotFound, Forbidden."""

        def work(c: Connection) -> None:
            if not db.delete_project(c, project_id):
                raise errors.NotFound(f"Could not find project: {project_id}.")

        transact(self._database, work)
        self._forget_answers()

    def list_roles(self) -> list[IdentityRole]:
        with self._database.read() as c:
            return db.list_roles(c)

    def list_grants(self, **equals: str) -> list[Grant]:
        with self._database.read() as c:
            return db.list_grants(c, **equals)

    def list_effective_grants(self, **equals: str) -> list[tuple[Grant, str | None]]:
        """Grants and what they imply, each with the id of the role that implies it."""
        names = {role.id: role.name for role in self.list_roles()}
        ids = {name: role_id for role_id, name in names.items()}
        found: list[tuple[Grant, str | None]] = []
        for grant in self.list_grants(**equals):
            implied = [ids[name] for name in _IMPLIED.get(names.get(grant.role_id, ""), ()) if name in ids]
            found += [(grant, None), *((replace(grant, role_id=role_id), grant.role_id) for role_id in implied)]
        return found

    def add_grant(self, grant: Grant) -> None:
        """Grant a role. Raises NotFound for a user, project or role that does not exist."""
        self.get_user(grant.user_id)
        self.get_project(grant.project_id)
        _one([role for role in self.list_roles() if role.id == grant.role_id], "role", grant.role_id)
        transact(self._database, lambda c: db.add_grant(c, grant))
        self._forget_answers()

    def remove_grant(self, grant: Grant) -> None:
        """Withdraw a role. Raises NotFound."""

        def work(c: Connection) -> None:
            if not db.remove_grant(c, grant):
                raise errors.NotFound("Could not find role assignment.")

        transact(self._database, work)
        self._forget_answers()

    def _forget_answers(self) -> None:
        with self._lock:
            self._revocations += 1
            self._known.clear()


def caller_of(token: Token) -> Caller:
    """Return the holder of a token, as the other services see it."""
    return Caller(
        user_id=token.user.id,
        user_name=token.user.name,
        project_id=token.project.id if token.project else "",
        project_name=token.project.name if token.project else "",
        roles=tuple(role.name for role in token.roles),
        expires_at=token.expires_at,
        domain_id=token.user.domain_id,
    )


@cache
def _hash_of_nobody() -> str:
    """Return what the password of a user that there is not is compared with, which takes as long as any other."""
    return _HASHER.hash(secrets.token_urlsafe(16))


def hash_password(password: str, stored: str = "") -> str:
    """Return the library's encoded argon2id hash; ``stored`` itself where it fits. Raises Invalid for one that is too
    long."""
    _check_password_length(password)
    try:
        if stored and _HASHER.verify(stored, password):
            return stored
    except (VerifyMismatchError, InvalidHashError):
        pass
    return _HASHER.hash(password)


def new_id() -> str:
    """Return an id as Keystone makes them."""
    return uuid.uuid4().hex


def _check_password_length(password: str) -> None:
    if len(password) > MAX_PASSWORD or len(password.encode("utf-8", "surrogatepass")) > MAX_PASSWORD:
        raise errors.Invalid(f"A password has at most {MAX_PASSWORD} bytes.")


def _hashed(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _audit_id() -> str:
    return secrets.token_urlsafe(16)


def _named(
    c: Any, thing_id: str | None, name: str | None, domain_id: str | None, domain_name: str | None
) -> dict[str, str]:
    if thing_id:
        return {"id": thing_id}
    if not domain_id and domain_name:
        domain_id = next((key for key, known in db.list_domains(c).items() if known.lower() == domain_name.lower()), "")
    return {"name": name or "", "domain_id": domain_id or ""}


def _one(found: list[T], kind: str, wanted: str) -> T:
    if not found:
        raise errors.NotFound(f"Could not find {kind}: {wanted}.")
    return found[0]


def _with_implied(granted: tuple[IdentityRole, ...], known: list[IdentityRole]) -> tuple[IdentityRole, ...]:
    names = {name for role in granted for name in (role.name, *_IMPLIED.get(role.name, ()))}
    return tuple(role for role in known if role.name in names)


def _service(kind: str, name: str, url: str) -> dict[str, Any]:
    return {
        "id": uuid.uuid5(uuid.NAMESPACE_DNS, f"{kind}.{REGION}").hex,
        "type": kind,
        "name": name,
        "endpoints": [
            {
                "id": uuid.uuid5(uuid.NAMESPACE_DNS, f"{interface}.{kind}.{REGION}").hex,
                "interface": interface,
                "region": REGION,
                "region_id": REGION,
                "url": url,
            }
            for interface in ("public", "internal", "admin")
        ],
    }
