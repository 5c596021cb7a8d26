"""The embedded identity: logins, tokens and who holds them, of a cloud without Keystone.

A token is 256 random bits; only its SHA-256 is stored. It expires by the database's clock, a token made from a token
expires with its parent, and one whose user or scope is gone or disabled is worth nothing. An answer is reused for at
most ``cache_seconds``, and only while the epoch in the database is the one that it was read in: every change of users,
grants or anything else that answers depend on begins another, so that it counts in all processes at once.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cellcloud import clock, errors
from cellcloud.clients.identity import Caller
from cellcloud.db import identity as db
from cellcloud.db import identity_assignments as roles_db
from cellcloud.db import identity_credentials as credentials_db
from cellcloud.db import identity_tokens as tokens_db
from cellcloud.db.engine import Connection, Database, transact
from cellcloud.db.identity_passwords import find_account
from cellcloud.embedded.identity_accounts import REFUSED, Accounts
from cellcloud.embedded.identity_assignments import Assignments
from cellcloud.embedded.identity_catalog import Catalog, Entries, shown
from cellcloud.embedded.identity_collections import change
from cellcloud.embedded.identity_credentials import Credentials
from cellcloud.embedded.identity_directory import Directory
from cellcloud.embedded.identity_limits import UnifiedLimits
from cellcloud.embedded.identity_passwords import PasswordRules
from cellcloud.embedded.signed_requests import SignatureClaim, find_signer
from cellcloud.model.identity import DOMAIN, PROJECT, SYSTEM, ApplicationCredential, IdentityRole, Project, Token, User

DOMAIN_ID, DOMAIN_NAME = "default", "Default"
ROLES = ("admin", "manager", "member", "reader", "service")
IMPLIED = (("admin", "manager"), ("manager", "member"), ("member", "reader"))
SERVICE_USER, SERVICE_PROJECT = "cellcloud", "service"
_CACHED_TOKENS = 4096
_PURGE_EVERY = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """One user's proof: a password for a user named by id or by name and domain, a token, or the ``secret`` of an
    application credential, that is named by its id, or by its name and its user."""

    user_id: str | None = None
    user_name: str | None = None
    domain_id: str | None = None
    domain_name: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    secret: str | None = field(default=None, repr=False)
    credential_id: str | None = None
    credential_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a token shall be for: a project, named by id or by name and domain; a domain; the system; ``unscoped``:
    nothing. All empty: the user's default project."""

    project_id: str | None = None
    project_name: str | None = None
    domain_id: str | None = None
    domain_name: str | None = None
    system: bool = False
    unscoped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _LoginProof:
    """That a user is who it says. ``password_hash``, ``parent_hashes``: of the password and the tokens that show it."""

    user: User
    methods: tuple[str, ...]
    password_hash: str | None = None
    parents: tuple[Token, ...] = ()
    parent_hashes: tuple[str, ...] = ()
    application_credential: ApplicationCredential | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _TokenScope:
    """What a token is for, once it is found and the user has a role there."""

    project_id: str | None = None
    domain_id: str | None = None
    system: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _KnownToken:
    """An answer: what was found in an epoch, and until when it may be given again."""

    epoch: str
    until: float
    token: Token


