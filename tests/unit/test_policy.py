"""What operators' policy files do: override, be read again, and be refused where they are wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cellcloud import clock, errors
from cellcloud.clock import ManualClock
from top_api.authorization import Enforcer
from top_api.authorization.enforcement import LOOK_SECONDS

DELETE, SHOW, PAUSE = (f"os_compute_api:servers:{verb}" for verb in ("delete", "show", "stop"))
KEYS = "os_compute_api:os-keypairs:show"


@dataclass(frozen=True)
class Caller:
    """Somebody of project p."""

    user_id: str = "u"
    project_id: str = "p"
    roles: tuple[str, ...] = ("member", "reader")
    user_domain_id: str = "default"
    project_domain_id: str = "default"
    domain_id: str = ""
    system: bool = False


MEMBER = Caller()
READER = Caller(roles=("reader",))
ADMIN = Caller(user_id="root", project_id="a", roles=("admin", "member", "reader"))
SERVICE = Caller(roles=("service",))
OWN, COLLEAGUES, FOREIGN = (
    {"project_id": project, "user_id": user} for project, user in (("p", "u"), ("p", "v"), ("q", "w"))
)


@pytest.fixture
def options(tmp_path: Path) -> Path:
    """An option file beside which ``policy.yaml`` is looked for, as by default."""
    path = tmp_path / "top.conf"
    path.write_text("[DEFAULT]\n")
    return path


@pytest.fixture
def time() -> Iterator[ManualClock]:
    with clock.using(ManualClock()) as manual:
        assert isinstance(manual, ManualClock)
        yield manual


def write(options: Path, text: str) -> None:
    options.with_name("policy.yaml").write_text(text)


@pytest.mark.parametrize(
    ("caller", "rule", "target", "allowed"),
    [
        (MEMBER, DELETE, None, True),
        (MEMBER, DELETE, COLLEAGUES, True),
        (MEMBER, DELETE, FOREIGN, False),
        (READER, DELETE, OWN, False),
        (READER, SHOW, OWN, True),
        (SERVICE, SHOW, OWN, False),
        (ADMIN, DELETE, FOREIGN, True),
        (MEMBER, KEYS, {"user_id": "u"}, True),
        (MEMBER, KEYS, {"user_id": "v"}, False),
        (ADMIN, KEYS, {"user_id": "v"}, True),
        (SERVICE, "os_compute_api:limits", None, True),
        (MEMBER, "os_compute_api:os-services:list", None, False),
    ],
)
def test_the_defaults_are_novas(
    options: Path, caller: Caller, rule: str, target: dict[str, str] | None, allowed: bool
) -> None:
    assert Enforcer(options).allows(caller, rule, target) is allowed


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        (f'"{DELETE}": "role:admin"', (False, False, True)),
        (f'"{DELETE}": "user_id:%(user_id)s"', (True, False, False)),
        (f'"{DELETE}": "project_id:%(project_id)s and not user_id:%(user_id)s"', (False, True, False)),
        (f'"{DELETE}": "rule:cleaner or is_admin:True"\n"cleaner": "role:reader and project_id:p"', (True, True, True)),
        (f'"{DELETE}": "\'q\':%(project_id)s"', (False, False, False)),
        (f'"{DELETE}": "!"', (False, False, False)),
        (f'"{DELETE}": "@"', (True, True, True)),
        ('"context_is_admin": "role:root"', (True, True, False)),
        ("", (True, True, True)),
    ],
)
def test_operators_override_rules(options: Path, text: str, allowed: tuple[bool, bool, bool]) -> None:
    write(options, text)
    enforcer = Enforcer(options)
    asked = ((MEMBER, OWN), (MEMBER, COLLEAGUES), (ADMIN, OWN))
    assert tuple(enforcer.allows(caller, DELETE, target) for caller, target in asked) == allowed


def test_the_standard_options_name_files_and_directories(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "rules.yaml").write_text(f'"{DELETE}": "!"\n"{SHOW}": "!"\n')
    (tmp_path / "more" / "10-show.yaml").write_text(f'"{SHOW}": "@"\n')
    options = tmp_path / "top.conf"
    options.write_text(f"[oslo_policy]\npolicy_file = rules.yaml\npolicy_dirs = {tmp_path / 'more'}\n")
    enforcer = Enforcer(options)
    assert not enforcer.allows(MEMBER, DELETE)
    assert enforcer.allows(SERVICE, SHOW)


WRONG = {
    "no YAML": '"a: [',
    "a list": "- a\n- b\n",
    "not UTF-8": None,
    "an empty value": f'"{DELETE}":\n',
    "a truth value": f'"{DELETE}": true\n',
    "half a rule": f'"{DELETE}": "role:admin or"\n',
    "a word that is no check": f'"{DELETE}": "role:admin or everybody"\n',
    "a kind that is not known": f'"{DELETE}": "rolle:admin"\n',
    "a rule that is not there": f'"{DELETE}": "rule:nobody_wrote_it"\n',
    "a circle": '"one": "rule:two"\n"two": "rule:one"\n',
    "a name that nothing asks about": '"os_compute_api:servers:delte": "role:admin"\n',
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_file_refuses_to_start(options: Path, text: str | None) -> None:
    options.with_name("policy.yaml").write_bytes(b"\xff\xfe\x00" if text is None else text.encode())
    with pytest.raises(errors.Misconfigured, match=r"policy\.yaml"):
        Enforcer(options)


def test_a_file_that_is_named_and_not_there_refuses_to_start(options: Path) -> None:
    options.write_text("[oslo_policy]\npolicy_file = rules.yaml\n")
    with pytest.raises(errors.Misconfigured, match=r"rules\.yaml"):
        Enforcer(options)


def test_a_changed_file_is_read_again(options: Path, time: ManualClock) -> None:
    enforcer = Enforcer(options)
    for text, allowed in ((f'"{DELETE}": "role:admin"', False), (f'"{DELETE}": "@"', True)):
        write(options, text)
        for _ in range(2):  # seen, and found to stay as it is
            time.advance(LOOK_SECONDS)
            enforcer.allows(MEMBER, DELETE)
        assert enforcer.allows(MEMBER, DELETE) is allowed


@pytest.mark.parametrize("text", [*WRONG.values(), "gone"], ids=[*WRONG.keys(), "gone"])
def test_a_file_that_goes_wrong_leaves_the_rules_and_says_so(
    options: Path, time: ManualClock, text: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    write(options, f'"{DELETE}": "role:admin"')
    enforcer, path = Enforcer(options), options.with_name("policy.yaml")
    if text == "gone":
        path.unlink()
    else:
        path.write_bytes(b"\xff\xfe\x00" if text is None else text.encode())
    for _ in range(5):
        time.advance(LOOK_SECONDS)
        assert not enforcer.allows(MEMBER, DELETE)
        assert enforcer.allows(ADMIN, DELETE)
    said = [record for record in caplog.records if record.name == "top_api.authorization.enforcement"]
    assert [record.levelname for record in said] == ["ERROR"]
    write(options, f'"{DELETE}": "@"')
    for _ in range(2):
        time.advance(LOOK_SECONDS)
        enforcer.allows(MEMBER, DELETE)
    assert enforcer.allows(SERVICE, DELETE)
