"""What is withdrawn counts at once in every process, and what is not known costs as much as what is wrong."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from cellcloud import clock, errors
from cellcloud.db.engine import utc_after
from cellcloud.db.identity_schema import identity_users
from cellcloud.embedded.identity import EmbeddedIdentity, Login, Scope
from cellcloud.embedded.identity_passwords import PasswordRules
from cellcloud.safe_regex import Pattern
from tests.embedded_cloud import PASSWORDS, EmbeddedCloud, make_cloud, make_top_database
from tests.identity_api import PASSWORD, IdentityApi, identity_api
from tests.processor_time import least_seconds

LONG = 3600.0


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdentityApi]:
    with identity_api(tmp_path_factory.mktemp("revocation")) as made:
        yield made


class Member:
    """A user of a group of a domain, with roles in its project by itself and by its group."""

    def __init__(self, api: IdentityApi) -> None:
        self.domain = api.make("domain")["id"]
        self.project = api.make("project", domain_id=self.domain)["id"]
        self.group = api.make("group", domain_id=self.domain)["id"]
        self.role = api.make("role")["id"]
        self.implied = api.make("role")["id"]
        self.user = api.user(self.domain)
        api.put(f"groups/{self.group}/users/{self.user}")
        api.put(f"projects/{self.project}/groups/{self.group}/roles/{self.role}")
        api.put(f"roles/{self.role}/implies/{self.implied}")
        self.token = api.token(self.user, {"project": {"id": self.project}})


ENDS: dict[str, Callable[[Member], tuple[str, str, Any]]] = {
    "the user is deleted": lambda m: ("DELETE", f"users/{m.user}", None),
    "the user is disabled": lambda m: ("PATCH", f"users/{m.user}", {"user": {"enabled": False}}),
    "its password is set": lambda m: ("PATCH", f"users/{m.user}", {"user": {"password": "another"}}),
    "its password is changed": lambda m: (
        "POST", f"users/{m.user}/password", {"user": {"password": "another", "original_password": PASSWORD}}),
    "the project is disabled": lambda m: ("PATCH", f"projects/{m.project}", {"project": {"enabled": False}}),
    "the project is deleted": lambda m: ("DELETE", f"projects/{m.project}", None),
    "the domain is disabled": lambda m: ("PATCH", f"domains/{m.domain}", {"domain": {"enabled": False}}),
}  # fmt: skip
LESSENS: dict[str, Callable[[Member], tuple[str, str, Any]]] = {
    "the grant is removed": lambda m: ("DELETE", f"projects/{m.project}/groups/{m.group}/roles/{m.role}", None),
    "the role is deleted": lambda m: ("DELETE", f"roles/{m.role}", None),
    "the membership ends": lambda m: ("DELETE", f"groups/{m.group}/users/{m.user}", None),
    "the group is deleted": lambda m: ("DELETE", f"groups/{m.group}", None),
}


@pytest.mark.parametrize("why", [*ENDS, *LESSENS, "the implication ends"])
def test_it_counts_at_once_in_another_process(api: IdentityApi, why: str) -> None:
    other = EmbeddedIdentity(api.cloud.database, cache_seconds=LONG)  # as in another process
    member = Member(api)
    assert len(other.validate_token(member.token).roles) == 2
    if why == "the implication ends":
        method, path, body = "DELETE", f"roles/{member.role}/implies/{member.implied}", None
    else:
        method, path, body = (ENDS | LESSENS)[why](member)
    assert api.ask(method, path, body).status_code in (200, 204)
    try:
        roles = other.validate_token(member.token).roles
    except errors.Unauthenticated:
        assert why in ENDS
    else:
        assert len(roles) == (1 if why == "the implication ends" else 0), why
        assert why not in ENDS


def test_an_answer_is_reused_until_something_changes(api: IdentityApi) -> None:
    """Whole look-ups are counted by their statements."""
    other = EmbeddedIdentity(api.cloud.database, cache_seconds=LONG)
    member = Member(api)
    seen: list[str] = []

    def count(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.extend([statement] if "SELECT" in statement else [])

    other.validate_token(member.token)
    sa.event.listen(api.cloud.database.engine, "before_cursor_execute", count)
    try:
        other.validate_token(member.token)
        assert len(seen) == 1
        api.user()
        seen.clear()
        other.validate_token(member.token)
        assert len(seen) > 1
    finally:
        sa.event.remove(api.cloud.database.engine, "before_cursor_execute", count)


def test_no_token_outlives_a_change_that_overtakes_its_login(api: IdentityApi) -> None:
    """The password is changed between its proof and the token's storing: as if it had been before both."""
    user = api.user()
    identity = EmbeddedIdentity(api.cloud.database)
    find = identity._find_place

    def overtaken(*given: Any) -> Any:
        api.identity.accounts.update_user(user, {}, password="another")
        return find(*given)

    identity._find_place = overtaken  # type: ignore[method-assign]
    with pytest.raises(errors.Unauthenticated):
        identity.issue_token([Login(user_id=user, password=PASSWORD)], Scope(unscoped=True))


