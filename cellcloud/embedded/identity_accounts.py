"""The embedded identity's accounts: users, their passwords, and who proves to know one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cellcloud import errors
from cellcloud.db import identity as db
from cellcloud.db import identity_passwords as passwords_db
from cellcloud.db import identity_tokens as tokens_db
from cellcloud.db.engine import Connection, Database, transact
from cellcloud.db.identity_passwords import UserAccount
from cellcloud.embedded.identity_collections import IdentityCollection, change, new_id
from cellcloud.embedded.identity_passwords import PasswordProofs, PasswordRules, check_length, hash_password, matches
from cellcloud.model.identity import User

REFUSED = "The request you have made requires authentication."


class Accounts:
    """Safe to use from several threads."""

    def __init__(self, database: Database, rules: PasswordRules) -> None:
        self._database = database
        self._rules = rules
        self._proofs = PasswordProofs()
        self.users = IdentityCollection(database, db.USERS, update=self._change_user, delete=db.delete_user)

    # ---- proofs --------------------------------------------------------------------------------------------------
    def prove(self, password: str, **named: str | None) -> UserAccount:
        """Return the account whose password it is. ``named``: of ``find_account``, by id, or by name and domain. A
        refusal takes as long and says the same for whatever reason, but for a right password that is expired. Raises
        Unauthenticated, Invalid for one that is too long."""
        account = self._verify(password, **named)
        if account.is_expired and not _option(account.user, "ignore_password_expiry"):
            raise errors.Unauthenticated(
                f"The password is expired and needs to be changed for user: {account.user.id}."
            )
        return account

    def _verify(self, password: str, **named: str | None) -> UserAccount:
        check_length(password)
        most, seconds = self._rules.lockout_attempts, self._rules.lockout_seconds
        with self._database.read() as c:
            account = passwords_db.find_account(c, most=most, seconds=seconds, **named)
        if account is None:
            self._proofs.is_right(password, "", "")
            raise errors.Unauthenticated(REFUSED)
        user_id = account.user.id
        counts = most > 0 and not _option(account.user, "ignore_lockout_failure_attempts")
        is_open = account.is_enabled and not (counts and account.is_locked)
        stored = account.password_hash if is_open else ""
        if not (stored and self._proofs.is_known(password, stored, user_id)):
            if counts and stored and not self._count(user_id):
                stored = ""
            if not self._proofs.is_right(password, stored, user_id):
                raise errors.Unauthenticated(REFUSED)
        if counts:
            transact(self._database, lambda c: passwords_db.forget_attempts(c, user_id))
        return account

    def _count(self, user_id: str) -> bool:
        """Count a guess before it is looked at; False: there were too many."""
        most, seconds = self._rules.lockout_attempts, self._rules.lockout_seconds
        return transact(self._database, lambda c: passwords_db.count_attempt(c, user_id, most=most, seconds=seconds))

    # ---- users ---------------------------------------------------------------------------------------------------
    def create_user(self, name: str, password: str | None, **fields: Any) -> User:
        """``fields``: of ``User``. Raises Conflict for a name in use, Invalid for what is too long, NotFound for its
        domain."""
        user = User(id=new_id(), name=name, **fields)
        if password is not None:
            self._rules.check(password)
        hashed = hash_password(password) if password is not None else ""

        def work(c: Connection) -> User:
            db.insert_user(c, user, hashed)
            if hashed and self._rules.expires_days:
                passwords_db.set_password(c, user.id, hashed, days=self._rules.expires_days, kept=0)
            return db.USERS.get(c, user.id)

        return change(self._database, work)

    def update_user(self, user_id: str, changes: dict[str, Any], *, password: str | None = None) -> User:
        """Change a user. Another password or a disabled user ends all of its tokens. Raises NotFound, Conflict."""
        if password is not None:
            self._rules.check(password)
            changes = changes | {"password_hash": hash_password(password)}
        return self.users.update(user_id, changes)

    def _change_user(self, c: Connection, user_id: str, changes: Mapping[str, Any]) -> User:
        changes = dict(changes)
        hashed = changes.pop("password_hash", None)
        db.check_default_project(c, changes.get("default_project_id"))
        found = db.USERS.update(c, user_id, changes)
        if hashed is not None:
            self._set_password(c, user_id, hashed)
        if hashed is not None or changes.get("enabled") is False:
            tokens_db.delete_tokens_of(c, user_id)
        return db.USERS.get(c, user_id) if hashed is not None else found

    def change_password(self, user_id: str, original: str, password: str) -> None:
        """Set the password of somebody who knows the present one. Raises Unauthenticated, Invalid for a password that
        the rules refuse or that was used before."""
        account = self._verify(original, user_id=user_id)
        self._rules.check(password)
        if _option(account.user, "lock_password"):
            raise errors.Invalid("Password validation error: the user's password is locked. Contact an administrator.")
        kept = self._rules.unique_count
        stored = account.password_hash
        with self._database.read() as c:
            before = [stored, *passwords_db.list_old_hashes(c, user_id, kept - 1)] if kept > 0 else []
        if any(matches(password, old) for old in before):
            raise errors.Invalid(f"The new password cannot be identical to a previous one of the last {kept}.")
        hashed = hash_password(password)

        def work(c: Connection) -> None:
            db.USERS.get(c, user_id, lock=True)
            if db.get_password_hash(c, user_id) != stored:
                raise errors.Unauthenticated(REFUSED)
            self._set_password(c, user_id, hashed)
            tokens_db.delete_tokens_of(c, user_id)

        change(self._database, work)

    def _set_password(self, c: Connection, user_id: str, hashed: str) -> None:
        kept = max(0, self._rules.unique_count - 1)
        passwords_db.set_password(c, user_id, hashed, days=self._rules.expires_days, kept=kept)


def _option(user: User, name: str) -> bool:
    return bool(user.extra.get("options", {}).get(name))
