"""The embedded identity: passwords, tokens and what ends them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from cellcloud import clock, errors
from cellcloud.db import top_schema
from cellcloud.embedded.bootstrap import Passwords, bootstrap
from cellcloud.embedded.identity import EmbeddedIdentity, Login, Scope
from tests.embedded_cloud import PASSWORDS, EmbeddedCloud, make_cloud, make_top_database
from tests.processor_time import least_seconds


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[EmbeddedCloud]:
    database = make_top_database(tmp_path / "top.db")
    yield make_cloud(database, tmp_path)
    database.close()


def demo(password: str = PASSWORDS.demo, **fields: str) -> Login:
    return Login(**({"user_name": "demo", "domain_id": "default", "password": password} | fields))


def in_demo(project_name: str | None = "demo", domain_id: str = "default", project_id: str | None = None) -> Scope:
    return Scope(project_name=project_name, domain_id=domain_id, project_id=project_id)


def test_bootstrapping_again_changes_nothing_but_passwords(cloud: EmbeddedCloud) -> None:
    def content() -> list[list[tuple[object, ...]]]:
        with cloud.database.read() as connection:
            return [
                [tuple(row) for row in connection.execute(sa.select(table))]
                for table in top_schema.metadata.sorted_tables
            ]

    before = content()
    bootstrap(cloud.database, PASSWORDS)
    assert content() == before
    bootstrap(cloud.database, Passwords(admin="new", demo=PASSWORDS.demo, service=PASSWORDS.service))
    cloud.token("admin", "new", "admin")
    cloud.token("demo", PASSWORDS.demo)
    with pytest.raises(errors.Unauthenticated):
        cloud.token("admin", PASSWORDS.admin, "admin")


def test_no_secret_is_stored_in_the_clear(cloud: EmbeddedCloud, tmp_path: Path) -> None:
    token = cloud.token("demo", PASSWORDS.demo)
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("top.db*"))
    for secret in (PASSWORDS.admin, PASSWORDS.demo, PASSWORDS.service, token):
        assert secret.encode() not in stored


@pytest.mark.parametrize(
    ("login", "scope"),
    [
        (demo("wrong"), in_demo()),
        (demo(""), in_demo()),
        (demo(user_name="nobody"), in_demo()),
        (demo(domain_id="other"), in_demo()),
        (demo(), in_demo("admin")),
        (demo(), in_demo("absent")),
        (demo(), in_demo(project_id="absent")),
    ],
)
def test_every_refusal_sounds_alike(cloud: EmbeddedCloud, login: Login, scope: Scope) -> None:
    with pytest.raises(errors.Unauthenticated) as caught:
        cloud.identity.issue_token([login], scope)
    assert caught.value.message == "The request you have made requires authentication."


def test_an_unknown_user_costs_as_much_as_a_wrong_password(cloud: EmbeddedCloud) -> None:
    def seconds(login: Login) -> float:
        def refused() -> None:
            with pytest.raises(errors.Unauthenticated):
                cloud.identity.issue_token([login], in_demo())

        return least_seconds(refused, times=5)

    cloud.identity.accounts.create_user("careful", "password")
    wrong, unknown = seconds(demo("wrong", user_name="careful")), seconds(demo(user_name="nobody"))
    assert 0.5 < wrong / unknown < 2


def test_a_token_that_is_none_opens_nothing(cloud: EmbeddedCloud) -> None:
    with pytest.raises(errors.NotFound):
        cloud.identity.issue_token([Login(token="unknown")], in_demo())


@pytest.mark.parametrize("password", ["x" * 4097, "é" * 2049, "x" * (1 << 20)])
def test_a_long_password_is_refused_cheaply(cloud: EmbeddedCloud, password: str) -> None:
    def refused() -> None:
        with pytest.raises(errors.Invalid):
            cloud.identity.issue_token([demo(password)], in_demo())

    assert least_seconds(refused) < 0.05


def test_rescoping_never_stretches_a_life(cloud: EmbeddedCloud) -> None:
    token, first = cloud.identity.issue_token([demo()], in_demo())
    for _ in range(100):
        token, last = cloud.identity.issue_token([Login(token=token)], in_demo())
    assert last.expires_at == first.expires_at
    assert last.audit_ids[-1] == first.audit_ids[0]
    assert set(last.methods) == {"password", "token"}


def test_a_token_expires_by_the_databases_clock(cloud: EmbeddedCloud) -> None:
    brief = EmbeddedIdentity(cloud.database, token_hours=2.5 / 3600, cache_seconds=60.0)
    with clock.using(clock.ManualClock()):  # this process's own clock stands still
        token, _ = brief.issue_token([demo()], in_demo())
        fresh = EmbeddedIdentity(cloud.database, cache_seconds=60.0)
        fresh.validate_token(token)
        time.sleep(2.6)
        again = EmbeddedIdentity(cloud.database)
        with pytest.raises(errors.Unauthenticated):
            again.validate_token(token)


def test_only_the_exact_token_is_valid(cloud: EmbeddedCloud) -> None:
    token = cloud.token("demo", PASSWORDS.demo)
    assert len(token) == 43
    for position in range(len(token)):
        other = "A" if token[position] != "A" else "B"
        for changed in (token[:position] + other + token[position + 1 :], token + "=", token + " ", token[:-1]):
            with pytest.raises(errors.Unauthenticated):
                cloud.identity.validate_token(changed)


def test_revocation_survives_a_restart_and_reaches_other_processes_in_time(cloud: EmbeddedCloud) -> None:
    other = EmbeddedIdentity(cloud.database, cache_seconds=0.2)
    token = cloud.token("demo", PASSWORDS.demo)
    other.validate_token(token)
    cloud.identity.revoke_token(token)
    time.sleep(0.25)
    for service in (cloud.identity, other, EmbeddedIdentity(cloud.database)):
        with pytest.raises(errors.Unauthenticated):
            service.validate_token(token)
    with pytest.raises(errors.NotFound):
        cloud.identity.revoke_token(token)


def test_losing_the_account_ends_its_tokens(cloud: EmbeddedCloud) -> None:
    cached = EmbeddedIdentity(cloud.database, cache_seconds=60.0)
    user = cached.accounts.users.list_all(name="demo")[0]
    project = cached.directory.projects.list_all(name="demo")[0]

    def token() -> str:
        made, _ = cached.issue_token([demo()], in_demo())
        cached.validate_token(made)
        return made

    def is_dead(made: str) -> bool:
        try:
            cached.validate_token(made)
        except errors.Unauthenticated:
            return True
        return False

    made = token()
    cached.accounts.update_user(user.id, {"enabled": False})
    assert is_dead(made)
    cached.accounts.update_user(user.id, {"enabled": True})
    assert is_dead(made)
    made = token()
    cached.accounts.update_user(user.id, {}, password=PASSWORDS.demo)
    assert is_dead(made)
    made = token()
    cached.directory.projects.update(project.id, {"enabled": False})
    assert is_dead(made)
    cached.directory.projects.update(project.id, {"enabled": True})
    made = token()
    for grant in cached.assignments.list_grants(actor_id=user.id):
        cached.assignments.remove_grant(grant)
    assert cached.validate_token(made).roles == ()
    cached.accounts.users.delete(user.id)
    assert is_dead(made)


def test_catalog_urls_are_inert(cloud: EmbeddedCloud) -> None:
    url = "http://x/%(admin_token)s{0.__class__}$(id)"
    catalog = EmbeddedIdentity(cloud.database).catalog_of(url)
    urls = {service["type"]: service["endpoints"][0]["url"] for service in catalog}
    paths = {"compute": "/v2.1", "image": "/image", "network": "/network", "identity": "/identity"}
    paths |= dict.fromkeys(("block-storage", "volumev3"), "/volume/v3")
    assert urls == {kind: url + path for kind, path in paths.items()}
    assert all(e["region"] == e["region_id"] == "RegionOne" for service in catalog for e in service["endpoints"])