# ---- passwords -----------------------------------------------------------------------------------------------------
@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[EmbeddedCloud]:
    database = make_top_database(tmp_path / "top.db")
    yield make_cloud(database, tmp_path)
    database.close()


def with_rules(cloud: EmbeddedCloud, **rules: Any) -> EmbeddedIdentity:
    return EmbeddedIdentity(cloud.database, rules=PasswordRules(**rules))


def is_let_in(identity: EmbeddedIdentity, password: str, user: str = "demo") -> bool:
    login = Login(user_name=user, domain_id="default", password=password)
    try:
        identity.issue_token([login], Scope(unscoped=True))
    except errors.Unauthenticated as error:
        refusal = error.message
    else:
        return True
    assert refusal == "The request you have made requires authentication."
    return False


def test_a_proof_is_worth_no_more_than_its_hash(cloud: EmbeddedCloud) -> None:
    identity = cloud.identity
    assert is_let_in(identity, PASSWORDS.demo)
    assert not is_let_in(identity, PASSWORDS.demo + "x")
    assert not is_let_in(identity, PASSWORDS.demo, "admin")
    (user,) = identity.accounts.users.list_all(name="demo")
    elsewhere = EmbeddedIdentity(cloud.database)
    elsewhere.accounts.update_user(user.id, {}, password="another")
    assert not is_let_in(identity, PASSWORDS.demo)
    assert is_let_in(identity, "another")
    elsewhere.accounts.update_user(user.id, {"password_hash": ""})
    assert not is_let_in(identity, "another")
    assert not is_let_in(identity, "")


def test_a_proof_costs_little_and_a_guess_as_much_as_ever(cloud: EmbeddedCloud) -> None:
    cloud.identity.accounts.create_user("careful", PASSWORD)
    is_let_in(cloud.identity, PASSWORD, "careful")
    again = least_seconds(lambda: is_let_in(cloud.identity, PASSWORD, "careful"), times=5)
    wrong = least_seconds(lambda: is_let_in(cloud.identity, "wrong", "careful"), times=5)
    unknown = least_seconds(lambda: is_let_in(cloud.identity, PASSWORD, "nobody"), times=5)
    assert again < wrong / 2
    assert 0.5 < wrong / unknown < 2


def test_parallel_guesses_are_no_more_than_are_allowed(cloud: EmbeddedCloud) -> None:
    most, guesses = 3, 12
    identity = with_rules(cloud, lockout_attempts=most, lockout_seconds=LONG)
    looked_at, lock = [], threading.Lock()
    judge = identity.accounts._proofs.is_right

    def judged(password: str, stored: str, account: str) -> bool:
        with lock:
            looked_at.extend([password] if stored else [])
        return judge(password, stored, account)

    identity.accounts._proofs.is_right = judged  # type: ignore[method-assign]
    with ThreadPoolExecutor(guesses) as pool:
        found = list(pool.map(lambda number: is_let_in(identity, f"guess {number}"), range(guesses)))
    assert found == [False] * guesses
    assert len(looked_at) == most
    assert not is_let_in(identity, PASSWORDS.demo)  # locked, and it says no more than that it is refused
    assert is_let_in(identity, PASSWORDS.admin, "admin")  # nobody else is
    (user,) = identity.accounts.users.list_all(name="demo")
    with cloud.database.write() as c:
        c.execute(identity_users.update().where(identity_users.c.id == user.id).values(failed_at=utc_after(-2 * LONG)))
    assert is_let_in(identity, PASSWORDS.demo)
    for _ in range(most - 1):
        assert not is_let_in(identity, "wrong")
    assert is_let_in(identity, PASSWORDS.demo)  # which begins to count anew
    for _ in range(most - 1):
        assert not is_let_in(identity, "wrong")
    assert is_let_in(identity, PASSWORDS.demo)


def test_a_locked_account_costs_as_much_as_a_wrong_password(cloud: EmbeddedCloud) -> None:
    identity = with_rules(cloud, lockout_attempts=1, lockout_seconds=LONG)
    for name in ("locked", "open"):
        identity.accounts.create_user(name, PASSWORD)
    is_let_in(identity, "wrong", "locked")
    locked = least_seconds(lambda: is_let_in(identity, PASSWORD, "locked"), times=5)
    unknown = least_seconds(lambda: is_let_in(identity, PASSWORD, "nobody"), times=5)
    assert 0.5 < locked / unknown < 2