class EmbeddedIdentity:
    """Implements ``IdentityClient`` and what the identity API needs. Safe to call from several threads."""

    def __init__(
        self,
        database: Database,
        *,
        token_hours: float = 8.0,
        cache_seconds: float = 1.0,
        rules: PasswordRules | None = None,
    ) -> None:
        self._database = database
        self._token_seconds = token_hours * 3600
        self._cache_seconds = cache_seconds
        self._lock = threading.Lock()
        self._known: dict[str, _KnownToken] = {}
        self._issued = 0
        self._own: tuple[float, str] | None = None
        self._entries: tuple[str, Entries] | None = None
        self._roles: tuple[str, list[IdentityRole], dict[str, list[str]]] | None = None
        self.directory = Directory(database)
        self.accounts = Accounts(database, rules or PasswordRules())
        self.assignments = Assignments(database)
        self.credentials = Credentials(database)
        self.catalog = Catalog(database)
        self.limits = UnifiedLimits(database)

    # ---- who holds a token ---------------------------------------------------------------------------------------
    def validate_token(self, token: str) -> Caller:
        """See ``IdentityClient``."""
        return caller_of(self.get_token_facts(token))

    def has_project(self, project_id: str) -> bool:
        """See ``IdentityClient``."""
        with self._database.read() as c:
            return db.PROJECTS.find(c, id=project_id[:255]) is not None

    def get_token(self) -> str:
        """See ``IdentityClient``. Renewed well before it expires."""
        with self._lock:
            if self._own is not None and self._own[0] > clock.monotonic():
                return self._own[1]
        with self._database.read() as c:
            user = db.USERS.find(c, name=SERVICE_USER, domain_id=DOMAIN_ID)
            project = db.PROJECTS.find(c, name=SERVICE_PROJECT, domain_id=DOMAIN_ID)
        if user is None or project is None:
            raise errors.Misconfigured("The service account does not exist.")
        token, _ = self._store(_LoginProof(user=user, methods=("password",)), _TokenScope(project_id=project.id))
        with self._lock:
            self._own = (clock.monotonic() + self._token_seconds / 2, token)
        return token

    def get_token_facts(self, token: str) -> Token:
        """Return what a valid token says. Raises Unauthenticated."""
        key = _hashed(token)
        with self._lock:
            known = self._known.get(key)
        with self._database.read() as c:
            epoch, now = tokens_db.find_epoch(c)
            if known is not None and self._holds(known, epoch, now):
                return known.token
            found = self._look_up(c, key, epoch)
        if found is None:
            raise errors.Unauthenticated(REFUSED)
        with self._lock:
            if len(self._known) >= _CACHED_TOKENS:
                self._known.clear()
            self._known[key] = _KnownToken(epoch=epoch, until=clock.monotonic() + self._cache_seconds, token=found)
        return found

    @staticmethod
    def _holds(known: _KnownToken, epoch: str, now: dt.datetime | None) -> bool:
        fresh = known.epoch == epoch and known.until > clock.monotonic()
        return fresh and known.token.expires_at > (now or clock.now())

    def _look_up(self, c: Connection, key: str, epoch: str) -> Token | None:
        found = tokens_db.find_token(c, key)
        if found is None:
            return None
        token, role_ids, credential_id = found
        if not role_ids:
            return token if credential_id is None else None
        token = replace(token, roles=self._roles_of(c, role_ids, epoch))
        if credential_id is None:
            return token
        known = credentials_db.find_application_credential(c, credential_id)
        if known is None:
            return None
        return replace(
            token,
            roles=tuple(role for role in token.roles if role.id in known[0].role_ids),
            application_credential=known[0],
            access_rules=credentials_db.list_rules_of(c, known[0]),
        )

    def _roles_of(self, c: Connection, role_ids: Sequence[str], epoch: str) -> tuple[IdentityRole, ...]:
        """Return roles and what they imply by name, without those of single domains."""
        known = self._roles
        if known is None or known[0] != epoch or not epoch:
            roles = [role for role in roles_db.ROLES.list_all(c) if not role.domain_id]
            known = self._roles = (epoch, roles, roles_db.list_implications(c))
        ids = roles_db.with_implied(role_ids, known[2])
        return tuple(role for role in known[1] if role.id in ids)

    # ---- issuing -------------------------------------------------------------------------------------------------
    def issue_token(self, logins: Sequence[Login], scope: Scope) -> tuple[str, Token]:
        """Return a new token and what it says. Raises Unauthenticated, for whatever reason, with one text, NotFound for
        a token to log in with that is none, Forbidden for a scope that a token's own does not lead to."""
        if not logins:
            raise errors.Invalid("No authentication method was given.")
        proof = self._prove_all(logins)
        for parent in proof.parents:
            _check_rescoping(parent, scope)
        credential = proof.application_credential
        if credential is None:
            return self._store(proof, self._find_place(proof.user, scope))
        if scope != Scope() and not proof.parents:
            raise errors.Unauthenticated("Application credentials cannot request a scope.")
        return self._store(proof, self._find_place(proof.user, Scope(project_id=credential.project_id)))

    def issue_signed(self, request: SignatureClaim) -> tuple[str, Token]:
        """Return a token, for its credential's project, of whoever signed a request, and what it says. Raises NotFound,
        Unauthenticated, Invalid."""
        with self._database.read() as c:
            _, now = tokens_db.find_epoch(c)
            signer = find_signer(c, request, now or clock.now())
            account = find_account(c, user_id=signer.user_id)
            of = signer.application_credential_id
            made_by = None if of is None else credentials_db.find_application_credential(c, of)
        if account is None or not account.is_enabled or (of is not None and made_by is None):
            raise errors.Unauthenticated(REFUSED)
        credential = None if made_by is None else made_by[0]
        if credential is not None and credential.project_id != signer.project_id:
            raise errors.Unauthenticated("EC2 credential project does not match the application credential project.")
        proof = _LoginProof(user=account.user, methods=("ec2credential",), application_credential=credential)
        return self._store(proof, self._find_place(account.user, Scope(project_id=signer.project_id)))

    def revoke_token(self, token: str) -> None:
        """End a token's life now. Raises NotFound."""
        key = _hashed(token)
        if not change(self._database, lambda c: tokens_db.delete_token(c, key)):
            raise errors.NotFound("Could not find token.")

    def _prove_all(self, logins: Sequence[Login]) -> _LoginProof:
        """Return what the logins prove together. Raises Unauthenticated, also where they are of several users."""
        proofs = [self._prove(login) for login in logins]
        users = {proof.user.id for proof in proofs}
        if len(users) != 1:
            raise errors.Unauthenticated(REFUSED)
        parents = tuple(parent for proof in proofs for parent in proof.parents)
        return _LoginProof(
            user=proofs[0].user,
            methods=tuple(dict.fromkeys(method for proof in proofs for method in proof.methods)),
            password_hash=next((p.password_hash for p in proofs if p.password_hash is not None), None),
            parents=parents,
            parent_hashes=tuple(one for proof in proofs for one in proof.parent_hashes),
            application_credential=_the_one([proof.application_credential for proof in proofs]),
        )

    def _prove(self, login: Login) -> _LoginProof:
        if login.token is not None:
            try:
                parent = self.get_token_facts(login.token)
            except errors.Unauthenticated:
                raise errors.NotFound("Could not find token.") from None
            return _LoginProof(
                user=parent.user,
                methods=(*parent.methods, "token"),
                parents=(parent,),
                parent_hashes=(_hashed(login.token),),
                application_credential=parent.application_credential,
            )
        if login.secret is not None:
            user, credential = self.credentials.prove(
                login.secret,
                credential_id=login.credential_id,
                name=login.credential_name,
                user_id=login.user_id,
                user_name=login.user_name,
                domain_id=login.domain_id,
                domain_name=login.domain_name,
            )
            return _LoginProof(user=user, methods=("application_credential",), application_credential=credential)
        account = self.accounts.prove(
            login.password or "",
            user_id=login.user_id,
            name=login.user_name,
            domain_id=login.domain_id,
            domain_name=login.domain_name,
        )
        return _LoginProof(user=account.user, methods=("password",), password_hash=account.password_hash)

    def _find_place(self, user: User, scope: Scope) -> _TokenScope:
        """Find what the token is for. Raises Unauthenticated, also where the user has no role there."""
        if scope.unscoped:
            return _TokenScope()
        named = bool(scope.project_id or scope.project_name)
        with self._database.read() as c:
            if scope.system:
                if roles_db.list_role_ids(c, user.id, SYSTEM):
                    return _TokenScope(system=True)
            elif named or not (scope.domain_id or scope.domain_name):
                project = _find_project(c, user, scope)
                if project and roles_db.list_role_ids(c, user.id, PROJECT, project.id, domain_id=project.domain_id):
                    return _TokenScope(project_id=project.id)
                if not named:
                    return _TokenScope()
            else:
                domain_id = _find_domain(c, scope.domain_id, scope.domain_name)
                if domain_id is not None and roles_db.list_role_ids(c, user.id, DOMAIN, domain_id):
                    return _TokenScope(domain_id=domain_id)
        raise errors.Unauthenticated(REFUSED)

    def _store(self, proof: _LoginProof, place: _TokenScope) -> tuple[str, Token]:
        """Store a token, as long as what it was proven by stands. Raises Unauthenticated."""
        token = secrets.token_urlsafe(32)
        credential = proof.application_credential
        ends = [parent.expires_at for parent in proof.parents]
        if credential is not None and credential.expires_at is not None:
            ends.append(credential.expires_at)
        first = proof.parents[0].audit_ids[-1:] if proof.parents else ()
        with self._lock:
            self._issued += 1
            purge = self._issued % _PURGE_EVERY == 0

        def work(c: Connection) -> None:
            proven = tokens_db.is_proven(
                c, proof.user.id, password_hash=proof.password_hash, parents=proof.parent_hashes
            )
            if not proven or not (
                credential is None or credentials_db.find_application_credential(c, credential.id) is not None
            ):
                raise errors.Unauthenticated(REFUSED)
            tokens_db.insert_token(
                c,
                _hashed(token),
                user_id=proof.user.id,
                project_id=place.project_id,
                domain_id=place.domain_id,
                system=place.system,
                methods=proof.methods,
                audit_ids=(secrets.token_urlsafe(16), *first),
                application_credential_id=credential.id if credential is not None else None,
                seconds=self._token_seconds,
                not_after=min(ends, default=None),
            )
            if purge:
                tokens_db.delete_expired_tokens(c)

        transact(self._database, work)
        return token, self.get_token_facts(token)

    # ---- catalog -------------------------------------------------------------------------------------------------
    def catalog_of(self, root_url: str, *, project_id: str = "", user_id: str = "") -> list[dict[str, Any]]:
        """Return the services in Keystone's form. ``root_url``: how the caller reaches this cloud."""
        with self._database.read() as c:
            epoch, _ = tokens_db.find_epoch(c)
        kept = self._entries
        if kept is None or kept[0] != epoch:
            kept = self._entries = (epoch, self.catalog.list_entries())
        values = {"project_id": project_id, "tenant_id": project_id, "user_id": user_id}
        return shown(kept[1], root_url, values)


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
        project_domain_id=token.project.domain_id if token.project else "",
        scope_domain_id=token.domain.id if token.domain else "",
        system=token.system,
        access_rules=None
        if token.access_rules is None
        else tuple((rule.service, rule.method, rule.path) for rule in token.access_rules),
    )


