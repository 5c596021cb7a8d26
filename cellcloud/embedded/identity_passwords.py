"""Passwords of the embedded identity: hashed, judged by the operator's rules, and proven.

A password that was verified against its argon2 hash is remembered for a while in this process's memory, as an HMAC by a
random key that lives no longer than the process, together with the hash: a second login with it costs microseconds, a
wrong guess costs as much as ever, and a changed hash makes the memory worthless.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from dataclasses import dataclass
from functools import cache

import re2
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError

from cellcloud import clock, errors
from cellcloud.config import IdentityConfig
from cellcloud.safe_regex import Pattern

MAX_PASSWORD = 4096
# OWASP's least argon2id setting: 7 MiB and five passes, some 20 ms, since clients fetch a token per command.
_HASHER = PasswordHasher(time_cost=5, memory_cost=7168, parallelism=1)
_REMEMBERED, _REMEMBERED_SECONDS = 4096, 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordRules:
    """``lockout_attempts`` failures lock an account for ``lockout_seconds``; 0: never. ``expires_days`` 0: never.
    ``unique_count``: of a user's last passwords that it may not take again, the present one included; 0: any.
    ``regex`` None: any text."""

    lockout_attempts: int = 0
    lockout_seconds: float = 1800.0
    expires_days: int = 0
    unique_count: int = 0
    regex: Pattern | None = None

    @classmethod
    def of(cls, config: IdentityConfig) -> PasswordRules:
        """As the options say. Raises Misconfigured for a pattern that is none."""
        try:
            regex = Pattern(config.password_regex) if config.password_regex else None
        except re2.error as error:
            raise errors.Misconfigured(f"The option password_regex is no pattern: {error}") from error
        return cls(
            lockout_attempts=config.lockout_failure_attempts,
            lockout_seconds=config.lockout_duration,
            expires_days=config.password_expires_days,
            unique_count=config.unique_last_password_count,
            regex=regex,
        )

    def check(self, password: str) -> None:
        """Check a new password. Raises Invalid."""
        check_length(password)
        if self.regex is not None and not self.regex.matches(password):
            raise errors.Invalid(
                f"The password does not match the requirements: {self.regex.text}. Password validation error."
            )


class PasswordProofs:
    """Safe to use from several threads."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._known: dict[bytes, float] = {}

    def is_known(self, password: str, stored: str, account: str) -> bool:
        """Return whether it was found to be the password of that hash of late. ``account``: whose."""
        mark = self._mark(password, stored, account)
        with self._lock:
            return self._known.get(mark, 0.0) > clock.monotonic()

    def is_right(self, password: str, stored: str, account: str) -> bool:
        """Return whether it is the password of a stored hash; of none, after as long, it is not."""
        right = matches(password, stored or _hash_of_nobody()) and bool(stored)
        if right:
            with self._lock:
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                self._known[self._mark(password, stored, account)] = clock.monotonic() + _REMEMBERED_SECONDS
        return right

    def _mark(self, password: str, stored: str, account: str) -> bytes:
        text = "\0".join((account, stored, password)).encode("utf-8", "surrogatepass")
        return hmac.new(self._key, text, hashlib.sha256).digest()


@cache
def _hash_of_nobody() -> str:
    """Return what the password of a user that there is not is compared with, which takes as long as any other."""
    return _HASHER.hash(secrets.token_urlsafe(16))


def matches(password: str, stored: str) -> bool:
    """Return whether a password has that hash, in the library's own time."""
    try:
        return bool(stored) and _HASHER.verify(stored, password)
    except (VerifyMismatchError, InvalidHashError, UnicodeEncodeError):
        return False


def hash_password(password: str, stored: str = "") -> str:
    """Return the library's encoded argon2id hash; ``stored`` itself where it fits. Raises Invalid for one that is too
    long."""
    check_length(password)
    return stored if matches(password, stored) else _HASHER.hash(password)


def check_length(password: str) -> None:
    """Check that no password costs too much to hash. Raises Invalid."""
    if len(password) > MAX_PASSWORD or len(password.encode("utf-8", "surrogatepass")) > MAX_PASSWORD:
        raise errors.Invalid(f"A password has at most {MAX_PASSWORD} bytes.")