def test_who_is_not_locked_by_option(cloud: EmbeddedCloud) -> None:
    identity = with_rules(cloud, lockout_attempts=1, lockout_seconds=LONG)
    (user,) = identity.accounts.users.list_all(name="demo")
    identity.accounts.update_user(user.id, {"extra": {"options": {"ignore_lockout_failure_attempts": True}}})
    for _ in range(3):
        assert not is_let_in(identity, "wrong")
    assert is_let_in(identity, PASSWORDS.demo)


def test_old_passwords_and_patterns(cloud: EmbeddedCloud) -> None:
    identity = with_rules(cloud, unique_count=3, regex=Pattern("(?s).*[0-9].*"))
    (user,) = identity.accounts.users.list_all(name="demo")

    def change(old: str, new: str) -> bool:
        try:
            identity.accounts.change_password(user.id, old, new)
        except errors.Invalid:
            return False
        return True

    assert not change(PASSWORDS.demo, PASSWORDS.demo)
    assert not change(PASSWORDS.demo, "without a digit")
    assert change(PASSWORDS.demo, "one 1")
    assert change("one 1", "two 2")
    assert not change("two 2", PASSWORDS.demo + "")  # no digit, and one of the last three
    assert not change("two 2", "one 1")
    assert change("two 2", "three 3")
    assert change("three 3", "four 4")
    assert change("four 4", "one 1")  # three others were between
    with pytest.raises(errors.Unauthenticated):
        identity.accounts.change_password(user.id, "wrong", "five 5")
    with pytest.raises(errors.Unauthenticated):
        identity.accounts.change_password("absent", "wrong", "five 5")
    identity.accounts.update_user(user.id, {}, password="one 1")  # an administrator may
    with pytest.raises(errors.Invalid):
        identity.accounts.update_user(user.id, {}, password="none")
    identity.accounts.update_user(user.id, {"extra": {"options": {"lock_password": True}}})
    assert not change("one 1", "six 6")


def test_an_expired_password_lets_nobody_in_but_to_change_it(cloud: EmbeddedCloud) -> None:
    identity = with_rules(cloud, expires_days=1)
    user = identity.accounts.create_user("brief", PASSWORD)
    assert user.password_expires_at is not None
    assert user.password_expires_at > clock.now() + dt.timedelta(hours=12)
    assert is_let_in(identity, PASSWORD, "brief")
    with cloud.database.write() as c:
        old = identity_users.update().where(identity_users.c.id == user.id)
        c.execute(old.values(password_expires_at=utc_after(-1.0)))
    login = Login(user_id=user.id, password=PASSWORD)
    with pytest.raises(errors.Unauthenticated) as caught:
        identity.issue_token([login], Scope(unscoped=True))
    assert "expired" in caught.value.message
    with pytest.raises(errors.Unauthenticated) as caught:  # whoever does not know it is told nothing
        identity.issue_token([replace(login, password="wrong")], Scope(unscoped=True))
    assert "expired" not in caught.value.message
    identity.accounts.update_user(user.id, {"extra": {"options": {"ignore_password_expiry": True}}})
    assert is_let_in(identity, PASSWORD, "brief")
    identity.accounts.update_user(user.id, {"extra": {"options": {"ignore_password_expiry": False}}})
    identity.accounts.change_password(user.id, PASSWORD, "another")
    assert is_let_in(identity, "another", "brief")


def test_nothing_is_found_out_by_a_change_of_password(api: IdentityApi) -> None:
    known, unknown = api.user(), "f" * 32
    body = {"user": {"password": "another", "original_password": "wrong"}}
    answers = [api.client.post(f"/identity/v3/users/{user}/password", json=body) for user in (known, unknown)]
    assert {answer.status_code for answer in answers} == {401}
    assert answers[0].get_json() == answers[1].get_json()


def test_huge_inputs_cost_little(api: IdentityApi) -> None:
    user = api.user()
    long = "x" * 100_000
    for body in (
        {"auth": {"identity": {"methods": ["password"] * 1000}}},
        {"auth": {"identity": {"methods": ["password"], "password": {"user": {"id": user, "password": long}}}}},
        {"auth": {"identity": {"methods": ["token"], "token": {"id": long}}}},
        {"auth": {"identity": {"methods": ["application_credential"],
                               "application_credential": {"id": "x", "secret": long}}}},
        {"auth": {"identity": {"methods": ["password"], "password": {"user": {"name": long, "password": "x",
                               "domain": {"id": "default"}}}}}},
    ):  # fmt: skip
        began = time.thread_time()
        assert api.client.post("/identity/v3/auth/tokens", json=body).status_code == 400
        assert time.thread_time() - began < 0.5
    for path in (f"users/{long}", f"projects/{long}", f"roles/{long}", f"domains/{long}", f"users?name={long}"):
        assert api.ask("GET", path).status_code in (400, 404, 414)