def _check_rescoping(parent: Token, scope: Scope) -> None:
    """Check that a token of the parent may be for that. Raises Forbidden."""
    if parent.application_credential is not None and scope != Scope():
        raise errors.Forbidden(
            "You are not authorized to perform the requested action: Using an application credential token to create "
            "a scoped token is not allowed."
        )
    if parent.system and not scope.system and not scope.unscoped:
        named = (scope.project_id, scope.project_name, scope.domain_id, scope.domain_name)
        if any(named):
            raise errors.Forbidden(
                "You are not authorized to perform the requested action: Using a system-scoped token to create a "
                "project-scoped or domain-scoped token is not allowed."
            )


def _find_project(c: Connection, user: User, scope: Scope) -> Project | None:
    """Return the project that a scope names, or else the user's own."""
    if not (scope.project_id or scope.project_name):
        return db.find_open_project(c, project_id=user.default_project_id) if user.default_project_id else None
    return db.find_open_project(
        c,
        project_id=scope.project_id,
        name=scope.project_name,
        domain_id=scope.domain_id,
        domain_name=scope.domain_name,
    )


def _find_domain(c: Connection, domain_id: str | None, name: str | None) -> str | None:
    """Return the id of the enabled domain of that id, or of that name."""
    named: dict[str, Any] = {"id": domain_id[:255]} if domain_id else {"name": name or ""}
    domain = db.DOMAINS.find(c, **named)
    return domain.id if domain is not None and domain.enabled else None


def _the_one(credentials: Sequence[ApplicationCredential | None]) -> ApplicationCredential | None:
    """Return the credential of a login by several proofs. Raises Unauthenticated for those of two, and for one beside
    what is none: what a credential may do is less."""
    several = {None if credential is None else credential.id for credential in credentials}
    if len(several) > 1:
        raise errors.Unauthenticated(REFUSED)
    return credentials[0]


def _hashed(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
