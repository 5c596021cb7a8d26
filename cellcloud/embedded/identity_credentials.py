"""Credentials of the embedded identity beside passwords: those that users make for applications, and others that they
keep here, as EC2's."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace

import cellcloud.db.identity_credentials as db
from cellcloud import errors
from cellcloud.db import identity as directory
from cellcloud.db import identity_assignments as roles_db
from cellcloud.db.engine import Connection, Database
from cellcloud.db.identity_passwords import find_account
from cellcloud.embedded.identity_accounts import REFUSED
from cellcloud.embedded.identity_collections import IdentityCollection, change
from cellcloud.embedded.identity_passwords import PasswordProofs, check_length, hash_password
from cellcloud.model.identity import AccessRule, ApplicationCredential, Credential, Token, User


class Credentials:
    """Safe to use from several threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._proofs = PasswordProofs()
        self.of_applications = IdentityCollection(
            database, db.APPLICATION_CREDENTIALS, delete=db.delete_application_credential
        )
        self.access_rules = IdentityCollection(database, db.ACCESS_RULES, delete=db.delete_access_rule)
        self.others = IdentityCollection(database, db.CREDENTIALS, insert=_insert_credential, update=_update_credential)

    def create(
        self,
        credential: ApplicationCredential,
        *,
        token: Token,
        secret: str | None,
        rules: Sequence[AccessRule] | None,
    ) -> tuple[ApplicationCredential, str]:
        """Store a credential of the holder of a token for its project, and return it with its secret, that nobody sees
        again. Its ``role_ids``, with what they imply, must be in the token; none: all of those. Raises Invalid,
        Conflict, Forbidden."""
        secret = secret or secrets.token_urlsafe(64)
        check_length(secret)
        hashed = hash_password(secret)
        own = [role.id for role in token.roles]

        def work(c: Connection) -> ApplicationCredential:
            directory.USERS.get(c, credential.user_id, lock=True)
            wanted = tuple(roles_db.with_implied(credential.role_ids, roles_db.list_implications(c))) or tuple(own)
            of_domains = {role.id for role in roles_db.ROLES.list_all(c) if role.domain_id}
            wanted = tuple(role_id for role_id in wanted if role_id not in of_domains)
            if not wanted or not set(wanted) <= set(own):
                raise errors.Invalid(
                    "Invalid application credential: Cannot create an application credential with unassigned role"
                )
            return db.insert_application_credential(c, replace(credential, role_ids=wanted), hashed, rules)

        return change(self._database, work), secret

    def prove(
        self,
        secret: str,
        *,
        credential_id: str | None,
        name: str | None,
        user_id: str | None,
        user_name: str | None,
        domain_id: str | None,
        domain_name: str | None,
    ) -> tuple[User, ApplicationCredential]:
        """Return whose secret it is: the user, and the credential by its id, or by its name and its user. A refusal
        takes as long and says the same for whatever reason. Raises Unauthenticated, Invalid."""
        check_length(secret)
        with self._database.read() as c:
            account = None
            if not credential_id:
                account = find_account(c, user_id=user_id, name=user_name, domain_id=domain_id, domain_name=domain_name)
            whose = account.user.id if account is not None else ""
            found = db.find_application_credential(c, (credential_id or "")[:255], name=name, user_id=whose)
            if found is not None and account is None:
                account = find_account(c, user_id=found[0].user_id)
        stored, mark = (found[1], found[0].id) if found is not None else ("", "")
        if account is None or not account.is_enabled:
            stored = ""
        right = bool(stored) and self._proofs.is_known(secret, stored, mark)
        if not (right or self._proofs.is_right(secret, stored, mark)) or found is None or account is None:
            raise errors.Unauthenticated(REFUSED)
        return account.user, found[0]

    def list_rules(self, credential: ApplicationCredential) -> tuple[AccessRule, ...] | None:
        """Return the rules of a credential; None: everything is allowed."""
        with self._database.read() as c:
            return db.list_rules_of(c, credential)


def _insert_credential(c: Connection, credential: Credential) -> None:
    _check_whose(c, credential.user_id, credential.project_id)
    db.insert_credential(c, credential)


def _update_credential(c: Connection, credential_id: str, changes: Mapping[str, object]) -> Credential:
    before = db.CREDENTIALS.get(c, credential_id, lock=True)
    _check_whose(c, str(changes.get("user_id", before.user_id)), changes.get("project_id", before.project_id))
    return db.CREDENTIALS.update(c, credential_id, changes)


def _check_whose(c: Connection, user_id: str, project_id: object) -> None:
    directory.USERS.get(c, user_id, lock=True)
    if project_id is not None:
        directory.PROJECTS.get(c, str(project_id), lock=True)
